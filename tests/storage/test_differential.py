"""The store in memory and the real one agree, step by step and in what they hold, on random histories.

The real store's clock cannot be moved. So leases live very long or are over at once, object
expiries lie far back or far ahead, and times that depend on the clock are compared as relations:
an expiry against its `now_ms`, an epoch by its place among the epochs of its shard.
"""

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.storage.interface import (
    ClaimOrder,
    Claims,
    DocumentChanges,
    Due,
    Entry,
    Fence,
    LoadOrder,
    ObjectWrite,
    Section,
    Store,
    StoreInDoubtError,
)
from shared.storage.listings import IndexEntry, Place
from shared.storage.quarantines import Quarantine, Terms
from shared.storage.redis.store import RedisStore
from shared.testing.clock import ManualClock
from shared.testing.shard import Quarantines
from shared.testing.store import MemoryStore, Snapshot
from shared.testing.valkey import Valkey
from tests.storage.bench import LONG_MS, PREFIXES, SERVICE, ValkeyBench

SHARD_COUNT = 3
PAST_MS, FUTURE_MS = 1_000, 10**14
TIMEOUT_MS = 5_000


class FenceChoice(msgspec.Struct, frozen=True):
    """A proof of ownership: the newest claim asked for on the shard, or parts of older and made-up ones."""

    token: bytes | None
    epochs_back: int


class ClaimStep(msgspec.Struct, frozen=True):
    """The epoch that is known is counted back from the newest of the shard; past the first it is 0."""

    orders: list[tuple[int, int, bool]]
    token: bytes
    lock_id: str
    ttl_ms: int


class RenewStep(msgspec.Struct, frozen=True):
    leases: list[tuple[int, FenceChoice]]
    ttl_ms: int


class ReleaseStep(msgspec.Struct, frozen=True):
    leases: list[tuple[int, FenceChoice]]


class CommitStep(msgspec.Struct, frozen=True):
    """`seq_off` is counted from the shard's seq; sections of one shard follow each other."""

    sections: list[tuple[int, FenceChoice, int, bytes, list[ObjectWrite]]]
    ttl_ms: int


class LoadStep(msgspec.Struct, frozen=True):
    orders: list[tuple[int, FenceChoice, bytes, bool]]


class JournalStep(msgspec.Struct, frozen=True):
    shard: int
    fence: FenceChoice
    name: bytes
    after: int
    rows: int
    reverse: bool


class FindStep(msgspec.Struct, frozen=True):
    """Also counts."""

    shards: list[int]
    entry: IndexEntry
    index: str
    after: Place | None
    rows: int


class ObjectsStep(msgspec.Struct, frozen=True):
    shards: list[int]
    prefix: str
    after: bytes
    rows: int


class OutboxStep(msgspec.Struct, frozen=True):
    shards: list[tuple[int, int]]
    rows: int


class DeadStep(msgspec.Struct, frozen=True):
    shards: list[int]
    after: Place | None
    rows: int


class DueStep(msgspec.Struct, frozen=True):
    shards: list[tuple[int, int]]
    until_ms: int
    rows: int


class ExpiredStep(msgspec.Struct, frozen=True):
    shards: list[tuple[int, int]]
    rows: int


class PutStep(msgspec.Struct, frozen=True):
    prefix: str
    field: bytes
    body: bytes | None
    expected: int


class SinceStep(msgspec.Struct, frozen=True):
    prefix: str
    revision: int


class TermStep(msgspec.Struct, frozen=True):
    """Begin a term of an object's quarantine. How many a shard keeps is left to the rules: ends may be equal here."""

    shard: int
    name: bytes
    first_ms: int
    memory_ms: int


class LiftStep(msgspec.Struct, frozen=True):
    """Also lists what is left."""

    shard: int
    name: bytes


LeaseStep = ClaimStep | RenewStep | ReleaseStep
ObjectStep = CommitStep | LoadStep | JournalStep
ListingStep = FindStep | ObjectsStep | OutboxStep | DeadStep | DueStep | ExpiredStep
QuarantineStep = TermStep | LiftStep
Step = LeaseStep | ObjectStep | ListingStep | QuarantineStep | PutStep | SinceStep

shards = st.integers(0, SHARD_COUNT - 1)
some_shards = st.lists(shards, max_size=SHARD_COUNT)
A_PROCESS = b"\x00\xff16 random bytes"
passed = st.lists(st.tuples(shards, st.sampled_from([0, 0, 1, 3])), max_size=SHARD_COUNT)
tokens = st.sampled_from(
    [b"one", b"two", *(A_PROCESS + count for count in (b"\x00\x01", b"\x00\x80", b"\x7f", b"\xff\x00"))]
)
lifetimes = st.sampled_from([LONG_MS, LONG_MS, LONG_MS, 0, -1_000])
NAMES = [b"\x01k\x01t\x00\x01a", b"\x01k\x01t\x00\x02ab", b"\x01k\x01u\x00\x01\x00"]
"""Encoded addresses, for members of sorted sets have an order only where no id is the beginning of another."""
names = st.sampled_from(NAMES)
bodies = st.binary(max_size=3)
dues = st.integers(-5, 20)
spoilt = st.sampled_from([10**16, -(10**15), 2**63, -(2**64)])
"""Numbers of more characters than the store takes; those below have just as many, and are exact."""
extremes = st.sampled_from([2**53 - 1, 1 - 10**15])
rows = st.integers(0, 4)
fences = st.builds(
    FenceChoice, st.sampled_from([None] * 8 + [b"one", b"two"]), st.sampled_from([0, 0, 0, 0, 0, 0, 0, 0, 1, 9])
)
natives = st.builds(
    lambda name, state, expire_at_ms: ObjectWrite(
        object_id=name, native=state, gone=not state, expire_at_ms=expire_at_ms
    ),
    names,
    bodies,
    st.sampled_from([0, 0, PAST_MS, FUTURE_MS]),
)
writes = natives | st.builds(
    ObjectWrite,
    object_id=names,
    clear=st.booleans(),
    gone=st.sampled_from([False, False, True]),
    sweep=st.sampled_from([False, False, True]),
    indexed=st.booleans(),
    expire_at_ms=st.sampled_from([-1, -1, 0, PAST_MS, PAST_MS + 1, FUTURE_MS]),
    puts=st.dictionaries(names, bodies, max_size=3),
    deletes=st.lists(names, max_size=2),
    alarm_sets=st.dictionaries(names, dues, max_size=3),
    alarm_removes=st.lists(names, max_size=2),
    dead_adds=st.dictionaries(names, dues, max_size=2),
)
index_names = st.sampled_from(["i", "ix"])
index_entries = st.builds(
    IndexEntry,
    tenant=st.sampled_from(["t", "ti"]),
    value=st.sampled_from(["", "v"]),
    sort_ms=st.integers(-1, 2),
    summary=bodies,
)
message_ids = st.sampled_from([b"1" * 16, b"\xff\r\n\x00" * 4])
expiring = st.builds(Entry, bodies, st.sampled_from([PAST_MS, FUTURE_MS, FUTURE_MS + 1]))
parts = st.builds(
    ObjectWrite,
    object_id=names,
    clear=st.sampled_from([False, False, False, True]),
    gone=st.sampled_from([False, False, False, False, True]),
    sweep=st.sampled_from([False, False, False, True]),
    indexed=st.booleans(),
    expire_at_ms=st.sampled_from([-1, -1, -1, PAST_MS, PAST_MS + 1]),
    puts=st.dictionaries(names, bodies, max_size=1),
    journal_first=st.integers(1, 6),
    journal_appends=st.lists(bodies, max_size=3),
    journal_keep=st.sampled_from([0, 0, 2, 4, 9]),
    index_sets=st.dictionaries(index_names, index_entries, max_size=2),
    index_clears=st.lists(index_names, max_size=1),
    entries=st.dictionaries(bodies, expiring, max_size=2),
    entry_removes=st.lists(bodies, max_size=2),
    outbox_adds=st.dictionaries(message_ids, bodies, max_size=2),
    outbox_removes=st.lists(message_ids, max_size=1),
)
commit_ids = st.sampled_from([b"c%d" % n for n in range(8)])
sections = st.tuples(
    shards,
    fences,
    st.sampled_from([0, 0, 0, 0, 0, 0, 0, 0, -1, 1]),
    commit_ids,
    st.lists(writes | parts, min_size=1, max_size=3),
)
claims = st.builds(
    ClaimStep,
    st.lists(
        st.tuples(shards, st.sampled_from([0, 0, 1, 2, 9]), st.sampled_from([False, False, True])),
        min_size=1,
        max_size=SHARD_COUNT,
    ),
    tokens,
    st.sampled_from(["", "", "disk/1", "disk/2"]),
    lifetimes,
)
journals = st.builds(JournalStep, shards, fences, names, st.integers(0, 6), rows, st.booleans())
listings = st.one_of(
    st.builds(
        FindStep,
        some_shards,
        index_entries,
        index_names,
        st.none() | st.builds(Place, st.integers(-1, 2), names | st.builds(bytes.__add__, names, bodies)),
        rows,
    ),
    st.builds(ObjectsStep, some_shards, st.sampled_from(["", "a", "ab"]), st.sampled_from([b"", NAMES[0]]), rows),
    st.builds(OutboxStep, st.lists(st.tuples(shards, st.integers(0, 6)), max_size=3), rows),
    st.builds(DeadStep, some_shards, st.none() | st.builds(Place, dues, names), rows),
)
strange = st.one_of(
    st.builds(ObjectWrite, object_id=names, native=bodies, expire_at_ms=spoilt | st.just(-1)),
    st.builds(ObjectWrite, object_id=names, expire_at_ms=spoilt | extremes),
    st.builds(ObjectWrite, object_id=names, alarm_sets=st.dictionaries(names, spoilt | extremes, min_size=1)),
    st.builds(ObjectWrite, object_id=names, dead_adds=st.dictionaries(names, spoilt | extremes, min_size=1)),
    st.builds(ObjectWrite, object_id=names, sweep=st.just(True), expire_at_ms=spoilt | extremes),
    st.builds(
        ObjectWrite,
        object_id=names,
        journal_first=st.sampled_from([-1, 0, 1, 10**15]),
        journal_appends=st.lists(bodies, max_size=1),
        journal_keep=st.sampled_from([-1, 1, 10**15]),
    ),
    st.builds(
        ObjectWrite,
        object_id=names,
        index_sets=st.dictionaries(
            index_names,
            st.builds(IndexEntry, tenant=st.just("t"), value=st.just(""), sort_ms=spoilt | extremes),
            min_size=1,
        ),
    ),
    st.builds(
        ObjectWrite,
        object_id=names,
        entries=st.dictionaries(bodies, st.builds(Entry, bodies, spoilt | st.just(2**53 - 1)), min_size=1),
    ),
)
strange_commits = st.builds(
    CommitStep,
    st.lists(
        st.tuples(shards, fences, st.just(0), commit_ids, st.lists(writes | strange, min_size=1, max_size=2)),
        min_size=1,
        max_size=2,
    ),
    lifetimes,
)
commits = st.builds(CommitStep, st.lists(sections, min_size=1, max_size=3), lifetimes)
steps = st.one_of(
    claims,
    commits,
    commits,
    commits,
    strange_commits,
    st.builds(RenewStep, st.lists(st.tuples(shards, fences), max_size=3), lifetimes),
    st.builds(ReleaseStep, st.lists(st.tuples(shards, fences), max_size=2)),
    st.builds(LoadStep, st.lists(st.tuples(shards, fences, names, st.booleans()), max_size=3)),
    journals,
    listings,
    listings,
    st.builds(TermStep, shards, names, st.sampled_from([LONG_MS, -1]), st.sampled_from([LONG_MS, LONG_MS, 0])),
    st.builds(LiftStep, shards, names),
    st.builds(DueStep, st.lists(st.tuples(shards, dues), max_size=3), dues, rows),
    st.builds(ExpiredStep, passed, rows),
    st.builds(PutStep, st.sampled_from(PREFIXES), names, st.none() | bodies, st.integers(-1, 4)),
    st.builds(SinceStep, st.sampled_from(PREFIXES), st.integers(0, 8)),
)
FIRST = ClaimStep([(shard, 9, False) for shard in range(SHARD_COUNT)], b"one", "disk/1", LONG_MS)


class Player:
    """Plays steps on one store, and hides what depends on its clock."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._epochs: list[list[int]] = [[0] for _ in range(SHARD_COUNT)]  # Of each shard, oldest first.
        self._tokens = [b"nobody"] * SHARD_COUNT
        self._seqs = [0] * SHARD_COUNT
        self._long_ms = 0  # Leases that end later live long; the others are over.

    async def play(self, step: Step) -> object:
        """The answer to a step, in a form that is the same for both stores."""
        store = self._store
        match step:
            case ClaimStep():
                return await self._claim(step)
            case RenewStep():
                return list((await store.renew(self._leases(step.leases), ttl_ms=step.ttl_ms)).seqs)
            case ReleaseStep():
                await store.release(self._leases(step.leases))
                return None
            case CommitStep():
                return await self._commit(step)
            case LoadStep() | JournalStep():
                return await self._read(step)
            case FindStep() | ObjectsStep() | OutboxStep() | DeadStep() | DueStep() | ExpiredStep():
                return await _listed(store, step)
            case TermStep() | LiftStep():
                return await self._quarantine(step)
            case PutStep():
                return await store.document_put(step.prefix, step.field, step.body, expected=step.expected)
            case SinceStep():
                return _changes(await store.documents_since(step.prefix, step.revision))

    async def _read(self, step: LoadStep | JournalStep) -> object:
        if isinstance(step, JournalStep):
            fence = self._fence(step.shard, step.fence)
            return await self._store.journal(
                step.shard, fence, step.name, after=step.after, rows=step.rows, reverse=step.reverse
            )
        orders = [
            LoadOrder(shard, self._fence(shard, fence), name, native) for shard, fence, name, native in step.orders
        ]
        found = (await self._store.load(orders)).objects
        return [msgspec.structs.replace(loaded, quarantine=self._timeless(loaded.quarantine)) for loaded in found]

    async def _quarantine(self, step: TermStep | LiftStep) -> object:
        if isinstance(step, TermStep):
            terms = Terms(first_ms=step.first_ms, longest_ms=LONG_MS, memory_ms=step.memory_ms, objects_max=99)
            return self._timeless(await self._store.quarantine(step.shard, step.name, terms))
        lifted = await self._store.lift_quarantine(step.shard, step.name)
        (rows,) = await self._store.quarantines([step.shard])
        return lifted, [(row.object_id, self._timeless(row.record)) for row in rows]

    def _timeless(self, record: Quarantine | None) -> Quarantine | None:
        """A record with its end as a relation: whether the term is in force."""
        return record and Quarantine(record.count, int(record.until_ms > self._long_ms))

    def timeless(self, content: Snapshot) -> Snapshot:
        """What a store holds, with epochs as places and without times of the clock."""
        for number, shard in content.shards.items():
            shard.lease.epoch = self._epochs[number].index(shard.lease.epoch)
            shard.lease.expires_ms = int(shard.lease.expires_ms > self._long_ms)
            kept = {
                name: Quarantine(record.count, int(record.until_ms > self._long_ms))
                for name, record in shard.quarantines.kept.items()
            }
            shard.quarantines = Quarantines(ends_ms=0, kept=kept)
        for documents in content.documents.values():
            documents.records = {
                field: msgspec.structs.replace(record, changed_ms=0) for field, record in documents.records.items()
            }
        return content

    async def _claim(self, step: ClaimStep) -> object:
        orders = [
            ClaimOrder(shard=shard, known_epoch=self._epoch(shard, back), refence=refence)
            for shard, back, refence in step.orders
        ]
        answer = await self._store.claim(
            orders, token=step.token, node="node", lock_id=step.lock_id, ttl_ms=step.ttl_ms
        )
        self._long_ms = self._long_ms or answer.now_ms + LONG_MS // 2
        for order, lease in zip(orders, answer.leases, strict=True):
            if lease.granted:
                assert lease.epoch > self._epochs[order.shard][-1]
                assert lease.expires_ms == answer.now_ms + step.ttl_ms
                self._epochs[order.shard].append(lease.epoch)
                self._tokens[order.shard] = step.token
        return self._timeless_claims(orders, answer)

    def _timeless_claims(self, orders: list[ClaimOrder], answer: Claims) -> object:
        return [
            msgspec.structs.replace(
                lease,
                epoch=self._epochs[order.shard].index(lease.epoch),
                expires_ms=int(lease.expires_ms > answer.now_ms),
            )
            for order, lease in zip(orders, answer.leases, strict=True)
        ]

    async def _commit(self, step: CommitStep) -> object:
        ahead = list(self._seqs)
        flight = []
        for shard, choice, seq_off, commit_id, objects in step.sections:
            fence = self._fence(shard, choice)
            flight.append(
                Section(shard=shard, fence=fence, seq=ahead[shard] + seq_off, commit_id=commit_id, writes=objects)
            )
            ahead[shard] += 1
        try:
            answer = await self._store.commit(flight, ttl_ms=step.ttl_ms, timeout_ms=TIMEOUT_MS)
        except StoreInDoubtError:
            return "refused"
        for section, reply in zip(flight, answer.replies, strict=True):
            self._seqs[section.shard] = reply.seq
        return list(answer.replies)

    def _leases(self, choices: list[tuple[int, FenceChoice]]) -> list[tuple[int, Fence]]:
        return [(shard, self._fence(shard, choice)) for shard, choice in choices]

    def _epoch(self, shard: int, back: int) -> int:
        epochs = self._epochs[shard]
        return epochs[-1 - back] if back < len(epochs) else 0

    def _fence(self, shard: int, choice: FenceChoice) -> Fence:
        epoch = self._epoch(shard, choice.epochs_back)
        return Fence(epoch, self._tokens[shard] if choice.token is None else choice.token)


@pytest.mark.timeout(300)  # Seconds to pass; what takes longer is making a failing history short.
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(history=st.lists(steps, min_size=10, max_size=40))
def test_memory_and_valkey_agree(history: list[Step], server: Valkey) -> None:
    """Every answer is the same, and so is everything that is stored in the end."""
    asyncio.run(_compare([FIRST, *history], server.url))


async def _compare(history: list[Step], url: str) -> None:
    real_store, memory_store = RedisStore(url, service=SERVICE), MemoryStore(ManualClock())
    real, memory = Player(real_store), Player(memory_store)
    try:
        await real_store.command("FLUSHALL")
        for step in history:
            expected: Any = await real.play(step)
            assert expected == await memory.play(step), step
        stored = await ValkeyBench(real_store).dump()
        assert real.timeless(stored) == memory.timeless(memory_store.snapshot())
    finally:
        await real_store.close()


async def _listed(store: Store, step: ListingStep) -> object:
    match step:
        case FindStep():
            asked = {"tenant": step.entry.tenant, "index": step.index, "value": step.entry.value}
            found = await store.find(step.shards, **asked, after=step.after, rows=step.rows)
            return found, await store.count(step.shards, **asked)
        case ObjectsStep():
            return await store.objects(
                step.shards, kind="k", tenant="t", prefix=step.prefix, after=step.after, rows=step.rows
            )
        case OutboxStep():
            return await store.outbox(step.shards, rows=step.rows)
        case DeadStep():
            dead = await store.dead_alarms(step.shards, after=step.after, rows=step.rows)
            return dead, await store.armed_alarms(step.shards, after=step.after, rows=step.rows)
        case DueStep():
            return _rows(await store.due_alarms(step.shards, until_ms=step.until_ms, rows=step.rows))
        case ExpiredStep():
            return _rows(await store.expired(step.shards, rows=step.rows))


def _rows(due: Due) -> object:
    return [list(found) for found in due.rows]


def _changes(changes: DocumentChanges) -> object:
    documents = [msgspec.structs.replace(document, changed_ms=0) for document in changes.documents]
    return changes.revision, changes.more, documents
