"""A step that starts a child is tried again: the child begins anew under its id, or has succeeded meanwhile."""

import asyncio
from typing import Any

import pytest

from services.workflows.events import Completed, Failed, Retried
from services.workflows.run import WorkflowRun
from shared.testing.kit import Kit, Ref, run_with_kit
from tests.support.carried import Installed
from tests.support.runs import begin, told

PARENT = """
workflow: parent
start: a
steps:
  a:
    child: { workflow: child }
    input: { n: "{% $input %}" }
    timeout: 1m
    retry: [ { errors: [lost, timeout], interval: 5s, attempts: 2 } ]
    end: true
"""
CHILD = """
workflow: child
start: book
steps:
  book: { task: q, compensate: { task: q }, on_exhausted: fail, next: rest }
  rest: { wait: {}, end: true }
"""
FORWARD = """
workflow: child
start: go
steps:
  go: { pass: 1, pivot: true, next: rest }
  rest: { wait: {}, end: true }
"""


async def told_of(kit: Kit, run: Ref, what: str, times: int = 1) -> None:
    """Go on until that has happened so often."""
    for _ in range(600):
        if times <= (await told(run)).count(what):
            return
        await kit.advance(500)
    raise AssertionError(f"{what} has not happened: {await told(run)}")


async def begun(kit: Kit) -> tuple[Ref, Ref]:
    """The run and its child, which has begun."""
    parent, child = kit.at(WorkflowRun, "acme", "p-1"), kit.at(WorkflowRun, "acme", "p-1/a:1")
    await parent.start(begin(PARENT, 7))
    await kit.advance(1_000)
    return parent, child


def tried(scenario: Any, *, child: str = CHILD) -> None:
    """Run the scenario with this child."""
    run_with_kit(scenario, kinds=Installed({"child": child}).kinds)


async def result_of(parent: Ref) -> Any:
    """What the run has ended with."""
    look = await parent.look(0)
    assert "succeeded" == look.status, look.status
    return look.run.ending.output


@pytest.mark.parametrize("dies_at_ms", [None, *range(0, 12, 2), *range(5_000, 5_024, 2)])
def test_a_child_that_has_failed_begins_anew(dies_at_ms: int | None) -> None:
    """Once for each retry, with other keys and the same id, though the node dies about then; its result counts."""

    async def scenario(kit: Kit) -> None:
        parent, child = await begun(kit)
        await child.happen(Failed(path="book", error="lost", retry=False))
        if dies_at_ms is not None:
            await asyncio.sleep(dies_at_ms / 1_000)
            await kit.kill()
        await told_of(kit, child, "run.started", 2)
        (scope,) = (await child.look(0)).run.scopes.values()
        assert "~2/book:1" == scope.activity.key
        await child.happen(Completed(path="book"))
        await child.happen(Completed(path="rest", result="room 7"))
        await kit.advance(2_000)
        assert "room 7" == await result_of(parent)
        assert 2 == (await told(child)).count("run.started")

    tried(scenario)


def test_a_child_that_has_failed_is_retried_by_hand() -> None:
    """The button of the incident is one."""

    async def scenario(kit: Kit) -> None:
        parent, child = await begun(kit)
        await child.happen(Failed(path="book", error="worse", retry=False))
        await told_of(kit, parent, "step.stalled a")
        await parent.happen(Retried(path="a"))
        await kit.advance(1_000)
        await child.happen(Completed(path="book"))
        await child.happen(Completed(path="rest", result=1))
        await kit.advance(1_000)
        assert 1 == await result_of(parent)

    tried(scenario)


def test_a_child_that_is_given_up_is_undone_before_it_begins_anew() -> None:
    """Its parent has waited too long; what it has done is undone first, however long that takes."""

    async def scenario(kit: Kit) -> None:
        parent, child = await begun(kit)
        await child.happen(Completed(path="book"))
        await told_of(kit, child, "undo.started book!undo")
        await kit.advance(30_000)
        assert ("undoing", 1) == ((await child.look(0)).status, (await told(child)).count("run.started"))
        await child.happen(Completed(path="book!undo"))
        await kit.advance(1_000)
        history = await told(child)
        assert history.index("run.cancelled") < history.index("run.started", 1)
        await child.happen(Completed(path="book"))
        await child.happen(Completed(path="rest", result=2))
        await kit.advance(1_000)
        assert 2 == await result_of(parent)

    tried(scenario)


def test_a_child_that_goes_forward_is_waited_for_by_the_next_attempt() -> None:
    """It cannot be cancelled past its pivot, and has one effect: its result is that of the step."""

    async def scenario(kit: Kit) -> None:
        parent, child = await begun(kit)
        await told_of(kit, parent, "step.retried a")
        await kit.advance(10_000)
        await child.happen(Completed(path="rest", result=3))
        await kit.advance(1_000)
        assert 3 == await result_of(parent)
        assert 1 == (await told(child)).count("run.started")

    tried(scenario, child=FORWARD)
