"""What the object core asks of a store, and the records that pass between them.

Two implementations: `shared.storage.redis` and the in-memory store of `shared.testing`, held to
each other by a differential test. Times are Unix milliseconds of the store's clock.

Every write of an object is a *section* of a commit: fenced by (epoch, token), ordered by `seq`,
made repeatable by its commit id. Sections stand and fall alone.
"""

from collections.abc import Sequence
from enum import Enum
from typing import Protocol

import msgspec

from shared.errors import Retryable, TenureError


class StoreError(TenureError):
    """The store did not do what was asked."""

    code = "store"


class StoreAwayError(StoreError):
    """The command surely did not run: no connection, or the server refused it up front."""

    retryable = Retryable.ALWAYS


class StoreFullError(StoreAwayError):
    """The store has no memory left, so the command did not run. Reads, leases and removals go on."""

    code = "insufficient_storage"


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
    FULL = 4  # Ours and in order, but the store has no memory left for it. Nothing was written.


class ClaimOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Take a shard: free, expired, held under the same file lock, or (re-fence) under `held_token`."""

    shard: int
    held_token: bytes = b""


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """A lease as it stands after a claim. Not ours unless `granted`.

    `previous_token` and `previous_commit_id` are those of the holder before the newest claim.
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


class ObjectWrite(msgspec.Struct, kw_only=True):
    """What one commit does to one object. Field names are those of the stored hash.

    `clear` deletes the object's hash before anything else; `gone` leaves nothing behind;
    `sweep` deletes the object only if its stored expiry is not after `expire_at_ms`, which
    otherwise is the new expiry: 0 for never, -1 for as it is. Members of `alarm_removes` leave the
    alarms and the dead alarms, then `dead_adds` are added.

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
    native: bytes | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of values."""
        return sum(map(len, self.puts.values())) if self.native is None else len(self.native)

    @property
    def needs_room(self) -> bool:
        """Whether a full store must refuse it: it does not only remove, apart from the object's own record."""
        if self.native is not None:
            return not self.gone
        adds = self.indexed or self.alarm_sets or self.dead_adds or not self.puts.keys() <= {RECORD_FIELD}
        removes = self.gone or self.sweep or self.deletes or self.alarm_removes
        return bool(adds or not removes)


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
    """The stored hash of an object (empty if absent) and the shard's `seq`; `seq` is -1 if fenced."""

    seq: int
    fields: dict[bytes, bytes]


class Loads(msgspec.Struct, frozen=True):
    """Answers to loads, in order."""

    now_ms: int
    objects: Sequence[Loaded]


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


class Store(DocumentStore, Protocol):
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
        """Apply each section whole or not at all, each fenced alone; on a full store only those that remove."""
        ...

    async def load(self, orders: Sequence[LoadOrder]) -> Loads:
        """Read objects from the primary, fenced."""
        ...

    async def due_alarms(self, shards: Sequence[int], *, until_ms: int, rows: int) -> Due:
        """At most `rows` alarms of each shard, due at or before `until_ms`."""
        ...

    async def expired(self, shards: Sequence[int], *, rows: int) -> Due:
        """At most `rows` objects of each shard whose expiry has passed on the store's clock."""
        ...
