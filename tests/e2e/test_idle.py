"""What `tenure run` costs while nobody asks it anything."""

import sys
import time
from pathlib import Path

import pytest

from tests.support.environment import PROVE
from tests.support.launching import processes_of
from tests.support.service import limiter

IDLE_S = 60 if PROVE else 12
SPANS_MAX = 3
CORE_PERCENT_MAX = 2.0
SETTLED_S = 3  # What a start leaves to be done: garbage, first renewals.

PARTS = {
    "shared.cli": "launcher",
    "services.ratelimiter": "limiter",
    "services.workflows": "workflows",
    "services.sessions": "sessions",
    "valkey-server": "store",
}


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_idle_run_costs_at_most_two_percent_of_a_core(tmp_path: Path) -> None:
    """Launcher, services and store together, by the kernel's own count of their CPU time.

    The same work takes up to half as long again where other work shares the core's caches and clock, so the least
    disturbed of three spans counts.
    """
    spans: list[dict[str, float]] = []
    with limiter(tmp_path / "data"):
        time.sleep(SETTLED_S)
        while len(spans) < SPANS_MAX and not any(sum(one.values()) <= CORE_PERCENT_MAX for one in spans):
            before_s, began_s = _cpu_s(tmp_path / "data"), time.monotonic()
            time.sleep(IDLE_S)
            after_s, span_s = _cpu_s(tmp_path / "data"), time.monotonic() - began_s
            assert all(cpu_s > 0 for cpu_s in before_s.values())
            spans.append({part: 100 * (after_s[part] - before_s[part]) / span_s for part in before_s})

    percents = min(spans, key=lambda one: sum(one.values()))
    each = ", ".join(f"{part} {percent:.2f} %" for part, percent in percents.items())
    sys.stdout.write(f"idle for {IDLE_S:.0f} s: {sum(percents.values()):.2f} % of a core ({each})\n")
    assert set(PARTS.values()) == percents.keys()
    assert sum(percents.values()) <= CORE_PERCENT_MAX


def _cpu_s(data_dir: Path) -> dict[str, float]:
    """The CPU time that each part has used so far, in user and kernel mode (proc_pid_schedstat(5): ns on a CPU)."""
    used: dict[str, float] = {}
    for pid, command in processes_of(data_dir).items():
        part = next(name for word, name in PARTS.items() if word in command)
        threads = (Path("/proc") / str(pid) / "task").iterdir()
        used[part] = sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9
    return used
