"""Questions across objects on the real store: one script each, over a connection that no commit or load waits for."""

from collections.abc import Iterator, Sequence
from typing import Any

from shared.storage import keys
from shared.storage.listings import MESSAGE_ID_BYTES, IndexRow, OutboxMessage, OutboxRow, Place, family
from shared.storage.redis.client import Script, Wire

_CALL_TIMEOUT_MS = 2_000


class RedisListings:
    """Implements `ListingStore` over one connection."""

    def __init__(self, wire: Wire, *, service: str) -> None:
        self._service = service
        self._listings = wire
        self._page, self._count = Script("page"), Script("count")
        self._objects, self._outbox, self._fields = Script("objects"), Script("outbox"), Script("fields")

    async def find(
        self, shards: Sequence[int], *, tenant: str, index: str, value: str, after: Place | None, rows: int
    ) -> Sequence[Sequence[IndexRow]]:
        """See `ListingStore.find`."""
        pages = await self._pages(self._index_rows(shards, tenant, index, value), after, rows)
        return [[IndexRow.at(place) for place in page] for page in pages]

    async def count(self, shards: Sequence[int], *, tenant: str, index: str, value: str) -> int:
        """See `ListingStore.count`."""
        total: int = await self._ask(self._count, self._index_rows(shards, tenant, index, value), [])
        return total

    async def objects(
        self, shards: Sequence[int], *, kind: str, tenant: str, prefix: str, after: bytes, rows: int
    ) -> Sequence[Sequence[bytes]]:
        """See `ListingStore.objects`."""
        names = [keys.index(self._service, shard) for shard in shards]
        found: list[list[bytes]] = await self._ask(
            self._objects, names, [family(kind, tenant), prefix.encode(), after, rows]
        )
        return found

    async def outbox(self, shards: Sequence[tuple[int, int]], *, rows: int) -> Sequence[Sequence[OutboxRow]]:
        """See `ListingStore.outbox`."""
        names: list[bytes] = []
        for shard, _ in shards:
            names += (keys.outbox(self._service, shard), keys.messages(self._service, shard, b""))
        reply = await self._ask(self._outbox, names, [MESSAGE_ID_BYTES, rows, *(after for _, after in shards)])
        return [
            [OutboxRow(sender, OutboxMessage.stored(*message)) for sender, *message in _groups(flat, 3)]
            for flat in reply
        ]

    async def armed_alarms(self, shards: Sequence[int], *, after: Place | None, rows: int) -> Sequence[Sequence[Place]]:
        """See `ListingStore.armed_alarms`."""
        return await self._pages([keys.alarms(self._service, shard) for shard in shards], after, rows)

    async def dead_alarms(self, shards: Sequence[int], *, after: Place | None, rows: int) -> Sequence[Sequence[Place]]:
        """See `ListingStore.dead_alarms`."""
        return await self._pages([keys.dead_alarms(self._service, shard) for shard in shards], after, rows)

    async def fields(self, places: Sequence[tuple[int, bytes, bytes]]) -> Sequence[bytes | None]:
        """See `ListingStore.fields`."""
        names = [keys.state(self._service, shard, object_id) for shard, object_id, _ in places]
        found: list[bytes | None] = await self._ask(self._fields, names, [field for _, _, field in places])
        return found

    async def _pages(self, names: Sequence[bytes], after: Place | None, rows: int) -> list[list[Place]]:
        args = [rows] if after is None else [rows, after.at_ms, after.member]
        reply = await self._ask(self._page, names, args)
        return [[Place(int(score), member) for member, score in _groups(flat, 2)] for flat in reply]

    async def _ask(self, script: Script, names: Sequence[bytes], args: Sequence[Any]) -> Any:
        return await self._listings.run(script, names, args, timeout_ms=_CALL_TIMEOUT_MS)

    def _index_rows(self, shards: Sequence[int], tenant: str, index: str, value: str) -> list[bytes]:
        place = keys.index_place(tenant, index, value)
        return [keys.index_rows(self._service, shard, place) for shard in shards]


def _groups(flat: Sequence[Any], width: int) -> Iterator[Sequence[Any]]:
    return (flat[i : i + width] for i in range(0, len(flat), width))
