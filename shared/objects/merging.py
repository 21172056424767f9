"""One page of a listing whose rows lie in many shards, each in the order that all have in common.

Every shard is asked for a few rows in one step; one whose rows are used up is asked once more, for all that may
still be needed. So a page costs two questions a shard at most, and one where rows are spread as chance would.
"""

from collections.abc import Awaitable, Callable, Sequence
from heapq import heapify, heappop, heappush
from typing import TypeVar

from shared.storage.listings import Place

R = TypeVar("R", bytes, Place)
_SPARE_ROWS = 2  # With as many more than twice its share, a shard is seldom asked again.

Fetch = Callable[[Sequence[int], R | None, int], Awaitable[Sequence[Sequence[R]]]]
"""Rows of each of some shards after a row (None: from the start), at most so many of one shard."""


async def merged(fetch: Fetch[R], shards: Sequence[int], *, after: R | None, limit: int) -> list[tuple[int, R]]:
    """The first `limit` rows after `after` with their shards, in order; fewer only at the end of the listing.

    Not a snapshot: what changes meanwhile may be seen as it was or as it is.
    """
    share = min(limit, 2 * -(-limit // max(1, len(shards))) + _SPARE_ROWS)
    pages = {shard: list(rows) for shard, rows in zip(shards, await fetch(shards, after, share), strict=True)}
    heap = [(rows[0], shard, 0) for shard, rows in pages.items() if rows]
    heapify(heap)
    more = {shard for shard, rows in pages.items() if len(rows) == share}
    found: list[tuple[int, R]] = []
    while heap and len(found) < limit:
        row, shard, at = heappop(heap)
        found.append((shard, row))
        if at + 1 == len(pages[shard]) and shard in more and len(found) < limit:
            more.discard(shard)
            (rest,) = await fetch([shard], row, limit - len(found))
            pages[shard], at = list(rest), -1
        if at + 1 < len(pages[shard]):
            heappush(heap, (pages[shard][at + 1], shard, at + 1))
    return found
