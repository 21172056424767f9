"""Runs that start at set times: put a schedule, look at it, pause, fire, make up for it."""

import uuid
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias
from urllib.parse import quote

from tenure_client.transport import Client, given
from tenure_client.workflows import PAGE

Overlap: TypeAlias = Literal["skip", "buffer_one", "buffer_all", "allow_all", "cancel_other"]


@dataclass(frozen=True, kw_only=True)
class Timetable:
    """When a schedule fires: exactly one of `cron`, `every_s`, `calendar` and `at`. Moments are ms since 1970."""

    cron: str | None = None
    """Minute, hour, day of the month, month, day of the week."""
    every_s: int | None = None
    calendar: dict[str, Any] | None = None
    """`start`, and so many `years`, `months`, `weeks`, `days`; `hour`, `minute`, `second`."""
    at: str | None = None
    """Once, in ISO 8601."""
    timezone: str | None = None
    """As Europe/Berlin; None is UTC."""
    start_ms: int | None = None
    end_ms: int | None = None

    def body(self) -> dict[str, Any]:
        """As the API has it."""
        return given(
            cron=self.cron,
            every_s=self.every_s,
            calendar=self.calendar,
            at=self.at,
            timezone=self.timezone,
            start_ms=self.start_ms,
            end_ms=self.end_ms,
        )


@dataclass(frozen=True)
class Schedule:
    """A schedule as the service shows it; `shown` is all of it."""

    id: str
    paused: bool
    next_ms: tuple[int, ...]
    """The next times; none while it is paused."""
    running: tuple[str, ...]
    """Open runs that it has started."""
    counts: dict[str, int]
    """What has become of its times so far."""
    shown: dict[str, Any]


@dataclass(frozen=True)
class SchedulePage:
    """Some schedules, oldest first, and where to go on; None: there are no more."""

    schedules: tuple[Schedule, ...]
    next_cursor: str | None


@dataclass(frozen=True)
class NominalTime:
    """A time at which a schedule fires, and as the clock on the wall has it."""

    at_ms: int
    local: str


class Schedules(Client):
    """Calls a workflow service. Every call may be made again without harm, and is, while the service is away."""

    async def put(
        self,
        schedule_id: str,
        definition: str,
        timetable: Timetable,
        *,
        run_input: Any = None,
        version: int | None = None,
        attributes: dict[str, str] | None = None,
        overlap: Overlap | None = None,
        catch_up_s: int | None = None,
        coalesce: Literal["latest", "all"] | None = None,
        paused: bool | None = None,
    ) -> Schedule:
        """Set what it starts and when, from now on; a paused one stays so unless it is said.

        Raises:
            ApiError: it could start nothing, or never fires.
        """
        body = {"definition": definition, "timetable": timetable.body(), "input": run_input} | given(
            version=version,
            attributes=attributes,
            overlap=overlap,
            catch_up_s=catch_up_s,
            coalesce=coalesce,
            paused=paused,
        )
        return _schedule(await self._transport.call("PUT", _path(schedule_id), body))

    async def get(self, schedule_id: str) -> Schedule:
        """The schedule as it is."""
        return _schedule(await self._transport.call("GET", _path(schedule_id)))

    async def list(self, *, cursor: str | None = None, limit: int = PAGE) -> SchedulePage:
        """A page of schedules, oldest first."""
        query = f"?limit={limit}" + (f"&cursor={quote(cursor, safe='')}" if cursor is not None else "")
        told = await self._transport.call("GET", f"/v1/schedules{query}")
        return SchedulePage(tuple(_schedule(one) for one in told["schedules"]), told["next_cursor"])

    async def pause(self, schedule_id: str, note: str = "") -> Schedule:
        """Fire nothing until it is resumed."""
        return _schedule(await self._transport.call("POST", f"{_path(schedule_id)}/pause", {"note": note}))

    async def resume(self, schedule_id: str, *, catch_up: bool = False) -> Schedule:
        """Go on from now; or, to catch up, from where it was paused, as after an outage."""
        body = {"go_on_from": "pause" if catch_up else "now"}
        return _schedule(await self._transport.call("POST", f"{_path(schedule_id)}/resume", body))

    async def trigger(
        self, schedule_id: str, *, overlap: Overlap | None = None, idempotency_key: str | None = None
    ) -> str:
        """Fire once, at once; the id that the run has if it is started."""
        headers = {"idempotency-key": idempotency_key or str(uuid.uuid4())}
        body = given(overlap=overlap)
        return str((await self._transport.call("POST", f"{_path(schedule_id)}/trigger", body, headers=headers))["run"])

    async def backfill(
        self,
        schedule_id: str,
        from_ms: int,
        to_ms: int,
        *,
        overlap: Overlap | None = None,
        idempotency_key: str | None = None,
    ) -> int:
        """Fire the times of a stretch of the past once more, both ends included; how many there are."""
        headers = {"idempotency-key": idempotency_key or str(uuid.uuid4())}
        body = {"from_ms": from_ms, "to_ms": to_ms} | given(overlap=overlap)
        told = await self._transport.call("POST", f"{_path(schedule_id)}/backfill", body, headers=headers)
        return int(told["times"])

    async def next(self, schedule_id: str, *, after_ms: int | None = None, count: int = 10) -> tuple[NominalTime, ...]:
        """Its next times, whether or not it is paused."""
        query = f"?n={count}" + (f"&after={after_ms}" if after_ms is not None else "")
        return _times(await self._transport.call("GET", f"{_path(schedule_id)}/next{query}"))

    async def preview(
        self, timetable: Timetable, *, after_ms: int | None = None, count: int = 10
    ) -> tuple[NominalTime, ...]:
        """The next times of a timetable that no schedule has yet."""
        body = {"timetable": timetable.body(), "n": count} | given(after_ms=after_ms)
        return _times(await self._transport.call("POST", "/v1/timetables/preview", body))

    async def delete(self, schedule_id: str) -> None:
        """Forget it, if it is there. Runs that it has started go on."""
        await self._transport.remove(_path(schedule_id))


def _path(schedule_id: str) -> str:
    return f"/v1/schedules/{quote(schedule_id, safe='')}"


def _schedule(shown: dict[str, Any]) -> Schedule:
    return Schedule(
        id=shown["id"],
        paused=shown["paused"],
        next_ms=tuple(one["at_ms"] for one in shown["next"]),
        running=tuple(shown["running"]),
        counts=shown["counts"],
        shown=shown,
    )


def _times(told: Any) -> tuple[NominalTime, ...]:
    return tuple(NominalTime(one["at_ms"], one["local"]) for one in told["times"])
