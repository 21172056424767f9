"""Runs that have ended are kept as long as their definition says, then forgotten, and known to be gone for a while."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from services.workflows.bounds import ENDED_KEPT_MS, GONE_KEPT_MS
from services.workflows.errands import Parent
from services.workflows.events import Cancelled, ChildEnded, Completed, Reset, Terminated
from services.workflows.forgetting import FORGET
from services.workflows.refusals import RunGoneError
from services.workflows.run import WorkflowRun
from shared.errors import ConflictError, NotFoundError
from shared.objects.errors import UnavailableError
from shared.testing.cluster import NodeDiedError
from shared.testing.kit import Kit, Ref, run_with_kit
from tests.support.carried import Installed
from tests.support.runs import begin, told

MINUTE_MS = 60_000
KEPT = "workflow: k\nretention: 10m\nstart: a\nsteps: { a: { task: q, end: true } }"

AT_ONCE = "workflow: k\nretention: 10m\nstart: a\nsteps: { a: { pass: 1, end: true } }"
WAITS = "workflow: p\nstart: a\nsteps: { a: { child: { workflow: k }, end: true } }"


async def listed(kit: Kit) -> Sequence[str]:
    """Every run that a listing shows."""
    return [found.address.name for found in await kit.find(WorkflowRun, "acme", "all", "all")]


async def left_ms(kit: Kit, run: Ref) -> int:
    """How long the run, which has ended, is kept from now on."""
    until_ms = (await run.look(0)).kept_until_ms
    assert until_ms == kit.alarms(run)[FORGET]
    return int(until_ms) - kit.now_ms()


def test_a_run_is_kept_as_long_as_its_definition_says() -> None:
    """Whoever starts it again meanwhile starts nothing; then nothing of it is left, and its id is free."""

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "k-1")
        assert await run.start(begin(KEPT))
        await run.happen(Completed(path="a"))
        assert 10 * MINUTE_MS - 10 <= await left_ms(kit, run) <= 10 * MINUTE_MS
        await kit.advance(9 * MINUTE_MS)
        assert not await run.start(begin(KEPT))
        assert ["k-1"] == await listed(kit)
        await kit.advance(2 * MINUTE_MS)
        with pytest.raises(RunGoneError):
            await run.look(0)
        assert (["gone"], {}, {}, []) == (
            list(kit.stored(run)),
            kit.journal(run),
            kit.alarms(run),
            await listed(kit),
        )
        assert await run.start(begin(KEPT))
        assert "~2/a:1" == next(iter((await run.look(0)).run.scopes.values())).activity.key

    run_with_kit(scenario, kinds=[WorkflowRun])


def test_a_run_is_kept_for_thirty_days_if_nothing_is_said() -> None:
    """As was always so. Its alarm says it; a month of a node takes minutes to live through."""

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "k-1")
        await run.start(begin(KEPT.replace("retention: 10m\n", "")))
        await run.happen(Terminated())
        assert [FORGET] == list(kit.alarms(run))
        assert ENDED_KEPT_MS - 10 <= await left_ms(kit, run) <= ENDED_KEPT_MS

    run_with_kit(scenario, kinds=[WorkflowRun])


def test_a_run_that_goes_on_by_a_reset_is_kept() -> None:
    """Its time begins when it has ended again."""

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "k-1")
        await run.start(begin(KEPT))
        await run.happen(Terminated())
        await run.happen(Reset(step="a"))
        assert {} == kit.alarms(run)
        await kit.advance(11 * MINUTE_MS)
        await run.happen(Terminated())
        assert 10 * MINUTE_MS - 10 <= await left_ms(kit, run) <= 10 * MINUTE_MS

    run_with_kit(scenario, kinds=[WorkflowRun])


def test_a_run_that_ends_in_the_turn_in_which_it_begins_anew_is_kept_as_long_as_another() -> None:
    """The time of the run before, or of the end before a reset, does not count for it."""

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "k-1")
        for _ in range(2):
            assert await run.start(begin(AT_ONCE, reuse="any"))
            assert 10 * MINUTE_MS - 10 <= await left_ms(kit, run) <= 10 * MINUTE_MS
            await kit.advance(9 * MINUTE_MS)
        await run.happen(Reset(step="a"))
        assert ("succeeded", 2) == ((look := await run.look(0)).status, look.run.generation)
        assert 10 * MINUTE_MS - 10 <= await left_ms(kit, run) <= 10 * MINUTE_MS

    run_with_kit(scenario, kinds=[WorkflowRun])


def nobody_hears_of_children(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """No run can be told that its child has ended, until the list is empty."""
    away = [True]
    settle = WorkflowRun.settle

    def once_away(run: WorkflowRun, number: int, event: Any) -> None:
        if away and isinstance(event, ChildEnded):
            raise UnavailableError("It cannot be told now")
        settle(run, number, event)

    monkeypatch.setattr(WorkflowRun, "settle", once_away)
    return away


@pytest.mark.parametrize("dies", [False, True])
def test_what_is_to_be_told_of_a_run_outlives_its_purge(monkeypatch: pytest.MonkeyPatch, *, dies: bool) -> None:
    """Whoever waits for it hears how it has ended, though nothing of it is left, and its node dies."""
    away = nobody_hears_of_children(monkeypatch)

    async def scenario(kit: Kit) -> None:
        run, parent = kit.at(WorkflowRun, "acme", "p-1/a:1"), kit.at(WorkflowRun, "acme", "p-1")
        await parent.start(begin(WAITS))
        await kit.advance(1_000)
        await run.happen(Completed(path="a", result=7))
        await run.purge()
        with pytest.raises(RunGoneError):
            await run.look(0)
        away.clear()
        if dies:
            await kit.kill()
        await kit.advance(MINUTE_MS)
        assert "succeeded" == (await parent.look(0)).status
        assert ["gone"] == [key for key in kit.stored(run) if key not in {"errands", "head"}]

    run_with_kit(scenario, kinds=Installed({"k": KEPT}).kinds)


def test_a_run_whose_end_is_not_told_yet_is_kept_until_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for it hears how it has ended, however late."""
    away = nobody_hears_of_children(monkeypatch)

    async def scenario(kit: Kit) -> None:
        run, parent = kit.at(WorkflowRun, "acme", "k-1"), kit.at(WorkflowRun, "acme", "p-1")
        await parent.start(begin(KEPT.replace("workflow: k", "workflow: p")))
        await run.start(begin(KEPT, parent=Parent(run="p-1", path="a", serial=1)))
        await run.happen(Terminated())
        await kit.advance(15 * MINUTE_MS)
        assert "terminated" == (await run.look(0)).status
        away.clear()
        await kit.advance(15 * MINUTE_MS)
        with pytest.raises(RunGoneError):
            await run.look(0)

    run_with_kit(scenario, kinds=Installed().kinds)


def test_only_a_run_that_has_ended_can_be_purged() -> None:
    """Then its id is free; until it is used again, it is gone for a while, and not found later."""

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "o-1")
        await run.start(begin(KEPT))
        with pytest.raises(ConflictError):
            await run.purge()
        await run.happen(Cancelled())
        await run.purge()
        assert ({}, []) == (kit.journal(run), await listed(kit))
        for call in (run.look(0), run.purge(), run.history(0, 10), run.happen(Cancelled()), run.text()):
            with pytest.raises(RunGoneError):
                await call
        assert await run.start(begin(KEPT))
        assert ["run.started", "step.entered a"] == await told(run)

    run_with_kit(scenario, kinds=[WorkflowRun])


def test_what_is_gone_is_not_known_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then its id is that of a run that never was. The while is made short here."""
    assert GONE_KEPT_MS == 7 * 24 * 60 * MINUTE_MS
    monkeypatch.setattr("services.workflows.forgetting.GONE_KEPT_MS", 10 * MINUTE_MS)

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "o-1")
        await run.start(begin(KEPT))
        await run.happen(Cancelled())
        await run.purge()
        await kit.advance(11 * MINUTE_MS)
        with pytest.raises(NotFoundError) as refused:
            await run.look(0)
        assert not isinstance(refused.value, RunGoneError)

    run_with_kit(scenario, kinds=[WorkflowRun])


@pytest.mark.parametrize("late_ms", range(0, 16, 2))
def test_a_node_that_dies_when_the_time_is_over_leaves_the_run_or_nothing(late_ms: int) -> None:
    """The alarm rings in the next one."""

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "k-1")
        await run.start(begin(KEPT))
        await run.happen(Terminated())
        await kit.advance(10 * MINUTE_MS - 20)
        await asyncio.sleep((14 + late_ms) / 1_000)
        await kit.kill()
        try:
            assert "terminated" == (await run.look(0)).status
        except (RunGoneError, NodeDiedError):
            assert [] == await listed(kit)
        await kit.advance(MINUTE_MS)
        with pytest.raises(RunGoneError):
            await run.look(0)
        assert [] == await listed(kit)

    run_with_kit(scenario, kinds=[WorkflowRun])
