"""The store in memory: the same answers as the Lua scripts, on a clock that a test moves.

A differential test (`tests/storage/test_differential.py`) holds it to the scripts, oddities
included, so a node that runs on it shows what it would do on the real store. `snapshot` and
`restore` make the store go back in time, as a restored backup or a promoted replica does.
"""

import asyncio
import copy
from collections.abc import Mapping, Sequence

import msgspec

from shared.clock import Clock
from shared.storage.interface import (
    NATIVE_FIELD,
    Claimed,
    ClaimOrder,
    Claims,
    Committed,
    DocumentChanges,
    Due,
    Fence,
    Loaded,
    LoadOrder,
    Loads,
    ObjectWrite,
    Renewals,
    Section,
    SectionReply,
    Status,
    StoredDocument,
    StoreFullError,
)

_DOCUMENT_ROWS = 1_000


class Lease(msgspec.Struct, kw_only=True):
    """The lease of a shard as stored. `commit_id` is None until the first commit."""

    epoch: int = 0
    token: bytes = b""
    node: str = ""
    lock: str = ""
    expires_ms: int = 0
    active: bool = False
    seq: int = 0
    commit_id: bytes | None = None
    previous_token: bytes = b""
    previous_commit_id: bytes = b""

    def held_by(self, fence: Fence) -> bool:
        """Whether this is the owner, be its lease expired or released, until somebody else claims."""
        return self.epoch == fence.epoch > 0 and self.token == fence.token


class Shard(msgspec.Struct, kw_only=True):
    """All that is stored for one shard; a field for each of its keys."""

    lease: Lease = msgspec.field(default_factory=Lease)
    objects: dict[bytes, dict[bytes, bytes]] = msgspec.field(default_factory=dict)
    natives: dict[bytes, tuple[bytes, int]] = msgspec.field(default_factory=dict)
    alarms: dict[bytes, int] = msgspec.field(default_factory=dict)
    dead_alarms: dict[bytes, int] = msgspec.field(default_factory=dict)
    index: set[bytes] = msgspec.field(default_factory=set)
    expiries: dict[bytes, int] = msgspec.field(default_factory=dict)


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
        content = copy.deepcopy(self._content)
        for shard in content.shards.values():
            shard.natives = {key: kept for key, kept in shard.natives.items() if self._lives(kept)}
        content.shards = {number: shard for number, shard in content.shards.items() if shard != Shard()}
        content.documents = {prefix: kept for prefix, kept in content.documents.items() if kept != Documents()}
        return content

    def restore(self, content: Snapshot) -> None:
        """Go back to what was stored when `content` was taken."""
        self._content = copy.deepcopy(content)

    async def claim(
        self, orders: Sequence[ClaimOrder], *, token: bytes, node: str, lock_id: str, ttl_ms: int
    ) -> Claims:
        """See `Store.claim`."""
        await self._travel()
        now_ms = self._clock.now_ms()
        leases = []
        for order in orders:
            lease = self._shard(order.shard).lease
            granted = _may_claim(lease, order, token, lock_id, now_ms)
            if granted:
                lease.previous_token, lease.previous_commit_id = lease.token, lease.commit_id or b""
                lease.epoch = max(lease.epoch + 1, now_ms)
                lease.token, lease.node, lease.lock = token, node, lock_id
                lease.expires_ms, lease.active = now_ms + ttl_ms, True
            leases.append(_claimed(lease, granted=granted))
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
        replies = [
            _apply_section(self._shard(section.shard), section, now_ms + ttl_ms, full=self.full) for section in sections
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
            elif order.native:
                objects.append(Loaded(shard.lease.seq, self._native(shard, order.object_id)))
            else:
                objects.append(Loaded(shard.lease.seq, dict(shard.objects.get(order.object_id, {}))))
        await self._travel()
        return Loads(now_ms, objects)

    async def due_alarms(self, shards: Sequence[int], *, until_ms: int, rows: int) -> Due:
        """See `Store.due_alarms`."""
        await self._travel()
        due = Due(self._clock.now_ms(), [_due(self._shard(number).alarms, until_ms, rows) for number in shards])
        await self._travel()
        return due

    async def expired(self, shards: Sequence[int], *, rows: int) -> Due:
        """See `Store.expired`."""
        await self._travel()
        now_ms = self._clock.now_ms()
        due = Due(now_ms, [_due(self._shard(number).expiries, now_ms, rows) for number in shards])
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

    async def _travel(self) -> None:
        await asyncio.sleep(self._latency_s / 2)

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


def _may_claim(lease: Lease, order: ClaimOrder, token: bytes, lock_id: str, now_ms: int) -> bool:
    if order.held_token:
        return lease.token == order.held_token
    same_lock = lock_id != "" and lease.lock == lock_id
    return not lease.active or lease.expires_ms <= now_ms or lease.token == token or same_lock


def _claimed(lease: Lease, *, granted: bool) -> Claimed:
    return Claimed(
        granted=granted,
        epoch=lease.epoch,
        seq=lease.seq,
        expires_ms=lease.expires_ms,
        node=lease.node,
        previous_token=lease.previous_token,
        previous_commit_id=lease.previous_commit_id,
    )


def _apply_section(shard: Shard, section: Section, expires_ms: int, *, full: bool) -> SectionReply:
    lease = shard.lease
    status = Status.OK
    if not lease.held_by(section.fence):
        status = Status.FENCED
    elif lease.commit_id == section.commit_id:
        lease.expires_ms = expires_ms
    elif lease.seq != section.seq:
        status = Status.CONFLICT
    elif full and any(write.needs_room for write in section.writes):
        status = Status.FULL
    else:
        for write in section.writes:
            (_apply_write if write.native is None else _apply_native)(shard, write)
        lease.seq += 1
        lease.commit_id, lease.expires_ms = section.commit_id, expires_ms
    return SectionReply(
        status=status,
        seq=lease.seq,
        previous_token=lease.previous_token,
        previous_commit_id=lease.previous_commit_id,
    )


def _apply_write(shard: Shard, write: ObjectWrite) -> None:
    key, gone, expire_at_ms = write.object_id, write.gone, write.expire_at_ms
    if write.sweep:
        stored_ms = shard.expiries.get(key)
        gone = stored_ms is not None and stored_ms <= expire_at_ms
        expire_at_ms = -1
    fields = {} if write.clear or gone else shard.objects.get(key, {})
    fields.update(write.puts)
    for name in write.deletes:
        fields.pop(name, None)
    if fields:
        shard.objects[key] = fields
    else:
        shard.objects.pop(key, None)
    shard.alarms.update(write.alarm_sets)
    for name in write.alarm_removes:
        shard.alarms.pop(name, None)
        shard.dead_alarms.pop(name, None)
    shard.dead_alarms.update(write.dead_adds)
    if gone:
        shard.index.discard(key)
        shard.expiries.pop(key, None)
    elif expire_at_ms > 0:
        shard.expiries[key] = expire_at_ms
    elif expire_at_ms == 0:
        shard.expiries.pop(key, None)
    if write.indexed and not gone:
        shard.index.add(key)


def _apply_native(shard: Shard, write: ObjectWrite) -> None:
    assert write.native is not None
    if write.gone:
        shard.natives.pop(write.object_id, None)
    else:
        shard.natives[write.object_id] = write.native, write.expire_at_ms


def _due(entries: Mapping[bytes, int], until_ms: int, rows: int) -> list[tuple[bytes, int]]:
    due = sorted((at_ms, member) for member, at_ms in entries.items() if at_ms <= until_ms)
    return [(member, at_ms) for at_ms, member in due[:rows]]


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
