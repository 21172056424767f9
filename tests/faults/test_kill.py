"""`kill -9` in a loop, of the node, of its store and of both, under a load of committed turns and alarms.

Nothing here is simulated: real processes, a real store whose every write is synced, HTTP. What clients were told is
held against what is there in the end.
"""

import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.environment import PROVE
from tests.support.history import faults_of_alarms, faults_of_appends, lateness_ms, quantile
from tests.support.hot import Hot, loaded
from tests.support.launching import Launched, eventually, is_running
from tests.support.ledger import Load, entries_of, ledger_run, rings_of
from tests.support.machine import load_s, slowness

NODE, STORE = "ledger_service", "valkey-server"
VICTIMS: Sequence[tuple[str, ...]] = ((NODE,), (STORE,), (NODE, STORE), (NODE,))
BACK_S_MAX = 10
DOWN_S_MEDIAN_MAX = 1.0

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]


@pytest.mark.slow
@pytest.mark.timeout(3_600 if PROVE else 120)
def test_kills_lose_no_committed_turn_and_no_alarm(tmp_path: Path) -> None:
    """Acknowledged is kept, in order and in place; refused is absent; what many saw at once has one order; alarms ring, never early."""
    kills = 100 if PROVE else 4
    loads_s = [load_s() for _ in range(3)]
    with ledger_run(tmp_path / "data") as run:
        load, hot = Load(run.ready().port), Hot(run.port)
        with loaded(load, hot):
            downs_s = [_kill_under_load(run, load, VICTIMS[i % len(VICTIMS)]) for i in range(kills)]
        entries = entries_of(run.port, load.ledgers)
        assert [] == faults_of_appends(load.appends, entries)
        eventually(lambda: len(lateness_ms(load.armed, rings_of(run.port, load.BELLS))) == len(load.armed), within_s=15)
        rings = rings_of(run.port, load.BELLS)
        assert [] == faults_of_alarms(load.armed, rings)
        assert [] == hot.faults()

    outcomes = Counter(append.outcome for append in load.appends)
    late_ms = lateness_ms(load.armed, rings)
    rung = sum(len(times) for alarms in rings.values() for times in alarms.values())
    sys.stdout.write(
        f"{kills} kills: {outcomes['acknowledged']} appends acknowledged, {outcomes['unknown']} unknown,"
        f" {outcomes['refused']} refused; {len(load.armed)} alarms acknowledged, {rung} rings,"
        f" latest {max(late_ms)} ms late, half within {quantile(late_ms, 0.5)} ms;"
        f" {len(hot.histories)} hot ledgers with {hot.operations} operations, {hot.unknown} of them unknown, are"
        f" linearizable; down p50 {quantile(downs_s, 0.5):.2f} s, p99 {quantile(downs_s, 0.99):.2f} s, max {max(downs_s):.2f} s\n"
    )
    assert outcomes["acknowledged"] > 50 * kills, "there was no load"
    assert len(load.armed) > 5 * kills, "there were no alarms"
    # One slow start on a busy machine is no broken promise, hence the median.
    assert quantile(downs_s, 0.5) <= DOWN_S_MEDIAN_MAX * slowness(loads_s)


def _kill_under_load(run: Launched, load: Load, parts: Sequence[str]) -> float:
    """Kill processes in the middle of the load. Returns the seconds until the first answer to a later call."""
    lives_s = random.uniform(1.6, 2.2)  # Longer than what the launcher takes for a rapid death, and slows down.
    began_s = time.monotonic()
    eventually(lambda: time.monotonic() - began_s > lives_s and load.answered_after(began_s), within_s=BACK_S_MAX)
    pids = [run.pid_of(part) for part in parts]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    killed_s = time.monotonic()
    eventually(lambda: not any(map(is_running, pids)), within_s=BACK_S_MAX)
    answered_s = eventually(lambda: load.answered_after(killed_s), within_s=BACK_S_MAX)
    assert not set(pids) & {run.pid_of(part) for part in parts}
    return (answered_s or killed_s) - killed_s
