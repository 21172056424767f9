"""Housekeeping ticks of a node: the only user of APScheduler.

Nothing durable is kept here and nothing that a promise rests on: a tick that is late or left out
costs memory or freshness, never correctness. Leases, commits and alarms have loops of their own.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

Tick = Callable[[], Awaitable[None]] | Callable[[], None]


class Periodic:
    """Runs ticks at fixed intervals on the node's event loop, one run of each at a time."""

    def __init__(self) -> None:
        self._scheduler = AsyncIOScheduler(timezone="UTC")

    def every(self, seconds: float, tick: Tick) -> None:
        """Run `tick` every so many seconds, on the loop; a missed one runs once, late."""

        async def run() -> None:  # A plain function would run in a thread beside the loop, whose objects it touches.
            with suppress(asyncio.CancelledError):  # By `stop`; it would be logged as an error.
                outcome = tick()
                if outcome is not None:
                    await outcome

        self._scheduler.add_job(
            run,
            IntervalTrigger(seconds=seconds, timezone="UTC"),
            misfire_grace_time=None,
            coalesce=True,
            max_instances=1,
        )

    def start(self) -> None:
        """Start ticking on the running loop."""
        self._scheduler.start()

    def stop(self) -> None:
        """Tick no more; what runs is cancelled."""
        self._scheduler.pause()  # At once: the rest is done by the loop, which may have ticks to start before it.
        self._scheduler.shutdown(wait=False)
