"""Whole nodes in one event loop: what runs on each is the code that is shipped, over a store that is handed in.

A node can die, as by `kill -9`: nothing more of it runs, nothing is released. It can stop and go on, as under
SIGSTOP and SIGCONT (on a `VirtualTimeLoop`), and it can be drained, as by SIGTERM.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from shared import bounds
from shared.clock import Clock
from shared.objects.address import Address
from shared.objects.handler import DurableObject
from shared.objects.host import Host
from shared.objects.ownership import Ownership
from shared.objects.store_clock import StoreClock
from shared.objects.sweeper import Sweeper
from shared.retry import Draw
from shared.storage.interface import Store
from shared.telemetry.metrics import Metrics
from shared.telemetry.traces import Tracer
from shared.testing.clock import LoopClock
from shared.testing.process import Process

LEASE_TTL_MS = 6_000
_PASSIVATE_MS = 1_000
_SWEEP_MS = 5_000


class NodeDiedError(ConnectionError):
    """The node died before it answered: whether the call ran, and whether it counts, is not known."""


class Node:
    """One node's host and its ownership, running in a process of its own."""

    def __init__(
        self,
        store: Store,
        *,
        kinds: Sequence[type[DurableObject]],
        name: str = "a",
        lock_id: str = "",
        shards: int = 4,
        clock: Clock | None = None,
        tracer: Tracer | None = None,
        draw: Draw = random.random,
        resident_objects: int = bounds.RESIDENT_OBJECTS,
    ) -> None:
        loop = asyncio.get_running_loop()
        store_clock = StoreClock(clock or LoopClock(loop))
        metrics = Metrics()
        self.name = name
        self.process = Process(name)
        self.ownership = Ownership(
            store, store_clock, metrics, shards=shards, node=name, lock_id=lock_id, ttl_ms=LEASE_TTL_MS
        )
        self.host = Host(
            kinds,
            store,
            self.ownership,
            store_clock,
            metrics=metrics,
            tracer=tracer or Tracer(),
            draw=draw,
            resident_objects=resident_objects,
        )
        self._sweeper = Sweeper(store, self.ownership, self.host.committer.sweep)
        self._died: asyncio.Future[None] = loop.create_future()
        self._loops: list[asyncio.Task[None]] = []

    @property
    def alive(self) -> bool:
        """Whether it has not died. It may be stopped."""
        return not self._died.done()

    def start(self, *, housekeeping: bool = False) -> None:
        """Run its loops; `housekeeping`: also the ticks that let idle and expired objects go."""
        host = self.host
        runs: list[Coroutine[Any, Any, None]] = [
            self.ownership.run(),
            *host.loops(),
        ]
        if housekeeping:
            runs += [_every(_PASSIVATE_MS, host.passivate_idle), _every(_SWEEP_MS, self._sweeper.tick)]
        self._loops = [self.process.spawn(run) for run in runs]

    async def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the node, as what comes in from a connection; waits as long as the node is stopped.

        Raises:
            NodeDiedError: the node died first.
        """
        if not self.alive:
            coroutine.close()
            raise NodeDiedError(f"Node {self.name} is dead")
        task = self.process.spawn(coroutine)
        try:
            await asyncio.wait((task, self._died), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not task.done():
                task.cancel()
        if task.done():
            return task.result()
        raise NodeDiedError(f"Node {self.name} died before it answered")

    async def call(self, address: Address, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """As `Host.call`, from outside the node; raises NodeDiedError as well."""
        return await self.run(self.host.call(address, method, *args, **options))

    async def kill(self) -> None:
        """As `kill -9`: nothing more is sent, nothing is released, nobody is answered. Safe to call twice."""
        if not self.process.stopped:
            await self._end_loops()
            self.process.stop()
        if self.alive:
            self._died.set_result(None)

    async def drain(self) -> None:
        """As SIGTERM: store everything, give the leases back, end."""
        await self.run(self.host.drain())
        await self._end_loops()  # Else it would claim again what it gives back.
        await self.run(self.ownership.release())
        await self.kill()

    async def bury(self) -> None:
        """Kill it and end what is left of it, so that the loop can be closed. For the end of a test."""
        await self.kill()
        self.ownership.suspend(self.ownership.shards)  # No turn starts any more.
        self.process.resume()
        await self._end_loops()

    async def _end_loops(self) -> None:
        for task in self._loops:
            task.cancel()
        for result in await asyncio.gather(*self._loops, return_exceptions=True):
            if not isinstance(result, asyncio.CancelledError):
                raise AssertionError("a loop of the node has ended") from result  # noqa: TRY004  # Not about types.


async def _every(ms: int, tick: Callable[[], None] | Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(ms / 1000)
        outcome = tick()
        if outcome is not None:
            await outcome
