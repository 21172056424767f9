"""What becomes of an error: retried, caught, taken by a step around, and else a stalled step that waits for help.

The order is that of the Amazon States Language: the step's retriers, its catchers, then the block fails and the
parallel or map around is asked the same. What differs is the end: an error that nobody would handle does not fail the
run. The step where it happened stalls, an incident is opened, and everything else goes on. `on_exhausted: fail` and
`fail` steps do fail.
"""

import msgspec

from services.workflows.closing import drop, drop_below, fail_run, note_unsure
from services.workflows.compiling import UNSURE
from services.workflows.draft import Draft, Fault, Thrift, activity_of, is_effect
from services.workflows.handling import matches
from services.workflows.program import Catcher
from services.workflows.retrying import delay_ms, retrier_for
from services.workflows.settling import bears_another, go_on, join
from services.workflows.state import ROOT, Failure, Scope
from services.workflows.values import StepError, Values, error_seen, with_error


def fail_step(draft: Draft, todo: Fault) -> None:
    """Deal with the error of the step that the scope is at."""
    scope = draft.find(todo)
    if scope is None or scope.activity is None:
        return
    todo = _named(todo, scope)
    if draft.thrift >= Thrift.BLOCKS:
        stall(draft, _give_up_attempt(draft, draft.scopes[ROOT], todo), todo.failure)
        return
    scope = _give_up_attempt(draft, scope, todo)
    if _retry(draft, scope, todo) or _catch(draft, scope, todo.failure):
        return
    fatal = todo.fatal or draft.step_of(scope).on_exhausted == "fail"
    if fatal or _taken_above(draft, scope, todo.failure):
        _fail_block(draft, scope, msgspec.structs.replace(todo, fatal=fatal))
    else:
        stall(draft, scope, todo.failure)


def stall(draft: Draft, scope: Scope, failure: Failure) -> None:
    """The step waits for somebody who helps."""
    activity = draft.alter(scope, phase="stalled", failure=failure, sent=None)
    draft.record("step.stalled", activity.path, error_seen(failure))
    draft.notify("incident.opened", activity.path, activity.serial, error_seen(failure))


def _named(todo: Fault, scope: Scope) -> Fault:
    """The same with the step where it happened, if that is not known yet."""
    if todo.failure.step:
        return todo
    return msgspec.structs.replace(todo, failure=msgspec.structs.replace(todo.failure, step=activity_of(scope).path))


def _give_up_attempt(draft: Draft, scope: Scope, todo: Fault) -> Scope:
    """What the attempt had outstanding is not outstanding any more."""
    drop_below(draft, scope, "failed")
    activity = activity_of(scope)
    unknown = is_effect(activity.sent) and matches(UNSURE, todo.failure.error)
    draft.settle_serial(activity.serial, "timed_out" if todo.failure.error.startswith("timeout") else "failed")
    draft.alter(scope, sent=None, failure=todo.failure, unsure=activity.unsure or unknown)
    return draft.scopes[scope.path]


def _retry(draft: Draft, scope: Scope, todo: Fault) -> bool:
    """Whether the step is tried again later."""
    if not todo.retry:
        return False
    activity, retriers = activity_of(scope), draft.step_of(scope).retry
    number = retrier_for(retriers, activity.retried, todo.failure.error)
    if number is None:
        return False
    before = activity.retried.get(number, 0)
    wait_ms = delay_ms(retriers[number], before, draft.around.draw, todo.retry_after_ms)
    serial = draft.next_serial()
    due_ms = draft.now_ms + wait_ms
    retried = activity.retried | {number: before + 1}
    draft.alter(scope, phase="backing_off", retried=retried, serial=serial, due_ms=due_ms)
    draft.alter(draft.scopes[scope.path], worker="", lease=0, progress=None)
    draft.arm(due_ms, "again", serial, scope.path)
    draft.record("step.retried", activity.path, error_seen(todo.failure) | {"wait_ms": wait_ms})
    return True


def _catch(draft: Draft, scope: Scope, failure: Failure) -> bool:
    """Whether a catcher takes the error; one whose own expressions fail takes it and stalls the step."""
    catcher = _catcher_for(draft, scope, failure)
    if catcher is None:
        return False
    values = with_error(Values(draft, scope), failure)
    try:
        variables = values.assign(catcher.assign)
        output = values.template(catcher.output, values.bindings["states"]["errorOutput"])
    except StepError as error:
        stall(draft, scope, msgspec.structs.replace(error.failure, step=activity_of(scope).path))
        return True
    note_unsure(draft, scope)
    draft.record("step.caught", activity_of(scope).path, error_seen(failure))
    variables = scope.variables | variables
    caught = draft.put(scope, variables=variables, value=output, error=error_seen(failure), activity=None)
    go_on(draft, caught, catcher.next)
    return True


def _catcher_for(draft: Draft, scope: Scope, failure: Failure) -> Catcher | None:
    for catcher in draft.step_of(scope).catch:
        if matches(catcher.errors, failure.error):
            visits = scope.visits.get(catcher.next, 0)
            if catcher.visits_max is None or visits < catcher.visits_max:
                return catcher
    return None


def _taken_above(draft: Draft, scope: Scope, failure: Failure) -> bool:
    """Whether a step around would retry, catch or bear the failure of this block."""
    while scope.parent is not None:
        scope = draft.scopes[scope.parent]
        retriers, retried = draft.step_of(scope).retry, activity_of(scope).retried
        if bears_another(draft, scope) or retrier_for(retriers, retried, failure.error) is not None:
            return True
        if _catcher_for(draft, scope, failure) is not None:
            return True
    return False


def _fail_block(draft: Draft, scope: Scope, todo: Fault) -> None:
    """The block fails with its step: the run, or a branch or item of the step around."""
    note_unsure(draft, scope)
    draft.record("step.failed", activity_of(scope).path, error_seen(todo.failure))
    scope = draft.put(scope, activity=None)
    if scope.parent is None:
        fail_run(draft, todo.failure)
        return
    parent = draft.scopes[scope.parent]
    bears = bears_another(draft, parent)
    drop(draft, scope, "failed")
    first = activity_of(parent).failure or todo.failure
    fatal = activity_of(parent).fatal or todo.fatal
    draft.alter(
        parent, failed=activity_of(parent).failed + 1, failure=None if bears else first, fatal=fatal and not bears
    )
    join(draft, draft.scopes[parent.path])
