"""A node waits for a store that is still starting, and not for ever."""

import asyncio
from typing import Any, cast

import pytest

from shared.errors import ConfigurationError
from shared.runtime import node
from shared.storage.interface import StoreAwayError
from shared.storage.redis.store import RedisStore
from shared.testing.clock import LoopClock, run_virtual


class AwayStore:
    """Where a store would be if it had started."""

    async def command(self, *args: Any, **options: Any) -> Any:
        raise StoreAwayError("The store cannot be reached: refused")


def test_a_store_that_never_answers_is_given_up_after_ten_seconds() -> None:
    """The process ends with one sentence that says why."""

    async def start() -> int:
        loop = asyncio.get_running_loop()
        with pytest.raises(ConfigurationError, match="The store does not answer: The store cannot be reached"):
            await node._store_facts(cast("RedisStore", AwayStore()), LoopClock(loop))
        return round(loop.time())

    assert 10 == run_virtual(start)
