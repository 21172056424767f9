"""What a form cannot say: that a step exists and can be reached, that a variable is assigned, that a handler can act.

Works on the tree as it was written, also where its form is wrong: what is of the wrong type was told by the form and is
passed over here, so that one wrong member hides no other problem.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from services.workflows.bounds import BLOCK_DEPTH_MAX, STEPS_MAX
from services.workflows.durations import duration_ms
from services.workflows.expressions import BadExpressionError, compile_expression, is_bindable
from services.workflows.grammar import kinds_of
from services.workflows.handling import check_handlers, check_pivot
from services.workflows.problems import Place, Problems
from services.workflows.secrets import check_calls
from services.workflows.shapes import expressions_in, is_expression, source_of
from services.workflows.trees import Found, items_of, mapping, mappings_of, text

BOUND = frozenset({"env", "error", "input", "outcome", "result", "run", "states"})
"""What every expression can read beside variables: docs/reference/workflow-definitions.md says what each is."""
BOUND_IN_MAPS = frozenset({"index", "item"})


class _Scope(msgspec.Struct, frozen=True, kw_only=True):
    """Where a block stands."""

    at: Place
    depth: int
    readable: frozenset[str]
    """Names that its expressions may read, those that it assigns itself aside."""
    assigned: frozenset[str]
    """Variables of the blocks around it."""


def check_meaning(tree: dict[str, Any], problems: Problems) -> None:
    """Note every problem of the definition that its form does not show."""
    steps = sum(1 for _ in _all_steps(tree))
    if steps > STEPS_MAX:
        problems.add(
            Place(), f"A definition has at most {STEPS_MAX} steps, with those of its branches; this has {steps}"
        )
    entry = mapping(tree.get("deadline")).get("next")
    also = {entry} if isinstance(entry, str) else set()
    _check_block(tree, _Scope(at=Place(), depth=0, readable=BOUND, assigned=frozenset()), also, problems)
    if isinstance(entry, str):
        _check_target(entry, Place() / "deadline" / "next", mapping(tree.get("steps")), problems)
    for retrier in mappings_of(tree, "retry_default", Place()):
        check_handlers([retrier], problems)
    for name in ("run_id", "attributes"):
        _check_names(expressions_in(tree.get(name), Place() / name), frozenset({"input"}), problems)
    _check_names(expressions_in(tree.get("deadline"), Place() / "deadline"), BOUND, problems)


def _check_block(tree: dict[str, Any], scope: _Scope, also: set[str], problems: Problems) -> None:
    if scope.depth > BLOCK_DEPTH_MAX:
        problems.add(scope.at, f"Blocks stand at most {BLOCK_DEPTH_MAX} deep inside one another")
        return
    steps = {name: step for name, step in mapping(tree.get("steps")).items() if isinstance(step, dict)}
    assigned = _check_variables(steps, scope, problems)
    inner = msgspec.structs.replace(
        scope, readable=scope.readable | assigned, assigned=scope.assigned | assigned, depth=scope.depth + 1
    )
    _check_ways(tree, steps, scope.at, also, problems)
    for name, step in steps.items():
        at = scope.at / "steps" / name
        _check_step(step, at, steps, problems)
        check_pivot(step, at, outermost=scope.depth == 0, problems=problems)
        own = {key: value for key, value in step.items() if key not in {"each", "comment", "parallel"}}
        _check_names(expressions_in(own, at), inner.readable, problems)
        for block, place in _blocks_of(step, at):
            more = BOUND_IN_MAPS if "map" in step else frozenset()
            below = msgspec.structs.replace(inner, at=place, readable=inner.readable | more)
            _check_block(block, below, set(), problems)


def _check_ways(tree: dict[str, Any], steps: dict[str, Any], at: Place, also: set[str], problems: Problems) -> None:
    """Every target exists, every step can be reached, and there is an end."""
    start = text(tree.get("start"))
    all_steps = mapping(tree.get("steps"))
    if start:
        _check_target(start, at / "start", all_steps, problems)
    for name, step in steps.items():
        for found in _targets(step, at / "steps" / name):
            _check_target(found.value, found.at, all_steps, problems)
    if start not in all_steps:
        return
    reached, new = set(also), {start, *also}
    while new:
        reached |= new
        new = {found.value for name in new if name in steps for found in _targets(steps[name], at)} - reached
    for name in steps:
        if name not in reached:
            problems.add(at / "steps" / name, f"No way leads to the step {name!r}")
    if all(_leads_on(step) for step in steps.values()):
        problems.add(at / "steps", "No step ends this block: `end: true`, `succeed` or `fail` is missing")


def _check_step(step: dict[str, Any], at: Place, siblings: dict[str, Any], problems: Problems) -> None:
    if "default" in step and "choice" not in step:
        problems.add(at / "default", "A default needs a choice")
    check_handlers(mappings_of(step, "retry", at), problems)
    check_handlers(mappings_of(step, "catch", at), problems)
    check_handlers(mappings_of(mapping(step.get("compensate")), "retry", at / "compensate"), problems)
    check_calls(step, at, problems)
    for found in items_of(mapping(step.get("wait")), "forbid_same_user_as", at / "wait"):
        if text(found.value) and kinds_of(siblings.get(found.value, {})) != ["wait"]:
            problems.add(found.at, f"{found.value!r} is no wait of this block")
    if _longer(step.get("heartbeat"), step.get("timeout")):
        problems.add(at / "heartbeat", "A heartbeat that is not shorter than the timeout finds nothing")
    _check_join(mapping(step.get("parallel")), at / "parallel", problems)


def _check_join(parallel: dict[str, Any], at: Place, problems: Problems) -> None:
    count, branches = mapping(parallel.get("join")).get("count"), mapping(parallel.get("branches"))
    if isinstance(count, int) and branches and count > len(branches):
        problems.add(at / "join" / "count", f"{count} of {len(branches)} branches can never succeed")


def _check_variables(steps: dict[str, Any], scope: _Scope, problems: Problems) -> frozenset[str]:
    """What the steps assign; each has a name that is free."""
    assigned = set()
    for name, step in steps.items():
        for found in _assigned(step, scope.at / "steps" / name):
            variable = found.value
            if variable in BOUND | BOUND_IN_MAPS:
                problems.add(found.at, f"${variable} has a meaning of its own and cannot be assigned")
            elif variable.isidentifier() and not is_bindable(variable):
                problems.add(found.at, f"${variable} is a function of JSONata")
            elif variable in scope.assigned:
                problems.add(found.at, f"${variable} belongs to a block around this one; a block assigns only its own")
            assigned.add(variable)
    return frozenset(assigned)


def _check_names(expressions: list[tuple[Place, str]], readable: frozenset[str], problems: Problems) -> None:
    """Every expression reads only what can be there."""
    for at, expression in expressions:
        try:
            names = compile_expression(source_of(expression)).names
        except BadExpressionError:
            continue  # The form has told it.
        for name in sorted(names - readable):
            problems.add(at, f"${name} is assigned nowhere that this can read")


def _check_target(name: str, at: Place, steps: dict[str, Any], problems: Problems) -> None:
    if name not in steps:
        problems.add(at, f"There is no step {name!r} in this block")


def _targets(step: dict[str, Any], at: Place) -> Iterator[Found]:
    """The steps that a step can lead to."""
    for key in ("next", "default"):
        if text(step.get(key)):
            yield Found(at / key, step[key])
    for key in ("choice", "catch"):
        for found in mappings_of(step, key, at):
            if text(found.value.get("next")):
                yield Found(found.at / "next", found.value["next"])


def _assigned(step: dict[str, Any], at: Place) -> Iterator[Found]:
    owners = [Found(at, step), *mappings_of(step, "choice", at), *mappings_of(step, "catch", at)]
    for owner in owners:
        for name in mapping(owner.value.get("assign_vars")):
            yield Found(owner.at / "assign_vars" / name, name)


def _blocks_of(step: dict[str, Any], at: Place) -> Iterator[tuple[dict[str, Any], Place]]:
    for name, branch in mapping(mapping(step.get("parallel")).get("branches")).items():
        if isinstance(branch, dict):
            yield branch, at / "parallel" / "branches" / name
    if isinstance(step.get("each"), dict):
        yield step["each"], at / "each"


def _all_steps(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for step in mapping(tree.get("steps")).values():
        if isinstance(step, dict):
            yield step
            for block, _ in _blocks_of(step, Place()):
                yield from _all_steps(block)


def _leads_on(step: dict[str, Any]) -> bool:
    return not ("end" in step or "fail" in step or "succeed" in step)


def _longer(one: Any, other: Any) -> bool:
    """Whether a duration is at least as long as another; False where either is none or an expression."""
    if not text(one) or not text(other) or is_expression(one) or is_expression(other):
        return False
    try:
        return duration_ms(one) >= duration_ms(other)
    except ValueError:
        return False
