"""Finds objects by the rows that they have put into the indexes of their kind, over all shards, in one order.

A listing is not a snapshot: what changes while it is read may be missed or be
seen twice over its pages, but an object that stays as it is comes exactly once. What was acknowledged is seen.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple, TypeVar

from shared import bounds
from shared.objects.address import Address
from shared.objects.changes import check_size
from shared.objects.errors import OverloadedError, UnavailableError
from shared.objects.handler import DurableObject
from shared.objects.index import index_name
from shared.objects.merging import merged
from shared.storage.interface import StoreError
from shared.storage.listings import IndexRow, ListingStore, Place

T = TypeVar("T")


class Cursor(NamedTuple):
    """A place in a listing: behind the row of `address` at `sort_ms`, whether or not that is there any more."""

    sort_ms: int
    address: Address


class Found(NamedTuple):
    """An object as an index lists it."""

    address: Address
    sort_ms: int
    summary: bytes


class Page(NamedTuple):
    """Some rows of a listing, and where the next page begins; None: there are no more."""

    rows: Sequence[Found]
    after: Cursor | None


class Listings:
    """Listings of one service: two at a time, on a connection that no commit or load waits for."""

    def __init__(self, store: ListingStore, *, shards: int) -> None:
        self._store = store
        self._shards = range(shards)
        self._places = asyncio.Semaphore(bounds.LISTINGS_AT_ONCE)
        self._waiting = 0

    async def find(
        self,
        kind: type[DurableObject],
        tenant: str,
        name: str,
        value: str,
        *,
        after: Cursor | None = None,
        limit: int = 100,
    ) -> Page:
        """Objects of `kind` that have `value` in the index `name`, by `sort_ms`, then address; 1,000 at most.

        Raises:
            UnavailableError: the store does not answer.
            OverloadedError: 100 listings wait already.
            TooLargeError, ValueError: tenant, name or value cannot be those of a row.
        """
        index = _checked_name(kind, tenant, name, value)
        limit = min(limit, bounds.LISTING_ROWS_MAX)
        place = None if after is None else Place.past(after.sort_ms, after.address.encode())

        async def fetch(shards: Sequence[int], behind: Place | None, rows: int) -> list[list[Place]]:
            pages = await self._store.find(shards, tenant=tenant, index=index, value=value, after=behind, rows=rows)
            return [[row.place for row in page] for page in pages]

        found = await self._in_turn(lambda: merged(fetch, self._shards, after=place, limit=limit)) if limit > 0 else []
        listed = [IndexRow.at(place) for _, place in found]
        rows = [Found(Address.decode(row.object_id), row.sort_ms, row.summary) for row in listed]
        return Page(rows, Cursor(rows[-1].sort_ms, rows[-1].address) if rows and len(rows) == limit else None)

    async def count(self, kind: type[DurableObject], tenant: str, name: str, value: str) -> int:
        """How many objects of `kind` have `value` in the index `name`; raises as `find`."""
        index = _checked_name(kind, tenant, name, value)
        return await self._in_turn(lambda: self._store.count(self._shards, tenant=tenant, index=index, value=value))

    async def _in_turn(self, listing: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if self._waiting >= bounds.LISTINGS_WAITING_MAX:
            raise OverloadedError("Too many listings wait", retry_after_ms=bounds.RETRY_AFTER_MS)
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        try:
            return await listing()
        except StoreError as exc:
            raise UnavailableError("The store does not answer") from exc
        finally:
            self._places.release()


def _checked_name(kind: type[DurableObject], tenant: str, name: str, value: str) -> str:
    check_size("The tenant", len(tenant.encode()), bounds.TENANT_BYTES_MAX)
    return index_name(kind.kind, name, value)
