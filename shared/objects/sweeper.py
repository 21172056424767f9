"""Deletes objects whose expiry has passed, so that nothing stays for ever by accident.

Some cannot go yet: those in memory, and those whose messages are not delivered. They must not hide what
expired after them, so each look at a shard goes on where the last one stopped, and at the end starts over.
"""

from collections.abc import Callable

from shared import bounds
from shared.objects.ownership import Ownership, Shard
from shared.storage.interface import Store, StoreError
from shared.telemetry import logs

_log = logs.get_logger()


class Sweeper:
    """Finds expired objects of open shards; the committer deletes them, fenced, if they still are."""

    def __init__(self, store: Store, ownership: Ownership, sweep: Callable[[Shard, bytes, int], None]) -> None:
        self._store = store
        self._ownership = ownership
        self._sweep = sweep
        self._passed: dict[Shard, int] = {}  # Rows that the last looks have seen, where there were more.

    async def tick(self) -> None:
        """Look once over all open shards: at most 256 objects of each."""
        shards = [shard for shard in self._ownership.shards if shard.open]
        if not shards:
            return
        try:
            expired = await self._store.expired(
                [(shard.index, self._passed.get(shard, 0)) for shard in shards], rows=bounds.SWEEP_OBJECTS
            )
        except StoreError as exc:
            _log.warning(logs.STORE_AWAY, error=str(exc))
            return
        for shard, rows in zip(shards, expired.rows, strict=True):
            full = len(rows) == bounds.SWEEP_OBJECTS
            self._passed[shard] = self._passed.get(shard, 0) + len(rows) if full else 0
            for object_id, _ in rows:
                self._sweep(shard, object_id, expired.now_ms)
