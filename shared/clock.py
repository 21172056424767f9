"""The two clocks of the system, handed in wherever time matters.

`now_ms` is for moments that are stored or compared between processes; `monotonic_ms` is for
durations. They are never mixed. Nothing outside this module reads the system's clocks, so a
test moves time instead of sleeping.

Sources: clock_gettime(2). CLOCK_BOOTTIME counts while the machine is suspended, which
CLOCK_MONOTONIC does not; a lease must not outlive a suspend.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

# macOS has no CLOCK_BOOTTIME; its CLOCK_MONOTONIC already counts while asleep.
_DURATION_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_clock_gettime_ns = time.clock_gettime_ns
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """What may be asked about time."""

    def now_ms(self) -> int:
        """Wall time in Unix milliseconds. May step; store and compare it, never subtract it."""
        ...

    def monotonic_ms(self) -> int:
        """Milliseconds that never go back, for durations on this machine."""
        ...


class SystemClock:
    """The machine's own clocks."""

    __slots__ = ()

    def now_ms(self) -> int:
        """Wall time in Unix milliseconds."""
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        """Milliseconds of CLOCK_BOOTTIME."""
        return _clock_gettime_ns(_DURATION_CLOCK) // 1_000_000


def rfc3339(moment_ms: int) -> str:
    """A moment as text, in UTC and to the millisecond: `2026-11-28T06:48:33.000Z` (RFC 3339)."""
    moment = _EPOCH + timedelta(milliseconds=moment_ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
