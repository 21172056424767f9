"""A store to test and a way to see everything in it, for the real store and for the one in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, Protocol

from shared.storage import keys
from shared.storage.interface import Entry, Fence, ObjectWrite, Section, Store, StoredDocument
from shared.storage.listings import OutboxMessage
from shared.storage.quarantines import Quarantine
from shared.storage.redis.store import RedisStore
from shared.testing.clock import ManualClock, run_virtual
from shared.testing.shard import Entries, Journal, Lease, Quarantines, Shard
from shared.testing.store import Documents, MemoryStore, Snapshot

SERVICE = "rl"
SHARDS = range(4)
PREFIXES = ("rl", keys.SHARED)
LONG_MS = 10**9
"""A time to live that does not end during a test (11 days)."""


class Bench(Protocol):
    """What a rule is tried on."""

    @property
    def store(self) -> Store:
        """The store under test."""
        ...

    async def dump(self) -> Snapshot:
        """Everything that is stored. Asserts that nothing is stored elsewhere."""
        ...

    async def set_full(self, full: bool) -> None:
        """Take the store's memory away, or give it back."""
        ...


Rule = Callable[[Bench], Coroutine[Any, Any, None]]


class MemoryBench:
    """The store in memory, empty."""

    def __init__(self) -> None:
        self.store = MemoryStore(ManualClock())

    async def dump(self) -> Snapshot:
        """See `Bench.dump`."""
        return self.store.snapshot()

    async def set_full(self, full: bool) -> None:
        """See `Bench.set_full`."""
        self.store.full = full


class ValkeyBench:
    """A real server, read key by key."""

    def __init__(self, store: RedisStore) -> None:
        self.store = store

    async def dump(self) -> Snapshot:
        """See `Bench.dump`."""
        names = set(await self.store.command("KEYS", "*"))
        shards = {number: await self._shard(number, names) for number in SHARDS}
        documents = {prefix: await self._documents(prefix, names) for prefix in PREFIXES}
        assert names == set(), "keys that no rule knows"
        return Snapshot(
            {number: shard for number, shard in shards.items() if shard != Shard()},
            {prefix: kept for prefix, kept in documents.items() if kept != Documents()},
        )

    async def set_full(self, full: bool) -> None:
        """See `Bench.set_full`. A byte is less than any server uses, 0 is no bound."""
        await self.store.command("CONFIG", "SET", "maxmemory", "1" if full else "0")

    async def _shard(self, number: int, names: set[bytes]) -> Shard:
        lease = await self._hash(keys.lease(SERVICE, number), names)
        stem = keys.state(SERVICE, number, b"")
        return Shard(
            lease=_lease(lease) if lease else Lease(),
            objects={
                name.removeprefix(stem): await self._hash(name, names)
                for name in sorted(names)
                if name.startswith(stem)
            },
            natives=await self._natives(keys.native(SERVICE, number, b""), names),
            alarms=await self._scores(keys.alarms(SERVICE, number), names),
            dead_alarms=await self._scores(keys.dead_alarms(SERVICE, number), names),
            index=set(await self._scores(keys.index(SERVICE, number), names)),
            expiries=await self._scores(keys.expiries(SERVICE, number), names),
            journals={
                object_id: await self._journal(name, names)
                for object_id, name in _under(keys.journal(SERVICE, number, b""), names)
            },
            entries={
                object_id: await self._entries(name, names)
                for object_id, name in _under(keys.entries(SERVICE, number, b""), names)
            },
            messages=await self._messages(number, names),
            rows={
                place: await self._scores(name, names)
                for place, name in _under(keys.index_rows(SERVICE, number, b""), names)
            },
            quarantines=await self._quarantines(keys.quarantine(SERVICE, number), names),
        )

    async def _quarantines(self, name: bytes, names: set[bytes]) -> Quarantines:
        ends_ms = await self.store.command("PEXPIRETIME", name)
        records = await self._hash(name, names)
        return Quarantines(
            ends_ms=max(0, ends_ms),
            kept={object_id: Quarantine.stored(record) for object_id, record in records.items()},
        )

    async def _journal(self, name: bytes, names: set[bytes]) -> Journal:
        names.discard(name)
        info = await self.store.command("XINFO", "STREAM", name)
        last = dict(zip(info[::2], info[1::2], strict=True))[b"last-generated-id"]
        entries = await self.store.command("XRANGE", name, "-", "+")
        return Journal(last=_number(last), entries={_number(at): fields[1] for at, fields in entries})

    async def _entries(self, name: bytes, names: set[bytes]) -> Entries:
        ends_ms = await self.store.command("PEXPIRETIME", name)
        kept = {}
        for field, record in (await self._hash(name, names)).items():
            expiry_ms, _, value = record.partition(b":")
            kept[field] = Entry(value, int(expiry_ms))
        return Entries(ends_ms=ends_ms, kept=kept)

    async def _messages(self, number: int, names: set[bytes]) -> dict[bytes, dict[bytes, OutboxMessage]]:
        found = {}
        for object_id, name in _under(keys.messages(SERVICE, number, b""), names):
            records = await self._hash(name, names)
            found[object_id] = {each: OutboxMessage.stored(each, record) for each, record in records.items()}
        outbox = await self._scores(keys.outbox(SERVICE, number), names)
        expected = {
            object_id + sent.message_id: sent.number for object_id, kept in found.items() for sent in kept.values()
        }
        assert expected == outbox, "outbox and messages disagree"
        return found

    async def _documents(self, prefix: str, names: set[bytes]) -> Documents:
        hash_key, log_key, revision_key = keys.documents(prefix)
        names.discard(revision_key)
        records = await self._hash(hash_key, names)
        return Documents(
            revision=int(await self.store.command("GET", revision_key) or 0),
            records={field: _document(field, record) for field, record in records.items()},
            log=await self._scores(log_key, names),
        )

    async def _hash(self, name: bytes, names: set[bytes]) -> dict[bytes, bytes]:
        names.discard(name)
        return _pairs(await self.store.command("HGETALL", name))

    async def _natives(self, stem: bytes, names: set[bytes]) -> dict[bytes, tuple[bytes, int]]:
        found = {}
        for name in [name for name in sorted(names) if name.startswith(stem)]:
            names.discard(name)
            expiry_ms = int(await self.store.command("PEXPIRETIME", name))
            found[name.removeprefix(stem)] = await self.store.command("GET", name), max(0, expiry_ms)
        return found

    async def _scores(self, name: bytes, names: set[bytes]) -> dict[bytes, int]:
        names.discard(name)
        flat = await self.store.command("ZRANGE", name, 0, -1, "WITHSCORES")
        return {member: int(score) for member, score in _pairs(flat).items()}


@asynccontextmanager
async def without_room(bench: Bench) -> AsyncIterator[None]:
    """The store is full until the block ends."""
    await bench.set_full(True)
    try:
        yield
    finally:
        await bench.set_full(False)


def on_memory(rule: Rule) -> None:
    """Try a rule on the store in memory."""
    run_virtual(lambda: rule(MemoryBench()))


def on_valkey(rule: Rule, url: str, prepare: Callable[[RedisStore], None] = lambda store: None) -> None:
    """Try a rule on an emptied real store; `prepare` may change the store's scripts first."""

    async def run() -> None:
        store = RedisStore(url, service=SERVICE)
        prepare(store)
        try:
            await store.command("FLUSHALL")
            await rule(ValkeyBench(store))
        finally:
            await store.close()

    asyncio.run(run())


def write(object_id: bytes = b"object", **puts: bytes) -> ObjectWrite:
    """A write that sets some fields of an object."""
    return ObjectWrite(object_id=object_id, puts={name.encode(): value for name, value in puts.items()})


def native(state: bytes, *, expire_at_ms: int = 0, object_id: bytes = b"object") -> ObjectWrite:
    """A write that replaces the native state of an object; empty: removes it."""
    return ObjectWrite(object_id=object_id, native=state, gone=not state, expire_at_ms=expire_at_ms)


def section(fence: Fence, seq: int, commit_id: bytes, writes: Iterable[ObjectWrite] = (), *, shard: int = 0) -> Section:
    """One commit to one shard."""
    return Section(shard=shard, fence=fence, seq=seq, commit_id=commit_id, writes=list(writes))


def _under(stem: bytes, names: set[bytes]) -> list[tuple[bytes, bytes]]:
    """What follows `stem` in the names that begin with it, and the names."""
    return [(name.removeprefix(stem), name) for name in sorted(names) if name.startswith(stem)]


def _number(stream_id: bytes) -> int:
    number, _, part = stream_id.partition(b"-")
    assert part == b"0", stream_id
    return int(number)


def _pairs(flat: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _lease(stored: dict[bytes, bytes]) -> Lease:
    assert b"token" in stored, "a lease that nobody claimed"
    return Lease(
        epoch=int(stored[b"epoch"]),
        token=stored[b"token"],
        node=stored[b"node"].decode(),
        lock=stored[b"lock"].decode(),
        expires_ms=int(stored[b"expires"]),
        active=stored[b"state"] == b"active",
        seq=int(stored[b"seq"]),
        commit_id=stored.get(b"cid"),
        previous_token=stored[b"ptoken"],
        previous_commit_id=stored[b"pcid"],
        sent=int(stored.get(b"sent", 0)),
    )


def _document(field: bytes, record: bytes) -> StoredDocument:
    assert record[0] == 1, "format"
    head, _, body = record[1:].partition(b"\n")
    version, changed_ms, live = head.split(b" ")
    assert live == b"1" or body == b"", "a deleted document keeps no body"
    return StoredDocument(field, int(version), int(changed_ms), body if live == b"1" else None)
