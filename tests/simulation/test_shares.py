"""What nobody's answer waits for is stored in time, however many answers wait for the store."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from shared import bounds
from shared.objects.address import Address, shard_of
from shared.testing.clock import run_virtual
from shared.testing.store import MemoryStore
from tests.simulation.test_messages import DESK, Desk, Office, office
from tests.support.simulated import Core, Counter, Tally, core, memory

FLIGHT = 64
SHARDS = 4


@asynccontextmanager
async def under_load(store: MemoryStore) -> AsyncIterator[Core]:
    """A node of which more turns wait for the store at any time than two flights can carry."""
    async with core(store, kinds=[Counter, Tally, Desk, Office], shards=SHARDS) as node:

        async def press(number: int) -> None:
            while True:
                await node.host.call(Address("counter", "acme", f"{number}"), Counter.add, 1)

        pressing = [asyncio.ensure_future(press(number)) for number in range(FLIGHT * 5 // 2)]
        await asyncio.sleep(0.5)
        try:
            yield node
        finally:
            for task in pressing:
                task.cancel()
            await asyncio.gather(*pressing, return_exceptions=True)


@pytest.fixture(autouse=True)
def _small_flights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "FLIGHT_OBJECTS_MAX", FLIGHT)


@pytest.mark.slow
def test_checkpoints_have_their_second_under_a_load_that_fills_every_flight() -> None:
    """Sixteen flights full of them, which change at one moment, and go on changing."""

    async def main() -> None:
        store = memory()
        async with under_load(store) as node:
            tallies = [Address("tally", "acme", f"{number}") for number in range(16 * FLIGHT)]
            await asyncio.gather(*(node.host.call(tally, Tally.hit, durability="committed") for tally in tallies))
            for _ in range(3):
                for tally in tallies:
                    await node.host.call(tally, Tally.hit)
                for _ in range(100):
                    await asyncio.sleep(0.01)
                    late_ms = node.host.store_clock.monotonic_ms() - node.host.committer.fast_until_ms
                    assert late_ms <= 0, "an answer of a checkpointed kind would wait for the store"
            shards = store.snapshot().shards
            stored = [shards[shard_of(tally.encode(), SHARDS)].objects[tally.encode()] for tally in tallies]
            assert {b"\x01\x04"} == {fields[b"ktotal"] for fields in stored}

    run_virtual(main)


@pytest.mark.slow
def test_what_became_of_messages_is_stored_under_a_load_that_fills_every_flight() -> None:
    """They leave the outbox within a second, and make room for others."""

    async def main() -> None:
        store = memory()
        async with under_load(store) as node:
            await node.host.call(DESK, Desk.issue, ["n"], 40)
            await asyncio.sleep(5)
            assert 40 == len(await node.host.call(office("n"), Office.filed))
            assert [] == [row for shard in store.snapshot().shards.values() for row in shard.outbox()]

    run_virtual(main)


def test_the_expired_are_deleted_under_a_load_that_fills_every_flight() -> None:
    """A sweep goes with the next flight."""

    async def main() -> None:
        store = memory()
        tally = Address("tally", "acme", "brief")
        async with under_load(store) as node:
            await node.host.call(tally, Tally.expire, 300, durability="committed")
            await asyncio.sleep(0.5)
            assert node.host.residents.passivate(tally)
            shard = node.ownership.shards[shard_of(tally.encode(), SHARDS)]
            assert tally.encode() in store.snapshot().shards[shard.index].objects
            node.host.committer.sweep(shard, tally.encode(), node.host.store_clock.upper_ms())
            await asyncio.sleep(0.1)
            assert tally.encode() not in store.snapshot().shards[shard.index].objects

    run_virtual(main)
