"""Schedules with the runs that they start, in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from services.workflows.run import WorkflowRun
from services.workflows.schedule import FindDefinition, Hosting, Schedule, scheduled
from services.workflows.scheduling import Plan
from services.workflows.timetable import Timetable, written
from shared.objects.errors import UnavailableError
from shared.testing.cluster import NodeDiedError
from shared.testing.kit import Kit, Ref, run_with_kit
from tests.support.carried import Installed

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
DEFINITIONS = {
    "quick": "workflow: quick\nstart: a\nsteps: { a: { pass: {}, end: true } }",
    "slow": "workflow: slow\nstart: a\nsteps: { a: { sleep: 150s, end: true } }",
    "picky": "workflow: picky\ninput_schema: { type: string }\nstart: a\nsteps: { a: { pass: {}, end: true } }",
}


class Scheduled:
    """One schedule, `nightly`, that fires every minute from the next full one on."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self.ref: Ref = kit.at(Schedule, "acme", "nightly")
        self.start_ms = (kit.now_ms() // MINUTE_MS + 1) * MINUTE_MS

    def plan(self, definition: str = "quick", **more: Any) -> Plan:
        """Every minute; `more` says otherwise."""
        every_minute = Timetable(every_s=60)
        return Plan(**{"definition": definition, "timetable": every_minute, **more})

    async def put(self, definition: str = "quick", **more: Any) -> None:
        """Set the schedule."""
        await self.ref.put(self.plan(definition, **more), None)

    async def until(self, minutes: float) -> None:
        """Let time pass until half a minute after that many firings are due."""
        await self.kit.advance(self.start_ms + int((minutes - 0.5) * MINUTE_MS) - self.kit.now_ms())

    async def away(self, ms: int) -> None:
        """Let time pass in which no node lives."""
        await self.kit.node.kill()
        await asyncio.sleep(ms / 1000)
        await self.kit.start()

    def time(self, minute: int) -> int:
        """The nominal time, counted from 1."""
        return self.start_ms + (minute - 1) * MINUTE_MS

    def run(self, minute: int) -> Ref:
        """The run of a nominal time."""
        return self.kit.at(WorkflowRun, "acme", f"nightly@{written(self.time(minute))}")

    async def outcomes(self) -> list[tuple[int, str]]:
        """What became of which nominal time, oldest first."""
        recent = (await self.ref.look()).standing.recent
        return [((one.nominal_ms - self.start_ms) // MINUTE_MS + 1, one.outcome) for one in reversed(recent)]

    async def counts(self) -> dict[str, int]:
        """How many nominal times had which outcome."""
        return dict((await self.ref.look()).standing.counts)

    async def starts(self) -> list[int]:
        """Which minutes have a run, of twenty."""
        return [minute for minute in range(1, 21) if self.kit.stored(self.run(minute))]


def with_schedule(
    scenario: Callable[[Scheduled], Awaitable[None]],
    *,
    find: FindDefinition | None = None,
    limit_ms: int = 48 * HOUR_MS,
) -> None:
    """Run the scenario with runs, their carrier and schedules, which find definitions by `find` if it is given."""

    async def main(kit: Kit) -> None:
        await scenario(Scheduled(kit))

    kinds = Installed(DEFINITIONS).kinds
    if find is not None:
        kinds = [kind for kind in kinds if kind.kind != Schedule.kind] + [scheduled(Hosting(find))]
    run_with_kit(main, kinds=kinds, limit_ms=limit_ms)


async def insist(call: Callable[[], Awaitable[Any]]) -> Any:
    """Call until a node answers."""
    for _ in range(50):
        try:
            return await call()
        except (NodeDiedError, UnavailableError):
            await asyncio.sleep(0.1)
    raise AssertionError("no node answers")
