"""Operations over crashes and lost replies: whatever is lost, each run is changed and counted as it would have been."""

import asyncio
from typing import Any

import pytest

from services.workflows.events import Terminated
from services.workflows.operation import Operation
from services.workflows.operation_schemas import ChangeRuns, MigrateTo
from services.workflows.records import Kept
from services.workflows.run import WorkflowRun
from services.workflows.schemas import RunFilter
from shared.testing.faults import FaultKind
from shared.testing.kit import Kit, run_with_kit
from tests.support.carried import Installed
from tests.support.deaths import Deaths
from tests.support.runs import begin, told
from tests.support.schedules import insist

NAP = "workflow: nap\nstart: a\nsteps: { a: { sleep: 10h, end: true } }"
TO = MigrateTo(definition="nap", version=2)
NEXT = Kept(text=begin(NAP.replace("10h", "9h")).text, version=2)
RUNS = 7
ORDERS = {
    "pause": ChangeRuns(op="pause", filter=RunFilter(status="running")),
    "cancel": ChangeRuns(op="cancel", filter=RunFilter()),
    "purge": ChangeRuns(op="purge", filter=RunFilter(definition="nap")),
    "migrate": ChangeRuns(op="migrate", filter=RunFilter(), to=TO),
    "named": ChangeRuns(op="pause", ids=[f"r-{number}" for number in range(RUNS + 1)], limit=RUNS),
}


class Seen:
    """What came of an operation, and how many commits the store had taken when it began, and at the end."""

    def __init__(self) -> None:
        self.outcome: Any = None
        self.since = self.commits = 0


async def settled(kit: Kit, order: ChangeRuns, seen: Seen, deaths: Deaths | None = None) -> None:
    """Do the same to some runs, of which one has ended, and wait until it is done."""
    for number in range(RUNS):
        await kit.at(WorkflowRun, "acme", f"r-{number}").start(begin(NAP))
        await asyncio.sleep(0.001)
    await kit.at(WorkflowRun, "acme", "r-3").happen(Terminated())
    seen.since = kit.faults.calls["commit"]
    if deaths is not None:
        deaths.await_commit(kit)
    operation = kit.at(Operation, "acme", "op")
    await insist(lambda: operation.begin(order, True, NEXT if order.to else None))
    await kit.advance(30_000)
    standing = (await insist(operation.look)).standing
    assert ("done", ()) == (standing.status, standing.at_hand)
    seen.commits = kit.faults.calls["commit"]
    runs = [kit.at(WorkflowRun, "acme", f"r-{number}") for number in range(RUNS)]
    histories = [await told(run) if kit.stored(run) and "head" in kit.stored(run) else [] for run in runs]
    seen.outcome = (standing.changed, standing.refused, [one.id for one in standing.errors], histories)


def uninterrupted(order: ChangeRuns) -> Seen:
    """What comes of it when nothing goes wrong."""
    seen = Seen()
    run_with_kit(lambda kit: settled(kit, order, seen), kinds=Installed({}).kinds, limit_ms=3_600_000)
    return seen


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that there are several turns."""
    monkeypatch.setattr("services.workflows.operation.OPERATION_RUNS_AT_ONCE", 3)


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_a_crash_at_any_commit_changes_no_outcome(order: ChangeRuns) -> None:
    """Before the commit is stored, with it, and after it; the next node goes on where it was."""
    without = uninterrupted(order)
    assert without.commits - without.since >= 8
    for dies_at in range(without.since + 1, without.commits + 1):
        for late_ms in (0, 2):
            seen, deaths = Seen(), Deaths(dies_at, late_ms)

            async def scenario(kit: Kit, seen: Seen = seen, deaths: Deaths = deaths) -> None:
                await settled(kit, order, seen, deaths)

            run_with_kit(scenario, kinds=Installed({}).kinds, limit_ms=3_600_000)
            assert deaths.died
            assert without.outcome == seen.outcome, (dies_at, late_ms)


@pytest.mark.parametrize("kind", [FaultKind.REPLY_LOST, FaultKind.REQUEST_LOST, FaultKind.REPEAT])
def test_a_commit_whose_reply_is_lost_or_that_comes_twice_changes_nothing(kind: FaultKind) -> None:
    """Whichever it is: it is known again, or is made again."""
    without = uninterrupted(ORDERS["pause"])
    for nth in range(1, without.commits - without.since + 1):
        seen = Seen()

        async def scenario(kit: Kit, nth: int = nth, seen: Seen = seen) -> None:
            kit.faults.next("commit", kind, nth=without.since + nth, delay_ms=20)
            await settled(kit, ORDERS["pause"], seen)

        run_with_kit(scenario, kinds=Installed({}).kinds, limit_ms=3_600_000)
        assert without.outcome == seen.outcome, nth
