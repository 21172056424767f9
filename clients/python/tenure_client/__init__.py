"""Workers, workflow runs, sessions, rooms and rate limit checks of a Tenure installation."""

from tenure_client.errors import ApiError, TaskCancelledError, TaskFailedError, UnreachableError
from tenure_client.limiter import Decision, Limiter
from tenure_client.rooms import Document, Rooms, Ticket
from tenure_client.sessions import Session, Sessions, SignedIn
from tenure_client.tasks import Task
from tenure_client.worker import Worker
from tenure_client.workflows import Run, Workflows

__all__ = [
    "ApiError",
    "Decision",
    "Document",
    "Limiter",
    "Rooms",
    "Run",
    "Session",
    "Sessions",
    "SignedIn",
    "Task",
    "TaskCancelledError",
    "TaskFailedError",
    "Ticket",
    "UnreachableError",
    "Worker",
    "Workflows",
]
