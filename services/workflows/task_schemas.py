"""What goes over the wire between queues and workers; otherwise as `services.workflows.schemas`."""

from typing import Annotated

import msgspec
from msgspec import Meta

from services.workflows.bounds import (
    LEASE_MS,
    LEASE_MS_MAX,
    LEASE_MS_MIN,
    POLL_TASKS_MAX,
    POLL_WAIT_MS_MAX,
    WORKER_BYTES_MAX,
)
from services.workflows.program import Json

WorkerName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=WORKER_BYTES_MAX,
        pattern=r"^[ -~]+$",
        description="Who it is, in ASCII: host and process, say. It is shown to operators.",
    ),
]


class PollQueue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Lease tasks: so many at most, for so long unless the worker is heard of, and wait so long for the first."""

    worker: WorkerName
    max: Annotated[int, Meta(ge=1, le=POLL_TASKS_MAX)] = 1
    wait_ms: Annotated[int, Meta(ge=0, le=POLL_WAIT_MS_MAX)] = 0
    lease_s: Annotated[int, Meta(ge=LEASE_MS_MIN // 1_000, le=LEASE_MS_MAX // 1_000)] = LEASE_MS // 1_000


class TaskView(msgspec.Struct, frozen=True, kw_only=True):
    """A task that is leased. `key` is the same for every attempt and worker: hand it to whatever has an effect."""

    token: str
    queue: str
    run: str
    definition: str
    version: int
    step: str
    key: str
    attempt: int
    workers_lost: int
    """Workers that had this attempt before and were not heard of again."""
    input: Json
    lease_until_ms: int
    due_ms: int | None
    """When the attempt times out, however often it is heard of."""
    heartbeat_ms: int | None
    """Within which the run wants to hear of the worker, whatever its lease is."""


class TaskList(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks that are leased."""

    tasks: list[TaskView]


class CompleteTask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What came of it."""

    result: Json = None


class FailTask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why it is not done."""

    error: Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z][A-Za-z0-9._-]*$")]
    cause: Json = ""
    data: Json = None
    retry: bool = True
    """False: do not try again, whatever the definition says of this error."""
    retry_after_ms: Annotated[int, Meta(ge=0, le=3_600_000)] = 0


class TaskHeartbeat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sign of life, and how far it is; without progress, what was told before stays."""

    progress: Json = None


class TaskBeat(msgspec.Struct, frozen=True, kw_only=True):
    """Until when the worker has the task, and whether it should stop."""

    lease_until_ms: int
    cancel_requested: bool


class TaskAnswered(msgspec.Struct, frozen=True, kw_only=True):
    """The run has the answer; `repeated`: it had this very answer before."""

    run: str
    step: str
    repeated: bool


class WorkerView(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that has tasks, and when it was heard of last."""

    worker: str
    tasks: int
    seen_ms: int


class LostWorkerView(msgspec.Struct, frozen=True, kw_only=True):
    """A worker whose lease has ended because it was not heard of."""

    worker: str
    run: str
    seen_ms: int
    lost_ms: int


class QueueView(msgspec.Struct, frozen=True, kw_only=True):
    """A queue. `oldest_age_ms`: for how long the oldest task has waited."""

    name: str
    waiting: int
    leased: int
    oldest_age_ms: int | None
    workers: list[WorkerView]
    lost_workers: list[LostWorkerView]


class QueueList(msgspec.Struct, frozen=True, kw_only=True):
    """Names of queues. With a `next_cursor` there may be more."""

    queues: list[str]
    next_cursor: str | None
