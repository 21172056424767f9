"""How soon a dead child is started again."""

from shared.runtime.children import RESTART_MS, RESTART_MS_MAX, restart_delay_ms


def test_the_first_deaths_cost_no_wait() -> None:
    """A child that lived, or died a few times only, is started at once."""
    assert [0, 0, 0, 0] == [restart_delay_ms(deaths) for deaths in range(4)]


def test_rapid_deaths_are_answered_ever_more_slowly() -> None:
    """The wait doubles, up to its bound, and never overflows."""
    delays = [restart_delay_ms(deaths) for deaths in range(4, 12)]
    assert [RESTART_MS, 2 * RESTART_MS, 4 * RESTART_MS] == delays[:3]
    assert delays == sorted(delays)
    assert restart_delay_ms(10_000) == RESTART_MS_MAX
