"""The cache holds no more than it may, tells nothing old, and loads a key once for all who ask."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shared.cache import Cache
from shared.testing.clock import ManualClock

TTL_MS = 1_000


def small(clock: ManualClock | None = None, entries_max: int = 3) -> Cache[str, str]:
    return Cache(clock or ManualClock(), entries_max=entries_max, ttl_ms=TTL_MS)


def weighed(bytes_max: int) -> Cache[str, str]:
    return Cache(ManualClock(), entries_max=10, ttl_ms=TTL_MS, bytes_max=bytes_max, size_of=len)


class Source:
    """Where values come from: counts its calls, and answers when told to."""

    def __init__(self) -> None:
        self.calls = 0
        self.answer = asyncio.Event()
        self.error: Exception | None = None

    async def load(self) -> str:
        self.calls += 1
        call = self.calls
        await self.answer.wait()
        if self.error is not None:
            raise self.error
        return f"value {call}"


def ask(cache: Cache[str, str], source: Source, count: int) -> list["asyncio.Task[str]"]:
    return [asyncio.create_task(cache.get_or_load("a", source.load)) for _ in range(count)]


async def a_moment() -> None:
    """Let every task get as far as it can without an answer."""
    for _ in range(5):
        await asyncio.sleep(0)


# Bounds.


def test_what_was_used_longest_ago_leaves() -> None:
    """A full cache makes room at the end where nobody looked."""
    cache = small()
    for key in "abc":
        cache.put(key, key)
    cache.get("a")
    cache.put("d", "d")

    assert ["a", None, "c", "d"] == [cache.get(key) for key in "abcd"]
    assert (3, 1) == (len(cache), cache.evictions)


def test_bytes_are_bounded_too() -> None:
    """A large value pushes out as many as it takes."""
    cache = weighed(10)
    for key in "abc":
        cache.put(key, "123")
    cache.put("d", "12345")

    assert [None, None, "123", "12345"] == [cache.get(key) for key in "abcd"]
    assert (8, 2) == (cache.size_bytes, cache.evictions)


def test_a_value_larger_than_the_cache_is_not_kept() -> None:
    """It pushes nothing out but what stood under its own key."""
    cache = weighed(10)
    cache.put("a", "1")
    cache.put("b", "1")
    cache.put("a", "x" * 11)

    assert [None, "1"] == [cache.get(key) for key in "ab"]
    assert (1, 1) == (cache.size_bytes, cache.evictions)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Cache(ManualClock(), entries_max=0, ttl_ms=1),
        lambda: Cache(ManualClock(), entries_max=1, ttl_ms=0),
        lambda: Cache(ManualClock(), entries_max=1, ttl_ms=1, bytes_max=1),
        lambda: Cache(ManualClock(), entries_max=1, ttl_ms=1, size_of=len),
    ],
    ids=["no room", "no time", "no sizes", "no bytes"],
)
def test_a_cache_without_its_bounds_is_a_bug(make: Callable[[], object]) -> None:
    """No room, no time, or a bound in bytes without sizes stop the program."""
    with pytest.raises(AssertionError):
        make()


# Age.


def test_a_value_is_told_until_it_is_too_old() -> None:
    """Its age counts from when it was put, however often it is used."""
    clock = ManualClock()
    cache = small(clock)
    cache.put("a", "1")
    clock.advance(TTL_MS - 1)

    assert "1" == cache.get("a")
    clock.advance(1)
    assert cache.get("a") is None
    assert cache.pop("a") is None


def test_a_value_that_is_put_again_is_young_again() -> None:
    """The new value counts, from now on."""
    clock = ManualClock()
    cache = small(clock)
    cache.put("a", "1")
    clock.advance(TTL_MS - 1)
    cache.put("a", "2")
    clock.advance(TTL_MS - 1)

    assert "2" == cache.get("a")


def test_old_entries_leave_when_others_come() -> None:
    """Two go for each that comes, so a burst does not stay; they count as no evictions."""
    clock = ManualClock()
    cache = small(clock, entries_max=100)
    for i in range(10):
        cache.put(f"old {i}", "")
    clock.advance(TTL_MS)
    for i in range(10):
        cache.put(f"new {i}", "")

    assert (10, 0) == (len(cache), cache.evictions)


def test_hits_and_misses_are_counted() -> None:
    """What was not there or too old is a miss."""
    clock = ManualClock()
    cache = small(clock)
    cache.get("a")
    cache.put("a", "1")
    cache.get("a")
    cache.get("a")
    clock.advance(TTL_MS)
    cache.get("a")

    assert (2, 2) == (cache.hits, cache.misses)


def test_a_forgotten_key_is_gone() -> None:
    """Its value is given back, once."""
    cache = small()
    cache.put("a", "1")

    assert ["1", None] == [cache.pop("a"), cache.pop("a")]
    assert 0 == len(cache)


# Loading.


async def test_those_who_ask_at_the_same_time_share_one_load() -> None:
    """One call to the source, one value for all, kept for those who come later."""
    cache, source = small(), Source()
    asking = ask(cache, source, 3)
    await a_moment()
    source.answer.set()

    assert ["value 1"] * 3 == await asyncio.gather(*asking)
    assert "value 1" == await cache.get_or_load("a", source.load)
    assert 1 == source.calls


async def test_a_load_that_fails_fails_for_all_who_wait_and_is_not_kept() -> None:
    """The next one to ask loads again."""
    cache, source = small(), Source()
    source.error = ValueError("no")
    asking = ask(cache, source, 3)
    await a_moment()
    source.answer.set()

    assert [source.error] * 3 == await asyncio.gather(*asking, return_exceptions=True)
    source.error = None
    assert "value 2" == await cache.get_or_load("a", source.load)


async def test_another_loads_when_who_loads_is_cancelled() -> None:
    """The others are not cancelled with it, and only one of them loads."""
    cache, source = small(), Source()
    first, *others = ask(cache, source, 3)
    await a_moment()
    first.cancel()
    await a_moment()
    source.answer.set()

    assert ["value 2"] * 2 == await asyncio.gather(*others)
    assert (True, 2) == (first.cancelled(), source.calls)


async def test_one_who_waits_can_be_cancelled_alone() -> None:
    """The load goes on for the rest."""
    cache, source = small(), Source()
    first, second, third = ask(cache, source, 3)
    await a_moment()
    second.cancel()
    await a_moment()
    source.answer.set()

    assert ["value 1", "value 1"] == [await first, await third]
    assert (True, 1) == (second.cancelled(), source.calls)


@pytest.mark.parametrize(
    ("meanwhile", "kept"),
    [(lambda c: c.pop("a"), None), (lambda c: c.put("a", "new"), "new")],
    ids=["forgotten", "replaced"],
)
async def test_a_load_does_not_bring_back_what_was_replaced_meanwhile(
    meanwhile: Callable[[Cache[str, str]], object], kept: str | None
) -> None:
    """Who asked before gets what was loaded; it is not kept over what came later."""
    cache, source = small(), Source()
    asking = ask(cache, source, 2)
    await a_moment()
    meanwhile(cache)
    source.answer.set()

    assert ["value 1"] * 2 == await asyncio.gather(*asking)
    assert kept == cache.get("a")


async def test_who_asks_after_a_key_was_forgotten_starts_a_load_of_its_own() -> None:
    """The load that was under way may have read what is no longer true."""
    cache, source = small(), Source()
    before = ask(cache, source, 1)
    await a_moment()
    cache.pop("a")
    after = ask(cache, source, 1)
    await a_moment()
    source.answer.set()

    assert ["value 1", "value 2"] == [await asking for asking in (*before, *after)]
    assert "value 2" == cache.get("a")


async def test_none_can_be_the_answer() -> None:
    """That there is none is kept like any other answer."""
    calls: list[str] = []

    async def nobody() -> None:
        calls.append("asked")

    cache: Cache[str, None] = Cache(ManualClock(), entries_max=3, ttl_ms=TTL_MS)
    load: Callable[[], Awaitable[None]] = nobody
    for _ in range(3):
        await cache.get_or_load("a", load)

    assert ["asked"] == calls


# Against a list that does the same slowly.


class CacheMachine(RuleBasedStateMachine):
    """Any history of calls ends as it does for a list of (key, value, expiry), searched from the front."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.cache: Cache[int, bytes] = Cache(self.clock, entries_max=4, ttl_ms=50, bytes_max=20, size_of=len)
        self.model: list[tuple[int, bytes, int]] = []

    @rule(key=st.integers(0, 6), value=st.binary(max_size=22))
    def put(self, key: int, value: bytes) -> None:
        self.cache.put(key, value)
        self.model = [entry for entry in self.model if entry[0] != key]
        if len(value) <= 20:
            self.model.append((key, value, self.clock.monotonic_ms() + 50))
        while len(self.model) > 4 or sum(len(entry[1]) for entry in self.model) > 20:
            del self.model[0]

    @rule(key=st.integers(0, 6))
    def get(self, key: int) -> None:
        found = self.young(key)
        if found is not None:
            self.model.remove(found)
            self.model.append(found)
        assert (found and found[1]) == self.cache.get(key)

    @rule(key=st.integers(0, 6))
    def pop(self, key: int) -> None:
        found = self.young(key)
        self.model = [entry for entry in self.model if entry[0] != key]
        assert (found and found[1]) == self.cache.pop(key)

    @rule(ms=st.integers(0, 60))
    def pass_time(self, ms: int) -> None:
        self.clock.advance(ms)

    @invariant()
    def bounds_hold(self) -> None:
        assert len(self.cache) <= 4
        assert self.cache.size_bytes <= 20

    def young(self, key: int) -> tuple[int, bytes, int] | None:
        return next((entry for entry in self.model if entry[0] == key and self.clock.monotonic_ms() < entry[2]), None)


TestCacheMachine = CacheMachine.TestCase
