"""What a schedule says, how it stands, and which of its nominal times are to be fired now. All of it is pure.

A nominal time is decided once: fired, coalesced with a later one, or missed. `cursor_ms` is the last one that is, so
whoever decides again after a crash decides the same.
"""

from collections.abc import Mapping, Sequence
from itertools import islice, takewhile
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from services.workflows.bounds import (
    ATTRIBUTES_MAX,
    CATCH_UP_S,
    CATCH_UP_S_MAX,
    SCHEDULE_ATTRIBUTES,
    SCHEDULE_FIRINGS_AT_ONCE,
    SCHEDULE_FIRINGS_SHOWN,
    SCHEDULE_TIMES_AT_ONCE,
)
from services.workflows.program import Json
from services.workflows.timetable import Timetable, check_timetable, next_ms, stretch, times
from shared.errors import InvalidInputError

Overlap: TypeAlias = Literal["skip", "buffer_one", "buffer_all", "allow_all", "cancel_other"]
Outcome: TypeAlias = Literal["started", "buffered", "skipped", "coalesced", "missed", "failed"]


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a schedule starts, and when. Each run has the schedule and its nominal time as id, and as attributes."""

    definition: Annotated[str, Meta(min_length=1, max_length=64)]
    version: Annotated[int, Meta(ge=1, le=2**31)] | None = None
    """The newest of each moment if not given."""
    input: Json = None
    attributes: Annotated[dict[str, str], Meta(max_length=ATTRIBUTES_MAX - len(SCHEDULE_ATTRIBUTES))] = {}
    timetable: Timetable
    overlap: Overlap = "skip"
    """What to do where a run of the schedule is open: `skip` the time; start its run when that one has ended, for one
    time (`buffer_one`) or a thousand (`buffer_all`), or cancel that one first (`cancel_other`); or start it beside
    (`allow_all`)."""
    catch_up_s: Annotated[int, Meta(ge=0, le=CATCH_UP_S_MAX)] = CATCH_UP_S
    """So late a time is fired, where it could not be in time. What is older is missed."""
    coalesce: Literal["latest", "all"] = "latest"
    """Of several times that are due at once after a delay: fire the latest for all, or each."""


class Firing(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What became of a nominal time, or (`count`) of so many up to it. `run` is the id where it was started."""

    nominal_ms: int
    at_ms: int
    outcome: Outcome
    run: str = ""
    count: int = 1
    cause: str = ""


class Due(msgspec.Struct, frozen=True, array_like=True):
    """A run to be started. `asked`: somebody has triggered it, so that it is started while the schedule is paused."""

    nominal_ms: int
    overlap: Overlap
    asked: bool = False


class Backfill(msgspec.Struct, frozen=True, array_like=True):
    """Nominal times in (after_ms, until_ms] that are to be fired once more."""

    after_ms: int
    until_ms: int
    overlap: Overlap


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How a schedule stands."""

    cursor_ms: int
    """Nominal times up to here are decided."""
    triggered_ms: int = 0
    """When it was triggered last."""
    due: tuple[Due, ...] = ()
    """What is decided and not begun. It is stored before the first of it is started."""
    created_ms: int
    changed_ms: int
    since_ms: int = 0
    """Since when the timetable is as it is; 0: it was never another one."""
    paused: bool = False
    note: str = ""
    """Why it is paused."""
    running: tuple[str, ...] = ()
    """The ids of runs that it has started and of whose end it has not heard."""
    waiting: tuple[Due, ...] = ()
    """What is started when those have ended, in order."""
    backfills: tuple[Backfill, ...] = ()
    recent: tuple[Firing, ...] = ()
    """Newest first."""
    counts: Mapping[str, int] = {}
    """How many nominal times had which outcome."""
    troubles: int = 0
    """How often in a row it could not go on, for what passes by itself."""
    again_ms: int = 0
    """When it tries again."""

    def told(self, firing: Firing) -> "Standing":
        """With what became of a nominal time. What is buffered counts when it is started."""
        recent = (firing, *(one for one in self.recent if not _is_settled(one, firing)))
        total = self.counts.get(firing.outcome, 0) + firing.count
        counts = dict(self.counts) if firing.outcome == "buffered" else {**self.counts, firing.outcome: total}
        return msgspec.structs.replace(self, recent=recent[:SCHEDULE_FIRINGS_SHOWN], counts=counts)


def decide(plan: Plan, standing: Standing, now_ms: int) -> tuple[Standing, bool]:
    """Decide nominal times up to now, so many at most; and whether there may be more of them."""
    if standing.paused:
        return standing, False
    oldest_ms = now_ms - plan.catch_up_s * 1_000 - 1
    standing, more = _pass(plan, standing, oldest_ms, now_ms, "missed")
    if more:
        return standing, True
    if plan.coalesce == "all":
        standing, more = _each(plan, standing, now_ms)
    else:
        standing, more = _latest(plan, standing, now_ms)
    if not (standing.due or more) and standing.backfills:
        return _filled_in(plan, standing)
    return standing, more or bool(standing.backfills)


def check_plan(plan: Plan) -> None:
    """Say nothing where the plan can be one; whether its definition takes its input is looked at elsewhere.

    Raises:
        InvalidInputError: it cannot, with the place of what is wrong.
    """
    check_timetable(plan.timetable)
    for name in SCHEDULE_ATTRIBUTES:
        if name in plan.attributes:
            raise InvalidInputError("The schedule itself gives this attribute", f"$.attributes.{name}")


def due_next(plan: Plan, standing: Standing) -> int | None:
    """The first nominal time that is not decided; None where it is paused, or none comes."""
    return None if standing.paused else next_ms(plan.timetable, standing.cursor_ms)


def _pass(plan: Plan, standing: Standing, until_ms: int, now_ms: int, outcome: Outcome) -> tuple[Standing, bool]:
    """Let nominal times up to a moment pass without a run; whether there may be more of them."""
    if until_ms <= standing.cursor_ms:
        return standing, False
    found = stretch(plan.timetable, standing.cursor_ms, until_ms, SCHEDULE_TIMES_AT_ONCE)
    if found.number:
        firing = Firing(nominal_ms=found.last_ms, at_ms=now_ms, outcome=outcome, count=found.number)
        standing = standing.told(firing)
    cursor_ms = until_ms if found.whole else found.last_ms
    return msgspec.structs.replace(standing, cursor_ms=cursor_ms), not found.whole


def _latest(plan: Plan, standing: Standing, now_ms: int) -> tuple[Standing, bool]:
    """Have the last of the times fired, for all."""
    found = stretch(plan.timetable, standing.cursor_ms, now_ms, SCHEDULE_TIMES_AT_ONCE)
    if not found.number:
        return standing, False
    last_ms = found.last_ms - 1 if found.whole else found.last_ms
    if found.number > 1:
        standing, _ = _pass(plan, standing, last_ms, now_ms, "coalesced")
    return (_with_due(plan, standing, (found.last_ms,)), False) if found.whole else (standing, True)


def _each(plan: Plan, standing: Standing, now_ms: int) -> tuple[Standing, bool]:
    """Have each of the times fired."""
    following = takewhile(lambda time_ms: time_ms <= now_ms, times(plan.timetable, standing.cursor_ms))
    found = tuple(islice(following, SCHEDULE_FIRINGS_AT_ONCE))
    return _with_due(plan, standing, found), len(found) == SCHEDULE_FIRINGS_AT_ONCE


def _with_due(plan: Plan, standing: Standing, nominal_ms: Sequence[int]) -> Standing:
    due = tuple(Due(one_ms, plan.overlap) for one_ms in nominal_ms)
    return (
        msgspec.structs.replace(standing, due=due, cursor_ms=max(standing.cursor_ms, *nominal_ms)) if due else standing
    )


def _filled_in(plan: Plan, standing: Standing) -> tuple[Standing, bool]:
    """Have the next of those fired that are to be fired once more."""
    first, *rest = standing.backfills
    following = takewhile(lambda time_ms: time_ms <= first.until_ms, times(plan.timetable, first.after_ms))
    found = tuple(islice(following, SCHEDULE_FIRINGS_AT_ONCE))
    if len(found) == SCHEDULE_FIRINGS_AT_ONCE:
        rest = [Backfill(found[-1], first.until_ms, first.overlap), *rest]
    due = tuple(Due(nominal_ms, first.overlap) for nominal_ms in found)
    return msgspec.structs.replace(standing, due=due, backfills=tuple(rest)), bool(rest)


def _is_settled(earlier: Firing, now: Firing) -> bool:
    """Whether what was buffered is decided now."""
    return earlier.outcome == "buffered" and earlier.nominal_ms == now.nominal_ms
