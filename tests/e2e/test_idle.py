"""What `tenure run` costs while nobody asks it anything."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.storage.embedded import EmbeddedStore
from tests.support.environment import PROVE
from tests.support.launching import processes_of
from tests.support.service import limiter

IDLE_S = 60 if PROVE else 12
SPANS_MAX = 3
CORE_PERCENT_MAX = 2.0
BARE_STORES_MAX = 16  # So many idle stores cost as much as a run on any machine: what two percent are on a fast one.
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

    On a slow machine two percent are more: there the measure is a store that nobody uses, which idles beside the run.
    The same work takes up to half as long again where other work shares the core's caches and clock, so the least
    disturbed of three spans counts.
    """
    spans: list[Span] = []
    with _bare_store(tmp_path / "bare"), limiter(tmp_path / "data"):
        time.sleep(SETTLED_S)
        while len(spans) < SPANS_MAX and not any(span.percent <= span.percent_max for span in spans):
            spans.append(_span(tmp_path / "data", tmp_path / "bare"))
            sys.stdout.write(f"{spans[-1]}\n")

    assert set(PARTS.values()) == spans[-1].percents.keys()
    assert any(span.percent <= span.percent_max for span in spans)


@dataclass(frozen=True)
class Span:
    """What each part of the run, and the bare store beside it, used of a core over `IDLE_S`, in percent."""

    percents: dict[str, float]
    bare_percent: float

    @property
    def percent(self) -> float:
        """What the run used."""
        return sum(self.percents.values())

    @property
    def percent_max(self) -> float:
        """What it may use."""
        return max(CORE_PERCENT_MAX, BARE_STORES_MAX * self.bare_percent)

    def __str__(self) -> str:
        """For the evidence page."""
        each = ", ".join(f"{part} {percent:.2f} %" for part, percent in self.percents.items())
        return f"idle for {IDLE_S} s: {self.percent:.2f} % of a core ({each}); a bare store {self.bare_percent:.2f} %"


@contextmanager
def _bare_store(directory: Path) -> Iterator[None]:
    """A store like that of a run, which nobody uses."""
    store = EmbeddedStore(directory)
    store.start()
    try:
        yield
    finally:
        store.kill()


def _span(run: Path, bare: Path) -> Span:
    before_s, bare_before_s, began_s = _cpu_s(run), _cpu_s(bare), time.monotonic()
    time.sleep(IDLE_S)
    after_s, bare_after_s, span_s = _cpu_s(run), _cpu_s(bare), time.monotonic() - began_s
    assert all(cpu_s > 0 for cpu_s in before_s.values())
    percents = {part: 100 * (after_s[part] - before_s[part]) / span_s for part in before_s}
    return Span(percents, 100 * (bare_after_s["store"] - bare_before_s["store"]) / span_s)


def _cpu_s(data_dir: Path) -> dict[str, float]:
    """The CPU time that each part has used so far, in user and kernel mode (proc_pid_schedstat(5): ns on a CPU)."""
    used: dict[str, float] = {}
    for pid, command in processes_of(data_dir).items():
        part = next(name for word, name in PARTS.items() if word in command)
        threads = (Path("/proc") / str(pid) / "task").iterdir()
        used[part] = sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9
    return used
