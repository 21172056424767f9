"""What the object core asks of a store, and the records that pass between them.

Two implementations: `shared.storage.redis` and the in-memory store of `shared.testing`, held to
each other by a differential test. Times are Unix milliseconds of the store's clock.

Every write of an object is a *section* of a commit: fenced by (epoch, token), ordered by `seq`,
made repeatable by its commit id. Sections stand and fall alone.
"""

import hashlib
from collections.abc import Sequence
from enum import Enum
from typing import Protocol

import msgspec

from shared.errors import Retryable, TenureError
from shared.storage.listings import IndexEntry, ListingStore, OutboxMessage, read_index_record
from shared.storage.quarantines import Quarantine, QuarantineStore


class StoreError(TenureError):
    """The store did not do what was asked."""

    code = "store"


class StoreAwayError(StoreError):
    """The command surely did not run: no connection, or the server refused it up front."""

    retryable = Retryable.ALWAYS


class StoreFullError(StoreAwayError):
    """The store has no memory left, so the command did not run. Reads, leases and removals go on."""

    code = "insufficient_storage"


class StoreDeniedError(StoreAwayError):
    """The store does not let us in, or does not permit the command: a person has to look first."""

    retryable = Retryable.NEVER


class StoreInDoubtError(StoreError):
    """The command was sent and no reply came: it may have run, or may still run."""

    retryable = Retryable.IF_IDEMPOTENT


class Fence(msgspec.Struct, frozen=True):
    """Proof of ownership of a shard. Safety rests on the token, order on the epoch."""

    epoch: int
    token: bytes


class Status(Enum):
    """What became of one section."""

    OK = 1  # Applied now, or applied before under the same commit id.
    FENCED = 2  # Somebody else owns the shard. Nothing was written.
    CONFLICT = 3  # Ours, but the store's `seq` is not the expected one. Nothing was written.
    FULL = 4  # Ours and in order, but the store has no memory left for it. Nothing was written, nor removed.


INCARNATION_BYTES = 16
"""What a token begins with, at random for every process. The rest counts its claims, so later tokens are greater."""


def owner_mark(token: bytes) -> str:
    """What may be told of the process that a token is of, so that its leases are found in a store: 16 hex digits.

    A digest, so nobody can make a token of it.
    """
    return hashlib.sha256(token[:INCARNATION_BYTES]).hexdigest()[:16]


class ClaimOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Take a shard: free, expired, held under the same file lock, or under an earlier token of the claimer.

    `known_epoch` is that of the newest claim that the claimer knows to have been granted (0: none); a new one is beyond
    it, whatever the store's clock says. With `refence` only the claimer's own is taken.
    """

    shard: int
    known_epoch: int = 0
    refence: bool = False


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """A lease as it stands after a claim. Not ours unless `granted`.

    `previous_token` and `previous_commit_id` are those of the holder before the newest claim; to whoever was
    granted it, before all its claims after `known_epoch`: those whose replies were lost do not come between.
    """

    granted: bool
    epoch: int
    seq: int
    expires_ms: int
    node: str
    previous_token: bytes
    previous_commit_id: bytes


class Claims(msgspec.Struct, frozen=True):
    """Answers to claims, in the order asked, at `now_ms` of the store."""

    now_ms: int
    leases: Sequence[Claimed]


class Renewals(msgspec.Struct, frozen=True):
    """The `seq` of each lease asked for, or -1 where it is no longer ours."""

    now_ms: int
    seqs: Sequence[int]


RECORD_FIELD = b"#"
"""The field of an object's hash that says what is kept about the object itself (`codec.Meta`)."""


JOURNAL_FIELD = b"j"
"""The field of an object's hash that says where its journal begins and goes on (a record of the owner)."""


INDEX_FIELD = b"x"
"""The fields of an object's hash that begin with it are its index rows: the store writes them, no put does."""


class Entry(msgspec.Struct, frozen=True):
    """What an object remembers until a moment of the store's clock: an answered request, a received message."""

    value: bytes
    expire_at_ms: int


class ObjectWrite(msgspec.Struct, kw_only=True):
    """What one commit does to one object. Field names are those of the stored hash.

    `clear` deletes the object's hash and its index rows before anything else; `gone` leaves nothing
    behind but what it sent and what it remembers, and of this write only puts, alarms, entries and messages;
    `sweep` deletes the object only if its stored expiry is not after `expire_at_ms` and no message of
    it waits; otherwise that is the new expiry: 0 for never, -1 for as it is. Members of `alarm_removes`
    leave the alarms and the dead alarms, then `alarm_sets` and `dead_adds` are added.

    `journal_appends` are entries of the journal, numbered from `journal_first` on; the object numbers
    from 1 without gaps. A number that the journal has passed is not appended again. Entries below
    `journal_keep` are dropped (0: none). `index_sets` has the one row of each index, by its name, which
    says its kind; it replaces the row before, whatever its value was. `entries` are given back by loads
    until they expire. `outbox_adds` are messages by their id (`MESSAGE_ID_BYTES`), in the order of
    sending. Removals come before additions.

    `native` is the whole state of an object whose kind encodes it itself. It replaces what is stored,
    and nothing else but `gone` and the new expiry (0 or a moment) goes with it; past the expiry it is
    absent, without a sweep.
    """

    object_id: bytes
    clear: bool = False
    gone: bool = False
    sweep: bool = False
    indexed: bool = False
    expire_at_ms: int = -1
    puts: dict[bytes, bytes] = {}
    deletes: list[bytes] = []
    alarm_sets: dict[bytes, int] = {}
    alarm_removes: list[bytes] = []
    dead_adds: dict[bytes, int] = {}
    journal_first: int = 0
    journal_appends: list[bytes] = []
    journal_keep: int = 0
    index_sets: dict[str, IndexEntry] = {}
    index_clears: list[str] = []
    entries: dict[bytes, Entry] = {}
    entry_removes: list[bytes] = []
    outbox_adds: dict[bytes, bytes] = {}
    outbox_removes: list[bytes] = []
    native: bytes | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of values, journal entries, remembered entries and messages."""
        if self.native is not None:
            return len(self.native)
        size_bytes = sum(map(len, self.puts.values()))
        if self.journal_appends or self.entries or self.outbox_adds:
            size_bytes += sum(map(len, self.journal_appends)) + sum(map(len, self.outbox_adds.values()))
            size_bytes += sum(len(entry.value) for entry in self.entries.values())
        return size_bytes

    @property
    def needs_room(self) -> bool:
        """Whether a full store must refuse it: it does not only remove, apart from what is kept about it.

        A message in the place of one that leaves under the same id is none more: so a dead letter is kept.
        """
        if self.native is not None:
            return not self.gone
        puts = self.puts.keys() - {RECORD_FIELD, JOURNAL_FIELD}
        adds: tuple[object, ...] = (self.indexed, self.alarm_sets, self.dead_adds, puts)
        removes: tuple[object, ...] = (self.gone, self.sweep, self.deletes, self.alarm_removes)
        if self.has_parts:
            adds += (
                self.journal_appends,
                self.index_sets,
                self.entries,
                self.outbox_adds.keys() - set(self.outbox_removes),
            )
            removes += (self.journal_keep, self.index_clears, self.entry_removes, self.outbox_removes)
        return any(adds) or not any(removes)

    @property
    def has_parts(self) -> bool:
        """Whether it is about more than the object's hash, alarms and expiry."""
        return bool(
            self.gone
            or self.clear
            or self.sweep
            or self.journal_appends
            or self.index_sets
            or self.entries
            or self.outbox_adds
            or self.journal_keep
            or self.index_clears
            or self.entry_removes
            or self.outbox_removes
        )


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """All that one commit does to one shard."""

    shard: int
    fence: Fence
    seq: int
    commit_id: bytes
    writes: Sequence[ObjectWrite]


class SectionReply(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a section, and the lease as the store has it."""

    status: Status
    seq: int
    previous_token: bytes = b""
    previous_commit_id: bytes = b""


class Committed(msgspec.Struct, frozen=True):
    """Answers to the sections of a flight, in order."""

    now_ms: int
    replies: Sequence[SectionReply]


class LoadOrder(msgspec.Struct, frozen=True):
    """Read one object, if the fence still holds. `native`: as `ObjectWrite.native` wrote it."""

    shard: int
    fence: Fence
    object_id: bytes
    native: bool = False


NATIVE_FIELD = b"n"
"""Under which a load gives a native state back."""


class Loaded(msgspec.Struct, frozen=True):
    """The stored hash of an object (empty if absent) and the shard's `seq`; `seq` is -1 if fenced.

    Beside it: its row in each index, what it remembers and has not expired, and what it sent, oldest first;
    of any kind, the quarantine that it is or was in.
    """

    seq: int
    fields: dict[bytes, bytes]
    indexes: dict[str, IndexEntry] = {}
    entries: dict[bytes, Entry] = {}
    outbox: Sequence[OutboxMessage] = []
    quarantine: Quarantine | None = None


class Loads(msgspec.Struct, frozen=True):
    """Answers to loads, in order."""

    now_ms: int
    objects: Sequence[Loaded]


def take_index_records(fields: dict[bytes, bytes]) -> dict[str, IndexEntry]:
    """Take the index rows out of the fields of an object's hash."""
    names = [field for field in fields if field.startswith(INDEX_FIELD)]
    return {name[len(INDEX_FIELD) :].decode(): read_index_record(fields.pop(name)) for name in names}


class JournalPage(msgspec.Struct, frozen=True):
    """Numbers and entries of a journal, and the shard's `seq`, which is -1 if fenced."""

    seq: int
    entries: Sequence[tuple[int, bytes]]


class Due(msgspec.Struct, frozen=True):
    """Members of sorted sets whose score has come, per shard asked, oldest first."""

    now_ms: int
    rows: Sequence[Sequence[tuple[bytes, int]]]


class StoredDocument(msgspec.Struct, frozen=True):
    """A replicated document. `body` is None once it was deleted; its version lives on."""

    field: bytes
    version: int
    changed_ms: int
    body: bytes | None


class DocumentChanges(msgspec.Struct, frozen=True):
    """Documents changed after a revision; `revision` is where to ask from next; `more` says: ask again."""

    revision: int
    documents: Sequence[StoredDocument]
    more: bool


class DocumentStore(Protocol):
    """Versioned documents under one prefix."""

    async def document_put(self, prefix: str, field: bytes, body: bytes | None, *, expected: int) -> tuple[bool, int]:
        """Write if the stored version is `expected` (-1: any; a deleted one counts as 0).

        Returns whether it was written, and the version that is stored now. A full store raises
        StoreFullError, except where `body` is None.
        """
        ...

    async def documents_since(self, prefix: str, revision: int) -> DocumentChanges:
        """What changed after `revision`, oldest first. A store that went back in time answers from 0."""
        ...


class Store(DocumentStore, ListingStore, QuarantineStore, Protocol):
    """What the object core asks for. Raises StoreAwayError or StoreInDoubtError, never anything else."""

    async def claim(
        self, orders: Sequence[ClaimOrder], *, token: bytes, node: str, lock_id: str, ttl_ms: int
    ) -> Claims:
        """Take what may be taken, under a new epoch and `token`."""
        ...

    async def renew(self, leases: Sequence[tuple[int, Fence]], *, ttl_ms: int) -> Renewals:
        """Extend the leases that are still ours, even late."""
        ...

    async def release(self, leases: Sequence[tuple[int, Fence]]) -> None:
        """Give up the leases that are still ours."""
        ...

    async def commit(self, sections: Sequence[Section], *, ttl_ms: int, timeout_ms: int) -> Committed:
        """Apply each section whole or not at all, each fenced alone.

        A full store applies those that only remove. One that removes and also grows is refused whole: what it
        removes makes room only when it is sent without the rest. A number of more than 16 characters (15 in a
        journal), and a native expiry below 0, make the whole flight fail: StoreInDoubtError, and nothing is written.
        """
        ...

    async def load(self, orders: Sequence[LoadOrder]) -> Loads:
        """Read objects from the primary, fenced. Entries that have expired are dropped there."""
        ...

    async def journal(
        self, shard: int, fence: Fence, object_id: bytes, *, after: int, rows: int, reverse: bool = False
    ) -> JournalPage:
        """At most `rows` entries of a journal, fenced: those after a number, oldest first (0: from the oldest).

        With `reverse` those before it, newest first (0: from the newest).
        """
        ...

    async def due_alarms(self, shards: Sequence[tuple[int, int]], *, until_ms: int, rows: int) -> Due:
        """At most `rows` alarms of each shard, oldest first, due from a moment of its own (in ms) to `until_ms`."""
        ...

    async def expired(self, shards: Sequence[tuple[int, int]], *, rows: int) -> Due:
        """At most `rows` objects of each shard after so many of its oldest, expired on the store's clock."""
        ...
