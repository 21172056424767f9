"""What an object has beside its keys and alarms, and what turns do to it: its journal, and its rows in indexes.

Made when an object first has one, so that those that never do carry nothing of it.
"""

from collections.abc import Iterator, Mapping

from shared.objects.journal_mark import JournalMark
from shared.storage.codec import decode, encode
from shared.storage.interface import JOURNAL_FIELD, ObjectWrite
from shared.storage.listings import IndexEntry


class PartChanges:
    """What a turn did, or several that wait for a commit together: the mark after it, the entries just before it.

    `rows` by the stored names of their indexes; None clears one.
    """

    __slots__ = ("appends", "cut", "mark", "rows")

    def __init__(self, mark: JournalMark) -> None:
        self.mark = mark
        self.appends: list[bytes] = []
        self.rows: dict[str, IndexEntry | None] = {}
        self.cut = False  # Entries below the mark's first one are to be dropped.

    def append(self, stored: bytes) -> int:
        """Append an entry and return its position."""
        position = self.mark.next
        self.mark = self.mark.appended(len(stored))
        self.appends.append(stored)
        return position

    def trim(self, before: int) -> None:
        """Drop the entries below a position."""
        self.mark, self.cut = self.mark.trimmed(before), True

    def reset(self) -> None:
        """Drop everything there is."""
        self.mark, self.cut = self.mark.ended(), True
        self.appends = []
        self.rows = {}

    def join(self, later: "PartChanges", *, clear: bool) -> None:
        """Take in the changes of a later turn; `clear`: it began with a `reset`."""
        self.appends = later.appends if clear else self.appends + later.appends
        self.rows = later.rows if clear else self.rows | later.rows
        self.mark, self.cut = later.mark, self.cut or later.cut

    def entries(self) -> Iterator[tuple[int, bytes]]:
        """The appended entries with their positions."""
        return enumerate(self.appends, self.mark.next - len(self.appends))

    def add_to(self, write: ObjectWrite) -> None:
        """Have a commit carry the changes."""
        mark = self.mark
        if mark.next > 1 and (self.appends or self.cut):
            write.puts[JOURNAL_FIELD] = encode(mark)
            write.journal_first, write.journal_appends = mark.next - len(self.appends), self.appends
            write.journal_keep = (mark.first or mark.next) if self.cut else 0
        for name, row in self.rows.items():
            if row is not None:
                write.index_sets[name] = row
            elif not write.clear:
                write.index_clears.append(name)


class Parts:
    """What there is after all finished turns. `sent` is what a commit carries that is on its way."""

    __slots__ = ("mark", "rows", "sent")

    def __init__(self, mark: JournalMark, rows: dict[str, IndexEntry]) -> None:
        self.mark = mark
        self.rows = rows
        self.sent: PartChanges | None = None

    @classmethod
    def load(cls, fields: Mapping[bytes, bytes], rows: Mapping[str, IndexEntry]) -> "Parts | None":
        """The parts of a stored object; None if it has none."""
        stored = fields.get(JOURNAL_FIELD)
        if stored is None and not rows:
            return None
        return cls(JournalMark() if stored is None else decode(stored, JournalMark), dict(rows))

    @property
    def kept(self) -> bool:
        """Whether there is any part, so that the object is not absent."""
        return self.mark.first > 0 or bool(self.rows)

    def ended(self) -> "Parts":
        """After everything of the object was deleted."""
        return Parts(self.mark.ended(), {})

    def merge(self, changes: PartChanges, *, clear: bool) -> None:
        """Take in a finished turn; `clear`: it began with a `reset`."""
        self.mark = changes.mark
        if clear:
            self.rows = {}
        for name, row in changes.rows.items():
            if row is None:
                self.rows.pop(name, None)
            else:
                self.rows[name] = row

    def take(self, pending: PartChanges | None, *, clear: bool) -> PartChanges | None:
        """What a commit has to carry of the parts; `clear`: it deletes all that is stored first."""
        if clear:
            pending = pending or PartChanges(self.mark)
            pending.cut = True
        if self.sent is None:
            self.sent = pending
        elif pending is not None:
            self.sent.join(pending, clear=clear)
        return pending

    def landed(self) -> None:
        """The store has all that was taken."""
        self.sent = None

    def rewritten(self, pending: PartChanges | None) -> PartChanges:
        """All that the store may not have, to be taken again.

        Where it went back in time, entries that it had confirmed and lost are not to be had: the journal has a gap.
        """
        everything = PartChanges(self.mark)
        everything.cut = True
        everything.rows.update(self.rows)
        layers = (changes for changes in (self.sent, pending) if changes is not None)
        everything.appends = [
            stored for changes in layers for position, stored in changes.entries() if position >= self.mark.first
        ]
        self.sent = None
        return everything
