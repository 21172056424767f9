"""Deaths of a node at a chosen commit."""

import asyncio
from typing import Any, cast

from shared.testing.kit import Kit


class Deaths:
    """Kills the node when it sends a commit, or some milliseconds later."""

    def __init__(self, dies_at: int, late_ms: int) -> None:
        self._dies_at, self._late_ms = dies_at, late_ms
        self.died: asyncio.Task[None] | None = None

    def await_commit(self, kit: Kit) -> None:
        """Begin to wait for it."""
        store, send = kit.faults, kit.faults.commit

        async def commit(*args: Any, **more: Any) -> Any:
            if self.died is None and store.calls.get("commit", 0) + 1 >= self._dies_at:
                self.died = asyncio.ensure_future(self._die(kit))
            return await send(*args, **more)

        cast("Any", store).commit = commit

    async def _die(self, kit: Kit) -> None:
        await asyncio.sleep(self._late_ms / 1000)
        await kit.kill()
