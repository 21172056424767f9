"""The counter's promises, on a whole node in virtual time: a minute passes at once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from examples.counter.objects import Counter, CounterFullError, Reading
from shared.objects.address import Address
from shared.testing.clock import LoopClock, run_virtual
from shared.testing.store import MemoryStore
from tests.support.simulated import core

Call = Callable[..., Awaitable[Any]]
ANNA = Address("counter", "dev", "anna")


def run_test(scenario: Callable[[Call], Awaitable[None]]) -> None:
    """Run a scenario on a node with counters; it is given the way to call them."""

    async def main() -> None:
        store = MemoryStore(LoopClock(asyncio.get_running_loop()))
        async with core(store, kinds=[Counter]) as node:
            await scenario(node.host.call)

    run_virtual(main)


def test_it_adds_up_to_100_and_not_beyond() -> None:
    """What would pass the bound is refused, and nothing of it is kept."""

    async def scenario(call: Call) -> None:
        await call(ANNA, Counter.add, 60)
        with pytest.raises(CounterFullError):
            await call(ANNA, Counter.add, 60)
        reading = await call(ANNA, Counter.read)
        assert Reading(total=60, resets_at_ms=reading.resets_at_ms) == reading

    run_test(scenario)


def test_a_minute_after_the_first_addition_it_is_0_again() -> None:
    """Later additions do not move the alarm."""

    async def scenario(call: Call) -> None:
        first = await call(ANNA, Counter.add, 1)
        await asyncio.sleep(50)
        second = await call(ANNA, Counter.add, 1)
        await asyncio.sleep(15)
        assert second.resets_at_ms == first.resets_at_ms
        assert Reading(total=0, resets_at_ms=None) == await call(ANNA, Counter.read)

    run_test(scenario)
