"""Faults of the core that the seeded simulation has found, each as the plainest test that shows it."""

import asyncio

import pytest

from shared.objects.address import Address
from shared.objects.errors import CommitFailedError
from shared.objects.handler import DurableObject, readonly
from shared.testing.clock import LoopClock, run_virtual
from shared.testing.faults import FaultyStore
from shared.testing.store import MemoryStore
from tests.support.simulated import core

BUSY = Address("busy_tally", "acme", "one")
READER = Address("reader", "acme", "one")


class BusyTally(DurableObject):
    """A checkpointed tally in which a turn runs whenever a wave of checkpoints comes by."""

    kind = "busy_tally"
    durability = "checkpointed"

    def on_activate(self) -> None:
        self.total: int = self.storage.get("total", int, default=0)

    async def hit_slowly(self) -> int:
        self.total += 1
        self.dirty()
        await asyncio.sleep(0.4)
        return self.total

    @readonly
    def value(self) -> int:
        return self.total

    def on_checkpoint(self) -> None:
        self.storage.put("total", self.total)


class Reader(DurableObject):
    """Its reads take longer than a lease."""

    kind = "reader"

    def write(self, text: str) -> None:
        self.storage.put("text", text)

    @readonly
    async def read_slowly(self) -> str:
        text: str = self.storage.get("text", str)
        await asyncio.sleep(8)
        return text


def memory() -> MemoryStore:
    return MemoryStore(LoopClock(asyncio.get_running_loop()), latency_ms=5)


def test_what_is_dirty_does_not_grow_younger_by_a_running_turn() -> None:
    """However long turns follow on turns, no more is lost than what was answered in the last second."""

    async def main() -> None:
        store = memory()
        async with core(store, lock_id="L", kinds=[BusyTally]) as a:
            calls = [asyncio.ensure_future(a.host.call(BUSY, BusyTally.hit_slowly)) for _ in range(10)]
            await asyncio.sleep(3)
            await a.kill()
            answered = sum(call.done() for call in calls)
        async with core(store, lock_id="L", node="b", kinds=[BusyTally]) as b:
            assert 7 == answered
            assert answered - 3 <= await b.host.call(BUSY, BusyTally.value)

    run_virtual(main)


def test_an_answer_that_rests_on_the_lease_does_not_outlive_it() -> None:
    """A long read of an owner that was cut off ends in an error: another one may have written meanwhile."""

    async def main() -> None:
        store = memory()
        link = FaultyStore(store)
        async with core(link, kinds=[Reader]) as a, core(store, node="b", kinds=[Reader]) as b:
            await a.host.call(READER, Reader.write, "old")
            reading = asyncio.ensure_future(a.host.call(READER, Reader.read_slowly))
            await asyncio.sleep(0)
            link.away = True
            await asyncio.sleep(7.9)
            await b.host.call(READER, Reader.write, "new")
            with pytest.raises(CommitFailedError):
                await reading

    run_virtual(main)
