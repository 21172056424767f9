"""When schedules fire: pinned where clocks are moved, and held to a count of every minute elsewhere."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.workflows.durations import moment_ms
from services.workflows.timetable import Timetable, check_timetable, local, next_ms, preview, written, zone
from shared.errors import InvalidInputError
from tests.architecture.tree import ROOT

CASES = json.loads((ROOT / "tests/data/schedules/moved_clocks.json").read_text())
MINUTE_MS = 60_000
CHANGES = {
    "Europe/Berlin": ("2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z"),
    "America/New_York": ("2026-03-08T07:00:00Z", "2026-11-01T06:00:00Z"),
    "Australia/Lord_Howe": ("2026-10-03T15:30:00Z", "2026-04-04T15:00:00Z"),
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['timetable'].get('timezone')}: {case['what']}")
def test_where_clocks_are_moved(case: dict[str, Any]) -> None:
    """A fixed time fires once in what repeats and at the first instant after a gap; a rhythm goes by the wall."""
    timetable = msgspec.convert(case["timetable"], Timetable)
    check_timetable(timetable)
    found = preview(timetable, moment_ms(case["after"]), len(case["expect"]))
    assert case["expect"] == [written(moment) for moment in found]


@given(
    name=st.sampled_from(sorted(CHANGES)),
    which=st.integers(0, 1),
    hours=st.integers(-30, 6),
    fields=st.tuples(
        st.sampled_from(["*/7", "*/15", "*", "10", "0,45"]), st.sampled_from(["*", "*/2", "1", "2", "1-5"])
    ),
)
@settings(max_examples=20, deadline=None)
def test_each_firing_is_what_the_clock_on_the_wall_says(
    name: str, which: int, hours: int, fields: tuple[str, str]
) -> None:
    """Every minute around a change, counted one by one: rhythms fire where the wall matches, fixed times once a day."""
    minute, hour = fields
    timetable = Timetable(cron=f"{minute} {hour} * * *", timezone=name)
    after_ms = moment_ms(CHANGES[name][which]) + hours * 60 * MINUTE_MS
    until_ms = after_ms + 36 * 60 * MINUTE_MS
    found = [moment for moment in preview(timetable, after_ms, 36 * 60 + 1) if moment <= until_ms]
    minutes, allowed = _numbers(minute, 60), _numbers(hour, 24)
    shown = [
        (moment, datetime.fromtimestamp(moment / 1_000, UTC).astimezone(ZoneInfo(name)))
        for moment in range(after_ms + MINUTE_MS, until_ms + 1, MINUTE_MS)
    ]
    expected = [moment for moment, wall in shown if wall.minute in minutes and wall.hour in allowed]
    if minute.startswith("*") or hour.startswith("*"):
        assert expected == found
    else:
        first = [moment for moment, wall in shown if moment in expected and wall.fold == 0]
        moved = {moment_ms(CHANGES[name][0])}
        assert set(first) == set(found) - (moved - set(first))
        assert sorted(set(found)) == found


def _numbers(field: str, size: int) -> set[int]:
    if field.startswith("*"):
        return set(range(0, size, int(field[2:] or "1")))
    if "-" in field:
        low, high = field.split("-")
        return set(range(int(low), int(high) + 1))
    return {int(number) for number in field.split(",")}


def test_an_interval_counts_from_its_start_and_ends() -> None:
    """The start is the first; nothing comes after the end."""
    timetable = Timetable(every_s=90, start_ms=1_000_500, end_ms=1_200_000)
    assert [1_000_500, 1_090_500, 1_180_500] == preview(timetable, 0, 9)
    assert [1_090_500] == preview(timetable, 1_000_500, 1)


def test_a_calendar_of_days_is_found_without_counting_from_its_start() -> None:
    """Years later it is at the same days, and so is one of months."""
    after_ms = moment_ms("2090-06-01T00:00:00Z")
    days = Timetable(calendar={"start": "1970-01-01", "days": 7})  # type: ignore[arg-type]  # Converted below.
    days = msgspec.convert(msgspec.to_builtins(days), Timetable)
    assert "2090-06-01T00:00:00Z" == written(next_ms(days, after_ms - 1) or 0)
    months = msgspec.convert({"calendar": {"start": "2024-02-29", "years": 1}}, Timetable)
    assert ["2092-02-29T00:00:00Z"] == [written(moment) for moment in preview(months, after_ms, 1)]


def test_nothing_is_asked_for_what_lies_beyond_all_calendars() -> None:
    """What never comes again ends, and does not go on looking."""
    assert next_ms(Timetable(cron="0 0 * * *"), moment_ms("2500-01-01T00:00:00Z")) is None
    assert next_ms(Timetable(at="2026-01-01T00:00:00Z"), moment_ms("2026-01-01T00:00:00Z")) is None


def test_moments_are_written_for_people_and_for_ids() -> None:
    """Ids are in UTC; people see the offset of their zone."""
    moment = moment_ms("2026-10-25T01:30:00Z")
    assert ("2026-10-25T01:30:00Z", "2026-10-25T01:30:00.250Z") == (written(moment), written(moment + 250))
    assert "2026-10-25T02:30:00+01:00" == local(moment, "Europe/Berlin")
    assert timedelta(0) == datetime(2026, 1, 1, tzinfo=zone("Etc/UTC")).utcoffset()


@pytest.mark.parametrize(
    ("timetable", "where"),
    [
        ({}, "$.timetable"),
        ({"cron": "* * * * *", "every_s": 5}, "$.timetable"),
        ({"cron": "* * * *"}, "$.timetable.cron"),
        ({"cron": "0 * * * * *"}, "$.timetable.cron"),
        ({"cron": "61 * * * *"}, "$.timetable.cron"),
        ({"cron": "0 0 30 2 *"}, "$.timetable.cron"),
        ({"at": "tomorrow"}, "$.timetable.at"),
        ({"calendar": {"start": "2026-02-30", "days": 1}}, "$.timetable.calendar"),
        ({"calendar": {"start": "2026-02-01"}}, "$.timetable.calendar"),
        ({"calendar": {"start": "1066-10-14", "days": 1}}, "$.timetable.calendar"),
        ({"every_s": 5, "timezone": "Mars/Olympus"}, "$.timetable.timezone"),
        ({"every_s": 5, "timezone": "../etc/passwd"}, "$.timetable.timezone"),
        ({"every_s": 5, "start_ms": 2, "end_ms": 1}, "$.timetable.end_ms"),
    ],
)
def test_what_is_no_timetable_is_told_with_its_place(timetable: dict[str, Any], where: str) -> None:
    """Whatever is wrong is found before a schedule is kept."""
    with pytest.raises(InvalidInputError) as refused:
        check_timetable(msgspec.convert(timetable, Timetable))
    assert where == refused.value.where
