"""What clients sent and were told, and what is wrong with what a ledger holds in the end.

An append was *acknowledged*, *refused* (surely not stored) or is *unknown*. The entries that are read in the end
are one history of all clients exactly if: each acknowledged one is there, at the place that its answer named; none
that was refused is there; none is there twice; and none stands before another that was acknowledged before this
one was sent. An alarm that was acknowledged rings at least once, and never before it is due.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import Literal, NamedTuple

Outcome = Literal["acknowledged", "refused", "unknown"]


class Append(NamedTuple):
    """One append: two moments of the client's clock in s, and the place that the answer named."""

    ledger: str
    entry: str
    sent_s: float
    outcome: Outcome
    answered_s: float = inf
    place: int = -1


class Armed(NamedTuple):
    """One alarm that was acknowledged; `due_ms` is Unix ms of the store."""

    bell: str
    name: str
    due_ms: int


Rings = Mapping[str, Mapping[str, Sequence[tuple[int, int]]]]
"""Per bell and alarm: when it was due, and when it rang."""


def faults_of_appends(appends: Sequence[Append], entries: Mapping[str, Sequence[str]]) -> list[str]:
    """Every way in which the stored `entries` of each ledger contradict what clients were told."""
    sent = {(append.ledger, append.entry): append for append in appends}
    faults = []
    for ledger, held in entries.items():
        faults += [f"{ledger}: {entry} is there {n} times" for entry, n in Counter(held).items() if n > 1]
        faults += [f"{ledger}: nobody sent {entry}" for entry in held if (ledger, entry) not in sent]
        faults += list(_faults_of_order(ledger, [sent[ledger, entry] for entry in held if (ledger, entry) in sent]))
    places = {(ledger, entry): place for ledger, held in entries.items() for place, entry in enumerate(held)}
    for key, append in sent.items():
        place = places.get(key, -1)
        if append.outcome == "acknowledged" and place != append.place:
            faults.append(f"{append.ledger}: {append.entry} was acknowledged at {append.place}, but is at {place}")
        if append.outcome == "refused" and place >= 0:
            faults.append(f"{append.ledger}: {append.entry} was refused, but is at {place}")
    return faults


def faults_of_alarms(armed: Sequence[Armed], rings: Rings) -> list[str]:
    """Every acknowledged alarm that has not rung, and everything that rang before it was due."""
    faults = [
        f"{bell}: {name} rang {due_ms - rang_ms} ms early"
        for bell, alarms in rings.items()
        for name, rung in alarms.items()
        for due_ms, rang_ms in rung
        if rang_ms < due_ms
    ]
    faults += [f"{alarm.bell}: {alarm.name} has not rung" for alarm in armed if not _rung_at(alarm, rings)]
    return faults


def lateness_ms(armed: Sequence[Armed], rings: Rings) -> list[int]:
    """For each acknowledged alarm that rang, how long after it was due it rang for the first time."""
    return [min(rang) - alarm.due_ms for alarm in armed if (rang := _rung_at(alarm, rings))]


def quantile(values: Sequence[float], part: float) -> float:
    """The smallest value that at least `part` of all do not pass."""
    ordered = sorted(values)
    return ordered[max(0, -int(-part * len(ordered) // 1) - 1)]


def _faults_of_order(ledger: str, held: Sequence[Append]) -> Iterator[str]:
    """From the end: nothing that comes later may have been answered before this one was sent."""
    earliest = None
    for append in reversed(held):
        if earliest is not None and earliest.answered_s < append.sent_s:
            yield f"{ledger}: {append.entry} stands before {earliest.entry}, which was acknowledged before it was sent"
        if earliest is None or append.answered_s < earliest.answered_s:
            earliest = append


def _rung_at(alarm: Armed, rings: Rings) -> list[int]:
    rung = rings.get(alarm.bell, {}).get(alarm.name, ())
    return [rang_ms for due_ms, rang_ms in rung if due_ms == alarm.due_ms]
