"""What can be asked of a store across objects: who has a value of an index, who exists, what waits to be delivered.

Nothing here is fenced: whoever asks sees what is stored at that moment, not a snapshot over shards.
Every answer has a sequence for each shard asked, in one order over all shards, so that answers can be
merged, and the last row used is where the next question begins for all of them.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from shared.bounds import INDEX_SUMMARY_BYTES_MAX
from shared.storage import keys
from shared.storage.codec import FORMAT, UnknownFormatError

MESSAGE_ID_BYTES = 16
"""Of the id of a message: random, so that a receiver knows one that it has seen."""


class IndexEntry(msgspec.Struct, frozen=True, kw_only=True):
    """That an object has `value` in an index of `tenant`; listed by `sort_ms`, with a summary for whoever lists."""

    tenant: str
    value: str
    sort_ms: int
    summary: bytes = b""


class Place(msgspec.Struct, frozen=True, order=True):
    """A member of a sorted set with its time: a place in the order of (time, member)."""

    at_ms: int
    member: bytes

    @classmethod
    def past(cls, at_ms: int, object_id: bytes) -> "Place":
        """Behind the row of an object at `at_ms`, whatever its summary was, and before that of the next address."""
        return cls(at_ms, object_id + b"\xff" * (INDEX_SUMMARY_BYTES_MAX + 1))


class IndexRow(msgspec.Struct, frozen=True):
    """An object as an index lists it."""

    sort_ms: int
    object_id: bytes
    summary: bytes

    @property
    def place(self) -> Place:
        """Where a listing goes on after this row."""
        return Place(self.sort_ms, _member(self.object_id, self.summary))

    @classmethod
    def at(cls, place: Place) -> "IndexRow":
        """The row that is stored at `place`."""
        member = place.member
        id_end = int.from_bytes(member[-2:], "big")
        return cls(place.at_ms, member[:id_end], member[id_end:-2])


class OutboxMessage(msgspec.Struct, frozen=True, order=True):
    """A message that was sent and is not removed yet. The shard numbers its messages in the order of sending."""

    number: int
    message_id: bytes
    message: bytes

    @classmethod
    def stored(cls, message_id: bytes, record: bytes) -> "OutboxMessage":
        """The message of a stored record, "number:message"."""
        number, _, message = record.partition(b":")
        return cls(int(number), message_id, message)


class OutboxRow(msgspec.Struct, frozen=True):
    """A message with its sender."""

    object_id: bytes
    sent: OutboxMessage


def index_record(object_id: bytes, name: str, entry: IndexEntry) -> bytes:
    """What an object keeps of its row: a format byte, a line with `sort_ms` and the place's length, place, member."""
    assert len(entry.summary) <= INDEX_SUMMARY_BYTES_MAX, name
    place = keys.index_place(entry.tenant, name, entry.value)
    return b"%c%d %d\n%b%b" % (FORMAT, entry.sort_ms, len(place), place, _member(object_id, entry.summary))


def read_index_record(record: bytes) -> IndexEntry:
    """The entry of which `record` was made.

    Raises:
        UnknownFormatError: another release wrote it.
    """
    if record[0] != FORMAT:
        raise UnknownFormatError(record[0])
    head, _, body = record[1:].partition(b"\n")
    sort_ms, place_end = map(int, head.split(b" "))
    tenant_end = 1 + body[0]
    name_end = tenant_end + 1 + body[tenant_end]
    row = IndexRow.at(Place(sort_ms, body[place_end:]))
    return IndexEntry(
        tenant=body[1:tenant_end].decode(),
        value=body[name_end:place_end].decode(),
        sort_ms=sort_ms,
        summary=row.summary,
    )


def family(kind: str, tenant: str) -> bytes:
    """What the encoded addresses of a kind and a tenant begin with; two bytes of length and the name follow."""
    kind_bytes, tenant_bytes = kind.encode(), tenant.encode()
    return b"%c%b%c%b" % (len(kind_bytes), kind_bytes, len(tenant_bytes), tenant_bytes)


def _member(object_id: bytes, summary: bytes) -> bytes:
    """No address is the beginning of another, so members of one time are in the order of the addresses."""
    return object_id + summary + len(object_id).to_bytes(2, "big")


class ListingStore(Protocol):
    """Questions across objects, at most `rows` rows of each shard, after a place or from the start."""

    async def find(
        self, shards: Sequence[int], *, tenant: str, index: str, value: str, after: Place | None, rows: int
    ) -> Sequence[Sequence[IndexRow]]:
        """Objects with `value` in `index`, by `sort_ms`, then address."""
        ...

    async def count(self, shards: Sequence[int], *, tenant: str, index: str, value: str) -> int:
        """How many objects have `value` in `index`."""
        ...

    async def objects(
        self, shards: Sequence[int], *, kind: str, tenant: str, prefix: str, after: bytes, rows: int
    ) -> Sequence[Sequence[bytes]]:
        """Encoded addresses whose name begins with `prefix`: shorter names first, then by bytes. b"" is the start."""
        ...

    async def outbox(self, shards: Sequence[tuple[int, int]], *, rows: int) -> Sequence[Sequence[OutboxRow]]:
        """Messages of each shard after a number of its own, oldest first."""
        ...

    async def armed_alarms(self, shards: Sequence[int], *, after: Place | None, rows: int) -> Sequence[Sequence[Place]]:
        """Alarms that are armed, by the time they are due, then name."""
        ...

    async def dead_alarms(self, shards: Sequence[int], *, after: Place | None, rows: int) -> Sequence[Sequence[Place]]:
        """Alarms that were given up, by the time of it, then name."""
        ...

    async def fields(self, places: Sequence[tuple[int, bytes, bytes]]) -> Sequence[bytes | None]:
        """One field of the stored hash of an object each, by shard, encoded address and field; None: not there."""
        ...
