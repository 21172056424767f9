"""What time it is at the store, as an interval.

A reply that carries the store's time T was made at some instant between sending and receiving, so
at a later instant the store's time lies in [T + (now - received), T + (now - sent)]. "Is it due?"
asks the lower end, security expiry the upper one: both err on the safe side. Observations are
intersected; the old interval is widened by the drift two crystals may have; where the two do not
meet, a clock was stepped and the new one counts.
"""

from shared.clock import Clock

_DRIFT_PPM = 200


class StoreClock:
    """Estimates the clock of one store primary. Before the first observation it uses our wall clock."""

    __slots__ = ("_clock", "_lower", "_seen_ms", "_upper", "skew_ms")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        now = clock.monotonic_ms()
        self._lower = self._upper = clock.now_ms() - now  # Store time minus our monotonic time.
        self._seen_ms = -1
        self.skew_ms = 0

    def observe(self, store_ms: int, *, sent_ms: int, received_ms: int) -> None:
        """Take in one reading: `store_ms` was read between two instants of our monotonic clock."""
        # A millisecond that was read, here or there, may be almost over.
        lower, upper = store_ms - (received_ms + 1), store_ms + 1 - sent_ms
        if self._seen_ms >= 0:
            slack = 1 + (received_ms - self._seen_ms) * _DRIFT_PPM // 1_000_000
            both = max(lower, self._lower - slack), min(upper, self._upper + slack)
            if both[0] <= both[1]:
                lower, upper = both
        self._lower, self._upper, self._seen_ms = lower, upper, received_ms
        self.skew_ms = (lower + upper) // 2 - (self._clock.now_ms() - self._clock.monotonic_ms())

    def now_ms(self) -> int:
        """The store's time, never ahead of it: for moments that are stored."""
        return self._clock.monotonic_ms() + self._lower

    def lower_ms(self) -> int:
        """The earliest the store's clock can show now: for "is it due?"."""
        return self.now_ms()

    def upper_ms(self) -> int:
        """The latest the store's clock can show now: for security expiry."""
        return self.upper_at_ms(self._clock.monotonic_ms())

    def upper_at_ms(self, monotonic_ms: int) -> int:
        """The latest the store's clock could show at an instant of ours that has been read already."""
        return monotonic_ms + self._upper

    def monotonic_ms(self) -> int:
        """Our own clock for durations."""
        return self._clock.monotonic_ms()
