"""A history read backwards, of which positions are missing: trimmed, or lost with a store that went back in time."""

from typing import Any, cast

import pytest

from services.workflows.keeping import read_back
from shared.objects.journal import Journal, JournalEntry
from tests.support.stepping import at_once


class Gaps:
    """A journal with entries at these positions alone; `last` is the newest there ever was."""

    def __init__(self, positions: list[int], last: int) -> None:
        self._positions = positions
        self.first, self.last = positions[0] if positions else last + 1, last

    async def read(self, after: int, limit: int, *, type_: Any) -> list[JournalEntry]:
        """As `Journal.read`."""
        return [JournalEntry(position, type_) for position in self._positions if position > after][:limit]


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("positions", "last"), [([], 0), ([], 7), ([1], 1), ([4, 5, 6], 6), ([1, 2, 9], 9), ([1, 2, 3], 12), ([2, 7, 8], 8)]
)
def test_pages_backwards_are_all_that_there_is(positions: list[int], last: int, limit: int) -> None:
    """Each entry once, the newest first; a page is empty only where nothing is left."""
    journal, before, seen = cast("Journal", Gaps(positions, last)), 0, list[int]()
    while page := at_once(read_back(journal, before, limit)):
        assert len(page) <= limit
        before = page[-1].position
        seen += [entry.position for entry in page]
    assert positions[::-1] == seen
