"""One shard of the store in memory: what is stored of it, and what a claim and a commit do to that.

The same rules as those of the Lua scripts, as plain functions of what is stored and the store's time.
"""

import math
import sys
from collections.abc import Mapping
from heapq import nsmallest

import msgspec

from shared.storage import keys
from shared.storage.interface import (
    INCARNATION_BYTES,
    INDEX_FIELD,
    Claimed,
    ClaimOrder,
    Entry,
    Fence,
    ObjectWrite,
    Section,
    SectionReply,
    Status,
)
from shared.storage.listings import IndexRow, OutboxMessage, OutboxRow, Place, index_record, read_index_record
from shared.storage.quarantines import Quarantine, Terms


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
    sent: int = 0
    """The number of the newest message of the shard."""

    def held_by(self, fence: Fence) -> bool:
        """Whether this is the owner, be its lease expired or released, until somebody else claims."""
        return self.epoch == fence.epoch > 0 and self.token == fence.token


class Journal(msgspec.Struct, kw_only=True):
    """The journal of an object. `last` is the newest number ever appended, be its entry dropped or not."""

    last: int = 0
    entries: dict[int, bytes] = msgspec.field(default_factory=dict)


class Entries(msgspec.Struct, kw_only=True):
    """What an object remembers. All of it is dropped at `ends_ms`, the latest expiry there ever was."""

    ends_ms: int = 0
    kept: dict[bytes, Entry] = msgspec.field(default_factory=dict)


class Quarantines(msgspec.Struct, kw_only=True):
    """The objects that blocked their owners. All of them are forgotten at `ends_ms`."""

    ends_ms: int = 0
    kept: dict[bytes, Quarantine] = msgspec.field(default_factory=dict)


class Shard(msgspec.Struct, kw_only=True):
    """All that is stored for one shard; a field for each of its keys."""

    lease: Lease = msgspec.field(default_factory=Lease)
    objects: dict[bytes, dict[bytes, bytes]] = msgspec.field(default_factory=dict)
    natives: dict[bytes, tuple[bytes, int]] = msgspec.field(default_factory=dict)
    alarms: dict[bytes, int] = msgspec.field(default_factory=dict)
    dead_alarms: dict[bytes, int] = msgspec.field(default_factory=dict)
    index: set[bytes] = msgspec.field(default_factory=set)
    expiries: dict[bytes, int] = msgspec.field(default_factory=dict)
    journals: dict[bytes, Journal] = msgspec.field(default_factory=dict)
    entries: dict[bytes, Entries] = msgspec.field(default_factory=dict)
    messages: dict[bytes, dict[bytes, OutboxMessage]] = msgspec.field(default_factory=dict)
    rows: dict[bytes, dict[bytes, int]] = msgspec.field(default_factory=dict)
    """Members of index rows with their times, by `keys.index_place`."""
    quarantines: Quarantines = msgspec.field(default_factory=Quarantines)

    def outbox(self, after: int = 0, rows: int = sys.maxsize) -> list[OutboxRow]:
        """The messages after a number, oldest first."""
        sent = [(each.number, key, each) for key, messages in self.messages.items() for each in messages.values()]
        return [OutboxRow(key, each) for _, key, each in nsmallest(rows, (row for row in sent if row[0] > after))]


def may_claim(lease: Lease, order: ClaimOrder, token: bytes, lock_id: str, now_ms: int) -> bool:
    """Whether the store grants a claim."""
    if _is_kin(lease.token, token):
        return lease.token < token
    same_lock = lock_id != "" and lease.lock == lock_id
    return not order.refence and (not lease.active or lease.expires_ms <= now_ms or same_lock)


def take(lease: Lease, order: ClaimOrder, token: bytes) -> None:
    """Put the token of a granted claim in the place of the one before, and remember that with its last commit.

    A claim of the same process whose reply was lost is passed over: what it found stays.
    """
    if not (_is_kin(lease.token, token) and lease.epoch > order.known_epoch):
        lease.previous_token, lease.previous_commit_id = lease.token, lease.commit_id or b""
    lease.token = token


def _is_kin(first: bytes, second: bytes) -> bool:
    """Whether two tokens are of one process."""
    return first[:INCARNATION_BYTES] == second[:INCARNATION_BYTES]


def claimed(lease: Lease, *, granted: bool) -> Claimed:
    """The answer to a claim."""
    return Claimed(
        granted=granted,
        epoch=lease.epoch,
        seq=lease.seq,
        expires_ms=lease.expires_ms,
        node=lease.node,
        previous_token=lease.previous_token,
        previous_commit_id=lease.previous_commit_id,
    )


def is_storable(write: ObjectWrite) -> bool:
    """Whether the commit script takes the numbers of a write; if not, it refuses the whole flight."""
    expire_at_ms = write.expire_at_ms
    if write.native is not None:
        return expire_at_ms >= 0 and _is_short(expire_at_ms)
    times = [expire_at_ms, *write.alarm_sets.values(), *write.dead_adds.values()]
    if not write.has_parts:
        return all(map(_is_short, times))
    times += [row.sort_ms for row in write.index_sets.values()]
    times += [entry.expire_at_ms for entry in write.entries.values()]
    numbered = 0 < write.journal_first < 10**15 or (write.journal_first == 0 and not write.journal_appends)
    return all(map(_is_short, times)) and numbered and 0 <= write.journal_keep < 10**15


def _is_short(number: int) -> bool:
    return len(str(number)) <= 16  # As commit.lua counts.


def apply_section(shard: Shard, section: Section, *, now_ms: int, ttl_ms: int, full: bool) -> SectionReply:
    """Apply a section whole, or say why not."""
    expires_ms = now_ms + ttl_ms
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
            if write.native is None:
                _apply_write(shard, write, now_ms)
            else:
                _apply_native(shard, write)
        lease.seq += 1
        lease.commit_id, lease.expires_ms = section.commit_id, expires_ms
    return SectionReply(
        status=status,
        seq=lease.seq,
        previous_token=lease.previous_token,
        previous_commit_id=lease.previous_commit_id,
    )


def _apply_write(shard: Shard, write: ObjectWrite, now_ms: int) -> None:
    key, gone, expire_at_ms = write.object_id, write.gone, write.expire_at_ms
    if write.sweep:
        stored_ms = shard.expiries.get(key)
        gone = stored_ms is not None and stored_ms <= expire_at_ms and key not in shard.messages
        expire_at_ms = -1
    if write.clear or gone:
        _remove_object(shard, key, gone=gone)
    fields = shard.objects.setdefault(key, {})
    fields.update(write.puts)
    for name in write.deletes:
        fields.pop(name, None)
    if not gone:
        _write_journal(shard, write)
        _write_rows(shard, write)
    _write_entries(shard, write, now_ms)
    _write_outbox(shard, write)
    if not fields:
        del shard.objects[key]
    _write_times(shard, write, expire_at_ms, gone=gone)


def _write_times(shard: Shard, write: ObjectWrite, expire_at_ms: int, *, gone: bool) -> None:
    key = write.object_id
    for name in write.alarm_removes:
        shard.alarms.pop(name, None)
        shard.dead_alarms.pop(name, None)
    shard.alarms.update(write.alarm_sets)
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


def _remove_object(shard: Shard, key: bytes, *, gone: bool) -> None:
    for field in [field for field in shard.objects.get(key, {}) if field.startswith(INDEX_FIELD)]:
        _remove_row(shard, key, field)
    shard.objects.pop(key, None)
    if gone:
        shard.journals.pop(key, None)


def _write_journal(shard: Shard, write: ObjectWrite) -> None:
    if write.journal_appends:
        journal = shard.journals.setdefault(write.object_id, Journal())
        for number, entry in enumerate(write.journal_appends, write.journal_first):
            if number > journal.last:
                journal.last, journal.entries[number] = number, entry
    if write.object_id in shard.journals:
        journal = shard.journals[write.object_id]
        journal.entries = {number: kept for number, kept in journal.entries.items() if number >= write.journal_keep}


def _write_rows(shard: Shard, write: ObjectWrite) -> None:
    for name in write.index_clears:
        _remove_row(shard, write.object_id, INDEX_FIELD + name.encode())
    for name, row in write.index_sets.items():
        field = INDEX_FIELD + name.encode()
        _remove_row(shard, write.object_id, field)
        place = keys.index_place(row.tenant, name, row.value)
        member = IndexRow(row.sort_ms, write.object_id, row.summary).place.member
        shard.rows.setdefault(place, {})[member] = row.sort_ms
        shard.objects[write.object_id][field] = index_record(write.object_id, name, row)


def _remove_row(shard: Shard, key: bytes, field: bytes) -> None:
    record = shard.objects.get(key, {}).pop(field, None)
    if record is None:
        return
    row = read_index_record(record)
    place = keys.index_place(row.tenant, field.removeprefix(INDEX_FIELD).decode(), row.value)
    del shard.rows[place][IndexRow(row.sort_ms, key, row.summary).place.member]
    if not shard.rows[place]:
        del shard.rows[place]


def _write_entries(shard: Shard, write: ObjectWrite, now_ms: int) -> None:
    kept = living_entries(shard, write.object_id, now_ms)
    for field in write.entry_removes:
        kept.kept.pop(field, None)
    if not kept.kept:
        kept = Entries()
    kept.kept.update(write.entries)
    kept.ends_ms = max([kept.ends_ms, *(entry.expire_at_ms for entry in write.entries.values())])
    shard.entries[write.object_id] = kept
    if not kept.kept or kept.ends_ms <= now_ms:
        del shard.entries[write.object_id]


def living_entries(shard: Shard, key: bytes, now_ms: int) -> Entries:
    """What is stored of an object's entries, those included that have expired while a later one lives."""
    kept = shard.entries.get(key)
    return kept if kept is not None and kept.ends_ms > now_ms else Entries()


def load_entries(shard: Shard, key: bytes, now_ms: int) -> dict[bytes, Entry]:
    """The entries that have not expired. The others are dropped."""
    stored = living_entries(shard, key, now_ms)
    stored.kept = {field: entry for field, entry in stored.kept.items() if entry.expire_at_ms > now_ms}
    if not stored.kept:
        shard.entries.pop(key, None)
    return dict(stored.kept)


def _write_outbox(shard: Shard, write: ObjectWrite) -> None:
    messages = shard.messages.setdefault(write.object_id, {})
    for message_id in write.outbox_removes:
        messages.pop(message_id, None)
    for message_id, message in write.outbox_adds.items():
        shard.lease.sent += 1
        messages[message_id] = OutboxMessage(shard.lease.sent, message_id, message)
    if not messages:
        del shard.messages[write.object_id]


def _apply_native(shard: Shard, write: ObjectWrite) -> None:
    assert write.native is not None
    if write.gone:
        shard.natives.pop(write.object_id, None)
    else:
        shard.natives[write.object_id] = write.native, write.expire_at_ms


def living_quarantines(shard: Shard, now_ms: int) -> dict[bytes, Quarantine]:
    """What is remembered of the shard's quarantine."""
    return shard.quarantines.kept if shard.quarantines.ends_ms > now_ms else {}


def begin_term(shard: Shard, key: bytes, terms: Terms, now_ms: int) -> Quarantine:
    """The term of an object that is not over, or the next one."""
    kept = living_quarantines(shard, now_ms)
    before = kept.get(key, Quarantine(0, 0))
    if before.until_ms > now_ms:
        return before
    count = before.count if before.until_ms + terms.memory_ms > now_ms else 0
    begun = Quarantine(count + 1, now_ms + min(terms.longest_ms, terms.first_ms * 2 ** min(count, 60)))
    others = {name: each for name, each in kept.items() if name != key and each.until_ms + terms.memory_ms > now_ms}
    latest_ms = max([begun.until_ms, *(each.until_ms for each in others.values())])
    last = sorted(others.items(), key=lambda item: item[1].until_ms)[max(0, len(others) + 1 - terms.objects_max) :]
    shard.quarantines = Quarantines(ends_ms=latest_ms + terms.memory_ms, kept={**dict(last), key: begun})
    return begun


def due_rows(
    entries: Mapping[bytes, int], until_ms: int, rows: int, *, from_ms: float = -math.inf, passed: int = 0
) -> list[tuple[bytes, int]]:
    """Members whose time has come, of those from `from_ms` on, oldest first, without the first `passed`."""
    due = sorted((at_ms, member) for member, at_ms in entries.items() if from_ms <= at_ms <= until_ms)
    return [(member, at_ms) for at_ms, member in due[passed : passed + rows]]


def page(members: Mapping[bytes, int], after: Place | None, rows: int) -> list[Place]:
    """Members in order of (time, member), after a place in it."""
    places = sorted(Place(at_ms, member) for member, at_ms in members.items())
    return [place for place in places if after is None or place > after][:rows]
