"""Puts the objects and documents of an export into a store that has none of them, as commits of an owner.

Every shard is claimed first, so no node runs on one meanwhile, and every write is fenced and takes the way of all
writes. What is there already is found before anything is written.
"""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence

from shared.bounds import FLIGHT_BYTES_MAX, FLIGHT_OBJECTS_MAX
from shared.errors import ConflictError
from shared.storage import keys
from shared.storage.interface import ClaimOrder, Fence, ObjectWrite, Section, Status, Store, StoreError
from shared.storage.redis.bulk import Bulk
from shared.storage.transfer import DocumentRecord, ObjectRecord, writes_of

_TTL_MS = 120_000  # Renewed with every flight; the nodes of an import that was killed wait so long at most.
_TIMEOUT_MS = 30_000
_ASKED = 200
_PARTS = (keys.state, keys.native, keys.journal, keys.entries, keys.messages)
ShardOf = Callable[[bytes], int]


async def check_absent(
    store: Bulk, records: Iterable[ObjectRecord], shard_of: ShardOf, *, shown: Callable[[bytes], str]
) -> None:
    """Raises ConflictError, which says as `shown` does which it is, if anything is stored of one of the objects."""
    names: dict[bytes, bytes] = {}
    for record in records:
        shard, object_id = shard_of(record.object_id), record.object_id
        names |= {key(record.service, shard, object_id): object_id for key in _PARTS}
        if len(names) >= _ASKED * len(_PARTS):
            await _check_none(store, names, shown)
            names.clear()
    await _check_none(store, names, shown)


async def new_documents(store: Bulk, records: Sequence[DocumentRecord]) -> list[DocumentRecord]:
    """Those of the documents that are not there yet, word for word.

    Raises:
        ConflictError: one is there, and says something else.
    """
    fresh = []
    for record in records:
        stored = await store.one(b"HGET", keys.documents(record.prefix)[0], record.field)
        head, _, body = (stored or b"").partition(b"\n")
        if not head.endswith(b" 1"):
            fresh.append(record)
        elif body != record.body:
            name = record.field.replace(b"\0", b"/").decode(errors="replace")
            raise ConflictError(f"The document {name} is in the store, and says something else. Nothing was imported.")
    return fresh


class Importer:
    """Writes into one service of a store whose shards it holds."""

    def __init__(self, store: Store, *, shards: int, shard_of: ShardOf) -> None:
        self._store = store
        self._shards = range(shards)
        self._shard_of = shard_of
        self._fences: list[Fence] = []
        self._seqs: list[int] = []
        self._waiting: dict[int, list[ObjectWrite]] = {}
        self._count = self._size_bytes = 0

    async def claim(self) -> None:
        """Take every shard.

        Raises:
            ConflictError: a node has one of them; those that were taken are given back.
            StoreError: the store does not answer.
        """
        token = secrets.token_bytes(24)
        orders = [ClaimOrder(shard=shard) for shard in self._shards]
        claims = await self._store.claim(orders, token=token, node="tenure import", lock_id="", ttl_ms=_TTL_MS)
        self._fences = [Fence(lease.epoch, token) for lease in claims.leases]
        self._seqs = [lease.seq for lease in claims.leases]
        held = {lease.node for lease in claims.leases if not lease.granted}
        if held:
            await self.release()
            raise ConflictError(f"A node owns shards of the store ({', '.join(sorted(held))}): stop it, then import.")

    async def release(self) -> None:
        """Give up every shard, so that nodes need not wait."""
        await self._store.release(list(zip(self._shards, self._fences, strict=True)))

    async def add(self, record: ObjectRecord) -> None:
        """Write an object, now or with one of the next.

        Raises:
            StoreError: the store did not take it; objects before it are written.
        """
        for write in writes_of(record):
            waiting = self._waiting.setdefault(self._shard_of(record.object_id), [])
            waiting.append(write)
            self._count += 1
            self._size_bytes += write.size_bytes
            if self._count >= FLIGHT_OBJECTS_MAX or self._size_bytes >= FLIGHT_BYTES_MAX:
                await self.flush()

    async def flush(self) -> None:
        """Write what waits; raises StoreError as `add`."""
        sections = [
            Section(
                shard=shard,
                fence=self._fences[shard],
                seq=self._seqs[shard],
                commit_id=secrets.token_bytes(16),
                writes=writes,
            )
            for shard, writes in self._waiting.items()
        ]
        if not sections:
            return
        committed = await self._store.commit(sections, ttl_ms=_TTL_MS, timeout_ms=_TIMEOUT_MS)
        for section, reply in zip(sections, committed.replies, strict=True):
            if reply.status is not Status.OK:
                raise StoreError(f"The store did not take the objects: {reply.status.name.lower()}.")
            self._seqs[section.shard] = reply.seq
        await self._store.renew(list(zip(self._shards, self._fences, strict=True)), ttl_ms=_TTL_MS)
        self._waiting.clear()
        self._count = self._size_bytes = 0


async def _check_none(store: Bulk, names: Mapping[bytes, bytes], shown: Callable[[bytes], str]) -> None:
    if names and await store.one(b"EXISTS", *names):
        found = dict.fromkeys([object_id for name, object_id in names.items() if await store.one(b"EXISTS", name)])
        first, *others = found or [next(iter(names.values()))]  # It may have left since.
        more = f", and {len(others)} more of the objects at least" if others else ""
        raise ConflictError(f"The store has the object {shown(first)} already{more}. Nothing was imported.")
