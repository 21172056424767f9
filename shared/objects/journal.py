"""The journal of an object: entries that are appended, read in pages and trimmed, and never changed.

It is part of the turn and of its commit like any other write, and is not loaded with the object: a
read asks the store, fenced, for what the store surely has, and takes the rest from memory. So a turn
sees its own entries and those of all turns before it, and its answer leaves when they are stored.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

from shared import bounds
from shared.objects.changes import check_size
from shared.objects.state import stored_form
from shared.storage.codec import decode

if TYPE_CHECKING:
    from shared.objects.activation import Activation
    from shared.objects.state import ObjectState


class JournalEntry(NamedTuple):
    """An entry and its position. Positions rise by one with each entry."""

    position: int
    value: Any


class Journal:
    """The journal of the object whose turn runs."""

    __slots__ = ("_activation", "_state")

    def __init__(self, activation: "Activation", state: "ObjectState") -> None:
        self._activation = activation
        self._state = state

    def __len__(self) -> int:
        return self._state.journal.length

    @property
    def first(self) -> int:
        """The position of the oldest entry; of an empty journal that which the next entry will get."""
        return self._state.journal.first or self._state.journal.next

    @property
    def last(self) -> int:
        """The position of the newest entry that there ever was; 0 before the first."""
        return self._state.journal.next - 1

    def append(self, value: Any) -> int:
        """Add a frozen struct, an immutable built-in or bytes (128 KiB), and return its position.

        Raises:
            TypeError: the value is mutable or cannot be stored.
            TooLargeError: the entry, the turn or the journal (10,000 entries, 8 MiB) would pass its bound.
        """
        stored = stored_form("The entry", value)
        mark = self._state.journal
        check_size("The journal", mark.length + 1, bounds.JOURNAL_ENTRIES_MAX, unit="entries")
        check_size("The journal", mark.size_bytes + len(stored), bounds.JOURNAL_BYTES_MAX)
        return self._state.append(stored)

    def trim(self, *, keep: int | None = None, before: int | None = None) -> None:
        """Drop the oldest entries: all but the newest `keep`, or those at positions below `before`.

        Raises:
            ValueError: neither or both are said, or one is negative.
        """
        if (keep is None) == (before is None) or min(keep or 0, before or 0) < 0:
            raise ValueError("trim takes either keep or before, as a number from 0 on")
        mark = self._state.journal
        first = mark.next - keep if keep is not None else before or 0
        if mark.length and first > mark.first:
            self._state.trim(first)

    async def read(self, after: int = 0, limit: int = 100, *, type_: Any = Any) -> list[JournalEntry]:
        """At most `limit` entries behind position `after`, oldest first, 1,000 at once; values as a `type_`.

        None only if there are none, though positions behind `after` may have been trimmed, or lost with a store that
        went back in time: pages of a loop that goes on behind the last entry of each are all there is.

        Raises:
            msgspec.ValidationError: an entry is not a `type_`.
            UnavailableError: the store does not answer.
            CommitFailedError: the object has another owner, or left memory; so will this turn fail.
        """
        mark, tail = self._state.journal, self._state.tail()
        limit = min(limit, bounds.JOURNAL_READ_ENTRIES)
        begins = max(after + 1, mark.first)
        if not mark.length or begins >= mark.next or limit <= 0:
            return []
        tail_begins = tail[0][0] if tail else mark.next
        found: list[tuple[int, bytes]] = []
        if begins < tail_begins:
            rows = await self._activation.host.reads.journal(
                self._activation, after=begins - 1, rows=min(limit, tail_begins - begins)
            )
            found = [(position, stored) for position, stored in rows if position < tail_begins]
        found += [(position, stored) for position, stored in tail if position >= begins]
        return [JournalEntry(position, decode(stored, type_)) for position, stored in found[:limit]]
