"""A node that starts while its store does waits for it, and not for ever."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from shared.errors import ConfigurationError
from shared.runtime.node import _patiently
from shared.storage.interface import StoreAwayError
from shared.testing.clock import LoopClock, run_virtual


def _answers_from(ready_ms: int, clock: LoopClock) -> Callable[[], Awaitable[str]]:
    async def ask() -> str:
        if clock.monotonic_ms() < ready_ms:
            raise StoreAwayError("The store refuses: it is loading the dataset in memory")
        return "answer"

    return ask


def test_a_store_that_reads_its_log_is_waited_for() -> None:
    """Its refusals are no reason to end: nine seconds later it answers."""

    async def main() -> str:
        clock = LoopClock(asyncio.get_running_loop())
        return await _patiently(_answers_from(clock.monotonic_ms() + 9_000, clock), clock)

    assert "answer" == run_virtual(main)


def test_a_store_that_stays_away_ends_the_start() -> None:
    """After ten seconds there is one sentence that says why."""

    async def main() -> None:
        clock = LoopClock(asyncio.get_running_loop())
        await _patiently(_answers_from(clock.monotonic_ms() + 60_000, clock), clock)

    with pytest.raises(ConfigurationError, match="The store does not answer: The store refuses: it is loading"):
        run_virtual(main)
