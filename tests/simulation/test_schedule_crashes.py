"""Schedules over crashes and lost replies: whatever is lost, each nominal time has the outcome that it would have had."""

from typing import Any

import pytest

from services.workflows.timetable import Timetable
from shared.testing.faults import FaultKind
from tests.support.deaths import Deaths
from tests.support.schedules import Scheduled, with_schedule

TIMES = 3
OVERLAPS = ("skip", "buffer_one", "allow_all", "cancel_other")


class Seen:
    """How a schedule ended, and how many commits the store had taken when its first time was due, and at the end."""

    def __init__(self) -> None:
        self.outcome: Any = None
        self.since = self.commits = 0


async def settled(it: Scheduled, overlap: Any, seen: Seen) -> None:
    """Fire some times, the runs of which take longer than from one to the next, and wait for all of them to end."""
    await it.put("slow", overlap=overlap, coalesce="all", timetable=Timetable(every_s=60, end_ms=it.time(TIMES)))
    await it.kit.advance(it.time(1) - 100 - it.kit.now_ms())
    seen.since = it.kit.faults.calls["commit"]
    await it.until(TIMES + 12)
    standing = (await it.ref.look()).standing
    assert ((), (), ()) == (standing.due, standing.waiting, standing.running)
    seen.commits = it.kit.faults.calls["commit"]
    runs = {minute: (await it.run(minute).look(0)).status for minute in await it.starts()}
    seen.outcome = (sorted(await it.outcomes()), await it.counts(), runs)


def uninterrupted(overlap: Any) -> Seen:
    """What comes of it when nothing goes wrong."""
    seen = Seen()
    with_schedule(lambda it: settled(it, overlap, seen))
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("overlap", OVERLAPS)
def test_a_crash_at_any_commit_changes_no_outcome(overlap: Any) -> None:
    """Before the commit is stored, with it, and after it; the next node goes on where it was."""
    without = uninterrupted(overlap)
    assert without.commits - without.since >= 10
    for dies_at in range(without.since + 1, without.commits + 1):
        for late_ms in (0, 2):
            seen, deaths = Seen(), Deaths(dies_at, late_ms)

            async def scenario(it: Scheduled, seen: Seen = seen, deaths: Deaths = deaths) -> None:
                deaths.await_commit(it.kit)
                await settled(it, overlap, seen)

            with_schedule(scenario)
            assert deaths.died
            assert without.outcome == seen.outcome, (dies_at, late_ms)


@pytest.mark.parametrize("kind", [FaultKind.REPLY_LOST, FaultKind.REQUEST_LOST, FaultKind.REPEAT])
def test_a_commit_whose_reply_is_lost_or_that_comes_twice_changes_nothing(kind: FaultKind) -> None:
    """Whichever it is: it is known again, or is made again."""
    without = uninterrupted("buffer_one")
    for nth in range(without.since + 1, without.commits + 1):
        seen = Seen()

        async def scenario(it: Scheduled, nth: int = nth, seen: Seen = seen) -> None:
            it.kit.faults.next("commit", kind, nth=nth, delay_ms=20)
            await settled(it, "buffer_one", seen)

        with_schedule(scenario)
        assert without.outcome == seen.outcome, nth
