"""Alarms that fall due together: how fast they drain, and how late each rings, on a real store.

    .venv/bin/python -m benchmarks.alarms [--rounds 5] [--alarms 10000]

A round has three parts over the same objects, one alarm each: as many turns called at once, whose rate is the measure;
alarms due within one second; alarms due at one instant. A turn writes one value, whoever starts it, and is synced to
the disk. An alarm counts as drained when its turn is confirmed; it is late by what passed from its due time to the
start of its turn, in whole milliseconds of the store's clock. It ends by itself, in about a minute.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Sequence

from benchmarks.node import TENANT, bench_node, run, until
from benchmarks.serving import scratch_folder
from benchmarks.sides import percentile
from shared.objects.address import Address
from shared.objects.handler import Alarm, DurableObject
from shared.runtime.node import Node

AHEAD_MS = 4_000  # Time to arm all of them before the first is due.
SPANS_MS = (1_000, 0)


class Bell(DurableObject):
    """Writes one value when it is called and when it rings, and remembers how late it rang."""

    kind = "bell"
    late_ms: list[int] = []  # noqa: RUF012 - one list of the process, emptied before each part

    def arm(self, at_ms: int) -> None:
        """Ring at `at_ms` of the store's clock."""
        self.alarms.set("ring", at_ms=at_ms)

    def write(self) -> None:
        """What a ring writes."""
        self.storage.put("rings", self.storage.get("rings", int, default=0) + 1)

    def on_alarm(self, alarm: Alarm) -> None:
        """Ring."""
        self.late_ms.append(self.clock.now_ms() - alarm.due_ms)
        self.write()


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--alarms", type=int, default=10_000)
    options = parser.parse_args()
    run(_measure(options.rounds, options.alarms))
    return 0


async def _measure(rounds: int, count: int) -> None:
    bells = [Address(Bell.kind, TENANT, f"bell-{number}") for number in range(count)]
    called: list[float] = []
    rung: dict[int, list[float]] = {span_ms: [] for span_ms in SPANS_MS}
    late_ms: dict[int, list[int]] = {span_ms: [] for span_ms in SPANS_MS}
    with scratch_folder() as folder:
        async with bench_node(folder / "store", [Bell]) as node:
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


async def _call_all(node: Node, bells: Sequence[Address]) -> float:
    """Turns a second, from the first call to the last confirmation."""
    began_s = time.monotonic()
    await asyncio.gather(*(node.host.call(bell, Bell.write) for bell in bells))
    return len(bells) / (time.monotonic() - began_s)


async def _ring_all(node: Node, bells: Sequence[Address], span_ms: int) -> float:
    """Alarms a second, from the first due time to the last confirmation."""
    Bell.late_ms.clear()
    first_ms = node.host.store_clock.now_ms() + AHEAD_MS
    arming = (
        node.host.call(bell, Bell.arm, first_ms + number * span_ms // len(bells)) for number, bell in enumerate(bells)
    )
    await asyncio.gather(*arming)
    armed_ms = node.host.store_clock.now_ms()
    assert armed_ms < first_ms, f"arming took {armed_ms - first_ms + AHEAD_MS} ms; ask for fewer alarms"
    await until(lambda: _all_rung(node, len(bells)), within_s=60, every_s=0.005)
    return len(bells) * 1_000 / (node.host.store_clock.now_ms() - first_ms)


def _all_rung(node: Node, count: int) -> bool:
    return len(Bell.late_ms) == count and not node.host.alarms.overdue_ms()


def _told(rate: float, calls: float) -> str:
    return f"drained at {rate:,.0f}/s, {rate / calls:.2f} of the same turns called"


def _lateness(late_ms: Sequence[int]) -> str:
    ordered = sorted(late_ms)
    p50, p90, p99 = (percentile(ordered, share) for share in (0.5, 0.9, 0.99))
    return f"late by {p50} ms (p50), {p90} ms (p90), {p99} ms (p99), {ordered[-1]} ms at most; earliest {ordered[0]} ms"


if __name__ == "__main__":
    sys.exit(main())
