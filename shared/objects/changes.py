"""What one turn wrote, or several turns that wait for a commit together."""

from collections.abc import Mapping
from typing import Any

from shared import bounds
from shared.objects.errors import TooLargeError
from shared.objects.journal_mark import JournalMark
from shared.objects.kept import KeptChanges
from shared.objects.parts import PartChanges, Parts
from shared.storage.codec import AlarmRecord
from shared.storage.listings import IndexEntry


class Changes:
    """Writes of one turn, or of several turns that wait for a commit together. None is a removal."""

    __slots__ = (
        "_bytes",
        "alarm_serial",
        "alarms",
        "clear",
        "dead",
        "dropped_alarms",
        "expire_at_ms",
        "kept",
        "known_alarms",
        "parts",
        "schema",
        "soft",
        "values",
    )

    def __init__(self, expire_at_ms: int, alarm_serial: int) -> None:
        self.values: dict[str, bytes | None] = {}
        self.alarms: dict[str, AlarmRecord | None] = {}
        self.dead: dict[str, tuple[AlarmRecord, int]] = {}
        self.clear = False
        self.known_alarms: frozenset[str] = frozenset()
        self.dropped_alarms: frozenset[str] = frozenset()  # The store may have them: out first.
        self.expire_at_ms = expire_at_ms
        self.alarm_serial = alarm_serial
        self.soft = False  # Nothing but soft writes, which no answer waits for.
        self.schema = 0  # That it was brought to; 0: none.
        self.parts: PartChanges | None = None
        self.kept: KeptChanges | None = None
        self._bytes = 0

    def put(self, key: str, stored: bytes | None) -> None:
        """Write or (None) remove a key; raises TooLargeError past the bounds of a turn, and has not written then."""
        self._grow(len(key) + len(stored or b""), key not in self.values)
        self.values[key] = stored

    def put_many(self, values: Mapping[str, bytes]) -> None:
        """Write all of `values` or none; raises TooLargeError as `put`."""
        size_bytes = sum(len(key) + len(stored) for key, stored in values.items())
        self._grow(size_bytes, sum(key not in self.values for key in values))
        self.values.update(values)

    def append(self, stored: bytes, mark: JournalMark) -> int:
        """Append to the journal that ends at `mark`, and return the position; raises TooLargeError as `put`."""
        entries = len(self.parts.appends) + 1 if self.parts else 1
        check_size("The turn", entries, bounds.TURN_KEYS_MAX, unit="entries of its journal")
        self._grow(len(stored), 0)
        return self.of_parts(mark).append(stored)

    def set_row(self, name: str, row: IndexEntry | None, mark: JournalMark) -> None:
        """Set or (None) clear a row of an index, of an object whose journal ends at `mark`."""
        self._grow(0 if row is None else len(row.value) + len(row.summary), 0)
        self.of_parts(mark).rows[name] = row

    def of_parts(self, mark: JournalMark) -> PartChanges:
        """The changes of parts, from now on."""
        if self.parts is None:
            self.parts = PartChanges(mark)
        return self.parts

    def of_kept(self) -> KeptChanges:
        """The changes of what is kept, from now on."""
        if self.kept is None:
            self.kept = KeptChanges()
        return self.kept

    def post(self, message_id: bytes, message: bytes) -> None:
        """Send a message; raises TooLargeError as `put`."""
        self._grow(len(message), 0)
        self.of_kept().messages[message_id] = message

    def _grow(self, size_bytes: int, keys: int) -> None:
        check_size("The turn", self._bytes + size_bytes, bounds.TURN_BYTES_MAX)
        check_size("The turn", len(self.values) + keys, bounds.TURN_KEYS_MAX, unit="keys")
        self._bytes += size_bytes

    def reset(self, parts: Parts | None) -> None:
        """Remove everything there is, `parts` too."""
        self.values.clear()
        self.dropped_alarms |= self.known_alarms | self.alarms.keys()
        self.alarms.clear()
        self.clear = True
        self.expire_at_ms = 0
        if parts is not None:
            self.of_parts(parts.mark)
        if self.parts is not None:
            self.parts.reset()

    def touched_alarms(self) -> frozenset[str]:
        """The alarms that were set, removed or dropped."""
        return self.dropped_alarms.union(self.alarms) if self.alarms else self.dropped_alarms

    def removed_alarms(self) -> list[str]:
        """The alarms that ended here, and were not given up; those that were are forgotten."""
        ended = [name for name, record in self.alarms.items() if record is None and name not in self.dead]
        return [*ended, *self.dropped_alarms]

    def join(self, later: "Changes") -> None:
        """Take in the changes of a later turn."""
        if later.clear:
            later.dropped_alarms |= self.touched_alarms()
            self.values, self.alarms, self.dead, self.clear = {}, {}, {}, True
        if later.parts is not None:
            self.of_parts(later.parts.mark).join(later.parts, clear=later.clear)
        if later.kept is not None:
            self.of_kept().join(later.kept)
        self.values.update(later.values)
        self.alarms.update(later.alarms)
        if self.dead:
            merge(self.dead, dict.fromkeys(later.removed_alarms()))
        self.dead.update(later.dead)
        self.dropped_alarms |= later.dropped_alarms
        self.expire_at_ms, self.alarm_serial = later.expire_at_ms, later.alarm_serial


def merge(base: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Apply changes to what was there; None removes."""
    for key, value in changes.items():
        if value is None:
            base.pop(key, None)
        else:
            base[key] = value


def check_size(what: str, size: int, size_max: int, *, unit: str = "bytes") -> None:
    """Raises TooLargeError if `size` is over `size_max`."""
    if size > size_max:
        raise TooLargeError(what, size=size, size_max=size_max, unit=unit)


def check_moment(what: str, at_ms: int) -> None:
    """Raises TypeError unless `at_ms` is a whole number of milliseconds that the store can keep exactly."""
    if type(at_ms) is not int or not 0 <= at_ms <= bounds.MOMENT_MS_MAX:
        raise TypeError(f"{what} must be a whole number of Unix milliseconds, not {at_ms!r}")
