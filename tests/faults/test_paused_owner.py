"""An owner that is stopped past its lease wakes up to find a successor: nothing that it still does counts.

Two real nodes on one store, each stopped in turn with SIGSTOP while its turns are half done and its clients wait.
"""

import os
import signal
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from shared.testing.valkey import start_valkey
from tests.support.environment import PROVE
from tests.support.history import Append, Outcome, faults_of_appends
from tests.support.launching import Launched, eventually
from tests.support.ledger import Client, entries_of, ledger_run
from tests.support.ledger_service import SLOWLY_MS

LEASE_TTL_MS = 600
LEDGERS = tuple(f"ledger-{i}" for i in range(8))

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]


@pytest.mark.parametrize("pauses", [3, pytest.param(40 if PROVE else 10, marks=pytest.mark.slow)], ids=["few", "many"])
@pytest.mark.timeout(600 if PROVE else 60)
def test_a_paused_owner_changes_nothing_after_its_lease(pauses: int, tmp_path: Path) -> None:
    """Its late writes are refused by the store, its successor's stay, and every answer was true."""
    lease = {"TENURE_LEASE_TTL_MS": str(LEASE_TTL_MS)}
    with start_valkey(tmp_path / "store", durable=True) as store:
        lease["TENURE_REDIS_URL"] = store.url
        with ledger_run(tmp_path / "a", **lease) as a, ledger_run(tmp_path / "b", **lease) as b:
            owner = eventually(lambda: _owner(a, b), within_s=20)
            assert owner is not None
            other = b if owner is a else a
            appends: list[Append] = []
            for pause in range(pauses):
                appends += _outlive(owner, other, f"pause-{pause}")
                owner, other = other, owner
            fenced = a.metric("tenure_ownership_fenced_total") + b.metric("tenure_ownership_fenced_total")
            entries = entries_of(owner.port, LEDGERS)

    refused = sum(append.outcome == "refused" for append in appends)
    sys.stdout.write(
        f"{pauses} pauses past a lease of {LEASE_TTL_MS} ms: {len(appends)} appends,"
        f" {refused} refused, {fenced:.0f} writes of a former owner refused by the store\n"
    )
    assert [] == faults_of_appends(appends, entries)
    assert fenced > 0, "no late write reached the store"
    assert refused > 0


def _outlive(owner: Launched, successor: Launched, mark: str) -> list[Append]:
    """Stop the owner with turns half done, let the successor write, let the owner go on. Returns all that was sent."""
    with ThreadPoolExecutor(3 * len(LEDGERS)) as clients:
        waiting = [clients.submit(_append, owner, ledger, f"{mark}-before", "append-slowly") for ledger in LEDGERS]
        time.sleep(SLOWLY_MS / 1000 / 2)  # The turns have begun, and their writes are still to come.
        pid = owner.pid_of("ledger_service")
        os.kill(pid, signal.SIGSTOP)
        try:
            eventually(lambda: _state_of(pid) == "T", within_s=5)
            waiting += [clients.submit(_append, owner, ledger, f"{mark}-while", "append") for ledger in LEDGERS]
            done = [append for ledger in LEDGERS for append in _append_until_taken(successor, ledger, mark)]
            reads = [clients.submit(_read, owner, ledger) for ledger in LEDGERS]
            assert not any(answer.done() for answer in waiting)
        finally:
            os.kill(pid, signal.SIGCONT)
        done += [answer.result() for answer in waiting]
    _assert_no_stale_read(reads, [append.entry for append in done if append.outcome == "acknowledged"], mark)
    return done


def _append(run: Launched, ledger: str, entry: str, route: str = "append") -> Append:
    client = Client(run.port)
    try:
        return client.append(ledger, entry, route=route)
    finally:
        client.close()


def _append_until_taken(run: Launched, ledger: str, mark: str) -> list[Append]:
    """Appends of a successor that does not own the ledger yet: refused ones, and then one that is not."""
    tried: list[Append] = []

    def taken() -> bool:
        tried.append(_append(run, ledger, f"{mark}-after-{len(tried)}"))
        return tried[-1].outcome == "acknowledged"

    eventually(taken, within_s=10)
    return tried


def _read(run: Launched, ledger: str) -> tuple[Outcome, Any]:
    client = Client(run.port)
    try:
        return client.ask("GET", f"/entries/{ledger}")
    finally:
        client.close()


def _assert_no_stale_read(reads: list[Future[tuple[Outcome, Any]]], acknowledged: list[str], mark: str) -> None:
    """A former owner that answers a read has all that was acknowledged before the read was sent."""
    for ledger, read in zip(LEDGERS, reads, strict=True):
        outcome, entries = read.result()
        assert outcome == "refused" or any(entry.startswith(f"{mark}-after") for entry in entries), ledger
    assert len([entry for entry in acknowledged if entry.startswith(f"{mark}-after")]) == len(LEDGERS)


def _state_of(pid: int) -> str:
    return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]


def _owner(a: Launched, b: Launched) -> Launched | None:
    """The node that is ready, which is the one that owns all shards, once both of them listen."""
    ready = {run: _is_ready(run) for run in (a, b)}
    return None if None in ready.values() else next((run for run in ready if ready[run]), None)


def _is_ready(run: Launched) -> bool | None:
    """What the node says of itself; None while it does not listen."""
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{run.admin_port}/health/ready", timeout=1).close()
    except urllib.error.HTTPError as exc:
        exc.close()
        return False
    except OSError:
        return None
    return True
