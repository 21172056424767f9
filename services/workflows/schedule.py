"""The schedule object: it starts a run at each of its nominal times.

Guarantees:

- Of one nominal time there is one run, over any crash: its id is the schedule's and the time, and a start that is made
  again starts nothing.
- Every nominal time has an outcome that is counted and shown: started, failed (with its cause), skipped because a run
  was open, coalesced with a later one, or missed because it came to be decided too late.
- A schedule that is not paused has an alarm for its next nominal time, set in the commit that decides the one before.
- What passes by itself (a node or the store is away) delays a firing and loses none within the catch-up window.
"""

from collections.abc import Callable, Iterable
from typing import ClassVar, NoReturn

import msgspec

from services.workflows.beginning import Beginning
from services.workflows.book import Definition, UnknownDefinitionError
from services.workflows.bounds import (
    SCHEDULE_AGAIN_MS,
    SCHEDULE_AGAIN_MS_MAX,
    SCHEDULE_ATTRIBUTES,
    SCHEDULE_BACKFILLS_MAX,
    SCHEDULE_FIRINGS_AT_ONCE,
    SCHEDULE_LOOK_MS,
    SCHEDULE_RUNNING_MAX,
    SCHEDULE_WAITING_MAX,
)
from services.workflows.errands import Parent
from services.workflows.events import Cancelled
from services.workflows.problems import DefinitionError
from services.workflows.refusals import PayloadTooLargeError, RunExistsError, RunTooLargeError
from services.workflows.run import WorkflowRun
from services.workflows.scheduling import Backfill, Due, Firing, Outcome, Overlap, Plan, Standing, decide, due_next
from services.workflows.timetable import check_comes, next_ms, stretch, written
from shared.errors import ConflictError, InvalidInputError, NotFoundError, TenureError
from shared.objects.errors import UnavailableError
from shared.objects.handler import Alarm, DurableObject, readonly
from shared.telemetry import logs

DUE = "due"
LISTED = "listed"
_PLAN, _STANDING = "plan", "standing"
_REFUSED = (
    UnknownDefinitionError,
    DefinitionError,
    RunExistsError,
    InvalidInputError,
    PayloadTooLargeError,
    RunTooLargeError,
)
"""Why a run cannot be started, now or ever: trying again would not help."""
FindDefinition = Callable[[str, str, int | None], Definition]
_log = logs.get_logger()


class _Delayed(Exception):  # noqa: N818  # No error: it is gone on from here later.
    """What passes by itself stands in the way, and this is how far it has come."""

    def __init__(self, standing: Standing) -> None:
        super().__init__()
        self.standing = standing


class ScheduleLook(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule as it is seen."""

    plan: Plan
    standing: Standing
    next_ms: int | None


def _nowhere(_tenant: str, _name: str, _version: int | None) -> NoReturn:
    raise UnavailableError("Definitions are not known yet")


class Hosting(msgspec.Struct, frozen=True):
    """What a schedule finds where it is hosted: definitions, by tenant, name and version (None: the newest)."""

    find_definition: FindDefinition = _nowhere


class Schedule(DurableObject):
    """One schedule of one tenant. The address's name is its id."""

    kind: ClassVar[str] = "schedule"
    hosting: ClassVar[Hosting] = Hosting()

    # What its owner says.

    def put(self, plan: Plan, paused: bool | None) -> bool:  # noqa: FBT001  # `Host.call` has no keywords.
        """Set what it starts and when, from now on; whether it is new. `paused` None: as before.

        Raises:
            TooLargeError: the input is too large.
            InvalidInputError: the timetable is new, and all its times are past.
        """
        now_ms, before = self.clock.now_ms(), self._standing()
        if before is None or plan.timetable != self._plan().timetable:
            check_comes(plan.timetable, now_ms)
        if before is None:
            standing = Standing(cursor_ms=now_ms, created_ms=now_ms, changed_ms=now_ms, paused=bool(paused))
            self.index.set(LISTED, "", now_ms)
        else:
            standing = msgspec.structs.replace(before, changed_ms=now_ms)
            if plan.timetable != self._plan().timetable:
                standing = msgspec.structs.replace(standing, cursor_ms=now_ms, since_ms=now_ms, backfills=())
            if paused is not None and paused != before.paused:
                cursor_ms = standing.cursor_ms if paused else now_ms
                standing = msgspec.structs.replace(standing, paused=paused, note="", cursor_ms=cursor_ms)
        self.storage.put(_PLAN, msgspec.json.encode(plan))
        self._settle(plan, standing)
        return before is None

    def pause(self, note: str) -> None:
        """Fire nothing until it is resumed. Runs that are open go on.

        Raises:
            NotFoundError: there is no such schedule.
        """
        plan, standing = self._known()
        self._settle(plan, msgspec.structs.replace(standing, paused=True, note=note))

    def resume(self, catch_up: bool) -> None:  # noqa: FBT001  # As `put`.
        """Go on from now; or, to catch up, from where it was paused, as after an outage.

        Raises:
            NotFoundError: there is no such schedule.
        """
        plan, standing = self._known()
        if standing.paused:
            cursor_ms = standing.cursor_ms if catch_up else self.clock.now_ms()
            standing = msgspec.structs.replace(standing, paused=False, note="", cursor_ms=cursor_ms)
            self._settle(plan, standing, more=True)

    def trigger(self, overlap: Overlap | None) -> str:
        """Fire once, at once, though it be paused; the id that the run will have.

        Raises:
            NotFoundError: there is no such schedule.
            ConflictError: so much waits to be fired already.
        """
        plan, standing = self._known()
        if len(standing.due) >= SCHEDULE_FIRINGS_AT_ONCE:
            raise ConflictError("So much is to be fired already; wait for some of it.")
        now_ms = max(self.clock.now_ms(), standing.triggered_ms + 1)
        due = Due(now_ms, overlap or plan.overlap, asked=True)
        self._settle(plan, msgspec.structs.replace(standing, triggered_ms=now_ms, due=(*standing.due, due)))
        return self._run_id(due)

    def backfill(self, from_ms: int, until_ms: int, overlap: Overlap | None) -> int:
        """Fire the nominal times in [from, until] once more; how many there are. Those that have a run keep it.

        Raises:
            NotFoundError: there is no such schedule.
            ConflictError: the timetable was another one at that time, or too much is to be fired already.
            InvalidInputError: the times are too many, or have not come yet.
        """
        plan, standing = self._known()
        now_ms = self.clock.now_ms()
        if until_ms > now_ms:
            raise InvalidInputError("This has not come yet", "$.to_ms")
        if from_ms < standing.since_ms:
            raise ConflictError(f"The timetable was another one before {written(standing.since_ms)}.")
        if len(standing.backfills) >= SCHEDULE_BACKFILLS_MAX:
            raise ConflictError("So many stretches of time are being filled in already; wait for one of them.")
        found = stretch(plan.timetable, from_ms - 1, until_ms, SCHEDULE_WAITING_MAX + 1)
        if found.number > SCHEDULE_WAITING_MAX:
            raise InvalidInputError(f"There are over {SCHEDULE_WAITING_MAX} times between these", "$.to_ms")
        if found.number:
            more = Backfill(from_ms - 1, until_ms, overlap or plan.overlap)
            standing = msgspec.structs.replace(standing, backfills=(*standing.backfills, more))
            self._settle(plan, standing, more=True)
        return found.number

    def delete(self) -> None:
        """Forget the schedule. Runs that are open go on.

        Raises:
            NotFoundError: there is no such schedule.
        """
        self._known()
        self.storage.delete_all()

    @readonly
    def look(self) -> ScheduleLook:
        """What it is, and how it stands.

        Raises:
            NotFoundError: there is no such schedule.
        """
        plan, standing = self._known()
        return ScheduleLook(plan=plan, standing=standing, next_ms=due_next(plan, standing))

    @readonly
    def look_if_there(self) -> ScheduleLook | None:
        """As `look`; None where there is no such schedule."""
        return None if self._standing() is None else self.look()

    def audit(self) -> tuple[str, ...]:
        """Where it waits for nothing that will come, as sentences; its alarm is set anew, so that it goes on."""
        plan, standing = self._known()
        due_ms = self._alarm_ms(plan, standing)
        if due_ms is None or self.alarms.due_ms(DUE) is not None:
            return ()
        self._settle(plan, standing)
        return (f"the alarm at {due_ms} is not armed",)

    # What happens to it.

    async def on_alarm(self, alarm: Alarm) -> None:
        """Fire what is due."""
        if self._standing() is not None:
            await self._go_on(max(alarm.due_ms, self.clock.now_ms()))

    async def ended(self, run: str) -> None:
        """A run that it has started has ended: what waits for that is started."""
        standing = self._standing()
        if standing is None or run not in standing.running:
            return
        left = tuple(one for one in standing.running if one != run)
        self._settle(self._plan(), msgspec.structs.replace(standing, running=left))
        if standing.waiting:
            await self._go_on(self.clock.now_ms())

    async def _go_on(self, now_ms: int) -> None:
        """Do what can be done now. What passes by itself is tried again soon, and nothing is lost by it."""
        plan, standing = self._known()
        more = False
        try:
            standing = await self._fire_due(plan, standing)
            standing = await self._start_waiting(plan, standing)
            before, (standing, more) = standing, decide(plan, standing, now_ms)
            self._count_passed(before, standing)
            if standing.due:
                self._settle(plan, standing)
                await self.commit()
                standing = await self._fire_due(plan, standing)
            standing = msgspec.structs.replace(standing, troubles=0, again_ms=0)
        except _Delayed as delayed:
            standing = self._later(delayed)
        self._settle(plan, standing, more=more)

    def _later(self, delayed: "_Delayed") -> Standing:
        standing, now_ms = delayed.standing, self.clock.now_ms()
        _log.warning(logs.SCHEDULE_DELAYED, schedule=str(self.address), error=str(delayed.__cause__))
        wait_ms = min(SCHEDULE_AGAIN_MS << min(standing.troubles, 10), SCHEDULE_AGAIN_MS_MAX)
        return msgspec.structs.replace(standing, troubles=standing.troubles + 1, again_ms=now_ms + wait_ms)

    async def _fire_due(self, plan: Plan, standing: Standing) -> Standing:
        """Fire what is decided, in order; while it is paused, what somebody has asked for alone."""
        while fires := [due for due in standing.due if due.asked or not standing.paused]:
            left = tuple(due for due in standing.due if due is not fires[0])
            try:
                standing = await self._fire(plan, msgspec.structs.replace(standing, due=left), fires[0])
            except TenureError as error:
                raise _Delayed(standing) from error
        return standing

    async def _start_waiting(self, plan: Plan, standing: Standing) -> Standing:
        """Start what has waited for the end of runs, as far as they have ended."""
        if not standing.waiting or standing.paused:
            return standing
        try:
            standing = await self._without_ended(standing)
            while standing.waiting and not standing.running:
                first, *rest = standing.waiting
                standing = await self._start(plan, msgspec.structs.replace(standing, waiting=tuple(rest)), first)
        except TenureError as error:
            raise _Delayed(standing) from error
        return standing

    async def _fire(self, plan: Plan, standing: Standing, due: Due) -> Standing:
        """Start a run, or do what its policy says of the runs that are open."""
        if due.overlap == "allow_all":
            return await self._start(plan, standing, due)
        standing = await self._without_ended(standing)
        if due.overlap == "cancel_other":
            await self._cancel(standing.running)
            for one in standing.waiting:
                standing = self._told(standing, one, "skipped")
            standing = msgspec.structs.replace(standing, waiting=())
        if not (standing.running or standing.waiting) or self._run_id(due) in standing.running:
            return await self._start(plan, standing, due)
        room = {"skip": 0, "buffer_one": 1, "buffer_all": SCHEDULE_WAITING_MAX, "cancel_other": 1}[due.overlap]
        if len(standing.waiting) >= room:
            return self._told(standing, due, "skipped")
        standing = msgspec.structs.replace(standing, waiting=(*standing.waiting, due))
        return self._told(standing, due, "buffered")

    async def _start(self, plan: Plan, standing: Standing, due: Due) -> Standing:
        """Start the run of a nominal time, if there is none."""
        run_id, tenant = self._run_id(due), self.address.tenant
        run = self.objects.at(WorkflowRun, tenant, run_id)
        try:
            definition = self.hosting.find_definition(tenant, plan.definition, plan.version)
            attributes = dict(zip(SCHEDULE_ATTRIBUTES, (self.address.name, written(due.nominal_ms)), strict=True))
            beginning = Beginning(
                text=definition.text,
                version=definition.version,
                input=plan.input,
                attributes=plan.attributes | attributes,
                parent=Parent(schedule=self.address.name),
            )
            fresh = await run.start(beginning)
            ended = not fresh and (await run.look(0)).run.phase == "ended"
        except _REFUSED as error:
            _log.error(logs.SCHEDULE_FAILED, schedule=str(self.address), run=run_id, error=str(error))
            return self._told(standing, due, "failed", cause=str(error))
        if not ended and run_id not in standing.running:
            running = (*standing.running, run_id)[-SCHEDULE_RUNNING_MAX:]
            standing = msgspec.structs.replace(standing, running=running)
        return self._told(standing, due, "started", run=run_id)

    async def _without_ended(self, standing: Standing) -> Standing:
        """Whose end was not heard of may have ended all the same, or be gone."""
        running = [run_id for run_id in standing.running if await self._is_open(run_id)]
        return msgspec.structs.replace(standing, running=tuple(running))

    async def _is_open(self, run_id: str) -> bool:
        try:
            look = await self.objects.at(WorkflowRun, self.address.tenant, run_id).look(0)
        except NotFoundError:
            return False
        return bool(look.run.phase != "ended")

    async def _cancel(self, run_ids: Iterable[str]) -> None:
        for run_id in run_ids:
            run = self.objects.at(WorkflowRun, self.address.tenant, run_id)
            try:
                await run.happen(Cancelled(reason=f"The schedule {self.address.name} starts another run"))
            except (NotFoundError, ConflictError):
                continue  # It has ended, or is past its pivot, and is waited for.

    def _run_id(self, due: Due) -> str:
        return f"{self.address.name}@{written(due.nominal_ms)}"

    def _told(self, standing: Standing, due: Due, outcome: Outcome, *, run: str = "", cause: str = "") -> Standing:
        now_ms = self.clock.now_ms()
        self._activation.host.metrics.workflow_firing(outcome)
        return standing.told(
            Firing(nominal_ms=due.nominal_ms, at_ms=now_ms, outcome=outcome, run=run, cause=cause[:500])
        )

    def _count_passed(self, before: Standing, after: Standing) -> None:
        """Count what has passed without a run."""
        for outcome in ("missed", "coalesced"):
            passed = after.counts.get(outcome, 0) - before.counts.get(outcome, 0)
            if passed:
                self._activation.host.metrics.workflow_firing(outcome, passed)
                if outcome == "missed":
                    _log.warning(logs.SCHEDULE_MISSED, schedule=str(self.address), times=passed)

    def _settle(self, plan: Plan, standing: Standing, *, more: bool = False) -> None:
        """Keep how it stands, and set its alarm, anew even where it stays: a turn of an alarm ends what it answers."""
        self.storage.put(_STANDING, standing)
        due_ms = self._alarm_ms(plan, standing, more=more)
        if due_ms is None:
            self.alarms.cancel(DUE)
        else:
            self.alarms.set(DUE, at_ms=due_ms)

    def _alarm_ms(self, plan: Plan, standing: Standing, *, more: bool = False) -> int | None:
        """When it has something to do next; None: never."""
        now_ms, asked = self.clock.now_ms(), any(due.asked for due in standing.due)
        if standing.paused and not asked:
            return None
        if standing.again_ms:
            return standing.again_ms
        if more or standing.due or standing.backfills:
            return now_ms
        moments = (next_ms(plan.timetable, standing.cursor_ms), now_ms + SCHEDULE_LOOK_MS if standing.waiting else None)
        return min((moment for moment in moments if moment is not None), default=None)

    def _plan(self) -> Plan:
        return msgspec.json.decode(self.storage.get(_PLAN, bytes), type=Plan)

    def _standing(self) -> Standing | None:
        kept: Standing | None = self.storage.get(_STANDING, Standing)
        return kept

    def _known(self) -> tuple[Plan, Standing]:
        standing = self._standing()
        if standing is None:
            raise NotFoundError("such schedule")
        return self._plan(), standing


def scheduled(hosting: Hosting) -> type[Schedule]:
    """The kind of schedules of one installation."""

    class HostedSchedule(Schedule):
        """A schedule of this installation."""

    HostedSchedule.hosting = hosting
    return HostedSchedule
