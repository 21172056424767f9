"""When a schedule fires: the nominal times of a timetable, as a pure function of it and of the time-zone data.

Guarantees, in every zone, those included that move their clocks by half an hour:

- A fixed wall time (cron whose minute and hour do not begin with `*`, a calendar interval, a one-shot with no offset)
  fires once on each of its days: the first time round in an hour that repeats, and at the first instant after a gap.
  Several that lie in one gap are one firing.
- Cron whose minute or hour begins with `*` goes by the clock on the wall: in an hour that repeats it fires in both, and
  what lies in a gap is not fired.
- An interval counts elapsed time from its start, and knows no zone.

`cronsim` and APScheduler's triggers are asked about wall times without a zone only; what a clock that is moved makes
of them is decided here, once for all. Rules of zones are those of the `tzdata` package that is locked, and not those of
the machine, so that all nodes agree.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from importlib.resources import files
from itertools import islice, takewhile
from typing import Annotated, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import tzdata
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger
from cronsim import CronSim, CronSimError
from msgspec import Meta

from shared.bounds import MOMENT_MS_MAX
from shared.errors import InvalidInputError

INTERVAL_S_MAX = 366 * 24 * 3_600
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = datetime(2500, 1, 1, tzinfo=UTC)
"""No schedule is asked for what comes later; calendars and zones are guesses long before."""
_LAST_MS = (_LAST - _EPOCH) // timedelta(milliseconds=1)
_DAY, _SECOND = timedelta(days=1), timedelta(seconds=1)


class CalendarInterval(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every so many years, months, weeks and days from `start` on. Days that do not exist are left out."""

    start: str
    """The first day, as 2026-01-31."""
    years: Annotated[int, Meta(ge=0, le=10)] = 0
    months: Annotated[int, Meta(ge=0, le=120)] = 0
    weeks: Annotated[int, Meta(ge=0, le=520)] = 0
    days: Annotated[int, Meta(ge=0, le=3_660)] = 0
    hour: Annotated[int, Meta(ge=0, le=23)] = 0
    minute: Annotated[int, Meta(ge=0, le=59)] = 0
    second: Annotated[int, Meta(ge=0, le=59)] = 0


class Timetable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Exactly one of `cron`, `every_s`, `calendar` and `at`."""

    cron: Annotated[str, Meta(max_length=256)] = ""
    """Five fields: minute, hour, day of the month, month, day of the week."""
    every_s: Annotated[int, Meta(ge=0, le=INTERVAL_S_MAX)] = 0
    """Seconds from one firing to the next, counted from `start_ms`."""
    calendar: CalendarInterval | None = None
    at: Annotated[str, Meta(max_length=64)] = ""
    """Once: a moment of ISO 8601; without an offset it is a wall time of the zone."""
    timezone: Annotated[str, Meta(max_length=64)] = "UTC"
    """Of the IANA database, as Europe/Berlin."""
    start_ms: Annotated[int, Meta(ge=0, le=MOMENT_MS_MAX)] = 0
    """Nothing is fired before, Unix ms."""
    end_ms: Annotated[int, Meta(ge=0, le=MOMENT_MS_MAX)] = 0
    """Nothing is fired after; 0: no end."""


class Stretch(NamedTuple):
    """How many nominal times there are in a stretch of time, and the last of them; not `whole`: there may be more."""

    number: int
    last_ms: int
    whole: bool


def check_timetable(timetable: Timetable) -> None:
    """Say nothing where the timetable is one.

    Raises:
        InvalidInputError: it is none, with the place of what is wrong.
    """
    kinds = [name for name in ("cron", "every_s", "calendar", "at") if getattr(timetable, name)]
    if len(kinds) != 1:
        raise InvalidInputError("A timetable has one of cron, every_s, calendar and at", "$.timetable")
    _zone_of(timetable)
    if timetable.end_ms and timetable.end_ms < timetable.start_ms:
        raise InvalidInputError("The end is before the start", "$.timetable.end_ms")
    (kind,) = kinds
    try:
        first = next(_walls(timetable, _EPOCH), None) if kind != "cron" else _first_of_cron(timetable.cron)
    except (ValueError, OverflowError, CronSimError) as error:
        raise InvalidInputError(f"This says no time: {error}", f"$.timetable.{kind}") from error
    if first is None:
        raise InvalidInputError("This never comes", f"$.timetable.{kind}")


def check_comes(timetable: Timetable, after_ms: int) -> None:
    """Say nothing where a nominal time comes later than that moment.

    Raises:
        InvalidInputError: none does, with the place of why.
    """
    if next_ms(timetable, after_ms) is None:
        (first, *_) = (name for name in ("at", "end_ms", "every_s", "cron", "calendar") if getattr(timetable, name))
        raise InvalidInputError("This never comes: its last time is past", f"$.timetable.{first}")


def next_ms(timetable: Timetable, after_ms: int) -> int | None:
    """The first nominal time later than that moment, Unix ms; None: there is none."""
    after_ms = max(after_ms, timetable.start_ms - 1, 0 if timetable.start_ms else -1)
    if after_ms >= _LAST_MS:
        return None
    after = _EPOCH + timedelta(milliseconds=after_ms)
    if timetable.cron and not _is_fixed(timetable.cron):
        found = _next_on_the_wall(timetable.cron, _zone_of(timetable), after)
    else:
        found = next((instant for instant in _walls(timetable, after) if instant > after), None)
    if found is None or found > _LAST:
        return None
    found_ms = (found - _EPOCH) // timedelta(milliseconds=1)
    return None if timetable.end_ms and found_ms > timetable.end_ms else found_ms


def times(timetable: Timetable, after_ms: int) -> Iterator[int]:
    """All nominal times later than that moment, in order."""
    moment: int | None = after_ms
    while moment is not None and (moment := next_ms(timetable, moment)) is not None:
        yield moment


def stretch(timetable: Timetable, after_ms: int, until_ms: int, most: int) -> Stretch:
    """Nominal times in (after_ms, until_ms]: of an interval all, else so many at most."""
    if timetable.every_s:
        first_ms, step_ms = next_ms(timetable, after_ms), timetable.every_s * 1_000
        last_ms = min(until_ms, timetable.end_ms or until_ms, _LAST_MS)
        if first_ms is None or first_ms > last_ms:
            return Stretch(0, after_ms, whole=True)
        count = (last_ms - first_ms) // step_ms + 1
        return Stretch(count, first_ms + (count - 1) * step_ms, whole=True)
    found = list(islice(takewhile(lambda time_ms: time_ms <= until_ms, times(timetable, after_ms)), most))
    return Stretch(len(found), found[-1] if found else after_ms, whole=len(found) < most)


def preview(timetable: Timetable, after_ms: int, count: int) -> list[int]:
    """The next nominal times after that moment, so many at most."""
    return list(islice(times(timetable, after_ms), count))


def written(moment_ms: int) -> str:
    """A nominal time as it stands in the ids of runs: UTC, to the second where it is one."""
    moment = _EPOCH + timedelta(milliseconds=moment_ms)
    text = moment.isoformat(timespec="milliseconds" if moment_ms % 1_000 else "seconds")
    return text.replace("+00:00", "Z")


def local(moment_ms: int, timezone: str) -> str:
    """A moment with the offset that the zone has then."""
    return (_EPOCH + timedelta(milliseconds=moment_ms)).astimezone(zone(timezone)).isoformat()


@lru_cache(maxsize=256)
def zone(name: str) -> ZoneInfo:
    """The zone of that name, by the locked rules.

    Raises:
        ValueError: there is none.
    """
    if name not in _zones():
        raise ValueError(f"{name!r} is no time zone of the IANA database")
    with files(tzdata).joinpath("zoneinfo", *name.split("/")).open("rb") as rules:
        return ZoneInfo.from_file(rules, key=name)


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(files(tzdata).joinpath("zones").read_text(encoding="utf-8").split())


def _zone_of(timetable: Timetable) -> ZoneInfo:
    try:
        return zone(timetable.timezone)
    except ValueError as error:
        raise InvalidInputError(str(error), "$.timetable.timezone") from error


def _walls(timetable: Timetable, after: datetime) -> Iterator[datetime]:
    """Instants of the timetable in order, from some way before `after` on."""
    in_zone = _zone_of(timetable)
    if timetable.every_s:
        yield from _by_interval(timetable, after)
    elif timetable.calendar is not None:
        wall = after.astimezone(in_zone).replace(tzinfo=None)
        yield from (_instant(found, in_zone) for found in _by_calendar(timetable.calendar, wall))
    elif timetable.at:
        moment = datetime.fromisoformat(timetable.at)
        moment = _instant(moment, in_zone) if moment.tzinfo is None else moment.astimezone(UTC)
        yield DateTrigger(moment, UTC).get_next_fire_time(None, _EPOCH)
    else:
        wall = after.astimezone(in_zone).replace(tzinfo=None)
        yield from (_instant(found, in_zone) for found in CronSim(timetable.cron, wall))


def _first_of_cron(cron: str) -> datetime | None:
    if len(cron.split()) != 5:
        raise ValueError("cron has five fields: minute, hour, day of the month, month, day of the week")
    return next(CronSim(cron, datetime(2024, 1, 1, tzinfo=UTC)), None)


def _by_interval(timetable: Timetable, after: datetime) -> Iterator[datetime]:
    start = _EPOCH + timedelta(milliseconds=timetable.start_ms)
    trigger = IntervalTrigger(seconds=timetable.every_s, start_date=start, timezone=UTC)
    found = trigger.get_next_fire_time(None, after)
    while True:
        yield found
        found = trigger.get_next_fire_time(found, after)


def _by_calendar(calendar: CalendarInterval, wall: datetime) -> Iterator[datetime]:
    """Wall times from the start on, or from shortly before `wall` where the interval is of days alone."""
    start = date.fromisoformat(calendar.start)
    if not 1970 <= start.year < _LAST.year:
        raise ValueError(f"a calendar begins in the years 1970 to {_LAST.year - 1}")
    step = calendar.days + 7 * calendar.weeks
    if not (calendar.years or calendar.months) and step:
        start += timedelta(days=max(0, (wall.date() - start).days // step - 1) * step)
    trigger = CalendarIntervalTrigger(
        years=calendar.years,
        months=calendar.months,
        weeks=calendar.weeks,
        days=calendar.days,
        hour=calendar.hour,
        minute=calendar.minute,
        second=calendar.second,
        start_date=start,
        timezone=UTC,
    )
    found = trigger.get_next_fire_time(None, _EPOCH)
    while found.year <= _LAST.year:
        yield found.replace(tzinfo=None)
        found = trigger.get_next_fire_time(found, _EPOCH)


def _is_fixed(cron: str) -> bool:
    """Whether it names times of day, and no rhythm."""
    minute, hour = cron.split()[:2]
    return not (minute.startswith("*") or hour.startswith("*"))


def _next_on_the_wall(cron: str, in_zone: ZoneInfo, after: datetime) -> datetime | None:
    """The first instant after that moment at which the wall shows a time of the expression.

    Between two changes of the clock a zone is an offset, so the expression is asked stretch by stretch.
    """
    stretch = later_than = after.replace(microsecond=0)
    while stretch <= _LAST:
        offset = _offset(stretch, in_zone)
        wall = next(CronSim(cron, (later_than + offset).replace(tzinfo=None)), None)
        if wall is None:
            return None
        found = wall.replace(tzinfo=UTC) - offset
        change = _change(stretch, found, in_zone)
        if change is None:
            return found
        stretch, later_than = change, change - _SECOND  # The change itself is of the new stretch.
    return None


def _change(since: datetime, until: datetime, in_zone: ZoneInfo) -> datetime | None:
    """The first second in (since, until] from which on the zone has another offset; None where it keeps it."""
    offset, low = _offset(since, in_zone), since
    while low < until:
        high = min(low + _DAY, until)
        if _offset(high, in_zone) != offset:
            while high - low > _SECOND:
                middle = low + timedelta(seconds=(high - low) // _SECOND // 2)
                low, high = (middle, high) if _offset(middle, in_zone) == offset else (low, middle)
            return high
        low = high
    return None


def _instant(wall: datetime, in_zone: ZoneInfo) -> datetime:
    """The instant of a wall time: the first where it comes twice, the end of the gap where it never comes."""
    instant = wall.replace(tzinfo=in_zone, fold=0).astimezone(UTC)
    if instant.astimezone(in_zone).replace(tzinfo=None, fold=0) == wall.replace(fold=0):
        return instant
    since = wall.replace(tzinfo=in_zone, fold=1).astimezone(UTC)
    change = _change(since.replace(microsecond=0), instant, in_zone)
    assert change is not None, "a gap is a change of the offset"
    return change


def _offset(instant: datetime, in_zone: ZoneInfo) -> timedelta:
    offset = instant.astimezone(in_zone).utcoffset()
    assert offset is not None, "a zone has an offset"
    return offset
