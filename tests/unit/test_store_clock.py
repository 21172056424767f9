"""What time it is at the store: an interval that has it, whatever parts of milliseconds both clocks do not show."""

from fractions import Fraction
from math import floor

from hypothesis import example, given
from hypothesis import strategies as st

from shared.objects.store_clock import StoreClock
from shared.testing.clock import ManualClock

PARTS = 8
"""Instants are eighths of a millisecond."""


# One clock has just shown a new millisecond when the other is about to.
@example(start=7, ahead=-7, readings=[(0, 0, 0)], later=1)
@given(
    start=st.integers(0, PARTS),
    ahead=st.integers(-2 * PARTS, 2 * PARTS),
    readings=st.lists(st.tuples(*[st.integers(0, 2 * PARTS)] * 3), min_size=1, max_size=4),
    later=st.integers(0, 2 * PARTS),
)
def test_the_time_of_the_store_lies_in_the_interval(
    start: int, ahead: int, readings: list[tuple[int, int, int]], later: int
) -> None:
    """After any readings of clocks that run at one pace: never ahead of it, so no alarm is early, and never behind."""
    instant = start

    def shown(of: int) -> int:
        return floor(Fraction(of, PARTS))

    store = StoreClock(ManualClock(0, shown(instant)))
    for pause, there, back in readings:
        sent, read, instant = instant + pause, instant + pause + there, instant + pause + there + back
        store.observe(shown(read + ahead), sent_ms=shown(sent), received_ms=shown(instant))
    store._clock = ManualClock(0, shown(instant + later))

    assert store.lower_ms() <= shown(instant + later + ahead) <= store.upper_ms()
