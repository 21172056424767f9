"""The state of one object in memory: what is stored, what is on its way, what the running turn wrote.

Three layers, each a dictionary of changes over the one below:

- *base*: everything that turns before this one have written, confirmed or not;
- *pending*: the part of it that no commit carries yet;
- *overlay*: the running turn's writes. A normal end joins them to base and pending, an exception
  drops them, so a turn counts whole or leaves no trace.
"""

from collections.abc import Mapping
from typing import Self

import msgspec

from shared import bounds
from shared.objects.changes import Changes, check_size, merge
from shared.objects.errors import NewerSchemaError
from shared.objects.journal_mark import JournalMark
from shared.objects.kept import Kept
from shared.objects.parts import PartChanges, Parts
from shared.objects.writes import add_alarms, add_values, departure
from shared.storage.codec import AlarmRecord, Meta, decode
from shared.storage.interface import RECORD_FIELD, ObjectWrite
from shared.storage.listings import IndexEntry

_NO_ROWS: Mapping[str, IndexEntry] = {}


class Layers:
    """Encoded values, named alarms, parts and an expiry, as the host moves them towards the store."""

    __slots__ = (
        "_base",
        "_cleared",
        "_dead",
        "_existed",
        "_meta",
        "_overlay",
        "_pending",
        "_sent_alone",
        "_size",
        "_taken_alarms",
        "alarm_records",
        "kept",
        "parts",
        "soft",
    )

    def __init__(
        self, meta: Meta, values: dict[str, bytes], alarms: dict[str, AlarmRecord], *, stale: bool = False
    ) -> None:
        self._meta = meta
        self._existed = meta.version > 0 or stale  # Something is in the store that `gone` would have to delete.
        self._base = values
        # Alarms given up, and when; shown until an alarm of that name is removed or the object is deleted.
        self._dead: dict[str, tuple[AlarmRecord, int]] = {}
        self.alarm_records = alarms
        self._overlay: Changes | None = None
        self._pending: Changes | None = None
        # Those that the last write touched: the store may not have it.
        self._taken_alarms: frozenset[str] = frozenset()
        self.parts: Parts | None = None  # Made when the object first has one,
        self.kept: Kept | None = None  # and so is this.
        self.soft: dict[str, bytes] | None = None  # Of base, what no commit carries and nobody waits for.
        # Soft writes that the last commit carried with nothing else, and what was known of the store before it.
        self._sent_alone: tuple[dict[str, bytes], bool, bool] | None = None
        self._cleared = stale  # What is stored has expired: the next commit deletes it first.
        self._size = sum(len(key) + len(value) for key, value in values.items())

    @classmethod
    def load(
        cls,
        fields: Mapping[bytes, bytes],
        rows: Mapping[str, IndexEntry] = _NO_ROWS,
        *,
        now_ms: int,
        kind: str = "",
        schema: int = 1,
    ) -> Self:
        """The state from a stored hash and index rows; absent or expired at `now_ms` (upper end) means empty.

        Raises:
            NewerSchemaError: it is stored with a schema over `schema`, that of its `kind`.
        """
        if not fields:
            return cls(Meta(version=0, schema=schema), {}, {})
        meta = decode(fields[RECORD_FIELD], Meta)
        parts = Parts.load(fields, rows)
        if meta.expire_at_ms and meta.expire_at_ms <= now_ms and not any(field[:1] in b"ad" for field in fields):
            return cls._ended(schema, parts)
        if meta.schema > schema:
            raise NewerSchemaError(kind, stored=meta.schema, known=schema)
        values, alarms, dead = {}, {}, {}
        for field, stored in fields.items():
            if field[:1] == b"k":
                values[field[1:].decode()] = stored
            elif field[:1] == b"a":
                alarms[field[1:].decode()] = decode(stored, AlarmRecord)
            elif field[:1] == b"d":
                record = decode(stored, AlarmRecord)
                dead[field[1:].decode()] = (record, record.due_ms)
        state = cls(meta, values, alarms)
        state._dead = dead
        state.parts = parts
        return state

    def expired(self) -> Self:
        """The state of an object whose expiry has passed: empty, with something in the store to be deleted first."""
        state = self._ended(self.schema, self.parts)
        state.kept = self.kept
        return state

    @classmethod
    def _ended(cls, schema: int, parts: Parts | None) -> Self:
        state = cls(Meta(version=0, schema=schema), {}, {}, stale=True)
        state.parts = parts and parts.ended()
        return state

    @property
    def version(self) -> int:
        """How many commits this object has had."""
        return self._meta.version

    @property
    def schema(self) -> int:
        """The version of its kind whose form it has."""
        return self._meta.schema

    def migrated(self, schema: int) -> None:
        """The running turn has brought it to the form of a version of its kind."""
        self._changes().schema = schema

    @property
    def expire_at_ms(self) -> int:
        """When the object becomes absent, 0 for never."""
        return self._meta.expire_at_ms

    @property
    def stays(self) -> bool:
        """Whether an alarm, armed or given up, keeps the object from expiring."""
        return bool(self.alarm_records or self._dead)

    @property
    def alarm_serial(self) -> int:
        """The serial of the newest alarm setting of finished turns."""
        return self._meta.alarm_serial

    @property
    def overlay_used(self) -> bool:
        """Whether the running turn has written anything."""
        return self._overlay is not None

    @property
    def overlay_gates(self) -> bool:
        """Whether the running turn has written anything that its answer has to wait for."""
        return self._overlay is not None and not self._overlay.soft

    @property
    def pending(self) -> bool:
        """Whether something waits for a commit."""
        return self._pending is not None

    @property
    def size(self) -> int:
        """Bytes of keys and values, without the running turn's."""
        return self._size

    @property
    def present(self) -> bool:
        """Whether anything is left of the object."""
        return bool(self._base) or self.stays or (self.parts is not None and self.parts.kept)

    @property
    def journal(self) -> JournalMark:
        """The journal as the running turn sees it."""
        overlay, parts = self._overlay, self.parts
        if overlay is not None and overlay.parts is not None:
            return overlay.parts.mark
        return JournalMark() if parts is None else parts.mark

    def append(self, stored: bytes) -> int:
        """Append to the journal in the running turn, and return the position."""
        return self._changes().append(stored, self.journal)

    def trim(self, before: int) -> None:
        """Drop the entries of the journal below a position in the running turn."""
        mark = self.journal
        self._changes().of_parts(mark).trim(before)

    def tail(self) -> list[tuple[int, bytes]]:
        """The newest entries of the journal with their positions: all those that the store may not have."""
        sent = None if self.parts is None else self.parts.sent
        layers = (sent, _parts_of(self._pending), _parts_of(self._overlay))
        return [entry for changes in layers if changes is not None for entry in changes.entries()]

    def row(self, name: str) -> IndexEntry | None:
        """The row in the index of that stored name, as the running turn sees it."""
        overlay = self._overlay
        if overlay is not None:
            if overlay.parts is not None and name in overlay.parts.rows:
                return overlay.parts.rows[name]
            if overlay.clear:
                return None
        return None if self.parts is None else self.parts.rows.get(name)

    def row_names(self) -> set[str]:
        """The stored names of the indexes in which the running turn sees a row."""
        names = set() if self.parts is None else set(self.parts.rows)
        changes = _parts_of(self._overlay)
        return {name for name in names.union(changes.rows if changes else ()) if self.row(name) is not None}

    def set_row(self, name: str, row: IndexEntry | None) -> None:
        """Set or (None) clear the row in an index, in the running turn."""
        mark = self.journal
        self._changes().set_row(name, row, mark)

    def alarm(self, name: str) -> AlarmRecord | None:
        """The alarm `name` as the running turn sees it."""
        overlay = self._overlay
        if overlay is not None:
            if name in overlay.alarms:
                return overlay.alarms[name]
            if overlay.clear:
                return None
        return self.alarm_records.get(name)

    def alarm_names(self) -> list[str]:
        """The alarms that the running turn sees, sorted."""
        overlay = self._overlay
        names = set() if overlay is not None and overlay.clear else set(self.alarm_records)
        if overlay is not None:
            for name, record in overlay.alarms.items():
                (names.discard if record is None else names.add)(name)
        return sorted(names)

    def set_alarm(self, name: str, record: AlarmRecord | None) -> None:
        """Set (with a new serial unless it has one) or remove an alarm in the running turn."""
        changes = self._changes()
        if record is not None and record.serial == 0:
            changes.alarm_serial += 1
            record = msgspec.structs.replace(record, serial=changes.alarm_serial)
        changes.alarms[name] = record

    def bury_alarm(self, name: str, record: AlarmRecord, at_ms: int) -> None:
        """Move an alarm to the dead ones in the running turn."""
        changes = self._changes()
        changes.alarms[name] = None
        changes.dead[name] = (record, at_ms)

    def end_turn(self) -> bool:
        """Join the overlay to base and pending; say whether there was one that a commit has to carry.

        Raises:
            TooLargeError: the object would pass 1 MiB; the overlay is still there, to be dropped.
        """
        overlay = self._overlay
        if overlay is None:
            return False
        size = self._size_after(overlay)
        check_size("The object", size, bounds.OBJECT_BYTES_MAX)
        self._size = size
        self._overlay = None
        if overlay.soft:
            self._join_soft(overlay)
            return False
        if overlay.clear:
            self.soft = None
            overlay.dropped_alarms |= self._dead.keys()
            self._base, self.alarm_records, self._dead = {}, {}, {}
        merge(self._base, overlay.values)
        merge(self.alarm_records, overlay.alarms)
        if self._dead:
            merge(self._dead, dict.fromkeys(overlay.removed_alarms()))
        self._dead.update(overlay.dead)
        if overlay.parts is not None:
            self.parts = self.parts or Parts(JournalMark(), {})
            self.parts.merge(overlay.parts, clear=overlay.clear)
        if overlay.kept is not None:
            self.kept = self.kept or Kept()
            self.kept.merge(overlay.kept)
        self._meta = msgspec.structs.replace(
            self._meta,
            expire_at_ms=overlay.expire_at_ms if self.present else 0,  # What is absent cannot expire.
            alarm_serial=overlay.alarm_serial,
            schema=overlay.schema or self._meta.schema,
        )
        if self._pending is None:
            self._pending = overlay
        else:
            self._pending.join(overlay)
        return True

    def drop_turn(self) -> None:
        """Forget what the running turn wrote."""
        self._overlay = None

    def rewrite(self) -> None:
        """Make the whole state pending: the store lost a write or went back in time, and memory is the newer.

        Alarms that were removed by writes before the last one are not known any more: where a store
        that went back has them again, their index entries stay, and ring for nothing.
        """
        everything = Changes(self._meta.expire_at_ms, self._meta.alarm_serial)
        everything.clear = True
        everything.values.update(self._base)
        everything.alarms.update(self.alarm_records)
        everything.dead.update(self._dead)
        everything.dropped_alarms = self._taken_alarms
        if self._pending is not None:
            everything.dropped_alarms |= self._pending.touched_alarms()
        if self.parts is not None:
            everything.parts = self.parts.rewritten(_parts_of(self._pending))
        if self.kept is not None:
            everything.kept = self.kept.rewritten(self._pending.kept if self._pending else None)
        self._pending, self._existed, self.soft, self._sent_alone = everything, True, None, None

    def take(self, object_id: bytes, *, indexed: bool) -> ObjectWrite | None:
        """Turn what is pending into a write of the next version; None where nothing needs to be stored."""
        pending, self._pending = self._pending, None
        alone = None
        if self.soft is not None:
            if pending is None:
                alone = self.soft, self._existed, self._cleared
            pending = self._with_soft(pending)
        if pending is None:
            return None
        self._sent_alone = alone
        self._taken_alarms = pending.touched_alarms()
        clear = pending.clear or self._cleared
        if self.parts is not None:
            # Where nothing is stored, nor is the place at which the journal goes on.
            pending.parts = self.parts.take(pending.parts, clear=clear or not self._existed)
        if self.kept is not None:
            self.kept.take(pending.kept)
        if not self.present:
            write = departure(object_id, pending) if self._existed or pending.kept else None
            self._existed, self._cleared = False, False
            self._meta = Meta(version=0, schema=self._meta.schema, alarm_serial=self._meta.alarm_serial)
            return write
        self._meta = msgspec.structs.replace(self._meta, version=self._meta.version + 1)
        write = ObjectWrite(
            object_id=object_id,
            clear=clear,
            indexed=indexed and (clear or not self._existed),  # What is cleared may never have been there.
            expire_at_ms=0 if self.stays else self._meta.expire_at_ms,
        )
        add_values(write, pending, self._meta)
        add_alarms(write, pending)
        self._existed, self._cleared = True, False
        return write

    def take_back(self) -> bool:
        """Have soft writes wait again that the last commit has not stored; False if it carried anything else."""
        if self._sent_alone is None:
            return False
        (soft, self._existed, self._cleared), self._sent_alone = self._sent_alone, None
        self._meta = msgspec.structs.replace(self._meta, version=self._meta.version - 1)
        if self._pending is None or not self._pending.clear:
            self.soft = {**soft, **(self.soft or {})}
        return True

    def _changes(self, *, soft: bool = False) -> Changes:
        """The overlay. It is soft as long as nothing else was written; then the soft writes go with the rest."""
        if self._overlay is None:
            self._overlay = Changes(self._meta.expire_at_ms, self._meta.alarm_serial)
            self._overlay.known_alarms = frozenset(self.alarm_records)
            self._overlay.soft = soft
        elif not soft:
            self._overlay.soft = False
        return self._overlay

    def _join_soft(self, overlay: Changes) -> None:
        values = {key: stored for key, stored in overlay.values.items() if stored is not None}
        self._base.update(values)
        if self._pending is not None:
            self._pending.values.update(values)
        else:
            self.soft = {**(self.soft or {}), **values}

    def _with_soft(self, pending: Changes | None) -> Changes:
        """What a commit carries, with soft writes of before; of a key the later write counts."""
        soft, self.soft = self.soft or {}, None
        if pending is None:
            pending = Changes(self._meta.expire_at_ms, self._meta.alarm_serial)
        pending.values = {**soft, **pending.values}
        return pending

    def _size_after(self, overlay: Changes) -> int:
        size = 0 if overlay.clear else self._size
        for key, stored in overlay.values.items():
            old = None if overlay.clear else self._base.get(key)
            size -= 0 if old is None else len(key) + len(old)
            size += 0 if stored is None else len(key) + len(stored)
        return size


def _parts_of(changes: Changes | None) -> PartChanges | None:
    return None if changes is None else changes.parts
