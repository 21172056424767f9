"""One step of a definition, tried on values that are given: what it would send, and what its answer would lead to.

The machine is the one that runs; only the steps around are stand-ins, so that the run stops where the step leads.
"""

from typing import Any

import msgspec

from services.workflows.definition_schemas import StepTried, TryStep
from services.workflows.draft import Surroundings
from services.workflows.events import AnyEvent, Completed, Failed, TimerDue
from services.workflows.intents import Intent
from services.workflows.machine import advance
from services.workflows.program import Block, Map, Parallel, Program, Step, Wait
from services.workflows.refusals import UnknownStepError
from services.workflows.state import ROOT, Run, Scope
from services.workflows.values import error_seen

_STOP = Step(kind=Wait())


def try_step(program: Program, trial: TryStep, *, now_ms: int) -> StepTried:
    """What becomes of the step.

    Raises:
        UnknownStepError: the definition has no such step.
        ConflictError, InvalidInputError: the answer does not fit the step.
        PayloadTooLargeError: something of it is too large.
    """
    block, name = _found(program.root, trial.step)
    alone = msgspec.structs.replace(program, root=_alone(block, name), deadline=None)
    around = Surroundings(now_ms=now_ms)
    run, effects = advance(alone, _before(alone, trial, name, now_ms), TimerDue(), around)
    if trial.answered and (event := _answer(run, trial, name)) is not None:
        run, more = advance(alone, run, event, around)
        effects += more
    return _tried(run, effects, name)


def _found(block: Block, path: str) -> tuple[Block, str]:
    """The block of the step, and its name there."""
    name, _, rest = path.partition("/")
    step = block.steps.get(name)
    if step is None:
        raise UnknownStepError(f"step {path!r}")
    if not rest:
        return block, name
    branch, _, below = rest.partition("/")
    if isinstance(step.kind, Parallel) and branch in step.kind.branches:
        return _found(step.kind.branches[branch], below)
    if isinstance(step.kind, Map):
        return _found(step.kind.each, below or rest)
    raise UnknownStepError(f"step {path!r}")


def _alone(block: Block, name: str) -> Block:
    return Block(start=name, steps={other: block.steps[name] if other == name else _STOP for other in block.steps})


def _before(program: Program, trial: TryStep, name: str, now_ms: int) -> Run:
    root = Scope(
        path=ROOT,
        key=ROOT,
        number=0,
        value=trial.previous,
        ready=name,
        variables=trial.variables,
        item=trial.item,
        index=None if trial.item is None else 0,
    )
    return Run(
        id="test-step",
        definition=program.name,
        version=program.version,
        started_ms=now_ms,
        input=trial.input,
        scopes={ROOT: root},
    )


def _answer(run: Run, trial: TryStep, name: str) -> AnyEvent | None:
    """The answer that is given, where the step waits for one."""
    root = run.scopes[ROOT]
    if root.activity is None or root.activity.step != name or root.activity.sent is None:
        return None
    if trial.error:
        return Failed(path=name, error=trial.error, cause=trial.result)
    return Completed(path=name, result=trial.result, outcome=trial.outcome, by="test-step")


def _tried(run: Run, effects: tuple[Intent, ...], name: str) -> StepTried:
    told: list[Any] = [msgspec.to_builtins(effect) for effect in effects]
    root = run.scopes.get(ROOT)
    variables = {} if root is None else root.variables
    if run.ending is not None:
        failure = None if run.ending.failure is None else error_seen(run.ending.failure)
        return StepTried(state="ended", output=run.ending.output, variables=variables, failure=failure, effects=told)
    assert root is not None, "an open run has its own scope"
    assert root.activity is not None, "a run that does not wait has ended"
    activity = root.activity
    if activity.step != name:
        return StepTried(state="went_on", next=activity.step, output=activity.input, variables=variables, effects=told)
    failure = None if activity.failure is None else error_seen(activity.failure)
    return StepTried(state=activity.phase, variables=variables, failure=failure, effects=told)
