"""What goes over the wire of schedules. Moments are Unix milliseconds of the store's clock."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from services.workflows.bounds import PREVIEW_TIMES_MAX
from services.workflows.scheduling import Firing, Outcome, Overlap, Plan
from services.workflows.timetable import Timetable
from shared.bounds import MOMENT_MS_MAX

_Moment = Annotated[int, Meta(ge=0, le=MOMENT_MS_MAX)]


class PutSchedule(Plan, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the schedule starts and when."""

    paused: bool | None = None
    """Whether it fires nothing until it is resumed; as before, or not, if this is not given."""


class PauseSchedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why."""

    note: Annotated[str, Meta(max_length=2_000)] = ""


class ResumeSchedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What becomes of the times that were not fired."""

    go_on_from: Literal["now", "pause"] = "now"
    """`pause`: they are dealt with as after an outage, by `catch_up_s` and `coalesce`."""


class TriggerSchedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How."""

    overlap: Overlap | None = None
    """As the schedule says if not given."""


class BackfillSchedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which times, and how. The timetable must not have been another one then."""

    from_ms: _Moment
    to_ms: _Moment
    overlap: Overlap | None = None
    """As the schedule says if not given."""


class PreviewTimetable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which times are asked for."""

    timetable: Timetable
    after_ms: _Moment | None = None
    """Now if not given."""
    n: Annotated[int, Meta(ge=1, le=PREVIEW_TIMES_MAX)] = 10


class NominalTime(msgspec.Struct, frozen=True, kw_only=True):
    """A time at which a schedule fires."""

    at_ms: int
    local: str
    """The same with the offset that the zone of the timetable has then."""


class NominalTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Times in order; fewer than were asked for where no more come."""

    times: list[NominalTime]


class FiringView(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a nominal time, or of as many as `count` says up to it."""

    nominal_ms: int
    at_ms: int
    outcome: Outcome
    run: str | None
    count: int
    cause: str

    @classmethod
    def of(cls, firing: Firing) -> "FiringView":
        """As the schedule has it."""
        return cls(
            nominal_ms=firing.nominal_ms,
            at_ms=firing.at_ms,
            outcome=firing.outcome,
            run=firing.run or None,
            count=firing.count,
            cause=firing.cause,
        )


class ScheduleView(Plan, frozen=True, kw_only=True):
    """A schedule as it is."""

    id: str
    paused: bool
    note: str
    next: list[NominalTime]
    """The next five; none while it is paused."""
    running: list[str]
    """Open runs that it has started."""
    waiting: list[int]
    """Nominal times whose runs are still to be started: now, or when those that are open have ended."""
    firings: list[FiringView]
    """The last fifty, newest first."""
    counts: dict[str, int]
    """Of all, by outcome."""
    created_ms: int
    changed_ms: int


class ScheduleList(msgspec.Struct, frozen=True, kw_only=True):
    """Schedules, oldest first."""

    schedules: list[ScheduleView]
    next_cursor: str | None


class Triggered(msgspec.Struct, frozen=True, kw_only=True):
    """It is to be fired at once."""

    run: str
    """The id that the run has if it is started; the policy for open runs may say otherwise."""
    location: str


class BackfillBegun(msgspec.Struct, frozen=True, kw_only=True):
    """It is under way."""

    times: int
    """How many nominal times there are in that stretch."""
