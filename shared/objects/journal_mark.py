"""Where the journal of an object begins, where it goes on, and how much of it there is.

The entries stay in the store; this mark is all that memory knows of them. It is written with every commit
that changes the journal, so bounds can be checked and positions given out without a read. Positions rise
by one from 1 on and are not given out twice while anything of the object, or the object itself, is there.

Sizes are kept by runs of entries. The oldest run counts whole until all of it is trimmed, which costs the
bound on bytes at most the 256 KiB that a run can have.
"""

import msgspec

from shared import bounds

_RUN_ENTRIES = 128
_RUN_BYTES = 128 * 1024
assert _RUN_BYTES + bounds.VALUE_BYTES_MAX <= bounds.JOURNAL_BYTES_MAX // 32


class JournalMark(msgspec.Struct, frozen=True, array_like=True):
    """`next` is the position of the next entry, `first` that of the oldest kept; 0: there is no journal now.

    `runs` has (entries, bytes) of the runs up to `next`, oldest first.
    """

    first: int = 0
    next: int = 1
    runs: tuple[tuple[int, int], ...] = ()

    @property
    def length(self) -> int:
        """How many entries are kept."""
        return self.next - self.first if self.first else 0

    @property
    def size_bytes(self) -> int:
        """Their bytes, with those of the oldest run that were trimmed."""
        return sum(size_bytes for _, size_bytes in self.runs)

    def appended(self, size_bytes: int) -> "JournalMark":
        """After one more entry."""
        runs, last = self.runs, (0, 0)
        if runs and runs[-1][0] < _RUN_ENTRIES and runs[-1][1] < _RUN_BYTES:
            runs, last = runs[:-1], runs[-1]
        return JournalMark(self.first or self.next, self.next + 1, (*runs, (last[0] + 1, last[1] + size_bytes)))

    def trimmed(self, before: int) -> "JournalMark":
        """After the entries below `before` were dropped."""
        first = min(max(self.first, before), self.next)
        begins = self.next - sum(entries for entries, _ in self.runs)
        dropped = 0
        for entries, _ in self.runs:
            begins += entries
            if begins > first:
                break
            dropped += 1
        return JournalMark(first, self.next, self.runs[dropped:])

    def ended(self) -> "JournalMark":
        """After everything of the object was deleted; positions go on."""
        return JournalMark(0, self.next)
