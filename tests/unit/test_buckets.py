"""Buckets as they are kept: one number each, rebased, split where they are full, stored in the form of earlier releases."""

from sys import getsizeof

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ratelimiter.window import Window, rule_for
from tests.unit.test_window import START_MS, YEAR_MS, Reference, try_take

FULL = 2**24 - 1  # Hits of one number.
FIRST = "0100e80300000000000060ea000000000000e803000000000000000000808b01000002000000e86be54f03000000a077e54f05000000"
NOW = "0100e80300000000000060ea000000000000e803000000000000e86be5cf8b010000020000000000000003000000b80b000005000000"


@pytest.mark.parametrize("window_ms", [600, 60_000, 2**31 - 36_000_000, 2**31, YEAR_MS])
@given(data=st.data())
def test_buckets_in_use_for_long_stay_exact(window_ms, data):
    """Over hundreds of windows, with pauses and restarts at random, they are what the definition says."""
    rule = rule_for(1_000, window_ms)
    window, reference, now_ms = Window(rule), Reference(rule), START_MS
    for _ in range(60):
        now_ms += data.draw(st.integers(0, 8 * rule.tick_ms) | st.just(window_ms + rule.tick_ms))
        cost = data.draw(st.integers(1, 400))
        assert window.fits(now_ms, cost) == reference.fits(now_ms, cost)
        if reference.fits(now_ms, cost):
            window.take(now_ms, cost)
            reference.take(now_ms, cost)
        reference.hits = [hit for hit in reference.hits if hit[0] > now_ms]
        if data.draw(st.booleans()):
            window = Window.decode(window.encode())
        assert window.drained_at_ms() == max((ends_ms for ends_ms, _ in reference.hits), default=0)
        assert window.retry_after_ms(now_ms, 1_000) == reference.first_fit_ms(now_ms, 1_000) - now_ms


@given(costs=st.lists(st.integers(1, 3 * FULL) | st.sampled_from([FULL, FULL + 1]), min_size=1, max_size=6))
def test_more_hits_of_a_tick_than_a_number_has_are_counted_whole(costs):
    """They are several numbers, in the store too; all stop counting together."""
    window = Window(rule_for(10**9, 60_000))
    for cost in costs:
        assert try_take(window, START_MS, cost)
    assert window.used == sum(costs)
    assert len(window) == -(-sum(costs) // FULL)
    edge_ms = window.oldest_ms()
    assert window.retry_after_ms(START_MS, 10**9) == edge_ms + 60_000 - START_MS
    copy = Window.decode(window.encode())
    assert (copy.used, copy.runs()) == (window.used, window.runs())
    assert len(window.encode()) <= window.rule.stored_bytes_max()
    assert not copy.fits(edge_ms + 59_999, 10**9)
    assert copy.fits(edge_ms + 60_000, 10**9)


def test_the_stored_form_is_that_of_earlier_releases():
    """What the first release has stored is read, and what is stored now are edges behind a base and hits, as it reads them."""
    window = Window.decode(bytes.fromhex(FIRST))
    assert (window.rule, window.used) == (rule_for(1_000, 60_000), 8)
    assert window.runs() == [(1_700_000_001_000, 3), (1_700_000_004_000, 5)]
    assert window.encode().hex() == NOW
    assert Window.decode(window.encode()).runs() == window.runs()


def test_hits_that_cannot_all_count_are_refused():
    """A stored window whose edges lie further apart than any window is long was not written by us."""
    stored = bytearray.fromhex(FIRST)
    stored[-6] = 0xFF  # The second edge, half an hour on.
    with pytest.raises(ValueError, match="cannot all count"):
        Window.decode(bytes(stored))


def test_a_full_window_of_buckets_is_small():
    """62 buckets take under 500 bytes, whatever of them was given back before."""
    window = Window(rule_for(10**6, 15_000))
    most = 0
    for now_ms in range(START_MS, START_MS + 60_000, 50):
        assert try_take(window, now_ms, 1)
        most = max(most, getsizeof(window))
    assert most < 500
