"""Reading at once: an answer without waiting, where all that it rests on is stored and owned; else none."""

import asyncio

from shared.objects.address import Address
from shared.objects.host import NOT_NOW
from shared.testing.clock import run_virtual
from tests.support.simulated import Counter, Tally, core, memory

ONE = Address("counter", "acme", "one")


def test_what_is_stored_is_read_at_once() -> None:
    """Not before the object is in memory, and not while a change waits for the store."""

    async def scenario() -> None:
        async with core(memory()) as running:
            host = running.host
            assert NOT_NOW is host.read_now(ONE, Counter.value)
            await host.call(ONE, Counter.add, 5)
            assert 5 == host.read_now(ONE, Counter.value)
            adding = asyncio.ensure_future(host.call(ONE, Counter.add, 1))
            await asyncio.sleep(0.001)
            assert NOT_NOW is host.read_now(ONE, Counter.value)
            assert 6 == await adding
            assert 6 == host.read_now(ONE, Counter.value)

    run_virtual(scenario)


def test_nothing_is_read_past_the_lease() -> None:
    """Nor of an object whose checkpoint is still to come, nor of a host that is stopping."""

    async def scenario() -> None:
        async with core(memory()) as running:
            host = running.host
            tally = Address("tally", "acme", "one")
            await host.call(ONE, Counter.add, 5)
            await host.call(tally, Tally.hit)
            assert NOT_NOW is host.read_now(tally, Tally.value)
            await asyncio.sleep(1)
            assert 1 == host.read_now(tally, Tally.value)
            for shard in running.ownership.shards:
                shard.valid_until_ms = host.store_clock.monotonic_ms()
            assert NOT_NOW is host.read_now(ONE, Counter.value)

    run_virtual(scenario)


def test_a_host_that_stops_reads_nothing_at_once() -> None:
    """It is told by the ordinary path."""

    async def scenario() -> None:
        async with core(memory()) as running:
            await running.host.call(ONE, Counter.add, 5)
            await running.host.drain()
            assert NOT_NOW is running.host.read_now(ONE, Counter.value)

    run_virtual(scenario)
