"""Begins steps: what each kind does first, and again with every attempt."""

from typing import Any

import msgspec

from services.workflows.bounds import ENTRIES_MAX, MAP_ITEMS_MAX
from services.workflows.calling import call_of, child_of
from services.workflows.draft import FULL, Close, Draft, Enter, Fault, Settle, Thrift, activity_of
from services.workflows.intents import Call, SendTask
from services.workflows.program import (
    Child,
    Fail,
    Http,
    Json,
    Map,
    ObjectCall,
    Parallel,
    Pass,
    Sleep,
    Step,
    Succeed,
    Task,
    Wait,
)
from services.workflows.state import Activity, Failure, Scope
from services.workflows.values import StepError, Values
from services.workflows.waiting import begin_wait


def enter(draft: Draft, todo: Enter) -> None:
    """Enter the step that the scope is ready for.

    Raises:
        StepError: it may not be entered any more, or cannot begin.
    """
    scope = draft.find(todo)
    if scope is None or scope.ready is None:
        return
    name, step = scope.ready, draft.block_of(scope).steps[scope.ready]
    visit = scope.visits.get(name, 0) + 1
    draft.entries += 1
    draft.steps += 1
    activity = Activity(
        step=name,
        path=f"{scope.path}/{name}" if scope.path else name,
        key=f"{scope.key}/{name}:{visit}" if scope.key else f"{name}:{visit}",
        entry=draft.entries,
        entered_ms=draft.now_ms,
        serial=draft.next_serial(),
        phase="called",
        input=scope.value,
    )
    scope = draft.put(scope, ready=None, activity=activity, visits=scope.visits | {name: visit})
    draft.record("step.entered", activity.path, {"visit": visit})
    if step.pivot:
        _pass_pivot(draft)
    if draft.entries > ENTRIES_MAX:
        raise StepError("run.too_long", f"A run enters at most {ENTRIES_MAX} steps")
    if step.visits_max is not None and visit > step.visits_max:
        raise StepError("visits.exceeded", f"The step {name!r} is entered at most {step.visits_max} times")
    begin(draft, scope)


def begin(draft: Draft, scope: Scope) -> None:
    """Do what the step does, as the attempt that its activity says.

    Raises:
        StepError: a value cannot be had.
    """
    if draft.thrift >= Thrift.STEPS:
        raise StepError("payload.too_large", FULL)
    step = draft.step_of(scope)
    kind = step.kind
    if isinstance(kind, Task | Http | ObjectCall | Child):
        _call(draft, scope, step, kind)
    elif isinstance(kind, Wait):
        begin_wait(draft, scope, step, kind)
    elif isinstance(kind, Sleep):
        _sleep(draft, scope, kind)
    elif isinstance(kind, Parallel):
        _fork(draft, scope, kind)
    elif isinstance(kind, Map):
        _spread(draft, scope, kind)
    else:
        _at_once(draft, scope, kind)


def begin_items(draft: Draft, scope: Scope, kind: Map) -> None:
    """Begin as many further items as may be under way at once."""
    activity = activity_of(scope)
    items = activity.items or []
    running = len(draft.children_of(scope))
    begun = running + len(activity.results) + activity.failed
    room = (kind.concurrency or len(items)) - running
    for index in range(begun, min(begun + room, len(items))):
        begin_block(draft, scope, str(index), kind.each.start, item=items[index], index=index)


def begin_block(draft: Draft, scope: Scope, name: str, start: str, **more: Json) -> None:
    """Begin a branch or an item below the scope."""
    activity = activity_of(scope)
    child = Scope(
        path=f"{activity.path}/{name}",
        key=f"{activity.key}/{name}",
        number=draft.next_serial(),
        parent=scope.path,
        name=name,
        value=more.get("item", activity.input),
        ready=start,
        **more,
    )
    draft.put(child)
    draft.queue.append(Enter(child.path, child.number))


def _pass_pivot(draft: Draft) -> None:
    """From here on forward only: nothing is undone, and no deadline leads elsewhere."""
    draft.undo = []
    draft.past_pivot = True
    draft.disarm_one("deadline", 0)
    draft.record("run.past_pivot")


def _at_once(draft: Draft, scope: Scope, kind: Pass | Fail | Succeed) -> None:
    values = Values(draft, scope)
    value = activity_of(scope).input
    if isinstance(kind, Pass):
        result = values.template(kind.result, value)
        draft.queue.append(Settle(scope=scope.path, number=scope.number, result=result, outcome=scope.outcome))
    elif isinstance(kind, Succeed):
        draft.queue.append(Close(scope=scope.path, number=scope.number, output=values.template(kind.output)))
    else:
        failure = Failure(
            error=values.text(kind.error),
            cause=values.render(kind.cause),
            step=activity_of(scope).path,
            undo=kind.compensate_all,
        )
        draft.queue.append(Fault(scope=scope.path, number=scope.number, failure=failure, fatal=True))


def _call(draft: Draft, scope: Scope, step: Step, kind: Task | Http | ObjectCall | Child) -> None:
    activity = activity_of(scope)
    values = Values(draft, scope)
    due_ms = draft.now_ms + values.span_ms(step.timeout) if step.timeout is not None else None
    given: dict[str, Any] = {
        "path": activity.path,
        "key": activity.key,
        "serial": activity.serial,
        "attempt": activity.attempt,
        "due_ms": due_ms,
    }
    call: Call
    if isinstance(kind, Child):
        call = child_of(kind, values, run_id=draft.run.id, **given)
    else:
        call = call_of(kind, values, **given)
    if isinstance(call, SendTask) and step.heartbeat is not None:
        call = msgspec.structs.replace(call, heartbeat_ms=values.span_ms(step.heartbeat))
    draft.alter(scope, sent=call, phase="called", due_ms=due_ms)
    if due_ms is not None:
        draft.arm(due_ms, "timeout", activity.serial, scope.path)
    draft.emit(call)


def _sleep(draft: Draft, scope: Scope, kind: Sleep) -> None:
    activity, values = activity_of(scope), Values(draft, scope)
    until = kind.until
    due_ms = values.moment_ms(until) if until is not None else draft.now_ms + values.span_ms(kind.span or 0)
    if due_ms <= draft.now_ms:
        draft.queue.append(_slept(scope))
        return
    draft.alter(scope, phase="sleeping", due_ms=due_ms)
    draft.arm(due_ms, "sleep", activity.serial, scope.path)


def _slept(scope: Scope) -> Settle:
    return Settle(scope=scope.path, number=scope.number, result=activity_of(scope).input, outcome=scope.outcome)


def awake(draft: Draft, scope: Scope) -> None:
    """The time has passed."""
    draft.queue.append(_slept(scope))


def _fork(draft: Draft, scope: Scope, kind: Parallel) -> None:
    draft.alter(scope, phase="joining", results={}, failed=0, failure=None, fatal=False)
    for name, block in kind.branches.items():
        begin_block(draft, draft.scopes[scope.path], name, block.start)


def _spread(draft: Draft, scope: Scope, kind: Map) -> None:
    items = Values(draft, scope).render(kind.items)
    if not isinstance(items, list):
        raise StepError("expression.failed", f"The items of a map are a list, not {items!r:.80}")
    if len(items) > MAP_ITEMS_MAX:
        raise StepError("payload.too_large", f"A map has at most {MAP_ITEMS_MAX} items, not {len(items)}")
    draft.alter(scope, phase="joining", results={}, failed=0, failure=None, fatal=False, items=items)
    scope = draft.scopes[scope.path]
    if items:
        begin_items(draft, scope, kind)
    else:
        draft.queue.append(Settle(scope=scope.path, number=scope.number, result=[], outcome=scope.outcome))
