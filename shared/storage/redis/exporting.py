"""Reads every object and document of a store that stands still (a revived snapshot), as records of an export."""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec

from shared.storage import keys
from shared.storage.interface import Entry, take_index_records
from shared.storage.listings import OutboxMessage
from shared.storage.redis.bulk import Bulk
from shared.storage.transfer import DocumentRecord, ObjectRecord

_PIECE = 1_000
_OF_OBJECT = frozenset({b"o", b"n", b"j", b"e", b"m"})
_ALARM, _DEAD_ALARM = b"a", b"d"  # What the fields of alarms begin with, in the hash of their object.


class _Shard(msgspec.Struct):
    """Who is in a shard, and what its sorted sets say of them."""

    objects: set[bytes] = msgspec.field(default_factory=set)
    native: set[bytes] = msgspec.field(default_factory=set)
    listed: dict[bytes, int] = {}
    expiries: dict[bytes, int] = {}
    alarms: dict[bytes, int] = {}
    dead_alarms: dict[bytes, int] = {}


async def objects(store: Bulk, service: str, wanted: Callable[[bytes], bool]) -> AsyncIterator[ObjectRecord]:
    """Every object whose encoded address is `wanted`, shard by shard."""
    shards: dict[int, _Shard] = defaultdict(_Shard)
    async for found in store.keys(keys.pattern(service)):
        for key in found:
            parts = keys.parts(service, key)
            if parts is None or parts.shard is None or parts.part not in _OF_OBJECT or not wanted(parts.rest):
                continue
            shard = shards[parts.shard]
            (shard.native if parts.part == b"n" else shard.objects).add(parts.rest)
    for number, shard in sorted(shards.items()):
        shard.listed = await _scores(store, keys.index(service, number))
        shard.expiries = await _scores(store, keys.expiries(service, number))
        shard.alarms = await _scores(store, keys.alarms(service, number))
        shard.dead_alarms = await _scores(store, keys.dead_alarms(service, number))
        for object_id in sorted(shard.native):
            if (record := await _native(store, service, number, object_id)) is not None:
                yield record
        for object_id in sorted(shard.objects):
            yield await _object(store, service, number, object_id, shard)


async def documents(store: Bulk, prefix: str, wanted: Callable[[bytes], bool]) -> AsyncIterator[DocumentRecord]:
    """Every document that is there, and whose field is `wanted`."""
    stored = keys.documents(prefix)[0]
    for field in sorted(await store.one(b"HKEYS", stored)):
        head, _, body = (await store.one(b"HGET", stored, field)).partition(b"\n")
        if head.endswith(b" 1") and wanted(field):  # Others are deleted, and only remembered.
            yield DocumentRecord(prefix=prefix, field=field, body=body)


async def counted(store: Bulk, services: Sequence[str]) -> tuple[int, int]:
    """How many objects there are, and how many documents."""
    owned: set[tuple[str, bytes]] = set()
    documents = 0
    for service in (*services, keys.SHARED):
        async for found in store.keys(keys.pattern(service)):
            parts = [keys.parts(service, key) for key in found]
            owned.update((service, one.rest) for one in parts if one is not None and one.part in _OF_OBJECT)
        records = await store.one(b"HVALS", keys.documents(service)[0])
        documents += sum(record.partition(b"\n")[0].endswith(b" 1") for record in records)
    return len(owned), documents


async def _native(store: Bulk, service: str, shard: int, object_id: bytes) -> ObjectRecord | None:
    key = keys.native(service, shard, object_id)
    native, expire_at_ms = await store.all([(b"GET", key), (b"PEXPIRETIME", key)])
    if native is None:
        return None  # It has expired since.
    return ObjectRecord(service=service, object_id=object_id, native=native, expire_at_ms=max(0, expire_at_ms))


async def _object(store: Bulk, service: str, number: int, object_id: bytes, shard: _Shard) -> ObjectRecord:
    names = [key(service, number, object_id) for key in (keys.state, keys.entries, keys.messages)]
    state, entries, messages = map(_pairs, await store.all([(b"HGETALL", name) for name in names]))
    indexes = take_index_records(state)
    journal, last = await _journal(store, keys.journal(service, number, object_id))
    sent = sorted(OutboxMessage.stored(message_id, message) for message_id, message in messages.items())
    return ObjectRecord(
        service=service,
        object_id=object_id,
        fields=state,
        indexed=object_id in shard.listed,
        expire_at_ms=shard.expiries.get(object_id, 0),
        alarms=_moments(object_id, state, _ALARM, shard.alarms),
        dead_alarms=_moments(object_id, state, _DEAD_ALARM, shard.dead_alarms),
        indexes=indexes,
        entries={field: _entry(entry) for field, entry in entries.items()},
        messages=[(message.message_id, message.message) for message in sent],
        journal=journal,
        journal_last=last,
    )


async def _journal(store: Bulk, key: bytes) -> tuple[list[tuple[int, bytes]], int]:
    """The entries of a journal with their numbers, and the newest number there ever was."""
    if not await store.one(b"EXISTS", key):
        return [], 0
    found: list[tuple[int, bytes]] = []
    start = b"-"
    while page := await store.one(b"XRANGE", key, start, b"+", b"COUNT", _PIECE):
        found += [(int(number.partition(b"-")[0]), fields[1]) for number, fields in page]
        start = b"(" + page[-1][0]
    about = _pairs(await store.one(b"XINFO", b"STREAM", key))
    return found, int(about[b"last-generated-id"].partition(b"-")[0])


def _moments(object_id: bytes, fields: dict[bytes, bytes], mark: bytes, scores: dict[bytes, int]) -> dict[bytes, int]:
    names = [field[1:] for field in fields if field[:1] == mark]
    return {name: scores[object_id + name] for name in names if object_id + name in scores}


async def _scores(store: Bulk, key: bytes) -> dict[bytes, int]:
    found: dict[bytes, int] = {}
    start = 0
    while flat := await store.one(b"ZRANGE", key, start, start + _PIECE - 1, b"WITHSCORES"):
        found.update(zip(flat[::2], map(int, flat[1::2]), strict=True))
        start += _PIECE
    return found


def _pairs(flat: Sequence[Any]) -> dict[Any, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _entry(record: bytes) -> Entry:
    expire_at_ms, _, value = record.partition(b":")
    return Entry(value, int(expire_at_ms))
