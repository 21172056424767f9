"""Listings over shards: one order, every row once, and few questions."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import bounds
from shared.objects.address import Address, shard_of
from shared.objects.errors import OverloadedError, TooLargeError, UnavailableError
from shared.objects.handler import DurableObject
from shared.objects.listings import Cursor, Listings, Page
from shared.storage.interface import ClaimOrder, Fence, ObjectWrite, Section
from shared.storage.listings import IndexEntry
from shared.testing.clock import ManualClock, run_virtual
from shared.testing.faults import FaultKind, FaultyStore
from shared.testing.store import MemoryStore
from tests.support.stepping import at_once

SHARDS = 3
TTL_MS = 10**9


class Job(DurableObject):
    """What is listed."""

    kind = "job"


class Other(DurableObject):
    """A kind whose index has the same name."""

    kind = "other"


def store_with(rows: dict[str, int], *, kind: str = "job") -> FaultyStore:
    """Open jobs of acme, by name, with their times."""
    store = MemoryStore(ManualClock())
    for shard in range(SHARDS):
        claims = at_once(store.claim([ClaimOrder(shard=shard)], token=b"t", node="n", lock_id="", ttl_ms=TTL_MS))
        writes = [
            ObjectWrite(
                object_id=encoded,
                index_sets={
                    f"{kind}/status": IndexEntry(tenant="acme", value="open", sort_ms=at_ms, summary=name.encode())
                },
            )
            for name, at_ms in rows.items()
            if shard_of(encoded := Address(kind, "acme", name).encode(), SHARDS) == shard
        ]
        section = Section(shard=shard, fence=Fence(claims.leases[0].epoch, b"t"), seq=0, commit_id=b"c", writes=writes)
        at_once(store.commit([section], ttl_ms=TTL_MS, timeout_ms=1_000))
    return FaultyStore(store)


def find(listings: Listings, *, after: Cursor | None = None, limit: int = 100) -> Page:
    """A page of open jobs."""
    return at_once(listings.find(Job, "acme", "status", "open", after=after, limit=limit))


def ordered(rows: dict[str, int]) -> list[str]:
    """The names in the order of a listing."""
    return sorted(rows, key=lambda name: (rows[name], Address("job", "acme", name).encode()))


names = st.text("abcdé", min_size=1, max_size=4)


@settings(max_examples=60)
@given(rows=st.dictionaries(names, st.integers(0, 3), max_size=40), limit=st.integers(1, 12))
def test_pages_have_every_row_once_and_in_order(rows: dict[str, int], limit: int) -> None:
    """By time, then address, whatever shards they are on; at most one question and one a shard for each page."""
    store = store_with(rows)
    listings = Listings(store, shards=SHARDS)
    seen: list[str] = []
    page = find(listings, limit=limit)
    pages = 1
    while True:
        assert len(page.rows) <= limit
        seen += [row.address.name for row in page.rows]
        assert all(row.summary == row.address.name.encode() for row in page.rows)
        if page.after is None:
            break
        assert Cursor(page.rows[-1].sort_ms, page.rows[-1].address) == page.after
        page = find(listings, after=page.after, limit=limit)
        pages += 1

    assert ordered(rows) == seen
    assert store.calls["find"] <= pages * (1 + SHARDS)
    assert len(rows) == at_once(listings.count(Job, "acme", "status", "open"))


def test_rows_of_one_shard_are_asked_for_twice_at_most() -> None:
    """Its first rows come with those of all shards, the rest in one go."""
    here = [name for name in map(str, range(200)) if shard_of(Address("job", "acme", name).encode(), SHARDS) == 1]
    store = store_with(dict.fromkeys(here, 1))

    assert ordered(dict.fromkeys(here, 1))[:50] == [
        row.address.name for row in find(Listings(store, shards=SHARDS), limit=50).rows
    ]
    assert 2 == store.calls["find"]


def test_a_listing_has_one_kind_tenant_and_value() -> None:
    """An index of the same name of another kind is another one."""
    listings = Listings(store_with({"a": 1}, kind="other"), shards=SHARDS)

    assert Page([], None) == find(listings)
    assert 1 == len(at_once(listings.find(Other, "acme", "status", "open")).rows)
    assert Page([], None) == at_once(listings.find(Other, "acm", "status", "open"))
    assert Page([], None) == at_once(listings.find(Other, "acme", "status", "done"))


def test_a_page_has_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """More is not given at once, whatever is asked for; less than one row asks nobody."""
    monkeypatch.setattr(bounds, "LISTING_ROWS_MAX", 2)
    store = store_with({"a": 1, "b": 2, "c": 3})
    listings = Listings(store, shards=SHARDS)

    assert ["a", "b"] == [row.address.name for row in find(listings, limit=9).rows]
    calls = dict(store.calls)
    assert Page([], None) == find(listings, limit=0)
    assert calls == store.calls


@pytest.mark.parametrize(
    ("tenant", "name", "value", "error"),
    [
        ("t" * (bounds.TENANT_BYTES_MAX + 1), "status", "open", TooLargeError),
        ("acme", "n" * (bounds.INDEX_NAME_BYTES_MAX + 1), "open", TooLargeError),
        ("acme", "status", "v" * (bounds.INDEX_VALUE_BYTES_MAX + 1), TooLargeError),
        ("acme", "", "open", ValueError),
        ("acme", "a/b", "open", ValueError),
    ],
    ids=["tenant", "name", "value", "nameless", "slash"],
)
def test_what_no_row_can_have_is_not_searched_for(tenant: str, name: str, value: str, error: type[Exception]) -> None:
    """It would be a mistake of the caller's, and never find anything."""
    listings = Listings(store_with({}), shards=SHARDS)
    for question in (listings.find, listings.count):
        with pytest.raises(error):
            at_once(question(Job, tenant, name, value))


@pytest.mark.parametrize("kind", [FaultKind.AWAY, FaultKind.REPLY_LOST])
def test_a_store_that_does_not_answer_fails_the_listing(kind: FaultKind) -> None:
    """It is not tried again here: a listing can simply be asked for anew, and the next one is served."""
    store = store_with({"a": 1})
    listings = Listings(store, shards=SHARDS)
    for operation in ("find", "count"):
        store.next(operation, kind)
        with pytest.raises(UnavailableError):
            at_once(getattr(listings, operation)(Job, "acme", "status", "open"))
        at_once(getattr(listings, operation)(Job, "acme", "status", "open"))


class SlowStore(MemoryStore):
    """Notes how many questions it has at once."""

    at_once, most = 0, 0

    async def count(self, shards: Sequence[int], *, tenant: str, index: str, value: str) -> int:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            return await super().count(shards, tenant=tenant, index=index, value=value)
        finally:
            self.at_once -= 1


def test_two_listings_run_at_a_time_and_few_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others wait their turn; over the bound a listing is refused at once, and has not started."""
    monkeypatch.setattr(bounds, "LISTINGS_WAITING_MAX", 3)

    async def main() -> None:
        store = SlowStore(ManualClock(), latency_ms=10)
        listings = Listings(store, shards=SHARDS)

        async def ask() -> int:
            return await listings.count(Job, "acme", "status", "open")

        answers = await asyncio.gather(*(ask() for _ in range(6)), return_exceptions=True)
        assert [OverloadedError] == [type(answer) for answer in answers if answer != 0]
        assert 2 == store.most
        assert 0 == await ask()

    run_virtual(main)
