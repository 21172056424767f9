"""Moves a run to another version of its definition, or says why it cannot. Pure.

What a run is at goes on as it has begun: the same visits, attempts, keys and moments. So each step under way stands in
the other version at the same place, is of the same kind there, and counts what it counts: branches and how many are
needed, outcomes, signal, reminders, escalations. One that has stalled or waits to be tried again begins anew anyway and
may be of any kind. Or the step of the run itself is mapped: then it is given up, as by a reset, and the run enters the
one that it is mapped to.

What is recorded to be undone stays as it was, and so do variables, attributes and a deadline that was set.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from services.workflows.closing import give_up
from services.workflows.draft import Draft, Enter
from services.workflows.program import Block, Kind, Map, Parallel, Program, Wait
from services.workflows.refusals import RunClosedError, UnmappableStepError
from services.workflows.state import ROOT, Scope
from shared.errors import ConflictError

_BEGUN_ANEW = {"stalled", "backing_off"}


def move(draft: Draft, new: Program, step_map: Mapping[str, str]) -> None:
    """Move the run; `step_map` has steps of the run itself, each with the one to go on at.

    Raises:
        RunClosedError: it has ended, or is being undone.
        ConflictError: that is another definition.
        UnmappableStepError: it is at a step that cannot go on there, or the map has one that is not there.
    """
    if draft.phase != "open":
        raise RunClosedError("The run has ended, or is being undone.")
    old, root = draft.program, draft.scopes[ROOT]
    if new.name != old.name:
        raise ConflictError(f"The run is one of {old.name!r}, and not of {new.name!r}.")
    _check_map(step_map, old, new)
    target = step_map.get(root.ready or "" if root.activity is None else root.activity.step)
    if target is None:
        _check(draft, root, new.root)
    else:
        give_up(draft, root, "migrated")
    draft.program = new
    draft.run = msgspec.structs.replace(draft.run, version=new.version, kept_ms=new.kept_ms)
    draft.record("run.migrated", data={"from": old.version, "to": new.version} | ({"step": target} if target else {}))
    if target is not None:
        root = draft.put(draft.scopes[ROOT], activity=None, ready=target, error=None)
        draft.queue.append(Enter(ROOT, root.number))


def _check_map(step_map: Mapping[str, str], old: Program, new: Program) -> None:
    for name in step_map:
        if name not in old.root.steps:
            raise UnmappableStepError(name, f"version {old.version} has no such step")
    check_targets(step_map, new)


def check_targets(step_map: Mapping[str, str], new: Program) -> None:
    """Refuse a map that leads to a step that is not there.

    Raises:
        UnmappableStepError: it does.
    """
    for target in step_map.values():
        if target not in new.root.steps:
            raise UnmappableStepError(target, f"version {new.version} has no such step")


def _check(draft: Draft, scope: Scope, block: Block) -> None:
    """Refuse what cannot go on with these steps: the scope, or one below it.

    Raises:
        UnmappableStepError: it cannot.
    """
    activity = scope.activity
    name = scope.ready or "" if activity is None else activity.step
    path = f"{scope.path}/{name}" if scope.path else name
    step = block.steps.get(name)
    if step is None:
        raise UnmappableStepError(path, "there is no such step there")
    if activity is None or activity.phase in _BEGUN_ANEW:
        return
    before, after = _shape(draft.step_of(scope).kind), _shape(step.kind)
    if before != after:
        raise UnmappableStepError(path, f"it is {after} there, and was {before}")
    for child in draft.children_of(scope):
        if isinstance(step.kind, Map):
            _check(draft, child, step.kind.each)
        elif isinstance(step.kind, Parallel):
            _check(draft, child, step.kind.branches[child.name])


def _shape(kind: Kind) -> tuple[Any, ...]:
    """What of a step under way must stay."""
    name = type(kind).__name__.lower()
    if isinstance(kind, Wait):
        return name, kind.outcomes, kind.signal, kind.remind is not None, len(kind.escalate)
    if isinstance(kind, Parallel):
        return name, sorted(kind.branches), kind.need
    return (name,)
