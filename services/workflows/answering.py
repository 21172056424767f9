"""Answers to what was sent or shown: the first one for an attempt counts, and every later one is told what it is.

A repeat of the answer that counted is no error. Answers of attempts that have been given up are refused: superseded,
timed out, completed otherwise, or never heard of.
"""

from hashlib import blake2b

import msgspec

from services.workflows.bounds import MAILBOX_SIGNALS_MAX
from services.workflows.controls import scope_at
from services.workflows.draft import Draft, Fault, Settle, Thrift, activity_of
from services.workflows.events import (
    Accepted,
    Assigned,
    ChildEnded,
    Claimed,
    Completed,
    Failed,
    Heartbeat,
    Leased,
    Released,
    Signalled,
    StepEvent,
)
from services.workflows.intents import AskFor, SendHttp, SendTask
from services.workflows.program import Wait
from services.workflows.refusals import (
    AlreadyCompletedError,
    ClaimedError,
    MailboxFullError,
    NotWaitingError,
    SupersededError,
    TimedOutError,
    UnknownSerialError,
)
from services.workflows.state import Failure, Run, Scope, Settled, Signal, Undo
from services.workflows.undoing import find_undo, replace_undo, undo_failed, undone
from services.workflows.waiting import check_answer, show_again, take_signal
from shared.bounds import RETRY_AFTER_MS


def is_repeat(run: Run, event: StepEvent) -> bool:
    """Whether this very answer was taken before."""
    if not isinstance(event, Completed | Failed) or not event.serial:
        return False
    return any(one.serial == event.serial and one.how == _digest(event) for one in run.settled)


def complete(draft: Draft, event: Completed) -> None:
    """The step is done.

    Raises:
        ConflictError: it is not waited for; which of several reasons is in the class.
        WrongAnswerError, SameUserError: it is no answer to the wait.
    """
    if event.serial in draft.reminders:
        del draft.reminders[event.serial]
        return
    undo = _undo_for(draft, event)
    if undo is not None:
        _answered(draft, event, undo.serial)
        undone(draft, undo, "completed")
        return
    scope = _scope_for(draft, event)
    if isinstance(activity_of(scope).sent, AskFor):
        check_answer(draft, scope, event)
    _answered(draft, event, activity_of(scope).serial)
    outcome = event.outcome or scope.outcome
    draft.queue.append(Settle(scope=scope.path, number=scope.number, result=event.result, outcome=outcome))


def fail(draft: Draft, event: Failed) -> None:
    """The step is not done.

    Raises:
        ConflictError: it is not waited for; which of several reasons is in the class.
    """
    if event.serial in draft.reminders:
        draft.record("reminder.failed", event.path, {"error": event.error, "cause": event.cause})
        del draft.reminders[event.serial]
        return
    undo = _undo_for(draft, event)
    failure = Failure(error=event.error, step=event.path)
    if draft.thrift < Thrift.RESULTS:
        failure = msgspec.structs.replace(failure, cause=event.cause, data=event.data)
    if undo is not None:
        _answered(draft, event, undo.serial)
        undo_failed(draft, undo, failure, retry_after_ms=event.retry_after_ms, retry=event.retry)
        return
    scope = _scope_for(draft, event)
    _answered(draft, event, activity_of(scope).serial)
    fault = Fault(
        scope=scope.path,
        number=scope.number,
        failure=failure,
        retry_after_ms=event.retry_after_ms,
        retry=event.retry,
    )
    draft.queue.append(fault)


def answer_of_child(event: ChildEnded) -> Completed | Failed:
    """What the end of a child says to the step that has started it: well, or with its error."""
    if event.status == "succeeded":
        return Completed(path=event.path, serial=event.serial, result=event.output)
    error = event.error or f"child.{event.status}"
    return Failed(path=event.path, serial=event.serial, error=error, cause=event.cause)


def accept(draft: Draft, event: Accepted) -> None:
    """The other side has it; nothing is sent again from here on.

    Raises:
        NotWaitingError: nobody said that the answer would come later.
    """
    undo = _undo_for(draft, event)
    if undo is not None:
        replace_undo(draft, undo, phase="accepted")
        return
    scope = _scope_for(draft, event)
    sent = activity_of(scope).sent
    if not (isinstance(sent, SendHttp) and sent.callback):
        raise NotWaitingError(event.path)
    draft.alter(scope, phase="accepted")


def lease(draft: Draft, event: Leased) -> None:
    """A worker has the task; its heartbeat counts from now. One that a later lease has overtaken has it no more."""
    scope = _scope_of_task(draft, event)
    if scope is not None and event.lease >= activity_of(scope).lease:
        draft.alter(scope, worker=event.worker, lease=event.lease)
        _expect_heartbeat(draft, scope)


def release(draft: Draft, event: Released) -> None:
    """The worker has the task no more, unless it was leased again meanwhile; what it has told of its progress stays."""
    scope = _scope_of_task(draft, event)
    if scope is not None and event.lease == activity_of(scope).lease:
        draft.alter(scope, worker="")
        draft.disarm_one("heartbeat", activity_of(scope).serial)


def beat(draft: Draft, event: Heartbeat) -> None:
    """The worker lives, and says how far it is."""
    scope = _scope_of_task(draft, event)
    if scope is None:
        return
    if event.progress is not None:
        draft.alter(scope, progress=event.progress)
    _expect_heartbeat(draft, scope)


def claim(draft: Draft, event: Claimed) -> None:
    """Somebody takes the wait, or gives it back.

    Raises:
        ClaimedError: somebody else has it.
        NotWaitingError: the step is no wait that is shown.
    """
    scope = _shown(draft, event)
    holder = activity_of(scope).claimed_by
    if event.by and holder not in {"", event.by}:
        raise ClaimedError(f"The step {event.path!r} is claimed by {holder!r}.")
    draft.alter(scope, claimed_by=event.by)
    draft.record("wait.claimed" if event.by else "wait.released", event.path, {"by": event.by or holder})


def assign(draft: Draft, event: Assigned) -> None:
    """The wait is given to others.

    Raises:
        NotWaitingError: the step is no wait that is shown.
    """
    scope = _shown(draft, event)
    show_again(draft, scope, event.assign, activity_of(scope).due_ms)


def signal(draft: Draft, event: Signalled) -> None:
    """The oldest wait that is for the signal takes it at once; else it is kept.

    Raises:
        MailboxFullError: too many are kept.
    """
    until_ms = draft.now_ms + event.ttl_ms if event.ttl_ms else 0
    draft.mailbox.append(Signal(name=event.name, payload=event.payload, until_ms=until_ms))
    draft.record("signal.received", data={"name": event.name})
    waiting = [scope for scope in draft.scopes.values() if scope.activity and scope.activity.phase == "waiting"]
    for scope in sorted(waiting, key=lambda one: activity_of(one).entry):
        wait = draft.step_of(scope).kind
        if isinstance(wait, Wait) and wait.signal == event.name and take_signal(draft, scope, wait):
            draft.withdraw(scope, "done")
            return
    if len(draft.mailbox) > MAILBOX_SIGNALS_MAX:
        raise MailboxFullError("The run takes no more signals now.", retry_after_ms=RETRY_AFTER_MS)


def _expect_heartbeat(draft: Draft, scope: Scope) -> None:
    activity = activity_of(scope)
    if isinstance(activity.sent, SendTask) and activity.sent.heartbeat_ms is not None:
        draft.disarm_one("heartbeat", activity.serial)
        draft.arm(draft.now_ms + activity.sent.heartbeat_ms, "heartbeat", activity.serial, scope.path)


def _shown(draft: Draft, event: StepEvent) -> Scope:
    scope = scope_at(draft, event.path)
    if activity_of(scope).phase != "waiting":
        raise NotWaitingError(event.path)
    return scope


def _undo_for(draft: Draft, event: StepEvent) -> Undo | None:
    """The compensation that the event is about, if it is about one."""
    undo = find_undo(draft, event.path)
    if undo is None:
        return None
    if undo.phase not in {"called", "accepted"} or event.serial not in {0, undo.serial}:
        raise _late(draft, event)
    return undo


def _scope_for(draft: Draft, event: StepEvent) -> Scope:
    """The scope whose step waits for this event."""
    scope = draft.scopes.get(event.path.rpartition("/")[0])
    activity = scope.activity if scope else None
    if scope is None or activity is None or activity.path != event.path or activity.sent is None:
        raise _late(draft, event)
    if event.serial not in {0, activity.serial}:
        raise _late(draft, event)
    return scope


def _scope_of_task(draft: Draft, event: StepEvent) -> Scope | None:
    """The scope whose task a worker has; None for one that undoes a step, of which only the answer counts."""
    return None if _undo_for(draft, event) is not None else _scope_for(draft, event)


def _late(draft: Draft, event: StepEvent) -> Exception:
    """Why the event comes too late, or to nobody."""
    if not event.serial:
        return NotWaitingError(event.path)
    if event.serial > draft.serial:
        return UnknownSerialError(f"task {event.serial}")
    how = next((one.how for one in draft.settled if one.serial == event.serial), "")
    if how == "timed_out":
        return TimedOutError("The answer comes after the timeout of its attempt.")
    if how.startswith("="):
        return AlreadyCompletedError("This was answered before, and otherwise.")
    return SupersededError("Another attempt or visit has taken the place of this one.")


def _answered(draft: Draft, event: StepEvent, serial: int) -> None:
    """Remember the answer, to know it again."""
    draft.disarm(serial)
    draft.settled.append(Settled(serial=serial, how=_digest(event)))


def _digest(event: StepEvent) -> str:
    """The same for the same answer, whether it named a serial or not."""
    plain = msgspec.structs.replace(event, serial=0)
    return "=" + blake2b(msgspec.json.encode(plain), digest_size=12).hexdigest()
