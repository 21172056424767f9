"""A node waits for a store that is still starting, and not for ever; it says so at once, and waits for nothing else."""

import asyncio
import json
from collections.abc import Callable
from functools import partial
from io import StringIO
from typing import Any

import pytest

from shared.errors import ConfigurationError
from shared.runtime import node
from shared.storage.interface import StoreAwayError, StoreDeniedError, StoreError
from shared.storage.redis.inspect import inspect
from shared.testing.clock import LoopClock, run_virtual
from tests.support.log_lines import logged


class FailingStore:
    """Where a store would be if it had started, or if it let us in."""

    def __init__(self, error: StoreError) -> None:
        self._error = error

    async def command(self, *args: Any, **options: Any) -> Any:
        raise self._error


AWAY = FailingStore(StoreAwayError("The store cannot be reached: refused"))
SHUT = FailingStore(StoreDeniedError("The store does not let us in: wrong password."))


def starting(scenario: Callable[[LoopClock, StringIO], Any]) -> None:
    """Run a scenario in virtual time, with what is logged meanwhile."""

    async def run() -> None:
        with logged() as lines:
            await scenario(LoopClock(asyncio.get_running_loop()), lines)

    run_virtual(run)


def test_a_store_that_never_answers_is_given_up_after_ten_seconds() -> None:
    """The process ends with one sentence that says why."""

    async def scenario(clock: LoopClock, _: StringIO) -> None:
        with pytest.raises(ConfigurationError, match="The store does not answer: The store cannot be reached"):
            await node._patiently(partial(inspect, AWAY.command, clock), clock)
        assert 10 == round(clock.monotonic_ms() / 1000)

    starting(scenario)


def test_a_node_that_waits_for_its_store_says_so_at_once_and_once() -> None:
    """One line before the first pause, and no other however often it asks."""

    async def scenario(clock: LoopClock, lines: StringIO) -> None:
        waiting = asyncio.create_task(node._patiently(partial(inspect, AWAY.command, clock), clock))
        await asyncio.sleep(0.001)
        (line,) = [json.loads(line) for line in lines.getvalue().splitlines()]
        assert ("store.unreached", "warning", "The store cannot be reached: refused") == (
            line["event"],
            line["level"],
            line["error"],
        )
        with pytest.raises(ConfigurationError):
            await waiting
        assert 1 == len(lines.getvalue().splitlines())

    starting(scenario)


def test_a_store_that_does_not_let_us_in_is_not_waited_for() -> None:
    """No password becomes right by waiting: the sentence comes at once and says where to look."""

    async def scenario(clock: LoopClock, lines: StringIO) -> None:
        with pytest.raises(ConfigurationError) as raised:
            await node._patiently(partial(inspect, SHUT.command, clock), clock)
        sentence = (
            "The store does not let us in: wrong password; "
            "see user and password in TENURE_REDIS_URL, and what the store lets that user do."
        )
        assert (sentence, 0, "") == (str(raised.value), clock.monotonic_ms(), lines.getvalue())

    starting(scenario)
