"""What timers do when they are due. One whose serial is gone does nothing; it was superseded."""

from services.workflows.closing import fail_run, give_up
from services.workflows.controls import again
from services.workflows.draft import Draft, Fault, activity_of
from services.workflows.intents import Withdraw
from services.workflows.settling import go_on
from services.workflows.state import ROOT, Failure, Scope, Timer, Undo
from services.workflows.stepping import awake
from services.workflows.undoing import retry_undo, undo_failed
from services.workflows.waiting import escalate, remind

_TIMEOUTS = {"timeout": "timeout", "heartbeat": "timeout.heartbeat"}


def fire(draft: Draft, timer: Timer) -> None:
    """Let it happen.

    Raises:
        StepError: the step that it belongs to cannot go on.
    """
    if timer.what == "continue":
        return  # To ring was all that it is for.
    if timer.what == "deadline":
        _pass_deadline(draft)
        return
    if draft.phase == "undoing":
        _fire_undo(draft, draft.undo[0], timer)
        return
    scope = draft.scopes.get(timer.scope)
    if scope is not None and scope.activity is not None and scope.activity.serial == timer.serial:
        _fire_step(draft, scope, timer)


def _fire_step(draft: Draft, scope: Scope, timer: Timer) -> None:
    activity = activity_of(scope)
    if timer.what in _TIMEOUTS:
        if activity.sent is not None:
            draft.emit(Withdraw(path=activity.path, serial=activity.serial))
        late_ms = draft.now_ms - timer.due_ms
        failure = Failure(error=_TIMEOUTS[timer.what], cause=f"due {late_ms} ms ago" if late_ms else "due now")
        draft.queue.append(Fault(scope=scope.path, number=scope.number, failure=failure))
    elif timer.what == "sleep":
        awake(draft, scope)
    elif timer.what == "again":
        again(draft, scope, fresh=False)
    elif timer.what == "remind":
        remind(draft, scope, timer)
    else:
        assert timer.what == "escalate", timer.what
        escalate(draft, scope, timer)


def _fire_undo(draft: Draft, undo: Undo, timer: Timer) -> None:
    if undo.serial != timer.serial:
        return
    if timer.what == "again":
        retry_undo(draft, undo, fresh=False)
    else:
        draft.emit(Withdraw(path=undo.path, serial=undo.serial))
        undo_failed(draft, undo, Failure(error="timeout", step=undo.path))


def _pass_deadline(draft: Draft) -> None:
    """The run has lasted too long: it goes on where the definition says, or fails."""
    deadline = draft.program.deadline
    draft.record("run.deadline_passed")
    if deadline is None or deadline.next is None:
        fail_run(draft, Failure(error="deadline"))
        return
    give_up(draft, draft.scopes[ROOT], "deadline")
    draft.queue.clear()
    root = draft.put(draft.scopes[ROOT], activity=None)
    go_on(draft, root, deadline.next)
