"""A node waits for a store that is still starting, and not for ever."""

import asyncio
from functools import partial
from typing import Any

import pytest

from shared.errors import ConfigurationError
from shared.runtime import node
from shared.storage.interface import StoreAwayError
from shared.storage.redis.inspect import inspect
from shared.testing.clock import LoopClock, run_virtual


class AwayStore:
    """Where a store would be if it had started."""

    async def command(self, *args: Any, **options: Any) -> Any:
        raise StoreAwayError("The store cannot be reached: refused")


def test_a_store_that_never_answers_is_given_up_after_ten_seconds() -> None:
    """The process ends with one sentence that says why."""

    async def start() -> int:
        loop = asyncio.get_running_loop()
        clock = LoopClock(loop)
        with pytest.raises(ConfigurationError, match="The store does not answer: The store cannot be reached"):
            await node._patiently(partial(inspect, AwayStore().command, clock), clock)
        return round(loop.time())

    assert 10 == run_virtual(start)
