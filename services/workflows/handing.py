"""What a run gives to a worker, and what it hears when the worker has the task no more. Pure."""

import msgspec

from services.workflows.calling import request_key
from services.workflows.draft import outstanding
from services.workflows.events import Failed, Released
from services.workflows.intents import SendTask
from services.workflows.program import Json
from services.workflows.state import Run


class Handed(msgspec.Struct, frozen=True, kw_only=True):
    """A task in the hands of a worker. `key` is the same for every attempt of one visit of its step."""

    definition: str
    version: int
    path: str
    key: str
    attempt: int
    input: Json
    due_ms: int | None
    heartbeat_ms: int | None


def task_of(run: Run, serial: int) -> SendTask | None:
    """The task that was sent under this serial, if the run waits for it."""
    for sent in outstanding(run):
        if sent.serial == serial and isinstance(sent, SendTask):
            return sent
    return None


def hand(run: Run | None, serial: int, *, now_ms: int) -> Handed | None:
    """What a worker gets; None where it is not wanted, or would be late."""
    task = None if run is None else task_of(run, serial)
    if run is None or task is None or (task.due_ms is not None and task.due_ms <= now_ms):
        return None
    return Handed(
        definition=run.definition,
        version=run.version,
        path=task.path,
        key=request_key(run.id, task.key),
        attempt=task.attempt,
        input=task.input,
        due_ms=task.due_ms,
        heartbeat_ms=task.heartbeat_ms,
    )


def freed(run: Run | None, serial: int, lease: int, *, lost: str | None) -> Failed | Released | None:
    """What happens to the run when a lease has ended. With `lost`, a worker, nobody else will have it in this attempt.

    Nothing where the run does not wait for the task any more.
    """
    task = None if run is None else task_of(run, serial)
    if task is None:
        return None
    if lost is not None:
        cause = f"Several workers were not heard of again, the last of them {lost}"
        return Failed(path=task.path, serial=serial, error="task.lost", cause=cause)
    return Released(path=task.path, serial=serial, lease=lease)
