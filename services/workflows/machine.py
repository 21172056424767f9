"""The machine: (program, run, event) -> (run, what it wants done). Pure: no clock, no dice, nothing waits.

A transition goes through whole or not at all, and runs every step that is ready and does not wait. The same program,
run, event and surroundings give the same outcome for ever, so a run that is loaded after a crash goes on exactly
where its last commit left it. What has been sent and not answered is in the run (`outstanding`), and is sent again.

No run is ever stuck silently: after every transition each open scope has an armed timer, something sent, a wait that
is shown, or an incident. `stuck` (services/workflows/liveness.py) says where that is not so, and a test asks it after
every event.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from services.workflows.answering import (
    accept,
    answer_of_child,
    assign,
    beat,
    claim,
    complete,
    fail,
    is_repeat,
    lease,
    release,
    signal,
)
from services.workflows.bounds import (
    PAYLOAD_BYTES_MAX,
    RUN_BYTES_FULL,
    RUN_BYTES_MAX,
    STEPS_PER_TURN_MAX,
    TURN_EXPRESSIONS_MS,
)
from services.workflows.controls import cancel, pause, reset, resume, retry, skip, terminate
from services.workflows.draft import Close, Draft, Enter, Fault, Settle, Surroundings, Thrift, Todo
from services.workflows.events import (
    Accepted,
    AnyEvent,
    Assigned,
    Cancelled,
    ChildEnded,
    Claimed,
    Completed,
    Failed,
    Heartbeat,
    Leased,
    Paused,
    Released,
    Reset,
    Resumed,
    Retried,
    Signalled,
    Skipped,
    StepEvent,
    Terminated,
    TimerDue,
)
from services.workflows.failing import fail_step
from services.workflows.fitting import mismatches
from services.workflows.intents import Intent
from services.workflows.migrating import move
from services.workflows.opening import Before, deadline_of, key_after
from services.workflows.program import Program
from services.workflows.refusals import PayloadTooLargeError, RunClosedError, RunTooLargeError, WrongAnswerError
from services.workflows.settling import close, settle
from services.workflows.state import ROOT, Run, Scope, encode
from services.workflows.stepping import enter
from services.workflows.timing import fire
from services.workflows.values import StepError

Transition = tuple[Run, tuple[Intent, ...]]

_TODOS: dict[type[Todo], Callable[[Draft, Any], None]] = {
    Enter: enter,
    Settle: settle,
    Fault: fail_step,
    Close: close,
}
_EVENTS: dict[type[AnyEvent], Callable[[Draft, Any], None]] = {
    Accepted: accept,
    Assigned: assign,
    Cancelled: cancel,
    Claimed: claim,
    Completed: complete,
    Failed: fail,
    Heartbeat: beat,
    Leased: lease,
    Paused: pause,
    Released: release,
    Reset: reset,
    Resumed: resume,
    Retried: retry,
    Signalled: signal,
    Skipped: skip,
    Terminated: terminate,
}
_WHILE_UNDOING = (
    Completed,
    Failed,
    Accepted,
    Leased,
    Released,
    Heartbeat,
    TimerDue,
    Terminated,
    Paused,
    Resumed,
    Retried,
    Skipped,
)
_FROM_OUTSIDE = (Completed, Heartbeat, Signalled, Skipped)
"""Events whose sender can be told that they are too large."""


def start(
    program: Program,
    *,
    run_id: str,
    run_input: Any,
    around: Surroundings,
    begins_ms: int = 0,
    deadline_ms: int = 0,
    before: Before | None = None,
) -> Transition:
    """A new run, as far as it comes at once. One that begins later enters its first step then.

    `before` is of the run that had the id before: its serials and keys are used by no other.

    Raises:
        WrongAnswerError: the input is not as the definition's schema says, or the deadline comes before the beginning.
        PayloadTooLargeError: it is too large.
        RunTooLargeError: what the first steps make of it is.
    """
    check_payload(run_input)
    for at, message in mismatches(program.input_schema or {}, run_input):
        raise WrongAnswerError(message, f"/input{at}")
    key = ROOT if before is None else key_after(before)
    root = Scope(path=ROOT, key=key, number=0, value=run_input, ready=program.root.start)
    run = Run(
        id=run_id,
        definition=program.name,
        version=program.version,
        started_ms=around.now_ms,
        begins_ms=begins_ms if begins_ms > around.now_ms else 0,
        input=run_input,
        scopes={ROOT: root},
        serial=0 if before is None else before.serial,
        kept_ms=program.kept_ms,
    )
    draft = Draft(program, run, around)
    draft.record("run.started")
    if run.begins_ms:
        draft.arm(run.begins_ms, "continue", 0)
    if (due_ms := deadline_of(draft, root, deadline_ms)) is not None:
        draft.arm(due_ms, "deadline", 0)
    _work(draft)
    after, effects = draft.outcome()
    _check_size(run, after)
    return after, effects


def advance(program: Program, run: Run, event: AnyEvent, around: Surroundings) -> Transition:
    """The run after the event, and what it wants done.

    An answer that repeats one that was taken before changes nothing and is no error.

    Raises: ConflictError, NotFoundError, InvalidInputError, ForbiddenError, RefusedError: the event does not fit;
    services/workflows/refusals.py. PayloadTooLargeError, RunTooLargeError: what it brings is too large.
    """
    if isinstance(event, ChildEnded):
        event = answer_of_child(event)
    if isinstance(event, StepEvent) and is_repeat(run, event):
        return run, ()
    _check_phase(run, event)
    for value in _brought(event):
        check_payload(value)
    transition = _applied(program, run, event, around, Thrift.NONE)
    for thrift in (Thrift.RESULTS, Thrift.STEPS, Thrift.BLOCKS):
        try:
            _check_size(run, transition[0], RUN_BYTES_MAX if thrift is Thrift.BLOCKS else RUN_BYTES_FULL)
        except RunTooLargeError:
            if isinstance(event, _FROM_OUTSIDE):
                raise
            transition = _applied(program, run, event, around, thrift)
        else:
            break
    return transition


def migrate(old: Program, new: Program, run: Run, step_map: Mapping[str, str], around: Surroundings) -> Transition:
    """The run with another version of its definition, as far as it comes at once; services/workflows/migrating.py.

    Raises:
        ConflictError: it cannot have it.
        RunTooLargeError: it would become too large.
    """
    if new == old and not step_map:
        return run, ()
    draft = Draft(old, run, around)
    move(draft, new, step_map)
    _work(draft)
    after, effects = draft.outcome()
    _check_size(run, after)
    return after, effects


def _check_size(before: Run, after: Run, bytes_max: int = RUN_BYTES_FULL) -> None:
    """Look whether the run may become so large: within the bound, or no larger than it is.

    Raises:
        RunTooLargeError: it may not.
    """
    size = len(encode(after))
    if size > bytes_max and size > len(encode(before)):
        raise RunTooLargeError(size)


def _applied(program: Program, run: Run, event: AnyEvent, around: Surroundings, thrift: Thrift) -> Transition:
    draft = Draft(program, run, around)
    draft.thrift = thrift
    if isinstance(event, TimerDue):
        _ring(draft)
    else:
        _apply(draft, event)
        if isinstance(event, Resumed):
            _ring(draft)
    _work(draft)
    return draft.outcome()


def _apply(draft: Draft, event: AnyEvent) -> None:
    try:
        _EVENTS[type(event)](draft, event)
    except StepError as error:
        assert isinstance(event, StepEvent), "only what a step does can fail like this"
        scope = draft.scopes[event.path.rpartition("/")[0]]
        draft.queue.append(Fault(scope=scope.path, number=scope.number, failure=error.failure))


def _ring(draft: Draft) -> None:
    """Let every timer that is due happen, earliest first, each with all that follows from it."""
    while _has_room(draft) and (timer := draft.due_timer()) is not None:
        try:
            fire(draft, timer)
        except StepError as error:
            scope = draft.scopes[timer.scope]
            draft.queue.append(Fault(scope=scope.path, number=scope.number, failure=error.failure))
        _work(draft)


def _work(draft: Draft) -> None:
    """Do what is to be done, until nothing is left that does not wait."""
    if not draft.queue and draft.phase == "open":
        ready = (scope for scope in draft.scopes.values() if scope.ready is not None)
        draft.queue.extend(Enter(scope.path, scope.number) for scope in ready)
    while draft.queue:
        todo = draft.queue.popleft()
        if isinstance(todo, Enter) and not _may_enter(draft):
            continue  # It stays ready.
        try:
            _TODOS[type(todo)](draft, todo)
        except StepError as error:
            draft.queue.append(Fault(scope=todo.scope, number=todo.number, failure=error.failure))


def _has_room(draft: Draft) -> bool:
    busy = draft.steps >= STEPS_PER_TURN_MAX or draft.expressions_ms >= TURN_EXPRESSIONS_MS
    return not draft.paused and not busy


def _has_begun(draft: Draft) -> bool:
    """Whether the time has come to enter the first step; a reset does not wait for it."""
    return draft.now_ms >= draft.run.begins_ms or draft.entries > 0 or draft.generation > 1


def _may_enter(draft: Draft) -> bool:
    """Whether another step may begin in this transition; if it is only too many, the next one goes on."""
    if not _has_begun(draft):
        return False
    if _has_room(draft):
        return True
    if not draft.paused and not any(timer.what == "continue" for timer in draft.timers):
        draft.arm(draft.now_ms, "continue", 0)
    return False


def _check_phase(run: Run, event: AnyEvent) -> None:
    if run.phase == "ended" and not isinstance(event, Reset | TimerDue):
        raise RunClosedError("The run has ended.")
    if run.phase == "undoing" and not isinstance(event, (*_WHILE_UNDOING, Reset)):
        raise RunClosedError("The run is being undone.")


def _brought(event: AnyEvent) -> tuple[Any, ...]:
    """What an event brings that the run keeps."""
    match event:
        case Completed() | Skipped():
            return (event.result,)
        case Failed():
            return event.cause, event.data
        case Signalled():
            return (event.payload,)
        case Heartbeat():
            return (event.progress,)
        case _:
            return ()


def check_payload(value: Any) -> None:
    """Look whether a run would take the value.

    Raises:
        PayloadTooLargeError: it is too large for any.
    """
    size = len(msgspec.json.encode(value))
    if size > PAYLOAD_BYTES_MAX:
        raise PayloadTooLargeError(size)
