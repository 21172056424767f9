"""A page over many shards is the beginning of all their rows in one order, however they are spread."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from shared.objects.merging import merged
from tests.support.stepping import at_once

rows = st.lists(st.binary(min_size=1, max_size=2), max_size=12, unique=True).map(sorted)


class Shards:
    """Sorted rows by shard, and what was asked of them."""

    def __init__(self, content: Sequence[Sequence[bytes]]) -> None:
        self.content = content
        self.asked: list[tuple[int, int]] = []

    async def fetch(self, shards: Sequence[int], after: bytes | None, rows: int) -> list[list[bytes]]:
        self.asked.append((len(shards), rows))
        return [[row for row in self.content[shard] if row > (after or b"")][:rows] for shard in shards]


@given(content=st.lists(rows, min_size=1, max_size=6), limit=st.integers(1, 20))
def test_pages_are_all_rows_in_order(content: list[list[bytes]], limit: int) -> None:
    """None twice, none left out, and a page is short at the end only."""
    shards, seen = Shards(content), []
    expected = sorted((row, shard) for shard, rows in enumerate(content) for row in rows)
    after = None
    while page := at_once(merged(shards.fetch, range(len(content)), after=after, limit=limit)):
        seen += [(row, shard) for shard, row in page]
        after = page[-1][1]
        assert len(page) == limit or len(seen) == sum(map(len, content)), "a page is short before the end"
        if len({row for row, _ in expected}) < len(expected):
            return  # The same row in two shards cannot be: an address has one shard.

    assert expected == seen


def test_a_page_costs_about_as_many_rows_as_it_has() -> None:
    """From each shard twice its share and two; where all are in one shard, the rest of them in one question more."""
    even = Shards([[b"%d%c" % (n, shard) for n in range(9)] for shard in range(100)])
    at_once(merged(even.fetch, range(100), after=None, limit=100))
    lone = Shards([[], [], [], [b"%03d" % n for n in range(500)]])
    at_once(merged(lone.fetch, range(4), after=None, limit=100))

    assert [(100, 4)] == even.asked
    assert [(4, 52), (1, 48)] == lone.asked
