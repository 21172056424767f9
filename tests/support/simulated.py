"""A whole object core in virtual time over the in-memory store, for tests."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import ClassVar

from shared import bounds
from shared.objects.handler import Alarm, Checkpoint, DurableObject, readonly
from shared.storage.interface import Store
from shared.telemetry.traces import Tracer
from shared.testing.clock import LoopClock
from shared.testing.cluster import Node
from shared.testing.store import MemoryStore


class Counter(DurableObject):
    """A committed tally with an alarm."""

    kind = "counter"
    rung: ClassVar[list[int]] = []

    def add(self, amount: int) -> int:
        total = self.storage.get("total", int, default=0) + amount
        self.storage.put("total", total)
        return total

    @readonly
    def value(self) -> int:
        return self.storage.get("total", int, default=0)

    def arm(self, name: str, in_ms: int) -> int:
        at_ms = self.clock.now_ms() + in_ms
        self.alarms.set(name, at_ms=at_ms)
        return at_ms

    def cancel(self, name: str) -> bool:
        return self.alarms.cancel(name)

    def names(self) -> list[str]:
        return self.alarms.names()

    def fail_after_write(self) -> None:
        self.storage.put("total", -1)
        raise ValueError("no")

    def vanish(self) -> None:
        self.storage.delete_all()

    async def add_elsewhere(self, name: str, amount: int) -> int:
        reply: int = await self.objects.at(Counter, self.address.tenant, name).add(amount)
        return reply

    async def add_and_call_back(self, name: str) -> int:
        reply: int = await self.objects.at(Counter, self.address.tenant, name).add_elsewhere(self.address.name, 1)
        return reply

    async def add_slowly(self, amount: int) -> int:
        before = self.storage.get("total", int, default=0)
        await asyncio.sleep(0.05)
        self.storage.put("total", before + amount)
        return before + amount

    def on_alarm(self, alarm: Alarm) -> None:
        Counter.rung.append(self.clock.now_ms() - alarm.due_ms)
        self.storage.put("rung", self.storage.get("rung", int, default=0) + 1)
        if alarm.name == "bad":
            raise ValueError("this alarm fails")

    def rings(self) -> int:
        return self.storage.get("rung", int, default=0)


class Tally(DurableObject):
    """A checkpointed tally with native state."""

    __slots__ = ("total",)
    kind = "tally"
    durability = "checkpointed"
    indexed = False

    def on_activate(self) -> None:
        self.total: int = self.storage.get("total", int, default=0)

    def hit(self) -> int:
        self.total += 1
        self.dirty()
        return self.total

    def expire(self, in_ms: int) -> None:
        self.total += 1
        self.storage.put("total", self.total)
        self.storage.expire_at(self.clock.now_ms() + in_ms)

    @readonly
    def value(self) -> int:
        return self.total

    def on_checkpoint(self) -> None:
        self.storage.put("total", self.total)


class Meter(DurableObject):
    """A checkpointed tally whose instance alone has the state."""

    __slots__ = ("total",)
    kind = "meter"
    durability = "checkpointed"
    indexed = False
    native = True

    def on_activate(self) -> None:
        self.total = int(self.loaded or b"0")

    def hit(self, amount: int = 1) -> int:
        self.total += amount
        self.dirty()
        return self.total

    async def hit_slowly(self) -> int:
        await asyncio.sleep(0.3)
        return self.hit()

    @readonly
    def value(self) -> int:
        return self.total

    def spoil(self) -> None:
        self.total = -1
        raise ValueError("no")

    def on_checkpoint(self) -> Checkpoint:
        return Checkpoint(b"%d" % self.total if self.total else b"")


def memory() -> MemoryStore:
    """A store whose time is the loop's, and that takes 5 ms to answer."""
    return MemoryStore(LoopClock(asyncio.get_running_loop()), latency_ms=5)


class Core(Node):
    """A node in a test of the core, which knows what is inside."""


@asynccontextmanager
async def core(
    store: Store,
    *,
    node: str = "a",
    lock_id: str = "",
    shards: int = 4,
    kinds: Sequence[type[DurableObject]] = (Counter, Tally, Meter),
    tracer: Tracer | None = None,
    resident_objects: int = bounds.RESIDENT_OBJECTS,
) -> AsyncIterator[Core]:
    """A running core; killed at the end unless it was drained."""
    running = Core(
        store,
        name=node,
        lock_id=lock_id,
        shards=shards,
        kinds=kinds,
        tracer=tracer,
        resident_objects=resident_objects,
    )
    running.start()
    await running.ownership.claim_missing()
    try:
        yield running
    finally:
        await running.bury()


def lose_all(node: Core) -> None:
    """As if another node had claimed every shard."""
    node.ownership.suspend(node.ownership.shards)
    node.host.residents.lost(node.ownership.shards)
