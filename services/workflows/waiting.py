"""Waits: shown to whoever may answer, with reminders and escalations meanwhile; an answer has to be one."""

import msgspec

from services.workflows.bounds import REMINDERS_KEPT
from services.workflows.calling import call_of
from services.workflows.draft import FULL, Draft, Settle, Thrift, activity_of
from services.workflows.events import Completed
from services.workflows.fitting import mismatches
from services.workflows.intents import AskFor
from services.workflows.program import Step, Wait
from services.workflows.refusals import NotWaitingError, SameUserError, WrongAnswerError
from services.workflows.state import Scope, Timer
from services.workflows.values import StepError, Values


def begin_wait(draft: Draft, scope: Scope, step: Step, wait: Wait) -> None:
    """Show the wait, unless the signal that ends it has come before.

    Raises:
        StepError: a value cannot be had.
    """
    if wait.signal and take_signal(draft, scope, wait):
        return
    activity, values = activity_of(scope), Values(draft, scope)
    due_ms = draft.now_ms + values.span_ms(step.timeout) if step.timeout is not None else None
    shown = AskFor(
        path=activity.path,
        serial=activity.serial,
        title=values.text(wait.title),
        description=values.text(wait.description),
        assign={name: values.text(value) for name, value in wait.assign.items()},
        outcomes=wait.outcomes,
        due_ms=due_ms,
    )
    draft.alter(scope, phase="waiting", sent=shown, due_ms=due_ms, claimed_by="")
    if due_ms is not None:
        draft.arm(due_ms, "timeout", activity.serial, scope.path)
    if wait.remind:
        draft.arm(draft.now_ms + wait.remind.every_ms, "remind", activity.serial, scope.path, 1)
    for number, escalation in enumerate(wait.escalate):
        draft.arm(draft.now_ms + escalation.after_ms, "escalate", activity.serial, scope.path, number)
    draft.emit(shown)


def take_signal(draft: Draft, scope: Scope, wait: Wait) -> bool:
    """End the wait with the oldest signal that it is for, if there is one."""
    for number, signal in enumerate(draft.mailbox):
        if signal.name == wait.signal:
            del draft.mailbox[number]
            draft.queue.append(Settle(scope=scope.path, number=scope.number, result=signal.payload))
            return True
    return False


def remind(draft: Draft, scope: Scope, timer: Timer) -> None:
    """Send a reminder, and arm the next if there is one. One that cannot be made is written down and left out.

    Of those that became due together, because the run was paused or its node away, one is sent.
    """
    wait = draft.step_of(scope).kind
    assert isinstance(wait, Wait), "only waits remind"
    assert wait.remind is not None, "the timer was armed for it"
    path, serial = activity_of(scope).path, draft.next_serial()
    key = f"{activity_of(scope).key}!remind:{timer.nth}"
    try:
        if draft.thrift >= Thrift.STEPS:
            raise StepError("payload.too_large", FULL)
        call = call_of(wait.remind.http, Values(draft, scope), path=f"{path}!remind", key=key, serial=serial)
    except StepError as error:
        draft.record("reminder.failed", path, {"error": error.failure.error, "cause": error.failure.cause})
    else:
        kept = dict(list(draft.reminders.items())[-(REMINDERS_KEPT - 1) :])
        draft.reminders = kept | {serial: call}
        draft.emit(call)
        draft.record("reminder.sent", path, {"number": timer.nth})
    passed = 1 + (draft.now_ms - timer.due_ms) // wait.remind.every_ms
    if timer.nth + passed <= wait.remind.times:
        due_ms = timer.due_ms + passed * wait.remind.every_ms
        draft.arm(due_ms, "remind", timer.serial, scope.path, timer.nth + passed)


def escalate(draft: Draft, scope: Scope, timer: Timer) -> None:
    """Give the wait to others, who have at least so long for it.

    Raises:
        StepError: whom to give it to cannot be said.
    """
    wait = draft.step_of(scope).kind
    assert isinstance(wait, Wait), "only waits escalate"
    escalation, activity = wait.escalate[timer.nth], activity_of(scope)
    values = Values(draft, scope)
    assign = {name: values.text(value) for name, value in escalation.assign.items()}
    due_ms = activity.due_ms
    if due_ms is not None and escalation.extend_ms:
        due_ms = max(due_ms, draft.now_ms + escalation.extend_ms)
        draft.disarm_one("timeout", activity.serial)
        draft.arm(due_ms, "timeout", activity.serial, scope.path)
    show_again(draft, scope, assign, due_ms)
    draft.notify("escalated", activity.path, activity.serial, assign)


def show_again(draft: Draft, scope: Scope, assign: dict[str, str], due_ms: int | None) -> None:
    """The wait is somebody else's now."""
    shown = activity_of(scope).sent
    assert isinstance(shown, AskFor), "a wait is shown"
    shown = msgspec.structs.replace(shown, assign=assign, due_ms=due_ms)
    draft.alter(scope, sent=shown, due_ms=due_ms, claimed_by="")
    draft.emit(shown)
    draft.record("wait.assigned", shown.path, assign)


def check_answer(draft: Draft, scope: Scope, event: Completed) -> None:
    """Refuse what is no answer to the wait, or comes from somebody who may not give it.

    Raises:
        NotWaitingError: it is not waited for any more.
        WrongAnswerError: it is none of the outcomes, or not as the schema says; or has no name, and a later step asks.
        SameUserError: the same person answered a step that somebody else has to answer.
    """
    wait, activity = draft.step_of(scope).kind, activity_of(scope)
    assert isinstance(wait, Wait), "only waits are answered"
    if activity.phase != "waiting":
        raise NotWaitingError(activity.path)
    if wait.outcomes and event.outcome not in wait.outcomes:
        raise WrongAnswerError(f"The outcome is one of {', '.join(wait.outcomes)}", "/outcome")
    if wait.result_schema is not None:
        for at, message in mismatches(wait.result_schema, event.result):
            raise WrongAnswerError(message, f"/result{at}")
    for other in wait.others:
        path = f"{scope.path}/{other}" if scope.path else other
        if not event.by or draft.answered_by.get(path) == event.by:
            raise SameUserError(other)
    if not event.by and _is_looked_at(draft, scope):
        raise WrongAnswerError("An answer needs a name here: a later step is not for whoever gives it", "/by")
    if event.by:
        draft.answered_by[activity.path] = event.by


def _is_looked_at(draft: Draft, scope: Scope) -> bool:
    """Whether another step of the block may not be answered by whoever answers this one."""
    name, kinds = activity_of(scope).step, (step.kind for step in draft.block_of(scope).steps.values())
    return any(isinstance(kind, Wait) and name in kind.others for kind in kinds)
