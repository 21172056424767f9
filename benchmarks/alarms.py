"""How late alarms ring, on a real store: at an even rate, due together, and after an hour without a node.

    .venv/bin/python -m benchmarks.alarms [--rounds 5] [--alarms 10000] [--rate 500] [--seconds 60]

First, alarms at an even rate. Then rounds of three parts over the same objects, one alarm each: as many turns called at
once, whose rate is the measure; alarms due within one second; alarms due at one instant. Last, alarms spread over an
hour in which no node runs: the next one starts with its reading of the store's clock moved on by that hour, and while
it catches up, turns that others ask for are timed. A turn writes one value, whoever starts it, and is synced to disk.
An alarm counts as drained when its turn is confirmed; it is late by what passed from its due time to the start of its
turn, in whole milliseconds of the store's clock. It ends by itself, in about three minutes; 1 if an alarm rang early or
the even rate missed its aim.
"""

import argparse
import asyncio
import math
import statistics
import sys
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from benchmarks.node import TENANT, bench_node, node_on, run, until
from benchmarks.serving import scratch_folder
from benchmarks.sides import percentile
from shared.objects.address import Address
from shared.objects.handler import Alarm, DurableObject
from shared.objects.store_clock import StoreClock
from shared.runtime.node import Node
from shared.testing.valkey import start_valkey

AHEAD_MS = 4_000  # Time to arm ten thousand of them before the first is due.
SPANS_MS = (1_000, 0)
HOUR_MS = 3_600_000
P99_MS_MAX = 100
"""The aim for the even rate."""
BOUNDS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
PROBE_S = 0.02  # Between two turns that others ask for while alarms are caught up with.


class Bell(DurableObject):
    """Writes one value when it is called and when it rings, and remembers how late it rang."""

    kind = "bell"
    late_ms: list[int] = []  # noqa: RUF012 - one list of the process, emptied before each part
    due_ms: list[int] = []  # noqa: RUF012 - the same

    def arm(self, at_ms: int) -> None:
        """Ring at `at_ms` of the store's clock."""
        self.alarms.set("ring", at_ms=at_ms)

    def write(self) -> None:
        """What a ring writes."""
        self.storage.put("rings", self.storage.get("rings", int, default=0) + 1)

    def on_alarm(self, alarm: Alarm) -> None:
        """Ring."""
        self.late_ms.append(self.clock.now_ms() - alarm.due_ms)
        self.due_ms.append(alarm.due_ms)
        self.write()


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--alarms", type=int, default=10_000)
    parser.add_argument("--rate", type=int, default=500)
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    held: list[bool] = []
    run(_measure(options.rounds, options.alarms, options.rate, options.seconds, held))
    return 0 if all(held) else 1


async def _measure(rounds: int, count: int, rate: int, seconds: int, held: list[bool]) -> None:
    with scratch_folder() as folder:
        async with bench_node(folder / "even", [Bell]) as node:
            held.append(await _even(node, rate, seconds))
        async with bench_node(folder / "store", [Bell]) as node:
            held.append(await _together(node, rounds, count))
        held.append(await _after_an_hour(folder / "hour", count))


async def _even(node: Node, rate: int, seconds: int) -> bool:
    """Alarms at an even rate; whether that held its aim."""
    bells = _bells(rate * seconds)
    await _ring_all(node, bells, seconds * 1_000, ahead_ms=AHEAD_MS + len(bells) // 2)
    late_ms = sorted(Bell.late_ms)
    held = percentile(late_ms, 0.99) <= P99_MS_MAX and late_ms[0] >= 0
    print(f"{rate:,} alarms a second for {seconds} s: {_lateness(late_ms)}")
    print(f"  p99 at most {P99_MS_MAX} ms, never early: {'held' if held else 'missed'}")
    print(*_histogram(late_ms), sep="\n", flush=True)
    return held


async def _together(node: Node, rounds: int, count: int) -> bool:
    """Alarms due within a second and at one instant, beside turns that are called; whether none was early."""
    bells = _bells(count)
    called: list[float] = []
    rung: dict[int, list[float]] = {span_ms: [] for span_ms in SPANS_MS}
    late_ms: dict[int, list[int]] = {span_ms: [] for span_ms in SPANS_MS}
    await _call_all(node, bells)  # All are in memory from here on.
    for _ in range(rounds):
        called.append(await _call_all(node, bells))
        for span_ms in SPANS_MS:
            rung[span_ms].append(await _ring_all(node, bells, span_ms))
            late_ms[span_ms] += Bell.late_ms
    calls = statistics.median(called)
    print(f"{count:,} turns called at once: {calls:,.0f}/s")
    for span_ms in SPANS_MS:
        rate = statistics.median(rung[span_ms])
        print(f"{count:,} alarms due {'within one second' if span_ms else 'at one instant'}: {_told(rate, calls)}")
        print(f"  {_lateness(late_ms[span_ms])}")
        print(*_histogram(late_ms[span_ms]), sep="\n", flush=True)
    return all(min(late) >= 0 for late in late_ms.values())


async def _after_an_hour(folder: Path, count: int) -> bool:
    """Alarms of an hour in which no node ran, and turns that others ask for meanwhile; whether all was as it should."""
    bells = _bells(count)
    with start_valkey(folder, durable=True) as valkey:
        async with node_on(valkey.url, folder, [Bell]) as node:
            await _arm(node, bells, HOUR_MS - 2 * AHEAD_MS - count, AHEAD_MS + count // 2)
        Bell.late_ms.clear()
        Bell.due_ms.clear()
        began_s = time.monotonic()
        with _clock_moved(HOUR_MS):
            async with node_on(valkey.url, folder, [Bell]) as node:
                opened_s = time.monotonic()
                asked_ms = await _ask_until_rung(node, count)
                took_s = time.monotonic() - opened_s
                early = min(Bell.late_ms) < 0
    turned = sum(later < sooner for sooner, later in zip(Bell.due_ms, Bell.due_ms[1:], strict=False))
    print(
        f"{count:,} alarms of an hour without a node: caught up in {took_s:.2f} s,"
        f" after {opened_s - began_s:.2f} s of starting"
    )
    print(f"  {count / took_s:,.0f}/s; {turned / count:.1%} rang before one that had been due earlier")
    p50_ms, p99_ms = (percentile(sorted(asked_ms), share) for share in (0.5, 0.99))
    print(f"  {len(asked_ms):,} turns that others asked for meanwhile: {p50_ms} ms (p50), {p99_ms} ms (p99)")
    print(*_histogram(asked_ms), sep="\n", flush=True)
    return not early


async def _ask_until_rung(node: Node, count: int) -> list[int]:
    """How long turns took, in milliseconds, that were asked for at an even pace until all alarms were settled."""
    asked_ms: list[int] = []
    asking: list[asyncio.Task[None]] = []

    async def ask(number: int) -> None:
        began_s = time.monotonic()
        await node.host.call(Address(Bell.kind, TENANT, f"other-{number}"), Bell.write)
        asked_ms.append(round((time.monotonic() - began_s) * 1_000))

    deadline_s = time.monotonic() + 120
    while not _all_rung(node, count):
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{len(Bell.late_ms)} of {count} alarms have rung")
        asking.append(asyncio.ensure_future(ask(len(asking))))
        await asyncio.sleep(PROBE_S)
    await asyncio.gather(*asking)
    return asked_ms


@contextmanager
def _clock_moved(by_ms: int) -> Iterator[None]:
    """Nodes that are opened now read the store's clock as so much later than it is."""
    observe = StoreClock.observe

    def later(self: StoreClock, store_ms: int, *, sent_ms: int, received_ms: int) -> None:
        observe(self, store_ms + by_ms, sent_ms=sent_ms, received_ms=received_ms)

    with patch.object(StoreClock, "observe", later):
        yield


def _bells(count: int) -> list[Address]:
    return [Address(Bell.kind, TENANT, f"bell-{number}") for number in range(count)]


async def _call_all(node: Node, bells: Sequence[Address]) -> float:
    """Turns a second, from the first call to the last confirmation."""
    began_s = time.monotonic()
    await asyncio.gather(*(node.host.call(bell, Bell.write) for bell in bells))
    return len(bells) / (time.monotonic() - began_s)


async def _ring_all(node: Node, bells: Sequence[Address], span_ms: int, ahead_ms: int = AHEAD_MS) -> float:
    """Alarms a second, from the first due time to the last confirmation."""
    Bell.late_ms.clear()
    Bell.due_ms.clear()
    first_ms = await _arm(node, bells, span_ms, ahead_ms)
    within_s = (ahead_ms + span_ms) / 1_000 + 60
    await until(lambda: _all_rung(node, len(bells)), within_s=within_s, every_s=0.005)
    return len(bells) * 1_000 / (node.host.store_clock.now_ms() - first_ms)


async def _arm(node: Node, bells: Sequence[Address], span_ms: int, ahead_ms: int) -> int:
    """Arm all, spread over `span_ms`; when the first is due, which is after the last is armed."""
    first_ms = node.host.store_clock.now_ms() + ahead_ms
    arming = (
        node.host.call(bell, Bell.arm, first_ms + number * span_ms // len(bells)) for number, bell in enumerate(bells)
    )
    await asyncio.gather(*arming)
    armed_ms = node.host.store_clock.now_ms()
    assert armed_ms < first_ms, f"arming took {armed_ms - first_ms + ahead_ms} ms; ask for fewer alarms"
    return first_ms


def _all_rung(node: Node, count: int) -> bool:
    return len(Bell.late_ms) == count and not node.host.alarms.overdue_ms()


def _told(rate: float, calls: float) -> str:
    return f"drained at {rate:,.0f}/s, {rate / calls:.2f} of the same turns called"


def _lateness(late_ms: Sequence[int]) -> str:
    ordered = sorted(late_ms)
    p50, p90, p99 = (percentile(ordered, share) for share in (0.5, 0.9, 0.99))
    return f"late by {p50} ms (p50), {p90} ms (p90), {p99} ms (p99), {ordered[-1]} ms at most; earliest {ordered[0]} ms"


def _histogram(figures_ms: Sequence[int]) -> list[str]:
    """A line for each range that something fell into: below its bound, and not below the one before."""
    counts = [0] * (len(BOUNDS_MS) + 1)
    for figure in figures_ms:
        counts[bisect_right(BOUNDS_MS, figure)] += 1
    names = [*(f"< {bound:,} ms" for bound in BOUNDS_MS), f">= {BOUNDS_MS[-1]:,} ms"]
    total = len(figures_ms)
    return [
        f"  {name:>12} {count:>7,} {count / total:>6.1%} {'#' * math.ceil(count * 50 / total)}"
        for name, count in zip(names, counts, strict=True)
        if count
    ]


if __name__ == "__main__":
    sys.exit(main())
