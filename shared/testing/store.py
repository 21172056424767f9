"""The store in memory: the same answers as the Lua scripts, on a clock that a test moves.

A differential test (`tests/storage/test_differential.py`) holds it to the scripts, oddities
included, so a node that runs on it shows what it would do on the real store. `snapshot` and
`restore` make the store go back in time, as a restored backup or a promoted replica does.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from shared.clock import Clock
from shared.storage import keys
from shared.storage.interface import (
    NATIVE_FIELD,
    ClaimOrder,
    Claims,
    Committed,
    DocumentChanges,
    Due,
    Fence,
    JournalPage,
    Loaded,
    LoadOrder,
    Loads,
    Renewals,
    Section,
    StoredDocument,
    StoreFullError,
    StoreInDoubtError,
    take_index_records,
)
from shared.storage.listings import IndexRow, OutboxRow, Place, family
from shared.storage.quarantines import Quarantine, Quarantined, Terms
from shared.testing.shard import (
    Journal,
    Quarantines,
    Shard,
    apply_section,
    begin_term,
    claimed,
    due_rows,
    is_storable,
    living_quarantines,
    load_entries,
    may_claim,
    page,
    take,
)

_DOCUMENT_ROWS = 1_000
T = TypeVar("T")


class Documents(msgspec.Struct, kw_only=True):
    """The replicated documents of one prefix, and the revision of the newest change of each."""

    revision: int = 0
    records: dict[bytes, StoredDocument] = msgspec.field(default_factory=dict)
    log: dict[bytes, int] = msgspec.field(default_factory=dict)


class Snapshot(msgspec.Struct):
    """Everything that is stored; parts that were never written are left out."""

    shards: dict[int, Shard]
    documents: dict[str, Documents]


class MemoryStore:
    """Implements `Store` for one service. `clock` is the store's own; a call takes `latency_ms`.

    An operation takes effect at one moment, half-way through its latency. It never fails: see
    `shared.testing.faults` for a store that does. While `full` is set it has no memory left.
    """

    def __init__(self, clock: Clock, *, latency_ms: int = 0) -> None:
        self._clock = clock
        self._latency_s = latency_ms / 1000
        self._content = Snapshot({}, {})
        self.full = False

    def snapshot(self) -> Snapshot:
        """A copy of everything stored now."""
        content = _copied(self._content)
        now_ms = self._clock.now_ms()
        for shard in content.shards.values():
            shard.entries = {key: kept for key, kept in shard.entries.items() if kept.ends_ms > now_ms}
            shard.natives = {key: kept for key, kept in shard.natives.items() if self._lives(kept)}
            if not living_quarantines(shard, now_ms):
                shard.quarantines = Quarantines()
        content.shards = {number: shard for number, shard in content.shards.items() if shard != Shard()}
        content.documents = {prefix: kept for prefix, kept in content.documents.items() if kept != Documents()}
        return content

    def restore(self, content: Snapshot) -> None:
        """Go back to what was stored when `content` was taken."""
        self._content = _copied(content)

    async def claim(
        self, orders: Sequence[ClaimOrder], *, token: bytes, node: str, lock_id: str, ttl_ms: int
    ) -> Claims:
        """See `Store.claim`."""
        await self._travel()
        now_ms = self._clock.now_ms()
        leases = []
        for order in orders:
            lease = self._shard(order.shard).lease
            granted = may_claim(lease, order, token, lock_id, now_ms)
            if granted:
                take(lease, order, token)
                lease.epoch = max(lease.epoch + 1, order.known_epoch + 1, now_ms)
                lease.node, lease.lock = node, lock_id
                lease.expires_ms, lease.active = now_ms + ttl_ms, True
            leases.append(claimed(lease, granted=granted))
        await self._travel()
        return Claims(now_ms, leases)

    async def renew(self, leases: Sequence[tuple[int, Fence]], *, ttl_ms: int) -> Renewals:
        """See `Store.renew`."""
        await self._travel()
        now_ms = self._clock.now_ms()
        seqs = []
        for number, fence in leases:
            lease = self._shard(number).lease
            ours = lease.held_by(fence)
            if ours:
                lease.expires_ms = now_ms + ttl_ms
            seqs.append(lease.seq if ours else -1)
        await self._travel()
        return Renewals(now_ms, seqs)

    async def release(self, leases: Sequence[tuple[int, Fence]]) -> None:
        """See `Store.release`."""
        await self._travel()
        for number, fence in leases:
            lease = self._shard(number).lease
            if lease.held_by(fence):
                lease.active = False
        await self._travel()

    async def commit(self, sections: Sequence[Section], *, ttl_ms: int, timeout_ms: int) -> Committed:
        """See `Store.commit`. Never takes longer than its latency, whatever `timeout_ms` is."""
        await self._travel()
        now_ms = self._clock.now_ms()
        if not all(is_storable(write) for section in sections for write in section.writes):
            raise StoreInDoubtError("A number is not storable")
        replies = [
            apply_section(self._shard(section.shard), section, now_ms=now_ms, ttl_ms=ttl_ms, full=self.full)
            for section in sections
        ]
        await self._travel()
        return Committed(now_ms, replies)

    async def load(self, orders: Sequence[LoadOrder]) -> Loads:
        """See `Store.load`."""
        await self._travel()
        now_ms = self._clock.now_ms()
        objects = []
        for order in orders:
            shard = self._shard(order.shard)
            if not shard.lease.held_by(order.fence):
                objects.append(Loaded(-1, {}))
                continue
            quarantine = living_quarantines(shard, now_ms).get(order.object_id)
            if order.native:
                fields = self._native(shard, order.object_id)
                objects.append(Loaded(shard.lease.seq, fields, quarantine=quarantine))
            else:
                objects.append(_loaded(shard, order.object_id, now_ms, quarantine))
        await self._travel()
        return Loads(now_ms, objects)

    async def journal(
        self, shard: int, fence: Fence, object_id: bytes, *, after: int, rows: int, reverse: bool = False
    ) -> JournalPage:
        """See `Store.journal`."""
        await self._travel()
        stored = self._shard(shard)
        if not stored.lease.held_by(fence):
            found = JournalPage(-1, [])
        else:
            entries = sorted(stored.journals.get(object_id, Journal()).entries.items(), reverse=reverse)
            asked = [(n, entry) for n, entry in entries if (not after or n < after if reverse else n > after)]
            found = JournalPage(stored.lease.seq, asked[:rows])
        await self._travel()
        return found

    async def find(
        self, shards: Sequence[int], *, tenant: str, index: str, value: str, after: Place | None, rows: int
    ) -> Sequence[Sequence[IndexRow]]:
        """See `ListingStore.find`."""
        await self._travel()
        members = self._index_rows(shards, tenant, index, value)
        found = [[IndexRow.at(place) for place in page(row, after, rows)] for row in members]
        await self._travel()
        return found

    async def count(self, shards: Sequence[int], *, tenant: str, index: str, value: str) -> int:
        """See `ListingStore.count`."""
        await self._travel()
        total = sum(map(len, self._index_rows(shards, tenant, index, value)))
        await self._travel()
        return total

    async def objects(
        self, shards: Sequence[int], *, kind: str, tenant: str, prefix: str, after: bytes, rows: int
    ) -> Sequence[Sequence[bytes]]:
        """See `ListingStore.objects`."""
        await self._travel()
        start = family(kind, tenant)
        found = [
            [
                key
                for key in sorted(self._shard(number).index)
                if key > after and key.startswith(start) and key[len(start) + 2 :].startswith(prefix.encode())
            ][:rows]
            for number in shards
        ]
        await self._travel()
        return found

    async def outbox(self, shards: Sequence[tuple[int, int]], *, rows: int) -> Sequence[Sequence[OutboxRow]]:
        """See `ListingStore.outbox`."""
        await self._travel()
        found = [self._shard(number).outbox(after, rows) for number, after in shards]
        await self._travel()
        return found

    async def dead_alarms(self, shards: Sequence[int], *, after: Place | None, rows: int) -> Sequence[Sequence[Place]]:
        """See `ListingStore.dead_alarms`."""
        await self._travel()
        found = [page(self._shard(number).dead_alarms, after, rows) for number in shards]
        await self._travel()
        return found

    async def armed_alarms(self, shards: Sequence[int], *, after: Place | None, rows: int) -> Sequence[Sequence[Place]]:
        """See `ListingStore.armed_alarms`."""
        await self._travel()
        found = [page(self._shard(number).alarms, after, rows) for number in shards]
        await self._travel()
        return found

    async def fields(self, places: Sequence[tuple[int, bytes, bytes]]) -> Sequence[bytes | None]:
        """See `ListingStore.fields`."""
        await self._travel()
        found = [self._shard(number).objects.get(object_id, {}).get(field) for number, object_id, field in places]
        await self._travel()
        return found

    async def due_alarms(self, shards: Sequence[tuple[int, int]], *, until_ms: int, rows: int) -> Due:
        """See `Store.due_alarms`."""
        await self._travel()
        found = [due_rows(self._shard(number).alarms, until_ms, rows, from_ms=from_ms) for number, from_ms in shards]
        due = Due(self._clock.now_ms(), found)
        await self._travel()
        return due

    async def expired(self, shards: Sequence[tuple[int, int]], *, rows: int) -> Due:
        """See `Store.expired`."""
        await self._travel()
        now_ms = self._clock.now_ms()
        found = [due_rows(self._shard(number).expiries, now_ms, rows, passed=passed) for number, passed in shards]
        due = Due(now_ms, found)
        await self._travel()
        return due

    async def document_put(self, prefix: str, field: bytes, body: bytes | None, *, expected: int) -> tuple[bool, int]:
        """See `DocumentStore.document_put`."""
        await self._travel()
        if self.full and body is not None:
            raise StoreFullError("The store is full")
        answer = _put_document(self._documents(prefix), field, body, expected, self._clock.now_ms())
        await self._travel()
        return answer

    async def documents_since(self, prefix: str, revision: int) -> DocumentChanges:
        """See `DocumentStore.documents_since`."""
        await self._travel()
        kept = self._documents(prefix)
        since = revision if revision <= kept.revision else 0
        changed = sorted((at, field) for field, at in kept.log.items() if at > since)[:_DOCUMENT_ROWS]
        more = len(changed) == _DOCUMENT_ROWS
        newest = changed[-1][0] if more else kept.revision
        changes = DocumentChanges(newest, [kept.records[field] for _, field in changed], more)
        await self._travel()
        return changes

    async def quarantine(self, shard: int, object_id: bytes, terms: Terms) -> Quarantine:
        """See `QuarantineStore.quarantine`."""
        await self._travel()
        begun = begin_term(self._shard(shard), object_id, terms, self._clock.now_ms())
        await self._travel()
        return begun

    async def quarantines(self, shards: Sequence[int]) -> Sequence[Sequence[Quarantined]]:
        """See `QuarantineStore.quarantines`."""
        await self._travel()
        now_ms = self._clock.now_ms()
        found = [
            [Quarantined(*item) for item in sorted(living_quarantines(self._shard(number), now_ms).items())]
            for number in shards
        ]
        await self._travel()
        return found

    async def lift_quarantine(self, shard: int, object_id: bytes) -> bool:
        """See `QuarantineStore.lift_quarantine`."""
        await self._travel()
        removed = living_quarantines(self._shard(shard), self._clock.now_ms()).pop(object_id, None)
        await self._travel()
        return removed is not None

    async def _travel(self) -> None:
        await asyncio.sleep(self._latency_s / 2)

    def _index_rows(self, shards: Sequence[int], tenant: str, index: str, value: str) -> list[dict[bytes, int]]:
        place = keys.index_place(tenant, index, value)
        return [self._shard(number).rows.get(place, {}) for number in shards]

    def _native(self, shard: Shard, object_id: bytes) -> dict[bytes, bytes]:
        kept = shard.natives.get(object_id)
        return {NATIVE_FIELD: kept[0]} if kept is not None and self._lives(kept) else {}

    def _lives(self, kept: tuple[bytes, int]) -> bool:
        """Whether a native state with its expiry has not expired."""
        return kept[1] == 0 or kept[1] > self._clock.now_ms()

    def _shard(self, number: int) -> Shard:
        return self._content.shards.setdefault(number, Shard())

    def _documents(self, prefix: str) -> Documents:
        return self._content.documents.setdefault(prefix, Documents())


def _loaded(shard: Shard, object_id: bytes, now_ms: int, quarantine: Quarantine | None) -> Loaded:
    fields = dict(shard.objects.get(object_id, {}))
    return Loaded(
        shard.lease.seq,
        fields,
        indexes=take_index_records(fields),
        entries=load_entries(shard, object_id, now_ms),
        outbox=sorted(shard.messages.get(object_id, {}).values()),
        quarantine=quarantine,
    )


def _put_document(kept: Documents, field: bytes, body: bytes | None, expected: int, now_ms: int) -> tuple[bool, int]:
    old = kept.records.get(field)
    seen = old.version if old is not None and old.body is not None else 0
    if expected >= 0 and expected != seen:
        return False, seen
    if body is None and seen == 0:
        return True, 0
    kept.revision += 1
    version = (old.version if old is not None else 0) + 1
    kept.records[field] = StoredDocument(field, version, now_ms, body)
    kept.log[field] = kept.revision
    return True, version if body is not None else 0


def _copied(stored: T) -> T:
    """A copy that shares what nobody can change, which most of it is."""
    copied: Any = stored
    if isinstance(stored, dict):
        copied = {key: _copied(value) for key, value in stored.items()}
    elif isinstance(stored, set):
        copied = set(stored)
    elif isinstance(stored, msgspec.Struct) and not stored.__struct_config__.frozen:
        copied = type(stored)(**{name: _copied(getattr(stored, name)) for name in stored.__struct_fields__})
    taken: T = copied
    return taken
