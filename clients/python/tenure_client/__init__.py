"""Workers, workflow runs and schedules, webhooks, sessions, rooms and rate limit checks of a Tenure installation."""

from tenure_client.errors import ApiError, TaskCancelledError, TaskFailedError, UnreachableError
from tenure_client.limiter import Decision, Limiter
from tenure_client.operations import MigrateTo, Operation, Operations
from tenure_client.rooms import Document, Rooms, Ticket
from tenure_client.schedules import NominalTime, Schedule, Schedules, Timetable
from tenure_client.sessions import Session, Sessions, SignedIn
from tenure_client.tasks import Task
from tenure_client.webhooks import Delivery, Secret, Webhook, Webhooks
from tenure_client.worker import Worker
from tenure_client.workflows import NotChanged, Run, RunFilter, RunSummary, Signalled, StartIfNone, Workflows

__all__ = [
    "ApiError",
    "Decision",
    "Delivery",
    "Document",
    "Limiter",
    "MigrateTo",
    "NominalTime",
    "NotChanged",
    "Operation",
    "Operations",
    "Rooms",
    "Run",
    "RunFilter",
    "RunSummary",
    "Schedule",
    "Schedules",
    "Secret",
    "Session",
    "Sessions",
    "Signalled",
    "SignedIn",
    "StartIfNone",
    "Task",
    "TaskCancelledError",
    "TaskFailedError",
    "Ticket",
    "Timetable",
    "UnreachableError",
    "Webhook",
    "Webhooks",
    "Worker",
    "Workflows",
]
