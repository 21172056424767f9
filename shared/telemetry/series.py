"""The numbers behind the metrics: plain integers and hand-kept buckets, with a bound on series.

A record costs a dictionary look-up and an addition, with no lock: the event loop alone writes.
A scrape or an export in another thread reads copies, and may see a record half done (its bucket
but not yet its sum); the next one sees it whole. A dictionary is copied by its own `copy`, which
nothing can interrupt; making a list of its items can: each item is a new tuple, which may start
the garbage collector, whose finalizers let the other thread run.

A label value that is not in its family's closed set, and any new value once a family has all the
series it may have, is counted as `_OTHER`: what a client sends cannot grow a process.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec

from shared.clock import Clock
from shared.telemetry.context import TraceContext

OTHER = "_OTHER"
SERIES_MAX = 500
"""Series of one family, before the rest is `_OTHER`."""

FamilyType = Literal["counter", "gauge", "histogram"]
Key: TypeAlias = tuple[str, ...]
Labels: TypeAlias = tuple[tuple[str, str], ...]


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """One metric: its name in OpenTelemetry's form, unit (UCUM), labels and meaning."""

    name: str
    type: FamilyType
    unit: str
    help: str
    labels: Mapping[str, tuple[str, ...] | None] = {}
    """Each label with its closed set of values; None: open, and bounded by `SERIES_MAX`."""
    bounds: tuple[float, ...] = ()
    """Upper bounds of a histogram's buckets, inclusive; one more bucket takes the rest."""


class Exemplar(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded value and the sampled trace it belongs to."""

    value: float
    trace: TraceContext
    unix_ms: int


class NumberPoint(msgspec.Struct, frozen=True, kw_only=True):
    """The value of one series of a counter or gauge."""

    labels: Labels
    value: float


class HistogramPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One series of a histogram: a count for each bucket, not cumulated, and the sum of all values."""

    labels: Labels
    counts: tuple[int, ...]
    total: float
    exemplars: tuple[Exemplar | None, ...]
    """The latest of each bucket; empty if there is none at all."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A family and the state of all its series."""

    family: Family
    points: Sequence[NumberPoint | HistogramPoint]


class Histogram:
    """One series of buckets. `observe` is the whole hot path: about 0.2 us."""

    __slots__ = ("_bounds", "_clock", "_counts", "_exemplars", "_total")

    def __init__(self, bounds: tuple[float, ...], clock: Clock) -> None:
        self._bounds = bounds
        self._clock = clock
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0
        self._exemplars: list[Exemplar | None] | None = None

    def observe(self, value: float, trace: TraceContext | None = None) -> None:
        """Count `value`; `trace` is the sampled trace it happened in, kept as the bucket's exemplar."""
        bucket = bisect_left(self._bounds, value)
        self._counts[bucket] += 1
        self._total += value
        if trace is not None:
            self._keep(bucket, value, trace)

    def point(self, labels: Labels) -> HistogramPoint:
        """A copy of what was recorded up to now."""
        return HistogramPoint(
            labels=labels, counts=tuple(self._counts), total=self._total, exemplars=tuple(self._exemplars or ())
        )

    def _keep(self, bucket: int, value: float, trace: TraceContext) -> None:
        if self._exemplars is None:
            self._exemplars = [None] * len(self._counts)
        self._exemplars[bucket] = Exemplar(value=value, trace=trace, unix_ms=self._clock.now_ms())


class Counters:
    """All series of one counter."""

    __slots__ = ("_values", "family")

    def __init__(self, family: Family) -> None:
        self.family = family
        self._values: dict[Key, int] = dict.fromkeys(closed_keys(family), 0)

    def add(self, key: Key, count: int = 1) -> None:
        """Add to the series whose label values, in the family's order, are `key`."""
        try:
            self._values[key] += count
        except KeyError:
            key = admitted(self.family, key, len(self._values))
            self._values[key] = self._values.get(key, 0) + count

    def points(self) -> list[NumberPoint]:
        """Every series."""
        family = self.family
        return [NumberPoint(labels=labels_of(family, key), value=value) for key, value in self._values.copy().items()]


class Histograms:
    """All series of one histogram."""

    __slots__ = ("_clock", "_series", "family")

    def __init__(self, family: Family, clock: Clock) -> None:
        self.family = family
        self._clock = clock
        self._series: dict[Key, Histogram] = {}
        for key in closed_keys(family):
            self.of(key)

    def of(self, key: Key) -> Histogram:
        """The series whose label values, in the family's order, are `key`; keep it to record without a look-up."""
        series = self._series.get(key)
        if series is None:
            key = admitted(self.family, key, len(self._series))
            series = self._series.get(key)
        if series is None:
            series = self._series[key] = Histogram(self.family.bounds, self._clock)
        return series

    def points(self) -> list[HistogramPoint]:
        """Every series."""
        return [series.point(labels_of(self.family, key)) for key, series in self._series.copy().items()]


def admitted(family: Family, key: Key, series: int) -> Key:
    """The label values under which a new series may be made, where there are `series` already."""
    full = series >= SERIES_MAX
    return tuple(
        (OTHER if full else value) if allowed is None else (value if value in allowed else OTHER)
        for value, allowed in zip(key, family.labels.values(), strict=True)
    )


def closed_keys(family: Family) -> list[Key]:
    """Every series of a family whose labels are all closed: they exist at 0, for alerts to see a first step."""
    keys: list[Key] = [()]
    for allowed in family.labels.values():
        keys = [(*key, value) for key in keys for value in allowed or ()]
    return keys


def labels_of(family: Family, key: Key) -> Labels:
    """Names and values; an empty value is no label."""
    return tuple((name, value) for name, value in zip(family.labels, key, strict=True) if value)
