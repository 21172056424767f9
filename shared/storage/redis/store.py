"""The store on one Redis-protocol primary (Valkey or Redis, 7.0 and later).

One script an operation, named as its method; every write proves in the same atomic step that the
writer still owns the shard. Nothing is read from a replica.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby
from typing import Any

from shared.storage import keys
from shared.storage.interface import (
    Claimed,
    ClaimOrder,
    Claims,
    Committed,
    DocumentChanges,
    Due,
    Entry,
    Fence,
    JournalPage,
    Loaded,
    LoadOrder,
    Loads,
    Renewals,
    Section,
    SectionReply,
    Status,
    StoredDocument,
    StoreFullError,
    take_index_records,
)
from shared.storage.listings import OutboxMessage
from shared.storage.quarantines import Quarantine, Quarantined, Terms
from shared.storage.redis.client import Script, Wire
from shared.storage.redis.listings import RedisListings
from shared.storage.redis.sections import add_section

_CALL_TIMEOUT_MS = 2_000
_DOCUMENT_ROWS = 1_000
_JOURNAL_NUMBER_MAX = 10**15


class RedisStore(RedisListings):
    """Implements `Store`. Four connections: control, commits, loads, listings."""

    def __init__(self, url: str, *, service: str) -> None:
        super().__init__(Wire(url), service=service)
        self._control, self._commits, self._loads = Wire(url), Wire(url), Wire(url)
        self._claim, self._renew, self._release = Script("claim"), Script("renew"), Script("release")
        self._commit, self._load, self._due = Script("commit"), Script("load"), Script("due")
        self._journal = Script("journal")
        self._quarantine, self._quarantines = Script("quarantine"), Script("quarantines")
        self._document_put, self._documents_since = Script("document_put"), Script("documents_since")
        self._commit_when_full = Script("commit", allow_oom=True)
        self._document_delete = Script("document_put", allow_oom=True)

    async def close(self) -> None:
        """Close the connections."""
        for wire in (self._control, self._commits, self._loads, self._listings):
            await wire.close()

    async def command(self, *args: Any) -> Any:
        """One plain command on the control connection, for inspection at start."""
        return await self._control.command(*args, timeout_ms=_CALL_TIMEOUT_MS)

    async def claim(
        self, orders: Sequence[ClaimOrder], *, token: bytes, node: str, lock_id: str, ttl_ms: int
    ) -> Claims:
        """See `Store.claim`."""
        reply = await self._control.run(
            self._claim,
            self._leases(order.shard for order in orders),
            [token, node, lock_id, ttl_ms, *_orders(orders)],
            timeout_ms=_CALL_TIMEOUT_MS,
        )
        leases = [
            Claimed(
                granted=granted == 1,
                epoch=int(epoch),
                seq=int(seq),
                expires_ms=int(expires),
                node=owner.decode(),
                previous_token=ptoken,
                previous_commit_id=pcid,
            )
            for granted, epoch, seq, expires, owner, ptoken, pcid in _groups(reply, 1, 7)
        ]
        return Claims(int(reply[0]), leases)

    async def renew(self, leases: Sequence[tuple[int, Fence]], *, ttl_ms: int) -> Renewals:
        """See `Store.renew`."""
        reply = await self._control.run(
            self._renew,
            self._leases(shard for shard, _ in leases),
            [ttl_ms, *_runs(leases)],
            timeout_ms=_CALL_TIMEOUT_MS,
        )
        return Renewals(int(reply[0]), [int(seq) for seq in reply[1:]])

    async def release(self, leases: Sequence[tuple[int, Fence]]) -> None:
        """See `Store.release`."""
        await self._control.run(
            self._release,
            self._leases(shard for shard, _ in leases),
            list(_fences(leases)),
            timeout_ms=_CALL_TIMEOUT_MS,
        )

    async def commit(self, sections: Sequence[Section], *, ttl_ms: int, timeout_ms: int) -> Committed:
        """See `Store.commit`."""
        names: list[bytes] = []
        args: list[Any] = [ttl_ms, 0, len(sections)]
        for section in sections:
            add_section(section, self._service, names, args)
        try:
            reply = await self._commits.run(self._commit, names, args, timeout_ms=timeout_ms)
        except StoreFullError:
            args[1] = 1
            reply = await self._commits.run(self._commit_when_full, names, args, timeout_ms=timeout_ms)
        replies = [
            SectionReply(status=Status(status), seq=int(seq), previous_token=ptoken, previous_commit_id=pcid)
            for status, seq, ptoken, pcid in _groups(reply, 1, 4)
        ]
        return Committed(int(reply[0]), replies)

    async def load(self, orders: Sequence[LoadOrder]) -> Loads:
        """See `Store.load`."""
        names: list[bytes] = []
        args: list[Any] = []
        for order in orders:
            names += (keys.lease(self._service, order.shard), keys.quarantine(self._service, order.shard))
            parts = (keys.native,) if order.native else (keys.state, keys.entries, keys.messages)
            names += (key(self._service, order.shard, order.object_id) for key in parts)
            args += (order.fence.epoch, order.fence.token, int(order.native), order.object_id)
        reply = await self._loads.run(self._load, names, args, timeout_ms=_CALL_TIMEOUT_MS)
        cells = iter(reply)
        now_ms = int(next(cells))
        return Loads(now_ms, [_loaded(order, cells) for order in orders])

    async def journal(
        self, shard: int, fence: Fence, object_id: bytes, *, after: int, rows: int, reverse: bool = False
    ) -> JournalPage:
        """See `Store.journal`."""
        low, high = (0, (after or _JOURNAL_NUMBER_MAX) - 1) if reverse else (after + 1, _JOURNAL_NUMBER_MAX)
        seq, *flat = await self._listings.run(
            self._journal,
            [keys.lease(self._service, shard), keys.journal(self._service, shard, object_id)],
            [fence.epoch, fence.token, low, high, rows, int(reverse)],
            timeout_ms=_CALL_TIMEOUT_MS,
        )
        return JournalPage(int(seq), [(int(number), entry) for number, entry in _groups(flat, 0, 2)])

    async def due_alarms(self, shards: Sequence[tuple[int, int]], *, until_ms: int, rows: int) -> Due:
        """See `Store.due_alarms`."""
        names = [keys.alarms(self._service, shard) for shard, _ in shards]
        places = chain.from_iterable((from_ms, 0) for _, from_ms in shards)
        return await self._due_rows(names, [until_ms, rows, *places])

    async def expired(self, shards: Sequence[tuple[int, int]], *, rows: int) -> Due:
        """See `Store.expired`."""
        names = [keys.expiries(self._service, shard) for shard, _ in shards]
        places = chain.from_iterable(("-inf", passed) for _, passed in shards)
        return await self._due_rows(names, ["", rows, *places])

    async def document_put(self, prefix: str, field: bytes, body: bytes | None, *, expected: int) -> tuple[bool, int]:
        """See `DocumentStore.document_put`."""
        live = 0 if body is None else 1
        written, version = await self._control.run(
            self._document_put if live else self._document_delete,
            keys.documents(prefix),
            [field, expected, live, body or b""],
            timeout_ms=_CALL_TIMEOUT_MS,
        )
        return written == 1, version

    async def documents_since(self, prefix: str, revision: int) -> DocumentChanges:
        """See `DocumentStore.documents_since`."""
        newest, more, *flat = await self._control.run(
            self._documents_since, keys.documents(prefix), [revision, _DOCUMENT_ROWS], timeout_ms=_CALL_TIMEOUT_MS
        )
        documents = [_document(field, record) for field, record in _groups(flat, 0, 2)]
        return DocumentChanges(newest, documents, more == 1)

    async def quarantine(self, shard: int, object_id: bytes, terms: Terms) -> Quarantine:
        """See `QuarantineStore.quarantine`."""
        args = [object_id, terms.first_ms, terms.longest_ms, terms.memory_ms, terms.objects_max]
        name = keys.quarantine(self._service, shard)
        count, until_ms = await self._control.run(self._quarantine, [name], args, timeout_ms=_CALL_TIMEOUT_MS)
        return Quarantine(int(count), int(until_ms))

    async def quarantines(self, shards: Sequence[int]) -> Sequence[Sequence[Quarantined]]:
        """See `QuarantineStore.quarantines`."""
        names = [keys.quarantine(self._service, shard) for shard in shards]
        reply = await self._ask(self._quarantines, names, [])
        return [
            sorted(
                (Quarantined(object_id, Quarantine.stored(record)) for object_id, record in _groups(flat, 0, 2)),
                key=lambda row: row.object_id,
            )
            for flat in reply
        ]

    async def lift_quarantine(self, shard: int, object_id: bytes) -> bool:
        """See `QuarantineStore.lift_quarantine`."""
        removed: int = await self.command(b"HDEL", keys.quarantine(self._service, shard), object_id)
        return removed == 1

    async def _due_rows(self, names: Sequence[bytes], args: Sequence[Any]) -> Due:
        reply = await self._loads.run(self._due, names, args, timeout_ms=_CALL_TIMEOUT_MS)
        return Due(
            int(reply[0]), [[(member, int(score)) for member, score in _groups(flat, 0, 2)] for flat in reply[1:]]
        )

    def _leases(self, shards: Iterable[int]) -> list[bytes]:
        return [keys.lease(self._service, shard) for shard in shards]


def _orders(orders: Iterable[ClaimOrder]) -> Iterator[Any]:
    for order in orders:
        yield order.known_epoch
        yield int(order.refence)


def _runs(leases: Iterable[tuple[int, Fence]]) -> Iterator[Any]:
    """How many in a row have the same fence, and that: what was claimed together is most of the time all there is."""
    for fence, run in groupby(fence for _, fence in leases):
        yield sum(1 for _ in run)
        yield fence.epoch
        yield fence.token


def _fences(leases: Iterable[tuple[int, Fence]]) -> Iterator[Any]:
    for _, fence in leases:
        yield fence.epoch
        yield fence.token


def _groups(reply: Sequence[Any], start: int, width: int) -> Iterator[Sequence[Any]]:
    return (reply[i : i + width] for i in range(start, len(reply), width))


def _loaded(order: LoadOrder, cells: Iterator[Any]) -> Loaded:
    seq, record, fields = int(next(cells)), next(cells), _pairs(next(cells))
    quarantine = Quarantine.stored(record) if record else None
    if order.native:
        return Loaded(seq, fields, quarantine=quarantine)
    entries, messages = _pairs(next(cells)), _pairs(next(cells))
    return Loaded(
        seq,
        fields,
        indexes=take_index_records(fields),
        entries={field: _entry(record) for field, record in entries.items()},
        outbox=sorted(OutboxMessage.stored(message_id, record) for message_id, record in messages.items()),
        quarantine=quarantine,
    )


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _entry(record: bytes) -> Entry:
    expire_at_ms, _, value = record.partition(b":")
    return Entry(value, int(expire_at_ms))


def _document(field: bytes, record: bytes) -> StoredDocument:
    head, _, body = record.partition(b"\n")
    version, changed_ms, live = head[1:].split(b" ")
    return StoredDocument(field, int(version), int(changed_ms), body if live == b"1" else None)
