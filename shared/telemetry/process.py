"""What the process itself uses: processor, memory, files, garbage collection; and how late its event loop is.

Names are those of the OpenTelemetry conventions for processes and CPython. Memory and files are
read from `/proc`; where there is none, they are left out.
"""

import asyncio
import gc
import os
import time
from collections.abc import Callable
from pathlib import Path

from shared.clock import Clock
from shared.telemetry.metrics import Metrics

LOOP_WATCH_MS = 500
"""Often enough to see a loop that blocks, seldom enough to cost nothing: two timers a second."""

_PROC = Path("/proc/self")


def observe_process(metrics: Metrics, clock: Clock) -> None:
    """Have every scrape and export read what this process uses."""
    started_ms = clock.monotonic_ms()
    metrics.gauge("process.uptime", lambda: (clock.monotonic_ms() - started_ms) / 1000)
    metrics.gauge("process.cpu.time", lambda: os.times().user, **{"cpu.mode": "user"})
    metrics.gauge("process.cpu.time", lambda: os.times().system, **{"cpu.mode": "system"})
    for generation in range(3):
        metrics.gauge("cpython.gc.collections", _collections(generation), **{"cpython.gc.generation": str(generation)})
    if _PROC.is_dir():
        page_bytes = os.sysconf("SC_PAGE_SIZE")
        metrics.gauge("process.memory.usage", lambda: int((_PROC / "statm").read_bytes().split()[1]) * page_bytes)
        metrics.gauge("process.unix.file_descriptor.count", lambda: sum(1 for _ in (_PROC / "fd").iterdir()))


async def watch_loop(metrics: Metrics, stopwatch: Callable[[], float] = time.perf_counter) -> None:
    """Record for ever how late the running event loop is with a timer. `stopwatch` gives seconds."""
    while True:
        due_s = stopwatch() + LOOP_WATCH_MS / 1000
        await asyncio.sleep(LOOP_WATCH_MS / 1000)
        metrics.eventloop_lag(max(0.0, stopwatch() - due_s))


def _collections(generation: int) -> Callable[[], int]:
    return lambda: int(gc.get_stats()[generation]["collections"])
