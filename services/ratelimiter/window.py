"""Sliding-window arithmetic: never more than `limit` in *any* span of `window_ms`, not only in aligned ones.

A window is a log of runs (edge, hits). A hit at `now` gets the edge `(now // r + 1) * r`, the end of
its tick of `r` milliseconds, and counts until `edge + window_ms`. With r = 1 that is an exact log;
with r = window/60 it is 61 buckets of which the oldest counts whole. Both are the same code:

- the edge is never before the true instant of the hit, so whatever lies less than `window_ms` back
  is counted: never over the limit, for real instants between two milliseconds as well;
- a hit counts for at most `window_ms + r`, so at saturation at least L per `window_ms + r` pass.

Pure: no clock is read and nothing waits. Times are milliseconds of one timeline that does not go
back. A check of two limits costs about a microsecond. A window costs about 180 bytes and 8 more for
each run, of which there are at most `limit` (log) or 62 (buckets); 16 for windows over 24 days.

A fixed window and the usual estimate from two counters admit up to 2L in some span; a token bucket
admits its burst on top of its rate. tests/unit/test_window.py checks each sentence above.
"""

import sys
from array import array
from struct import Struct as Layout

import msgspec

from shared.storage.codec import UnknownFormatError

LOG_HITS_MAX = 256  # A longer log costs more memory than buckets do.
BUCKETS = 60
BUCKET_MS = 10  # Narrower buckets would be rolled more often than they are used...
BUCKETS_MIN = 10  # ... but never so wide that a short window admits a tenth less than it could.
_NARROW_SPAN_MS = 2**31  # Windows up to this keep 32-bit edges.
_NARROW_MAX = 2**32 - 1
_COMPACT_AT = 32  # Dead items at the front before the array is moved up.

_FORMAT = 1
_HEADER = Layout("<B?QQQQI")  # format, log, limit, window_ms, tick_ms, base_ms, runs


class Rule(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a window enforces: at most `limit` in any `window_ms`. Shared by all windows of one policy."""

    limit: int
    window_ms: int
    tick_ms: int
    log: bool

    @property
    def wide(self) -> bool:
        """Whether edges need 64 bits."""
        return self.window_ms + self.tick_ms > _NARROW_SPAN_MS

    def stored_bytes_max(self, runs: int = 0) -> int:
        """Bytes that a window of this rule takes at most once it is encoded, if it holds `runs` runs at the moment."""
        run = 16 if self.wide else 8
        runs_max = max(self.limit, runs) if self.log else self.window_ms // self.tick_ms + 4
        return _HEADER.size + runs_max * run


def rule_for(limit: int, window_ms: int, *, log: bool = False) -> Rule:
    """The rule for `limit` in any `window_ms`: an exact log up to 256 hits or where `log` asks for it, else buckets."""
    if log or limit <= LOG_HITS_MAX:
        return Rule(limit=limit, window_ms=window_ms, tick_ms=1, log=True)
    tick_ms = max(-(-window_ms // BUCKETS), min(BUCKET_MS, -(-window_ms // BUCKETS_MIN)))
    return Rule(limit=limit, window_ms=window_ms, tick_ms=tick_ms, log=False)


class Window(msgspec.Struct, gc=False):
    """What one subject has used of one limit.

    `used` counts the live hits; it may exceed the limit after the limit was lowered. It is zero
    exactly when `runs` is empty. `runs[head:]` is edge, hits, edge, hits... with edges relative to
    `base_ms` and not descending.
    """

    rule: Rule
    runs: "array[int]"
    base_ms: int = 0
    used: int = 0
    head: int = 0

    def fits(self, now_ms: int, cost: int) -> bool:
        """Whether `cost` more would be within the limit now. Takes nothing."""
        used = self.used
        if used:
            rule = self.rule
            cut = now_ms - rule.window_ms - self.base_ms
            if self.runs[self.head] <= cut:
                self._expire(cut)
                used = self.used
            return used + cost <= rule.limit
        return cost <= self.rule.limit

    def take(self, now_ms: int, cost: int) -> None:
        """Record `cost` (>= 1) hits now. The caller has asked `fits` at the same `now_ms`."""
        rule = self.rule
        tick_ms = rule.tick_ms
        edge_ms = now_ms - now_ms % tick_ms + tick_ms
        runs = self.runs
        if self.used:
            edge = edge_ms - self.base_ms
            last = runs[-2]
            if edge <= last:  # The same tick; or an edge that a change of rule has moved ahead.
                runs[-1] += cost
                self.used += cost
                return
        self._append(edge_ms, cost)

    def remaining(self, now_ms: int) -> int:
        """What is left of the limit."""
        self.fits(now_ms, 0)
        left = self.rule.limit - self.used
        return max(0, left)

    def reset_ms(self, now_ms: int) -> int:
        """Milliseconds until the oldest hits stop counting; 0 if nothing is used."""
        self.fits(now_ms, 0)
        if not self.used:
            return 0
        return self.base_ms + self.runs[self.head] + self.rule.window_ms - now_ms

    def retry_after_ms(self, now_ms: int, cost: int) -> int:
        """Milliseconds until `cost` (<= limit) fits, provided nobody else takes; 0 if it fits now. Exact."""
        if self.fits(now_ms, cost):
            return 0
        assert cost <= self.rule.limit, (cost, self.rule)
        runs = self.runs
        missing = self.used + cost - self.rule.limit
        run = self.head
        while (missing := missing - runs[run + 1]) > 0:
            run += 2
        return self.base_ms + runs[run] + self.rule.window_ms - now_ms

    def drained_at_ms(self) -> int:
        """When the last hit stops counting; 0 if nothing is used. From then on the window may be forgotten."""
        return self.base_ms + self.runs[-2] + self.rule.window_ms if self.used else 0

    def conform(self, rule: Rule, now_ms: int) -> None:
        """Go on under another rule with the usage that is known.

        Hits move to the later edge where ticks differ, but never past this tick's: they are not of the future.
        A longer window counts what the shorter one still knew.
        """
        old, self.rule = self.rule, rule
        self.fits(now_ms, 0)
        if (old.tick_ms, old.log, old.wide) == (rule.tick_ms, rule.log, rule.wide):
            return
        base_ms, runs = self.base_ms, self.runs[self.head :]
        self._clear()
        for run in range(0, len(runs), 2):
            self.take(min(base_ms + runs[run] - 1, now_ms), runs[run + 1])

    def stored_bytes_max(self, rule: Rule) -> int:
        """Bytes that this window takes at most once it is encoded, if it goes on under `rule`."""
        return rule.stored_bytes_max((len(self.runs) - self.head) // 2)

    def encode(self) -> bytes:
        """The stored form: a header with the rule, then the runs that count as they are in memory; little-endian."""
        rule, head = self.rule, self.head
        runs = self.runs[head:] if head else self.runs
        count = len(runs) // 2
        header = _HEADER.pack(_FORMAT, rule.log, rule.limit, rule.window_ms, rule.tick_ms, self.base_ms, count)
        return header + _little(runs).tobytes()

    @classmethod
    def decode(cls, stored: bytes) -> "Window":
        """The window that `stored` is the encoding of.

        Raises:
            UnknownFormatError: another release wrote it.
            ValueError: it is cut short.
        """
        if stored[0] != _FORMAT:
            raise UnknownFormatError(stored[0])
        _, log, limit, window_ms, tick_ms, base_ms, count = _HEADER.unpack_from(stored)
        window = new_window(Rule(limit=limit, window_ms=window_ms, tick_ms=tick_ms, log=log))
        runs = window.runs
        if len(stored) != _HEADER.size + 2 * count * runs.itemsize:
            raise ValueError(f"a stored window should have {count} runs, but has {len(stored) - _HEADER.size} bytes")
        runs.frombytes(stored[_HEADER.size :])
        window.runs = _little(runs)
        window.base_ms, window.used = base_ms, sum(window.runs[1::2])
        return window

    def _append(self, edge_ms: int, cost: int) -> None:
        runs = self.runs
        if not self.used:
            self.base_ms = edge_ms
        edge = edge_ms - self.base_ms
        if edge > _NARROW_MAX and not self.rule.wide:
            edge = self._rebase(edge_ms)
        self.used += cost
        runs.append(edge)
        runs.append(cost)

    def _expire(self, cut: int) -> None:
        runs = self.runs
        if runs[-2] <= cut:
            self._clear()
            return
        head, used = self.head, self.used
        while runs[head] <= cut:
            used -= runs[head + 1]
            head += 2
        if head >= _COMPACT_AT and head * 2 >= len(runs):
            del runs[:head]
            head = 0
        self.head, self.used = head, used

    def _clear(self) -> None:
        self.runs = array("Q" if self.rule.wide else "I")
        self.base_ms = self.used = self.head = 0

    def _rebase(self, edge_ms: int) -> int:
        """Count edges from the oldest live one; say where `edge_ms` is then. Once in 24 days at most."""
        runs = self.runs
        del runs[: self.head]
        self.head = 0
        oldest = runs[0]
        for run in range(0, len(runs), 2):
            runs[run] -= oldest
        self.base_ms += oldest
        return edge_ms - self.base_ms


def new_window(rule: Rule) -> Window:
    """A window of which nothing is used."""
    return Window(rule, array("Q" if rule.wide else "I"))


def _little(numbers: "array[int]") -> "array[int]":
    """The numbers in little-endian order, whatever the machine's own."""
    if sys.byteorder == "little":
        return numbers
    swapped = array(numbers.typecode, numbers)
    swapped.byteswap()
    return swapped
