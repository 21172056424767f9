"""A node whose way to the store delays, drops, half-opens, loses answers and is gone for longer than its lease, under load.

Real processes and a real store whose every write is synced, with a proxy between them. What clients were told is held against
what is there in the end, and what clients of the same object saw at once against a model of it.
"""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from shared.bounds import LEASE_TTL_MS
from shared.testing.valkey import start_valkey
from tests.support.environment import PROVE
from tests.support.history import faults_of_alarms, faults_of_appends, lateness_ms, quantile
from tests.support.hot import Hot, loaded
from tests.support.launching import Launched, eventually
from tests.support.ledger import Load, entries_of, ledger_run, rings_of
from tests.support.store_proxy import Fault, StoreProxy, store_proxy

ROUNDS = 8 if PROVE else 1
LEASE_S = LEASE_TTL_MS / 1000
LASTS_S = {
    Fault.DELAY: 2.0,
    Fault.DROP: 3.0,
    Fault.LOSE_SOME: 3.0,
    Fault.LOSE_ALL: LEASE_S + 1,
    Fault.HALF_OPEN: LEASE_S / 2,
    Fault.AWAY: LEASE_S + 1,
}
HEALTHY_S = 1.5
"""Before each, so that there is a load for it to meet."""
BACK_S_MAX = 10
BACK_S_MEDIAN_MAX = 2.5

pytestmark = [
    pytest.mark.faults,
    pytest.mark.slow,
    pytest.mark.timeout(3_600 if PROVE else 120),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]


def test_whatever_the_way_to_the_store_does_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """Appends are where their answers say, unknown ones at most once, alarms ring and never early, and it serves again."""
    with linked(tmp_path) as (run, proxy):
        load, hot = Load(run.port, appenders=3), Hot(run.port)
        with loaded(load, hot):
            backs_s = [
                _outlive(proxy, fault, lasts_s, load) for _ in range(ROUNDS) for fault, lasts_s in LASTS_S.items()
            ]
        entries = entries_of(run.port, load.ledgers)
        assert [] == faults_of_appends(load.appends, entries)
        eventually(lambda: len(lateness_ms(load.armed, rings_of(run.port, load.BELLS))) == len(load.armed), within_s=15)
        assert [] == faults_of_alarms(load.armed, rings_of(run.port, load.BELLS))
        assert [] == hot.faults()
        _say(load, hot, proxy, backs_s, there={entry for held in entries.values() for entry in held})

    outcomes = Counter(append.outcome for append in load.appends)
    assert outcomes["acknowledged"] > 200 * ROUNDS, "there was no load"
    assert outcomes["unknown"] + hot.unknown > 0, "nothing was in doubt"
    assert len(load.armed) > 50 * ROUNDS, "there were no alarms"
    assert hot.operations > 200 * ROUNDS, "nothing was hot"
    assert all(proxy.fired[fault] >= ROUNDS for fault in Fault), proxy.fired
    assert quantile(backs_s, 0.5) <= BACK_S_MEDIAN_MAX


@contextmanager
def linked(directory: Path) -> Iterator[tuple[Launched, StoreProxy]]:
    """A node that reaches its store through the proxy."""
    with ExitStack() as stack:
        store = stack.enter_context(start_valkey(directory / "store", durable=True))
        proxy = stack.enter_context(store_proxy(store.socket_path))
        yield stack.enter_context(ledger_run(directory / "data", TENURE_REDIS_URL=proxy.url)).ready(), proxy


def _outlive(proxy: StoreProxy, fault: Fault, lasts_s: float, load: Load) -> float:
    """Let the fault be for a while. Returns the seconds from its end to the first answer to a later call."""
    time.sleep(HEALTHY_S)
    fired = proxy.fired[fault]
    with proxy.trouble(fault):
        time.sleep(lasts_s)
        assert (fault is not Fault.AWAY) == proxy.listens()
    assert proxy.fired[fault] > fired, f"it did not fire: {fault.value}"
    ended_s = time.monotonic()
    answered_s = eventually(lambda: load.answered_after(ended_s), within_s=BACK_S_MAX)
    return (answered_s or ended_s) - ended_s


def _say(load: Load, hot: Hot, proxy: StoreProxy, backs_s: list[float], there: set[str]) -> None:
    outcomes = Counter(append.outcome for append in load.appends)
    stored = sum(append.outcome == "unknown" and append.entry in there for append in load.appends)
    fired = ", ".join(f"{fault.name} {proxy.fired[fault]}" for fault in Fault)
    worst_s = {fault.name: round(max(backs_s[place :: len(LASTS_S)]), 2) for place, fault in enumerate(LASTS_S)}
    sys.stdout.write(
        f"{len(backs_s)} faults ({fired}): {outcomes['acknowledged']} appends acknowledged, {outcomes['refused']}"
        f" refused, {outcomes['unknown']} unknown, of which {stored} are stored; {len(load.armed)} alarms acknowledged;"
        f" {len(hot.histories)} hot ledgers with {hot.operations} operations, {hot.unknown} of them"
        f" unknown, are linearizable;"
        f" back after p50 {quantile(backs_s, 0.5):.2f} s, at most {worst_s}\n"
    )
