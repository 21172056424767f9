"""Window arithmetic: the promise, its exactness, its price, and that the bounds sit exactly where they are said to be."""

import sys
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.ratelimiter.window import LOG_HITS_MAX, Rule, Window, rule_for
from shared.storage.codec import UnknownFormatError

START_MS = 1_700_000_000_000
YEAR_MS = 365 * 24 * 3_600_000


def log_of(limit: int, window_ms: int) -> Window:
    return Window(rule_for(limit, window_ms, log=True))


def buckets_of(limit: int, window_ms: int) -> Window:
    """Buckets for small limits as well, so that a brute force stays small."""
    tick_ms = rule_for(LOG_HITS_MAX + 1, window_ms).tick_ms
    return Window(Rule(limit=limit, window_ms=window_ms, tick_ms=tick_ms, log=False))


def try_take(window: Window, now_ms: int, cost: int) -> bool:
    if not window.fits(now_ms, cost):
        return False
    window.take(now_ms, cost)
    return True


def most_in_any_span(hits: list[tuple[int, int]], span: int) -> int:
    """The largest sum of costs in any half-open span, by trying a span from every hit on."""
    return max(
        (sum(cost for at, cost in hits[first:] if at < start + span) for first, (start, _) in enumerate(hits)),
        default=0,
    )


kinds = st.sampled_from([log_of, buckets_of])
limits = st.integers(1, 12)
windows_ms = st.sampled_from([1, 2, 7, 60, 100, 599, 600, 601, 1_000, 6_000])
arrivals = st.lists(st.tuples(st.integers(0, 900), st.integers(1, 4)), max_size=120)


@given(kinds, limits, windows_ms, arrivals)
def test_no_span_of_real_time_sees_more_than_the_limit(make, limit, window_ms, steps):
    """At real instants, finer than the clock shows, no span shorter than the window holds more than the limit."""
    window = make(limit, window_ms)
    now_us, hits = START_MS * 1000, []
    for step, cost in steps:
        now_us += step * max(1, window_ms * 1000 // 1_500) + step % 7
        if cost <= limit and try_take(window, now_us // 1000, cost):
            hits.append((now_us, cost))
    assert most_in_any_span(hits, window_ms * 1000) <= limit


@given(st.integers(0, 999), st.integers(0, 2_000))
def test_two_instants_closer_than_the_window_are_never_apart(fraction_us, more_us):
    """With a limit of one, the second hit comes a full window later on the real clock, wherever in a ms the first was."""
    window = log_of(1, 50)
    first_us = START_MS * 1000 + fraction_us
    assert try_take(window, first_us // 1000, 1)
    second_us = first_us + 49_000 + more_us
    if try_take(window, second_us // 1000, 1):
        assert second_us - first_us >= 50_000
    else:
        assert second_us - first_us < 51_001


def test_a_log_frees_a_hit_exactly_one_millisecond_after_the_window():
    """A hit at ms n counts at n + W and no longer at n + W + 1."""
    window = log_of(1, 1_000)
    window.take(START_MS, 1)
    assert not window.fits(START_MS + 1_000, 1)
    assert window.fits(START_MS + 1_001, 1)


def test_buckets_count_the_whole_oldest_one():
    """A hit in a bucket counts until the window has passed since the bucket's end: 61 slots for 60."""
    window = Window(rule_for(1_000, 60_000))
    edge_ms = START_MS - START_MS % 1_000 + 1_000
    window.take(edge_ms - 1_000, 1_000)
    assert not window.fits(edge_ms + 59_999, 1)
    assert window.fits(edge_ms + 60_000, 1_000)


def test_sixty_one_buckets_are_ever_held():
    """Hits at every millisecond for three windows never make more than 61 live runs of 1 s for a window of 60 s."""
    window = Window(rule_for(10**9, 60_000))
    most = 0
    for now_ms in range(START_MS, START_MS + 180_000, 97):
        assert try_take(window, now_ms, 1)
        most = max(most, len(window.runs()))
    assert most == 61


@pytest.mark.parametrize(
    ("limit", "window_ms", "tick_ms", "log"),
    [
        (256, 60_000, 1, True),
        (257, 60_000, 1_000, False),
        (257, 60_001, 1_001, False),
        (257, 600, 10, False),
        (257, 599, 10, False),
        (257, 100, 10, False),
        (257, 99, 10, False),
        (257, 90, 9, False),
        (257, 1, 1, False),
        (257, 400 * 24 * 3_600_000, 576_000_000, False),
    ],
)
def test_the_rule_follows_limit_and_window(limit, window_ms, tick_ms, log):
    """A log up to 256 hits; above, ticks of a sixtieth, at least 10 ms, but at least ten to a window."""
    assert rule_for(limit, window_ms) == Rule(limit=limit, window_ms=window_ms, tick_ms=tick_ms, log=log)


def test_a_log_can_be_asked_for():
    """`log` keeps every hit above 256 as well."""
    assert rule_for(5_000, 60_000, log=True).log


class Reference:
    """The definition: every hit with the time at which it stops counting, added up."""

    def __init__(self, rule: Rule):
        self.rule = rule
        self.hits: list[tuple[int, int]] = []

    def used(self, now_ms: int) -> int:
        return sum(cost for ends_ms, cost in self.hits if ends_ms > now_ms)

    def fits(self, now_ms: int, cost: int) -> bool:
        return self.used(now_ms) + cost <= self.rule.limit

    def take(self, now_ms: int, cost: int) -> None:
        tick_ms = self.rule.tick_ms
        self.hits.append(((now_ms // tick_ms + 1) * tick_ms + self.rule.window_ms, cost))

    def first_fit_ms(self, now_ms: int, cost: int) -> int:
        moments = [now_ms, *sorted(ends_ms for ends_ms, _ in self.hits if ends_ms > now_ms)]
        return next(at_ms for at_ms in moments if self.fits(at_ms, cost))


class WindowMachine(RuleBasedStateMachine):
    """A window does what the definition says, through restarts, and says exactly when more fits."""

    @initialize(make=kinds, limit=st.integers(1, 700), window_ms=windows_ms | st.just(YEAR_MS))
    def begin(self, make, limit, window_ms):
        self.window = make(limit, window_ms)
        self.reference = Reference(self.window.rule)
        self.now_ms = START_MS

    @rule(sixtieths=st.integers(0, 130) | st.sampled_from([0, 1, 59, 60, 61]), more_ms=st.integers(-2, 2))
    def wait(self, sixtieths, more_ms):
        self.now_ms += max(0, sixtieths * self.window.rule.window_ms // 60 + more_ms)

    @rule(share=st.floats(0, 1))
    def attempt(self, share):
        cost = max(1, round(share * self.reference.rule.limit))
        assert self.window.fits(self.now_ms, cost) == self.reference.fits(self.now_ms, cost)
        if self.reference.fits(self.now_ms, cost):
            self.window.take(self.now_ms, cost)
            self.reference.take(self.now_ms, cost)

    @rule(share=st.floats(0, 1))
    def ask_when(self, share):
        cost = max(1, round(share * self.reference.rule.limit))
        expected_ms = self.reference.first_fit_ms(self.now_ms, cost)
        assert self.window.retry_after_ms(self.now_ms, cost) == expected_ms - self.now_ms
        if expected_ms > self.now_ms:
            assert not Window.decode(self.window.encode()).fits(expected_ms - 1, cost)
            assert Window.decode(self.window.encode()).fits(expected_ms, cost)

    @rule()
    def restart(self):
        self.window = Window.decode(self.window.encode())

    @precondition(lambda self: hasattr(self, "window"))
    @invariant()
    def agree(self):
        used = self.reference.used(self.now_ms)
        live = [ends_ms for ends_ms, _ in self.reference.hits if ends_ms > self.now_ms]
        assert self.window.remaining(self.now_ms) == self.reference.rule.limit - used
        assert self.window.reset_ms(self.now_ms) == (min(live) - self.now_ms if live else 0)
        assert self.window.drained_at_ms() == (max(live) if live else 0)
        edges = [edge_ms for edge_ms, _ in self.window.runs()]
        assert all(earlier <= later for earlier, later in pairwise(edges))
        assert (self.window.used == 0) == (len(self.window) == 0)


TestWindowMachine = WindowMachine.TestCase
TestWindowMachine.settings = settings(stateful_step_count=60)


@given(limits, windows_ms, arrivals)
def test_buckets_never_answer_early_and_at_most_one_bucket_late(limit, window_ms, steps):
    """Against an exact log of the same hits, retry_after of buckets is never smaller, and larger by a tick at most."""
    buckets, log = buckets_of(limit, window_ms), log_of(limit, window_ms)
    now_ms = START_MS
    for step, cost in steps:
        now_ms += step * window_ms // 1_000
        cost = min(cost, limit)
        late_ms = buckets.retry_after_ms(now_ms, cost) - log.retry_after_ms(now_ms, cost)
        assert 0 <= late_ms < buckets.rule.tick_ms
        if buckets.fits(now_ms, cost):
            buckets.take(now_ms, cost)
            log.take(now_ms, cost)


@given(kinds, limits, st.sampled_from([60, 600, 1_000]))
def test_at_saturation_a_limit_passes_in_every_window_and_tick(make, limit, window_ms):
    """Asked at every millisecond, at least `limit` pass in each `window + tick`: 98.3 % of the limit with 60 buckets."""
    window = make(limit, window_ms)
    rounds = 5
    span_ms = window_ms + window.rule.tick_ms
    passed = sum(
        try_take(window, now_ms, 1) for now_ms in range(START_MS, START_MS + rounds * span_ms) for _ in range(2)
    )
    assert passed >= rounds * limit


@given(kinds, limits, windows_ms, arrivals, kinds, limits, windows_ms)
def test_a_change_of_rule_forgets_nothing_that_counts(
    make, limit, window_ms, steps, make_next, next_limit, next_window_ms
):
    """Under a new rule every hit counts for at least the new window from its instant, if it still counted."""
    window, now_ms, hits = make(limit, window_ms), START_MS, []
    for step, cost in steps:
        now_ms += step * window_ms // 1_000
        if try_take(window, now_ms, min(cost, limit)):
            hits.append((now_ms, min(cost, limit)))
    known = [(at_ms, cost) for at_ms, cost in hits if at_ms + window_ms >= now_ms]
    new_rule = make_next(next_limit, next_window_ms).rule
    window = window.conformed(new_rule, now_ms)
    assert window.rule == new_rule
    for ahead_ms in sorted({0, 1, next_window_ms // 2, next_window_ms}):
        counted = sum(cost for at_ms, cost in known if at_ms + next_window_ms >= now_ms + ahead_ms)
        window.fits(now_ms + ahead_ms, 0)
        assert window.used >= counted
    tick_ms = max(new_rule.tick_ms, make(1, window_ms).rule.tick_ms)
    assert window.drained_at_ms() <= now_ms + tick_ms + next_window_ms


def test_a_lowered_limit_keeps_its_usage():
    """What was used under 100 counts under 10: nothing is left until enough of it has gone, and the time is exact."""
    window = log_of(100, 1_000)
    for at_ms in range(50):
        window.take(START_MS + at_ms, 1)
    window = window.conformed(rule_for(10, 1_000), START_MS + 60)
    assert window.remaining(START_MS + 60) == 0
    wait_ms = window.retry_after_ms(START_MS + 60, 1)
    assert START_MS + 60 + wait_ms == START_MS + 40 + 1_001
    assert not window.fits(START_MS + 60 + wait_ms - 1, 1)
    assert window.fits(START_MS + 60 + wait_ms, 1)


def test_a_log_moves_to_a_longer_window_to_the_millisecond():
    """A change that rebuilds the log, because its edges get wider, keeps every edge as it is."""
    window = log_of(3, 1_000)
    window.take(START_MS, 1)
    window.take(START_MS + 7, 1)
    window = window.conformed(rule_for(3, YEAR_MS), START_MS + 20)
    assert window.drained_at_ms() == START_MS + 8 + YEAR_MS
    assert window.retry_after_ms(START_MS + 20, 2) == YEAR_MS + 1 - 20


def test_flipping_rules_does_not_push_hits_into_the_future():
    """However often the rule changes, a hit never counts longer than from the end of the present tick."""
    year, minute = rule_for(1_000, YEAR_MS), rule_for(1_000, 60_000)
    window = Window(year)
    window.take(START_MS, 7)
    for _ in range(50):
        window = window.conformed(minute, START_MS + 5)
        window = window.conformed(year, START_MS + 5)
    assert window.used == 7
    assert window.drained_at_ms() <= START_MS + 5 + year.tick_ms + YEAR_MS


@pytest.mark.parametrize("limit", [3, 200, 5_000])
@pytest.mark.parametrize("window_ms", [10, 1_000, 2**31 - 2, 2**31 + 7, YEAR_MS])
def test_what_is_stored_comes_back(limit, window_ms):
    """Encoding keeps rule and usage, for narrow and wide windows, logs and buckets, and stays under its stated size."""
    window = Window(rule_for(limit, window_ms))
    for part in range(limit):
        try_take(window, START_MS + part * window_ms // limit, 1)
    stored = window.encode()
    copy = Window.decode(stored)
    assert (copy.rule, copy.used, copy.encode()) == (window.rule, window.used, stored)
    assert copy.drained_at_ms() == window.drained_at_ms()
    assert len(stored) <= window.rule.stored_bytes_max()


def test_only_what_counts_is_stored():
    """Runs that have stopped counting are not written: an edge and its hits, of four bytes each, for those that have not."""
    window = log_of(50, 100)
    for at_ms in range(0, 170, 10):
        assert try_take(window, START_MS + at_ms, 1)
    assert window.head > 0
    live = (len(window) - window.head) // 2
    assert (live, len(window.encode()) - len(log_of(50, 100).encode())) == (11, 11 * 8)


def test_an_empty_window_is_stored_as_one():
    """A window of which nothing is used comes back as that."""
    copy = Window.decode(log_of(5, 1_000).encode())
    assert (copy.used, copy.remaining(START_MS), copy.drained_at_ms()) == (0, 5, 0)


def test_the_stored_form_is_pinned():
    """Another byte order, width or field order would lose what earlier releases stored: these bytes are of the first."""
    stored = bytes.fromhex(
        "01010500000000000000e8030000000000000100000000000000e9030000000000000200000000000000020000000300000001000000"
    )
    window = Window.decode(stored)
    assert (log_of(5, 1_000).rule, 3, 2_004) == (window.rule, window.used, window.drained_at_ms())
    assert not window.fits(2_000, 3)
    assert window.encode() == stored
    window = log_of(5, 1_000)
    window.take(1_000, 2)
    window.take(1_003, 1)
    assert window.encode().hex() == (
        "01010500000000000000e8030000000000000100000000000000000000000000000002000000e903000002000000ec03000001000000"
    )


def test_a_foreign_format_is_refused():
    """A reader that does not know the format says so instead of guessing."""
    stored = bytearray(log_of(5, 1_000).encode())
    stored[0] = 9
    with pytest.raises(UnknownFormatError):
        Window.decode(bytes(stored))


def test_a_stored_window_that_was_cut_is_refused():
    """Missing hits are an error, not a smaller usage."""
    window = log_of(5, 1_000)
    window.take(START_MS, 1)
    for missing in (1, 4, 8):
        with pytest.raises(ValueError, match="should have 1 runs"):
            Window.decode(window.encode()[:-missing])


def test_the_stored_form_is_the_same_on_a_big_endian_machine(monkeypatch):
    """Where numbers lie the other way round in memory, they are turned on the way out and on the way in."""
    window = log_of(5, 1_000)
    window.take(1_000, 2)
    turned = Window.decode(window.encode())
    turned.byteswap()
    expected = window.encode()
    monkeypatch.setattr(sys, "byteorder", "big")
    turned_copy = Window.decode(expected)
    assert (expected, turned) == (turned.encode(), turned_copy)


@given(cost=st.integers(1, 1_000))
def test_large_costs_in_a_log_are_counted_whole(cost):
    """A cost of any size comes back whole, is freed at once and refused at once."""
    window = log_of(1_000, 1_000)
    window.take(START_MS, cost)
    copy = Window.decode(window.encode())
    assert (window.used, copy.used) == (cost, cost)
    assert min(window[1::2]) > 0
    assert copy.retry_after_ms(START_MS, 1_000) == 1_001
    assert copy.fits(START_MS + 1_001, 1_000)


def test_a_log_in_use_for_years_keeps_narrow_edges_right():
    """Edges are rebased before 32 bits run out: after a century of steady use the answers are still exact."""
    window, reference = log_of(3, 2**30), Reference(rule_for(3, 2**30))
    for step in range(3_000):
        now_ms = START_MS + step * (2**30 // 2 + 12_345)
        assert window.fits(now_ms, 1) == reference.fits(now_ms, 1)
        if window.fits(now_ms, 1):
            window.take(now_ms, 1)
            reference.take(now_ms, 1)
        assert window.retry_after_ms(now_ms, 3) == reference.first_fit_ms(now_ms, 3) - now_ms
        assert max(window[::2], default=0) < 2**32
        reference.hits = [hit for hit in reference.hits if hit[0] > now_ms]


def test_a_clock_that_stands_or_steps_back_cannot_reorder_hits():
    """A hit before the newest one is recorded with it, so edges stay in order and nothing is freed early."""
    window = log_of(5, 100)
    window.take(START_MS + 10, 1)
    window.take(START_MS, 1)
    assert not window.fits(START_MS + 110, 4)
    assert window.fits(START_MS + 111, 5)
    full = log_of(1_000, 100)
    full.take(START_MS + 10, 255)
    full.take(START_MS, 5)
    assert full.retry_after_ms(START_MS + 10, 1_000) == 101


def test_a_window_with_eight_hits_is_small():
    """Eight hits take under 300 bytes, with every object that the window is made of."""
    from sys import getsizeof

    window = log_of(100, 60_000)
    for at_ms in range(8):
        window.take(START_MS + at_ms * 10, 1)
    assert getsizeof(window) + getsizeof(window.base_ms) < 300


@pytest.mark.parametrize("rule", [rule_for(50, 1_000), rule_for(256, 600), rule_for(1_000_000, 1_000)])
def test_dead_runs_are_given_back(rule):
    """In steady use, what counts no more is less than eight numbers, or less than a 32nd of a window that has more."""
    window = Window(rule)
    for now_ms in range(START_MS, START_MS + 60_000, 7):
        try_take(window, now_ms, 1)
        assert window.head < max(8, len(window) / 32)
        assert len(window.runs()) <= min(rule.limit, rule.window_ms // rule.tick_ms + 2)
