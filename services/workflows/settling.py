"""Ends steps and blocks that went well: variables, where to go on, and joins."""

from services.workflows.closing import drop_below, succeed_run
from services.workflows.draft import FULL, Close, Draft, Enter, Fault, Settle, Thrift, activity_of
from services.workflows.program import Json, Map, Parallel, Step
from services.workflows.state import Scope
from services.workflows.stepping import begin_items
from services.workflows.undoing import record_undo
from services.workflows.values import StepError, Values, check_size, with_result


def settle(draft: Draft, todo: Settle) -> None:
    """The step has its result: record how to undo it, assign, and go on.

    Raises:
        StepError: an expression failed, or nothing says where to go on.
    """
    scope = draft.find(todo)
    if scope is None or scope.activity is None:
        return
    if draft.thrift >= Thrift.RESULTS:
        raise StepError("payload.too_large", FULL)
    check_size(todo.result)
    activity, step = scope.activity, draft.step_of(scope)
    draft.settle_serial(activity.serial, "done")
    scope = draft.put(scope, activity=_answered(draft, scope))
    record_undo(draft, scope, result=todo.result, outcome=todo.outcome, known=True)
    values = with_result(Values(draft, scope), todo.result, todo.outcome)
    variables = values.assign(step.assign)
    output = values.template(step.output, todo.result)
    values.bindings |= variables
    rule = next((rule for rule in step.rules if values.condition(rule.when)), None)
    if rule is not None:
        variables |= values.assign(rule.assign)
        output = values.template(rule.output, output)
    target = rule.next if rule is not None else _target(step)
    draft.record("step.completed", activity.path)
    scope = draft.put(
        scope, variables=scope.variables | variables, value=output, outcome=todo.outcome, error=None, activity=None
    )
    if target is not None:
        go_on(draft, scope, target)
    else:
        draft.queue.append(Close(scope=scope.path, number=scope.number, output=output))


def go_on(draft: Draft, scope: Scope, target: str) -> None:
    """The scope enters that step as soon as it may."""
    draft.put(scope, ready=target)
    draft.queue.append(Enter(scope.path, scope.number))


def close(draft: Draft, todo: Close) -> None:
    """The block has its output: the run ends, or the parallel or map around goes on."""
    scope = draft.find(todo)
    if scope is None:
        return
    if scope.activity is not None:
        draft.settle_serial(scope.activity.serial, "done")
        draft.record("step.completed", scope.activity.path)
        scope = draft.put(scope, activity=None)
    if scope.parent is None:
        succeed_run(draft, todo.output)
        return
    parent = draft.scopes[scope.parent]
    del draft.scopes[scope.path]
    results = activity_of(parent).results | {scope.name: todo.output}
    draft.alter(parent, results=results)
    join(draft, draft.scopes[parent.path])


def join(draft: Draft, scope: Scope) -> None:
    """Go on with the parallel or map that the scope is at, if enough of it has ended."""
    kind, activity = draft.step_of(scope).kind, activity_of(scope)
    if activity.failure is not None:
        waits = isinstance(kind, Parallel) and kind.wait_others and draft.children_of(scope)
        if not waits:
            fault = Fault(scope=scope.path, number=scope.number, failure=activity.failure, fatal=activity.fatal)
            draft.queue.append(fault)
        return
    if isinstance(kind, Parallel):
        if len(activity.results) >= kind.need:
            drop_below(draft, scope, "not needed")
            named = {name: activity.results[name] for name in kind.branches if name in activity.results}
            draft.queue.append(_joined(scope, named))
        return
    assert isinstance(kind, Map), "only parallels and maps join"
    count = len(activity.items or [])
    if len(activity.results) + activity.failed == count:
        listed = [activity.results.get(str(index)) for index in range(count)]
        draft.queue.append(_joined(scope, listed))
    else:
        begin_items(draft, scope, kind)


def bears_another(draft: Draft, scope: Scope) -> bool:
    """Whether the parallel or map can still end well with one more failure."""
    kind, activity = draft.step_of(scope).kind, activity_of(scope)
    if isinstance(kind, Parallel):
        return len(kind.branches) - activity.failed - 1 >= kind.need
    assert isinstance(kind, Map), "only parallels and maps have scopes below them"
    items = len(activity.items or [])
    return activity.failed + 1 <= max(kind.tolerate, items * kind.tolerate_percent // 100)


def _joined(scope: Scope, result: Json) -> Settle:
    return Settle(scope=scope.path, number=scope.number, result=result, outcome=scope.outcome)


def _answered(draft: Draft, scope: Scope) -> Json:
    """The activity with nothing outstanding; its expressions are still to be evaluated."""
    return draft.alter(scope, sent=None, unsure=False, phase="called")


def _target(step: Step) -> str | None:
    """Where the step leads without a rule; None ends its block."""
    target = step.next if step.next is not None else step.default
    if target is None and step.rules:
        raise StepError("choice.no_match", "No rule is true, and there is no default")
    return target
