"""Sliding-window arithmetic: never more than `limit` in *any* span of `window_ms`, not only in aligned ones.

A window is a log of runs (edge, hits). A hit at `now` gets the edge `(now // r + 1) * r`, the end of
its tick of `r` milliseconds, and counts until `edge + window_ms`. With r = 1 that is an exact log;
with r = window/60 it is 61 buckets of which the oldest counts whole. Both are the same code:

- the edge is never before the true instant of the hit, so whatever lies less than `window_ms` back
  is counted: never over the limit, for real instants between two milliseconds as well;
- a hit counts for at most `window_ms + r`, so at saturation at least L per `window_ms + r` pass.

Pure: no clock is read and nothing waits. Times are milliseconds of one timeline that does not go
back. A check of two limits costs about a microsecond. A window costs 112 bytes and about 8 more for
each hit of a log (16 if that is of over 24 days), or 4 for each bucket, of which there are at most 62.

A fixed window and the usual estimate from two counters admit up to 2L in some span; a token bucket
admits its burst on top of its rate. tests/unit/test_window.py checks each sentence above.
"""

import sys
from array import array
from functools import lru_cache
from struct import Struct as Layout
from typing import TYPE_CHECKING, Self

import msgspec

from shared.storage.codec import UnknownFormatError

if TYPE_CHECKING:
    _Numbers = array[int]
else:
    _Numbers = array  # Which takes no parameter before Python 3.12.

LOG_HITS_MAX = 256  # A longer log costs more memory than buckets do.
BUCKETS = 60
BUCKET_MS = 10  # Narrower buckets would be rolled more often than they are used...
BUCKETS_MIN = 10  # ... but never so wide that a short window admits a tenth less than it could.
_NARROW_SPAN_MS = 2**31  # Windows up to this keep 32-bit edges.
_NARROW_MAX = 2**32 - 1
_BASE_STEP_MS = _NARROW_SPAN_MS  # As long as that, or the edges of a narrow window would not fit behind one base.
_COMPACT_AT = 8  # Dead items at the front before the array is moved up: 64 bytes of a full window at most...
_COMPACT_SHARE = 32  # ... and a 32nd of a longer one, which is moved that much more seldom.

_EDGE_SHIFT = 24  # A bucket is one number: its hits, and above them its edge in ticks behind the base.
_HITS_MAX = 2**_EDGE_SHIFT - 1  # More hits of one tick are several runs of it, in the store too.
_EDGE_MAX = 2**8 - 1
_FEW = 12  # Of fewer buckets the stored form is made one by one, of more byte by byte.
_EDGE_STEP = 64  # Bases are a multiple of so many ticks: subjects have them in common, and 62 ticks fit behind any.

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
        buckets = self.window_ms // self.tick_ms + 4 + self.limit // _HITS_MAX
        runs_max = max(self.limit, runs) if self.log else max(buckets, runs)
        return _HEADER.size + runs_max * run


def rule_for(limit: int, window_ms: int, *, log: bool = False) -> Rule:
    """The rule for `limit` in any `window_ms`: an exact log up to 256 hits or where `log` asks for it, else buckets."""
    if log or limit <= LOG_HITS_MAX:
        return Rule(limit=limit, window_ms=window_ms, tick_ms=1, log=True)
    tick_ms = max(-(-window_ms // BUCKETS), min(BUCKET_MS, -(-window_ms // BUCKETS_MIN)))
    return Rule(limit=limit, window_ms=window_ms, tick_ms=tick_ms, log=False)


class Window(_Numbers):
    """What one subject has used of one limit: edge, hits, edge, hits... of which what is before `head` counts no more.

    It is the array itself, because an object more would be 48 bytes more. Edges are relative to `base_ms` and do not
    descend. `used` counts the live hits; it may exceed the limit after the limit was lowered. It is zero exactly when
    the array is empty.
    """

    __slots__ = ("base_ms", "head", "rule", "used")

    def __new__(cls, rule: Rule) -> Self:
        """The array that the rule needs."""
        if not rule.log:
            return super().__new__(Buckets, "I")  # type: ignore[return-value]  # Typeshed: a bare array.
        return super().__new__(cls, "Q" if rule.wide else "I")  # type: ignore[return-value]  # As above.

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.base_ms = 0
        self.used = 0
        self.head = 0

    def fits(self, now_ms: int, cost: int) -> bool:
        """Whether `cost` more would be within the limit now. Takes nothing."""
        used = self.used
        if used:
            rule = self.rule
            cut = now_ms - rule.window_ms - self.base_ms
            if self[self.head] <= cut:
                self._expire(cut)
                used = self.used
            return used + cost <= rule.limit
        return cost <= self.rule.limit

    def take(self, now_ms: int, cost: int) -> None:
        """Record `cost` (>= 1) hits now. The caller has asked `fits` at the same `now_ms`."""
        tick_ms = self.rule.tick_ms
        edge_ms = now_ms - now_ms % tick_ms + tick_ms
        if self.used and edge_ms - self.base_ms <= self[-2]:
            self[-1] += cost  # The same tick; or an edge that a change of rule has moved ahead.
            self.used += cost
        else:
            self._append(edge_ms, cost)

    def remaining(self, now_ms: int) -> int:
        """What is left of the limit."""
        self.fits(now_ms, 0)
        left = self.rule.limit - self.used
        return max(0, left)

    def reset_ms(self, now_ms: int) -> int:
        """Milliseconds until the oldest hits stop counting; 0 if nothing is used."""
        self.fits(now_ms, 0)
        return self.oldest_ms() + self.rule.window_ms - now_ms if self.used else 0

    def oldest_ms(self) -> int:
        """The edge of the oldest hits that count; there are some."""
        return self.base_ms + self[self.head]

    def newest_ms(self) -> int:
        """The edge of the newest hits; there are some."""
        return self.base_ms + self[-2]

    def runs(self) -> list[tuple[int, int]]:
        """Edges and hits that count, oldest first."""
        return [(self.base_ms + self[run], self[run + 1]) for run in range(self.head, len(self), 2)]

    def retry_after_ms(self, now_ms: int, cost: int) -> int:
        """Milliseconds until `cost` (<= limit) fits, provided nobody else takes; 0 if it fits now. Exact."""
        if self.fits(now_ms, cost):
            return 0
        assert cost <= self.rule.limit, (cost, self.rule)
        missing = self.used + cost - self.rule.limit
        for edge_ms, hits in self.runs():
            missing -= hits
            if missing <= 0:
                return edge_ms + self.rule.window_ms - now_ms
        raise AssertionError("what is used is the sum of its runs")

    def drained_at_ms(self) -> int:
        """When the last hit stops counting; 0 if nothing is used. From then on the window may be forgotten."""
        return self.newest_ms() + self.rule.window_ms if self.used else 0

    def conformed(self, rule: Rule, now_ms: int) -> "Window":
        """The window that goes on under another rule with the usage that is known: this one if it can.

        Hits move to the later edge where ticks differ, but never past this tick's: they are not of the future.
        A longer window counts what the shorter one still knew.
        """
        old = self.rule
        if (old.tick_ms, old.log, old.wide) == (rule.tick_ms, rule.log, rule.wide):
            self.rule = rule
            self.fits(now_ms, 0)
            return self
        window = Window(rule)
        for edge_ms, hits in self.runs():
            if edge_ms + rule.window_ms > now_ms:
                window.take(min(edge_ms - 1, now_ms), hits)
        return window

    def stored_bytes_max(self, rule: Rule) -> int:
        """Bytes that this window takes at most once it is encoded, if it goes on under `rule`."""
        return rule.stored_bytes_max(len(self.runs()))

    def pairs(self) -> tuple[int, bytes]:
        """A base, and edges behind it that count, each with its hits; little-endian."""
        return self.base_ms, _little(self[self.head :] if self.head else self).tobytes()

    def encode(self) -> bytes:
        """The stored form: a header with the rule, then the pairs; little-endian."""
        rule, (base_ms, pairs) = self.rule, self.pairs()
        count = len(pairs) // (16 if rule.wide else 8)
        header = _HEADER.pack(_FORMAT, rule.log, rule.limit, rule.window_ms, rule.tick_ms, base_ms, count)
        return header + pairs

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
        rule = Rule(limit=limit, window_ms=window_ms, tick_ms=tick_ms, log=log)
        code = "Q" if rule.wide else "I"
        if len(stored) != _HEADER.size + 2 * count * array(code).itemsize:
            raise ValueError(f"a stored window should have {count} runs, but has {len(stored) - _HEADER.size} bytes")
        window = cls(rule)
        window.fill(base_ms, _little(array(code, stored[_HEADER.size :])))
        return window

    def fill(self, base_ms: int, pairs: "array[int]") -> None:
        """Take in what `pairs` said, which is all there is."""
        self.extend(pairs)
        self.base_ms, self.used = base_ms, sum(pairs[1::2])

    def _append(self, edge_ms: int, cost: int) -> None:
        if not self.used:
            self.base_ms = _base_of(edge_ms // _BASE_STEP_MS, _BASE_STEP_MS)
        edge = edge_ms - self.base_ms
        if edge > _NARROW_MAX and not self.rule.wide:
            edge = self._rebase(edge_ms)
        self.used += cost
        self.append(edge)
        self.append(cost)

    def _expire(self, cut: int) -> None:
        if self[-2] <= cut:
            del self[:]
            self.base_ms = self.used = self.head = 0
            return
        head, used = self.head, self.used
        while self[head] <= cut:
            used -= self[head + 1]
            head += 2
        if head >= _COMPACT_AT and head * _COMPACT_SHARE >= len(self):
            del self[:head]
            head = 0
        self.head, self.used = head, used

    def _rebase(self, edge_ms: int) -> int:
        """Count edges from the base of the oldest live one; say where `edge_ms` is then. Once in 24 days at most."""
        del self[: self.head]
        self.head = 0
        base_ms = _base_of((self.base_ms + self[0]) // _BASE_STEP_MS, _BASE_STEP_MS)
        step = base_ms - self.base_ms
        for run in range(0, len(self), 2):
            self[run] -= step
        self.base_ms = base_ms
        return edge_ms - base_ms


class Buckets(Window):
    """A window of buckets: one number each, the edge in ticks behind the base and the hits."""

    __slots__ = ()

    def fits(self, now_ms: int, cost: int) -> bool:
        """Whether `cost` more would be within the limit now. Takes nothing."""
        used = self.used
        if used:
            rule = self.rule
            cut = (now_ms - rule.window_ms - self.base_ms) // rule.tick_ms
            if self[self.head] >> _EDGE_SHIFT <= cut:
                self._expire(cut)
                used = self.used
            return used + cost <= rule.limit
        return cost <= self.rule.limit

    def take(self, now_ms: int, cost: int) -> None:
        """Record `cost` (>= 1) hits now. The caller has asked `fits` at the same `now_ms`."""
        used = self.used
        self.used = used + cost
        if used:
            edge = (now_ms - self.base_ms) // self.rule.tick_ms + 1
            last = self[-1]
            if edge <= last >> _EDGE_SHIFT:  # The same tick; or an edge that a change of rule has moved ahead.
                hits = (last & _HITS_MAX) + cost
                if hits <= _HITS_MAX:
                    self[-1] = last + cost
                    return
                del self[-1]
                edge, cost = last >> _EDGE_SHIFT, hits
            elif edge > _EDGE_MAX:
                edge = self._rebase(now_ms)
        else:
            edge = self._rebase(now_ms)
        while cost > _HITS_MAX:
            self.append(edge << _EDGE_SHIFT | _HITS_MAX)
            cost -= _HITS_MAX
        self.append(edge << _EDGE_SHIFT | cost)

    def oldest_ms(self) -> int:
        """The edge of the oldest hits that count; there are some."""
        return self.base_ms + (self[self.head] >> _EDGE_SHIFT) * self.rule.tick_ms

    def newest_ms(self) -> int:
        """The edge of the newest hits; there are some."""
        return self.base_ms + (self[-1] >> _EDGE_SHIFT) * self.rule.tick_ms

    def runs(self) -> list[tuple[int, int]]:
        """Edges and hits that count, oldest first."""
        base_ms, tick_ms = self.base_ms, self.rule.tick_ms
        return [(base_ms + (run >> _EDGE_SHIFT) * tick_ms, run & _HITS_MAX) for run in self[self.head :]]

    def pairs(self) -> tuple[int, bytes]:
        """A base, and edges behind it that count, each with its hits; little-endian."""
        tick_ms = self.rule.tick_ms
        if len(self) - self.head < _FEW or tick_ms * _EDGE_MAX > _NARROW_MAX:
            base_ms = self.oldest_ms() if self.used else 0
            numbers = [number for edge_ms, hits in self.runs() for number in (edge_ms - base_ms, hits)]
            return base_ms, _little(array("Q" if self.rule.wide else "I", numbers)).tobytes()
        packed = _little(self[self.head :]).tobytes()
        pairs, edges = bytearray(2 * len(packed)), packed[3::4]
        for at, table in enumerate(_edge_tables(tick_ms)):
            pairs[at::8] = edges.translate(table)
        for at in range(3):
            pairs[4 + at :: 8] = packed[at::4]
        return self.base_ms, bytes(pairs)

    def fill(self, base_ms: int, pairs: "array[int]") -> None:
        """Take in what `pairs` said, which is all there is; an edge within a tick is the end of that."""
        tick_ms, hits = self.rule.tick_ms, pairs[1::2]
        if max(hits, default=0) > _HITS_MAX:
            for edge, cost in zip(pairs[::2], hits, strict=True):
                self.take(base_ms + edge - 1, cost)
        elif hits:
            before, within_ms = divmod(base_ms - 1, tick_ms)
            ticks = [(edge + within_ms) // tick_ms + 1 for edge in pairs[::2]]
            step = self._base_behind(before + ticks[0], before + ticks[-1]) - before
            self.extend([(tick - step) << _EDGE_SHIFT | cost for tick, cost in zip(ticks, hits, strict=True)])
            self.used = sum(hits)

    def _expire(self, cut: int) -> None:
        if self[-1] >> _EDGE_SHIFT <= cut:
            del self[:]
            self.base_ms = self.used = self.head = 0
            return
        head, used = self.head, self.used
        while self[head] >> _EDGE_SHIFT <= cut:
            used -= self[head] & _HITS_MAX
            head += 1
        if head >= _COMPACT_AT:
            del self[:head]
            head = 0
        self.head, self.used = head, used

    def _rebase(self, now_ms: int) -> int:
        """Count edges from the base of the oldest live one, or of now; say where the edge of now is then."""
        tick_ms = self.rule.tick_ms
        del self[: self.head]
        self.head = 0
        before, tick = self.base_ms // tick_ms, now_ms // tick_ms + 1
        oldest = before + (self[0] >> _EDGE_SHIFT) if self else tick
        base = self._base_behind(oldest, tick)
        for run in range(len(self)):
            self[run] -= (base - before) << _EDGE_SHIFT
        return tick - base

    def _base_behind(self, oldest: int, newest: int) -> int:
        """Set the base for edges at these ticks, and return it in ticks.

        Raises:
            ValueError: they lie further apart than any window is long.
        """
        base = oldest // _EDGE_STEP * _EDGE_STEP
        if newest - base > _EDGE_MAX:
            raise ValueError(f"hits of {newest - oldest} ticks cannot all count")
        self.base_ms = _base_of(base // _EDGE_STEP, _EDGE_STEP * self.rule.tick_ms)
        return base


@lru_cache(maxsize=64)
def _edge_tables(tick_ms: int) -> tuple[bytes, ...]:
    """The four bytes of each edge in milliseconds, by the edge in ticks."""
    edges = _little(array("I", range(0, (_EDGE_MAX + 1) * tick_ms, tick_ms))).tobytes()
    return tuple(edges[at::4] for at in range(4))


@lru_cache(maxsize=64)
def _base_of(step: int, step_ms: int) -> int:
    """When a step began. What windows of the same days have in common is one number, and not 32 bytes in each."""
    return step * step_ms


def _little(numbers: "array[int]") -> "array[int]":
    """The numbers in little-endian order, whatever the machine's own."""
    if sys.byteorder == "little":
        return numbers
    swapped = array(numbers.typecode, numbers)
    swapped.byteswap()
    return swapped
