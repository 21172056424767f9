"""What an export says of an object: all that is stored of it, in no way that knows shards.

So it can be imported into a store with another number of them. The records stand in a file of
`shared.storage.archive`, each a map of MessagePack; `docs/reference/backup.md` lists their members. Leases are not
exported, nor are the numbers of commits: those are of a store, and not of an object.
"""

from collections.abc import Iterator
from itertools import pairwise

import msgspec

from shared.storage.interface import Entry, ObjectWrite
from shared.storage.listings import IndexEntry

KIND = "export"
_WRITE_BYTES_MAX = 512 * 1024


class ExportHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The header of an export: when it was taken, of which format values are, and what was asked for."""

    taken_ms: int
    stored_format: int
    services: list[str]
    kind: str = ""
    tenant: str = ""


class ObjectRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="object"):
    """One object. Names of alarms, messages and entries are bytes, as they are stored."""

    service: str
    object_id: bytes
    fields: dict[bytes, bytes] = {}
    indexed: bool = False
    expire_at_ms: int = 0
    alarms: dict[bytes, int] = {}
    dead_alarms: dict[bytes, int] = {}
    indexes: dict[str, IndexEntry] = {}
    entries: dict[bytes, Entry] = {}
    messages: list[tuple[bytes, bytes]] = []
    journal: list[tuple[int, bytes]] = []
    journal_last: int = 0
    native: bytes | None = None


class DocumentRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="document"):
    """One replicated document."""

    prefix: str
    field: bytes
    body: bytes


Record = ObjectRecord | DocumentRecord


def writes_of(record: ObjectRecord) -> Iterator[ObjectWrite]:
    """The writes that make the object again, in order, where there is nothing of it.

    Raises:
        ValueError: its journal has gaps, so it is no journal.
    """
    if record.native is not None:
        yield ObjectWrite(object_id=record.object_id, native=record.native, expire_at_ms=record.expire_at_ms)
        return
    yield ObjectWrite(
        object_id=record.object_id,
        indexed=record.indexed,
        expire_at_ms=record.expire_at_ms,
        puts=record.fields,
        alarm_sets={record.object_id + name: at_ms for name, at_ms in record.alarms.items()},
        dead_adds={record.object_id + name: at_ms for name, at_ms in record.dead_alarms.items()},
        index_sets=record.indexes,
        entries=record.entries,
        outbox_adds=dict(record.messages),
    )
    yield from _journal_writes(record)


def _journal_writes(record: ObjectRecord) -> Iterator[ObjectWrite]:
    if any(after != before + 1 for (before, _), (after, _) in pairwise(record.journal)):
        raise ValueError("a journal has gaps")
    if record.journal_last and not record.journal:  # All of it was trimmed, but its numbers go on.
        last = record.journal_last
        yield ObjectWrite(object_id=record.object_id, journal_first=last, journal_appends=[b""], journal_keep=last + 1)
    first, piece, size_bytes = 0, list[bytes](), 0
    for number, entry in record.journal:
        first = first or number
        piece.append(entry)
        size_bytes += len(entry)
        if size_bytes >= _WRITE_BYTES_MAX or number == record.journal[-1][0]:
            yield ObjectWrite(object_id=record.object_id, journal_first=first, journal_appends=piece)
            first, piece, size_bytes = 0, [], 0
