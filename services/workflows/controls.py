"""What people can do to a run: cancel, terminate, pause, resume, retry, skip, reset. Each is refused or done whole."""

from services.workflows.closing import end_run, give_up
from services.workflows.draft import Draft, Enter, Settle, activity_of
from services.workflows.events import Cancelled, Paused, Reset, Resumed, Retried, Skipped, Terminated
from services.workflows.refusals import (
    NotWaitingError,
    PastPivotError,
    RunClosedError,
    SupersededError,
    UnknownStepError,
)
from services.workflows.state import ROOT, Ending, Failure, Scope
from services.workflows.stepping import begin
from services.workflows.undoing import find_undo, retry_undo, stop_undoing, undo_next, undone


def cancel(draft: Draft, event: Cancelled) -> None:
    """Stop and undo.

    Raises:
        PastPivotError: the run only goes forward.
    """
    if draft.past_pivot:
        raise PastPivotError("The run is past its pivot and only goes forward; it can be terminated.")
    failure = Failure(error="run.cancelled", cause=event.reason)
    draft.paused = False
    draft.record("run.cancelling", data={"reason": event.reason})
    end_run(draft, Ending(status="cancelled", failure=failure), undo=True)


def terminate(draft: Draft, event: Terminated) -> None:
    """Stop at once; what was undone stays undone, and the rest stays done."""
    stop_undoing(draft)
    draft.paused = False
    failure = Failure(error="run.terminated", cause=event.reason)
    end_run(draft, Ending(status="terminated", failure=failure), undo=False)


def pause(draft: Draft, _: Paused) -> None:
    """Begin no more steps. To pause a paused run changes nothing."""
    if not draft.paused:
        draft.paused = True
        draft.record("run.paused")


def resume(draft: Draft, _: Resumed) -> None:
    """Go on. To resume a running run changes nothing."""
    if draft.paused:
        draft.paused = False
        draft.record("run.resumed")
        if draft.phase == "undoing" and draft.undo[0].phase == "recorded":
            undo_next(draft)


def retry(draft: Draft, event: Retried) -> None:
    """Try a stalled step again: same visit, same key, fresh retries.

    Raises:
        NotWaitingError: it has not stalled.
        SupersededError: it has stalled anew since.
        StepError: it cannot even begin; the caller makes a fault of the scope of it.
    """
    undo = find_undo(draft, event.path)
    if undo is not None and undo.phase == "stalled":
        _check_serial(event, undo.serial)
        draft.notify("incident.closed", undo.path, undo.serial)
        retry_undo(draft, undo, fresh=True)
        return
    scope = stalled(draft, event.path)
    activity = activity_of(scope)
    _check_serial(event, activity.serial)
    draft.notify("incident.closed", activity.path, activity.serial)
    draft.record("step.retried", activity.path, {"by_hand": True})
    again(draft, scope, fresh=True)


def again(draft: Draft, scope: Scope, *, fresh: bool) -> None:
    """Make the next attempt of the step that the scope is at. `fresh` forgets how often it was retried."""
    activity = activity_of(scope)
    retried = {} if fresh else activity.retried
    draft.alter(
        scope,
        phase="called",
        attempt=activity.attempt + 1,
        retried=retried,
        serial=draft.next_serial(),
        sent=None,
        failure=None,
        due_ms=None,
        worker="",
        lease=0,
        progress=None,
    )
    begin(draft, draft.scopes[scope.path])


def skip(draft: Draft, event: Skipped) -> None:
    """Take a step as done, or a stalled compensation as not needed.

    Raises:
        NotWaitingError: nothing is under way there.
        SupersededError: another attempt is, by now.
    """
    undo = find_undo(draft, event.path)
    if undo is not None and undo.phase == "stalled":
        _check_serial(event, undo.serial)
        draft.notify("incident.closed", undo.path, undo.serial)
        undone(draft, undo, "skipped")
        return
    scope = scope_at(draft, event.path)
    _check_serial(event, activity_of(scope).serial)
    give_up(draft, scope, "skipped")
    scope = draft.scopes[scope.path]
    draft.alter(scope, sent=None, phase="called")
    draft.queue.append(Settle(scope=scope.path, number=scope.number, result=event.result, outcome=scope.outcome))


def reset(draft: Draft, event: Reset) -> None:
    """Go on at that step, as a new visit and a new generation. Variables and records of what is to be undone stay.

    Raises:
        UnknownStepError: the run has no such step.
        RunClosedError: the run is being undone.
    """
    if event.step not in draft.program.root.steps:
        raise UnknownStepError(f"step {event.step!r}")
    if draft.phase == "undoing":
        raise RunClosedError("The run is being undone; it can be reset once it has ended.")
    give_up(draft, draft.scopes[ROOT], "reset")
    draft.queue.clear()
    draft.phase, draft.ending, draft.past_pivot = "open", None, False
    draft.generation += 1
    draft.mailbox = draft.mailbox if event.keep_signals else []
    draft.record("run.reset", data={"step": event.step, "generation": draft.generation})
    root = draft.put(draft.scopes[ROOT], activity=None, ready=event.step, error=None)
    draft.queue.append(Enter(ROOT, root.number))


def stalled(draft: Draft, path: str) -> Scope:
    """The scope whose step of that path has stalled.

    Raises:
        NotWaitingError: it has not.
    """
    scope = scope_at(draft, path)
    if activity_of(scope).phase != "stalled":
        raise NotWaitingError(path)
    return scope


def scope_at(draft: Draft, path: str) -> Scope:
    """The scope that is at the step of that path.

    Raises:
        NotWaitingError: none is.
    """
    scope = draft.scopes.get(path.rpartition("/")[0])
    if scope is None or scope.activity is None or scope.activity.path != path:
        raise NotWaitingError(path)
    return scope


def _check_serial(event: Retried | Skipped, serial: int) -> None:
    if event.serial not in {0, serial}:
        raise SupersededError("Another attempt or visit has taken the place of this one.")
