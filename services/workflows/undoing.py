"""Compensation: what was done is recorded with its undoing, and undone last step first, one after another.

A record holds values, so neither a crash nor a new version of the definition changes it. It is made when a step
completes, and when a step is given up of which nobody knows whether it happened; then `$result` is null, and what
undoes has to bear "it never happened". One step visited once is undone once, however many attempts it took.
"""

import msgspec

from services.workflows.bounds import UNDO_EXPRESSIONS_MS_MAX
from services.workflows.calling import call_of
from services.workflows.draft import Draft, activity_of
from services.workflows.intents import Ended, Withdraw
from services.workflows.program import Json
from services.workflows.retrying import delay_ms, retrier_for
from services.workflows.state import Failure, Scope, Undo
from services.workflows.values import StepError, Values, with_result

SUFFIX = "!undo"


def record_undo(draft: Draft, scope: Scope, *, result: Json = None, outcome: str | None = None, known: bool) -> None:
    """Record how the step that the scope is at is undone, if it says so. `known` is whether it surely happened.

    Raises:
        StepError: a value cannot be had; only where it surely happened.
    """
    activity, step = activity_of(scope), draft.step_of(scope)
    if step.compensate is None:
        return
    values = with_result(Values(draft, scope), result, outcome)
    values.limit_ms = UNDO_EXPRESSIONS_MS_MAX
    path = activity.path + SUFFIX
    try:
        call = call_of(step.compensate.action, values, lenient=not known, path=path, key=activity.key + SUFFIX)
    except StepError as error:
        if known:
            raise
        draft.record("undo.not_recorded", path, {"error": error.failure.error, "cause": error.failure.cause})
        return
    undo = Undo(
        path=path,
        key=activity.key,
        entry=activity.entry,
        call=call,
        retry=step.compensate.retry,
        timeout_ms=step.compensate.timeout_ms,
    )
    others = [other for other in draft.undo if other.key != activity.key]
    draft.undo = sorted([*others, undo], key=lambda one: -one.entry)


def undo_next(draft: Draft) -> None:
    """Begin with the last step that is not undone yet, unless the run is paused; or end the run as it is to end."""
    assert draft.ending is not None, "why the run is undone was said before"
    if draft.undo:
        if not draft.paused:
            _send(draft, draft.undo[0])
        return
    draft.phase = "ended"
    draft.paused = False
    ending = draft.ending
    failure = ending.failure or Failure(error="")
    draft.record(f"run.{ending.status}", data=ending.output if ending.status == "succeeded" else _seen(failure))
    draft.emit(Ended(status=ending.status, output=ending.output, error=failure.error, cause=failure.cause))


def undone(draft: Draft, undo: Undo, how: str) -> None:
    """The compensation is done, or given up on purpose."""
    draft.record(f"undo.{how}", undo.path)
    draft.undo = [other for other in draft.undo if other.serial != undo.serial]
    undo_next(draft)


def undo_failed(draft: Draft, undo: Undo, failure: Failure, *, retry_after_ms: int = 0, retry: bool = True) -> None:
    """An attempt failed: try again later, or wait for somebody who helps."""
    draft.disarm(undo.serial)
    number = retrier_for(undo.retry, undo.retried, failure.error) if retry else None
    if number is None:
        stalled = replace_undo(draft, undo, phase="stalled", failure=failure)
        draft.notify("incident.opened", stalled.path, stalled.serial, _seen(failure))
        return
    wait_ms = delay_ms(undo.retry[number], undo.retried.get(number, 0), draft.around.draw, retry_after_ms)
    retried = undo.retried | {number: undo.retried.get(number, 0) + 1}
    again = replace_undo(draft, undo, phase="backing_off", retried=retried, failure=failure, serial=draft.next_serial())
    draft.arm(draft.now_ms + wait_ms, "again", again.serial)
    draft.record("undo.retried", undo.path, _seen(failure) | {"wait_ms": wait_ms})


def retry_undo(draft: Draft, undo: Undo, *, fresh: bool) -> None:
    """Make the next attempt. `fresh` forgets how often it was retried."""
    retried = {} if fresh else undo.retried
    _send(draft, replace_undo(draft, undo, attempt=undo.attempt + 1, retried=retried))


def replace_undo(draft: Draft, undo: Undo, **changes: Json) -> Undo:
    """Store the compensation with these changes."""
    changed = msgspec.structs.replace(undo, **changes)
    draft.undo = [changed if other.key == undo.key else other for other in draft.undo]
    return changed


def find_undo(draft: Draft, path: str) -> Undo | None:
    """The compensation of that path that is under way."""
    if draft.phase == "undoing" and draft.undo and draft.undo[0].path == path:
        return draft.undo[0]
    return None


def stop_undoing(draft: Draft) -> None:
    """Give up what is recorded and what is under way."""
    for undo in draft.undo:
        if undo.phase == "called":
            draft.emit(Withdraw(path=undo.path, serial=undo.serial))
        if undo.phase == "stalled":
            draft.notify("incident.closed", undo.path, undo.serial)
        draft.settle_serial(undo.serial, "withdrawn")
    draft.undo = []


def _send(draft: Draft, undo: Undo) -> None:
    serial = draft.next_serial()
    due_ms = draft.now_ms + undo.timeout_ms
    call = msgspec.structs.replace(undo.call, serial=serial, attempt=undo.attempt, due_ms=due_ms)
    replace_undo(draft, undo, phase="called", serial=serial, call=call, failure=None)
    draft.arm(due_ms, "timeout", serial)
    draft.record("undo.started", undo.path, {"attempt": undo.attempt})
    draft.emit(call)


def _seen(failure: Failure) -> dict[str, Json]:
    return {"error": failure.error, "cause": failure.cause}
