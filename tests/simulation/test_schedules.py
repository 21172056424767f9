"""Schedules: every nominal time has one outcome and at most one run, over outages, pauses and clocks that are moved."""

from itertools import pairwise
from typing import Any

import pytest

from services.workflows.book import Definition
from services.workflows.bounds import SCHEDULE_FIRINGS_SHOWN, SCHEDULE_WAITING_MAX
from services.workflows.run import WorkflowRun
from services.workflows.timetable import Timetable, next_ms
from shared.errors import ConflictError, InvalidInputError, NotFoundError
from shared.objects.errors import UnavailableError
from shared.objects.operations import cancel_alarm
from tests.support.carried import Installed
from tests.support.schedules import DEFINITIONS, HOUR_MS, MINUTE_MS, Scheduled, with_schedule


def test_each_nominal_time_starts_one_run() -> None:
    """Its id, its attributes and its input are as the schedule says."""

    async def scenario(it: Scheduled) -> None:
        await it.put(input={"report": "daily"}, attributes={"team": "ops"})
        await it.until(3)
        assert [(1, "started"), (2, "started"), (3, "started")] == await it.outcomes()
        assert [1, 2, 3] == await it.starts()
        look = await it.run(2).look(0)
        assert {"report": "daily"} == look.run.input
        assert {"team": "ops", "schedule": "nightly"}.items() <= look.attributes.items()
        assert look.run.id.endswith(look.attributes["scheduled_for"])
        assert it.time(4) == (await it.ref.look()).next_ms
        assert () == (await it.ref.look()).standing.running

    with_schedule(scenario)


SLOW = {
    "skip": [(1, "started"), (2, "skipped"), (3, "skipped"), (4, "started"), (5, "skipped"), (6, "skipped")],
    "buffer_one": [(1, "started"), (3, "skipped"), (2, "started"), (5, "skipped"), (6, "skipped"), (4, "started")],
    "buffer_all": [(1, "started"), (2, "started"), (4, "buffered"), (5, "buffered"), (3, "started"), (6, "buffered")],
    "allow_all": [(minute, "started") for minute in range(1, 7)],
    "cancel_other": [(minute, "started") for minute in range(1, 7)],
}


@pytest.mark.parametrize("overlap", SLOW)
def test_a_time_that_finds_a_run_open_is_dealt_with_as_the_policy_says(overlap: Any) -> None:
    """A run takes two minutes and a half, and a time comes every minute. Runs that wait start when the one before ends."""

    async def scenario(it: Scheduled) -> None:
        await it.put("slow", overlap=overlap)
        await it.until(6)
        assert sorted(SLOW[overlap]) == sorted(await it.outcomes())
        running = [minute for minute in await it.starts() if (await it.run(minute).look(0)).run.phase != "ended"]
        assert {"skip": [4], "allow_all": [4, 5, 6], "cancel_other": [6]}.get(overlap, running) == running
        assert 1 == len(running) or overlap == "allow_all"
        ends = {minute: (await it.run(minute).look(0)).status for minute in await it.starts()}
        expected = "cancelled" if overlap == "cancel_other" else "succeeded"
        assert expected == ends[1]

    with_schedule(scenario)


def test_what_waits_is_started_although_nobody_says_that_a_run_has_ended() -> None:
    """A run that was purged or forgotten holds up nothing for longer than five minutes."""

    async def scenario(it: Scheduled) -> None:
        forever = it.plan("slow", overlap="buffer_one", timetable=Timetable(every_s=3_600, start_ms=it.start_ms))
        await it.ref.put(forever, None)
        await it.until(1)
        await it.ref.trigger(None)
        await it.kit.advance(1_000)
        assert 1 == len((await it.ref.look()).standing.waiting)
        await it.kit.node.call(it.run(1)._address, forget_run)
        await it.kit.advance(6 * MINUTE_MS)
        assert () == (await it.ref.look()).standing.waiting
        assert {"started": 2} == await it.counts()

    with_schedule(scenario)


def forget_run(run: WorkflowRun) -> None:
    """Lose a run with all that it was to say."""
    run.storage.delete_all()
    run.on_activate()


@pytest.mark.parametrize(
    ("away_ms", "more", "counts"),
    [
        (10 * MINUTE_MS, {}, {"started": 2, "coalesced": 9}),
        (10 * MINUTE_MS, {"coalesce": "all", "overlap": "allow_all"}, {"started": 11}),
        (10 * MINUTE_MS, {"catch_up_s": 200}, {"started": 2, "missed": 7, "coalesced": 2}),
        (10 * MINUTE_MS, {"catch_up_s": 0}, {"started": 1, "missed": 10}),
        (30 * HOUR_MS, {}, {"started": 2, "missed": 1_740, "coalesced": 59}),
    ],
)
def test_after_an_outage_what_is_not_too_old_is_fired(away_ms: int, more: Any, counts: Any) -> None:
    """Once for all of it, or each; what is older is counted as missed, however much it is."""

    async def scenario(it: Scheduled) -> None:
        await it.put(**more)
        await it.until(1)
        await it.away(away_ms)
        await it.kit.advance(10_000)
        assert counts == await it.counts()
        assert it.kit.now_ms() < (await it.ref.look()).next_ms <= it.kit.now_ms() + MINUTE_MS

    with_schedule(scenario)


def test_a_long_outage_of_a_cron_schedule_is_worked_off_in_turns_that_are_short() -> None:
    """1,440 times of one day, so many at once."""

    async def scenario(it: Scheduled) -> None:
        await it.put(timetable=Timetable(cron="* * * * *"))
        await it.until(1)
        await it.away(24 * HOUR_MS)
        await it.kit.advance(10_000)
        assert {"started": 2, "missed": 1_380, "coalesced": 59} == await it.counts()

    with_schedule(scenario)


def test_a_paused_schedule_fires_nothing_but_what_is_triggered() -> None:
    """It goes on from the moment when it is resumed, or from where it was, as after an outage."""

    async def scenario(it: Scheduled) -> None:
        await it.put()
        await it.until(1)
        await it.ref.pause("a holiday")
        assert {} == it.kit.alarms(it.ref)
        await it.until(4)
        look = await it.ref.look()
        assert (None, True, "a holiday") == (look.next_ms, look.standing.paused, look.standing.note)
        run_id = await it.ref.trigger(None)
        await it.kit.advance(1_000)
        assert "succeeded" == (await it.kit.at(WorkflowRun, "acme", run_id).look(0)).status
        assert {"started": 2} == await it.counts()
        await it.ref.resume(False)
        await it.until(5)
        assert [1, 5] == await it.starts()
        await it.ref.pause("")
        await it.until(8)
        await it.ref.resume(True)
        await it.until(8.2)
        assert [1, 5, 8] == await it.starts()
        assert {"started": 4, "coalesced": 2} == await it.counts()

    with_schedule(scenario)


def test_setting_a_schedule_again_keeps_what_it_has_done() -> None:
    """Another timetable counts from now on; whether it is paused stays unless it is said."""

    async def scenario(it: Scheduled) -> None:
        assert await it.ref.put(it.plan(), True)
        await it.until(2)
        assert [] == await it.starts()
        assert not await it.ref.put(it.plan(), None)
        assert (await it.ref.look()).standing.paused
        assert not await it.ref.put(it.plan(), False)
        await it.until(3)
        assert [3] == await it.starts()
        hourly = Timetable(every_s=3_600, start_ms=it.start_ms)
        await it.ref.put(it.plan(timetable=hourly), None)
        await it.until(59)
        assert {"started": 1} == await it.counts()
        await it.until(61)
        assert {"started": 2} == await it.counts()

    with_schedule(scenario)


def test_what_is_filled_in_is_started_once_more_where_it_has_no_run() -> None:
    """Times of a pause are fired in order, those that have a run keep it; of another timetable nobody can say them."""

    async def scenario(it: Scheduled) -> None:
        await it.put()
        await it.until(2)
        await it.ref.pause("")
        await it.until(30)
        await it.ref.resume(False)
        assert 29 == await it.ref.backfill(it.time(2), it.time(30), "allow_all")
        await it.until(30.2)
        assert list(range(1, 21)) == await it.starts()
        assert {"started": 31} == await it.counts()
        with pytest.raises(InvalidInputError):
            await it.ref.backfill(it.time(2), it.time(40), None)
        with pytest.raises(InvalidInputError):
            await it.ref.backfill(it.time(1) - (SCHEDULE_WAITING_MAX + 1) * MINUTE_MS, it.time(1), None)
        assert 0 == await it.ref.backfill(it.time(1) + 1, it.time(2) - 1, None)
        await it.ref.put(it.plan(timetable=Timetable(every_s=3_600)), None)
        with pytest.raises(ConflictError):
            await it.ref.backfill(it.time(2), it.time(30), None)

    with_schedule(scenario)


def test_a_run_that_cannot_be_started_is_an_outcome_and_the_next_time_comes() -> None:
    """With its cause: the definition is gone, or does not take the input, or another run has the id."""

    async def scenario(it: Scheduled) -> None:
        await it.put("nowhere")
        await it.until(1)
        await it.ref.put(it.plan("picky", input=1), None)
        await it.until(2)
        await it.ref.put(it.plan("picky", input="one"), None)
        await it.until(3)
        assert [(1, "failed"), (2, "failed"), (3, "started")] == await it.outcomes()
        second, first = (await it.ref.look()).standing.recent[1:]
        assert "nowhere" in first.cause
        assert "string" in second.cause

    with_schedule(scenario)


def test_what_passes_by_itself_delays_a_firing_and_loses_none(capsys: pytest.CaptureFixture[str]) -> None:
    """It is tried again soon, then less often, and each time is told; the times that it took are made up for."""
    known = Installed(DEFINITIONS)
    failures = [UnavailableError("The shard is away") for _ in range(8)]

    def find(tenant: str, name: str, version: int | None) -> Definition:
        if failures:
            raise failures.pop()
        return known.book.definition(tenant, name, version)

    async def scenario(it: Scheduled) -> None:
        await it.put(coalesce="all", overlap="allow_all")
        await it.until(2)
        assert ([], 3) == (await it.starts(), len(failures))
        assert (1, 5) == (len((await it.ref.look()).standing.due), (await it.ref.look()).standing.troubles)
        await it.until(8)
        assert list(range(1, 9)) == await it.starts()
        assert {"started": 8} == await it.counts()
        assert 0 == (await it.ref.look()).standing.troubles

    with_schedule(scenario, find=find)
    assert 8 == capsys.readouterr().out.count("schedule.delayed")


def test_an_operator_who_cancels_the_alarm_stops_nothing_for_good() -> None:
    """The auditor arms it again; a schedule that is paused, or over, needs none."""

    async def scenario(it: Scheduled) -> None:
        await it.put()
        await it.kit.node.call(it.ref._address, cancel_alarm, "due")
        assert 1 == len(await it.ref.audit())
        assert () == await it.ref.audit()
        await it.until(1)
        assert [1] == await it.starts()
        await it.ref.pause("")
        assert () == await it.ref.audit()

    with_schedule(scenario)


def test_a_schedule_that_is_over_stays_and_one_that_is_deleted_is_gone() -> None:
    """Its runs go on, and their end wakes nothing."""

    async def scenario(it: Scheduled) -> None:
        once = Timetable(every_s=60, start_ms=it.start_ms, end_ms=it.time(2))
        await it.put("slow", timetable=once)
        await it.until(3)
        look = await it.ref.look()
        assert (None, {"started": 1, "skipped": 1}) == (look.next_ms, dict(look.standing.counts))
        assert {} == it.kit.alarms(it.ref)
        await it.ref.delete()
        await it.until(6)
        assert "succeeded" == (await it.run(1).look(0)).status
        assert {} == it.kit.stored(it.ref)
        for call in (it.ref.look, it.ref.delete, it.ref.audit):
            with pytest.raises(NotFoundError):
                await call()

    with_schedule(scenario)


def test_only_the_newest_firings_are_shown_and_all_are_counted() -> None:
    """Fifty are kept."""

    async def scenario(it: Scheduled) -> None:
        await it.put()
        await it.until(60)
        assert (SCHEDULE_FIRINGS_SHOWN, {"started": 60}) == (len(await it.outcomes()), await it.counts())

    with_schedule(scenario)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2027-10-30", [24, 25]),
        ("Europe/Berlin", "2027-03-27", [23.5, 23.5]),
        ("America/New_York", "2027-11-06", [25, 24]),
        ("Australia/Lord_Howe", "2027-04-03", [24.5, 24]),
    ],
)
def test_a_daily_schedule_fires_once_on_a_day_whose_clock_is_moved(zone: str, day: str, hours: list[float]) -> None:
    """Half past two, on three days; the middle one has an hour, or half of one, twice or not at all."""

    async def scenario(it: Scheduled) -> None:
        first = next_ms(Timetable(at=f"{day}T02:30:00", timezone=zone), 0)
        assert first is not None
        await it.ref.put(it.plan(timetable=Timetable(cron="30 2 * * *", timezone=zone)), True)
        await it.away(first - MINUTE_MS - it.kit.now_ms())
        await it.ref.resume(False)
        for _ in range(3):
            due_ms = (await it.ref.look()).next_ms
            await it.away(due_ms - MINUTE_MS // 2 - it.kit.now_ms())
            await it.kit.advance(MINUTE_MS)
        *_, last = fired = [one.nominal_ms for one in reversed((await it.ref.look()).standing.recent)]
        assert hours == [(after - before) / HOUR_MS for before, after in pairwise(fired)]
        assert (first, 3) == (fired[0], len(fired))
        assert last < it.kit.now_ms()

    with_schedule(scenario, limit_ms=2_000 * 24 * HOUR_MS)
