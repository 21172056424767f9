"""What the process itself uses: processor, memory, files, garbage collection.

Names are those of the OpenTelemetry conventions for processes and CPython. Memory and files are
read from `/proc`; where there is none, they are left out.
"""

import gc
import os
from collections.abc import Callable
from pathlib import Path

from shared.clock import Clock
from shared.telemetry.metrics import Metrics

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


def _collections(generation: int) -> Callable[[], int]:
    return lambda: int(gc.get_stats()[generation]["collections"])
