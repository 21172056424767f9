"""What a live subject of the limiter costs while it is in memory: bytes of the node, and CPU while nobody asks.

    .venv/bin/python -m benchmarks.memory [--subjects 1000000] [--full 10000] [--idle-seconds 10] [--part sparse|full]

Two parts, each a node in a process of its own, on a real store; three figures:

- Subjects with 8 hits a limit, each in a run of its own, of two limits that are exact logs.
- The node's CPU over some seconds in which nothing is asked, before these subjects and with all of them in memory.
- Full subjects: two windows whose 61 buckets have hits, then as many ticks more, because the dead items at the front
  of a window are moved out in steps; the most that was seen counts. Fewer subjects, because each tick asks them all.

Bytes are the growth of the resident set by the number of subjects, garbage and all. The node is told not to let idle
objects go, which it otherwise does after a minute; what it does for that once a second goes on. It ends by itself, in
about four minutes.
"""

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from benchmarks.node import TENANT, bench_node, run, until
from benchmarks.serving import scratch_folder
from services.ratelimiter.compiled import CompiledPolicy
from services.ratelimiter.limiter import Limiter
from services.ratelimiter.policy import Limit, Policy
from services.ratelimiter.window import BUCKETS
from shared.clock import SystemClock
from shared.objects.address import Address
from shared.objects.host import NOT_NOW
from shared.runtime.node import Node
from shared.telemetry.metrics import CheckHandle

HITS = 8
SPARSE_BYTES_MAX, FULL_BYTES_MAX = 1_024, 2_048
CHUNK = 1_024  # Subjects asked together: a pass over them takes longer than a tick of a log, 1 ms.
PARTS = ("sparse", "full")  # Each in a process of its own: memory that one has freed would be used by the next.
ONCE = (1, False)  # The cost of a check, and that it is no peek.
TICK_MS = 250  # Of the full subjects: time for a pass over all of them and for its checkpoints.
SETTLED_S = 3


class Kept(Limiter):
    """A limiter that stays in memory, however long it is idle."""

    __slots__ = ()

    idle_ms: ClassVar[int] = 3_600_000


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--subjects", type=int, default=1_000_000)
    parser.add_argument("--full", type=int, default=10_000)
    parser.add_argument("--idle-seconds", type=int, default=10)
    parser.add_argument("--part", choices=PARTS)
    options = parser.parse_args()
    if options.part is None:
        return max(subprocess.call([sys.executable, *sys.orig_argv[1:], "--part", part]) for part in PARTS)
    run(_sparse(options.subjects, options.idle_seconds) if options.part == "sparse" else _full(options.full))
    return 0


async def _sparse(subjects: int, idle_s: int) -> None:
    with scratch_folder() as folder:
        async with bench_node(folder / "store", [Kept]) as node:
            await _touch(node, _policy("warm", (256, 3_600_000), (256, 7_200_000)), range(-CHUNK, 0))
            empty_share = await _idle_share(node, idle_s)
            before, began_s = _resident_bytes(), time.monotonic()
            await _hit(node, subjects)
            spent_s = time.monotonic() - began_s
            await _settled(node)
            _tell(f"{HITS} hits a limit", subjects, _resident_bytes() - before, SPARSE_BYTES_MAX)
            print(f"  {node.host.objects_resident:,} objects in memory, after {spent_s:.0f} s")
            full_share = await _idle_share(node, idle_s)
            print(f"idle for {idle_s} s: {empty_share:.2%} of a core without them, {full_share:.2%} with {subjects:,}")


async def _full(subjects: int) -> None:
    with scratch_folder() as folder:
        async with bench_node(folder / "store", [Kept]) as node:
            await _touch(node, _policy("warm", (256, 3_600_000), (256, 7_200_000)), range(-CHUNK, 0))
            before = _resident_bytes()
            _tell("full", subjects, await _fill(node, subjects) - before, FULL_BYTES_MAX)


def _tell(what: str, subjects: int, grown: int, bytes_max: int) -> None:
    each = grown / subjects
    verdict = "held" if each <= bytes_max else "missed"
    print(f"{subjects:,} subjects, {what}: {each:,.0f} bytes each (at most {bytes_max:,}): {verdict}", flush=True)


async def _hit(node: Node, subjects: int) -> None:
    """Bring subjects into memory, with 8 hits of different milliseconds in each of two logs."""
    policy = _policy("sparse", (100, 3_600_000), (250, 7_200_000))
    for chunk in _chunks(subjects):
        await _touch(node, policy, chunk)
        for _ in range(HITS - 1):
            await asyncio.sleep(0.001)
            await _ask(node, policy, chunk)


async def _fill(node: Node, subjects: int) -> int:
    """Bring full subjects into memory; the most bytes that were resident while they went on being asked."""
    policy = _policy("full", (1_000_000, BUCKETS * TICK_MS), (1_000_000, BUCKETS * TICK_MS))
    for chunk in _chunks(subjects):
        await _touch(node, policy, chunk)
    most = 0
    for number in range(BUCKETS * 2):
        tick_s = time.monotonic()
        for chunk in _chunks(subjects):
            await _ask(node, policy, chunk)
        if number >= BUCKETS:
            most = max(most, _resident_bytes())
        await asyncio.sleep(max(0, tick_s + TICK_MS / 1000 - time.monotonic()))
    return most


async def _touch(node: Node, policy: CompiledPolicy, subjects: range) -> None:
    """One check each, of subjects that have to be loaded first."""
    calls = (node.host.call(_subject(number), Kept.check, policy, *ONCE) for number in subjects)
    decisions = await asyncio.gather(*calls)
    assert all(decision.allowed for decision in decisions)


async def _ask(node: Node, policy: CompiledPolicy, subjects: range) -> None:
    """One check each, of subjects in memory; the ordinary way where the fast one is shut."""
    for number in subjects:
        address = _subject(number)
        if node.host.try_now(address, Kept.check, policy, *ONCE) is NOT_NOW:
            await node.host.call(address, Kept.check, policy, *ONCE)
    await asyncio.sleep(0)


async def _settled(node: Node) -> None:
    """Wait until what was asked is stored."""
    residents = node.host.residents.by_address
    await until(lambda: all(activation.clean for activation in residents.values()), within_s=60, every_s=0.5)
    await asyncio.sleep(SETTLED_S)


async def _idle_share(node: Node, seconds: int) -> float:
    """The share of one core that this process uses while nothing is asked."""
    await _settled(node)
    used_s, began_s = time.process_time(), time.monotonic()
    await asyncio.sleep(seconds)
    return (time.process_time() - used_s) / (time.monotonic() - began_s)


def _policy(name: str, *limits: tuple[int, int]) -> CompiledPolicy:
    rules = tuple(
        Limit(name=f"limit-{number}", limit=limit, window_ms=window_ms)
        for number, (limit, window_ms) in enumerate(limits)
    )
    return CompiledPolicy(name, 1, Policy(limits=rules), CheckHandle(SystemClock()))


def _subject(number: int) -> Address:
    return Address(Kept.kind, TENANT, f"user-{number:07d}")


def _chunks(subjects: int) -> Iterator[range]:
    for first in range(0, subjects, CHUNK):
        yield range(first, min(first + CHUNK, subjects))


def _resident_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1_024


if __name__ == "__main__":
    sys.exit(main())
