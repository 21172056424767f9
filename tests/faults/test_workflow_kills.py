"""`kill -9` of the workflow service and its store, at random, while runs sleep, call objects and join branches.

Real processes, a real store whose every write is synced, HTTP. Every run that was started has the history that it has
without a crash, and every object was changed exactly once by each step, however often it was called.
"""

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.environment import PROVE
from tests.support.launching import eventually
from tests.support.service import Limiter, limiter

SERVICE, STORE = "services.workflows", "valkey-server"
VICTIMS: Sequence[tuple[str, ...]] = ((SERVICE,), (STORE,), (SERVICE, STORE))
TAKE = {"type": "shelf", "call": "take", "args": {"count": 1}}
DEFINITION = {
    "workflow": "trip",
    "start": "seat",
    "steps": {
        "seat": {"object": {**TAKE, "id": "{% $input.n & '-seat' %}"}, "next": "nap"},
        "nap": {"sleep": "{% $input.nap_s %}", "next": "both"},
        "both": {
            "parallel": {
                "branches": {
                    name: {
                        "start": "t",
                        "steps": {"t": {"object": {**TAKE, "id": f"{{% $input.n & '-{name}' %}}"}, "end": True}},
                    }
                    for name in ("hotel", "car")
                }
            },
            "end": True,
        },
    },
}
HISTORY = sorted(
    ["run.started", "run.succeeded"]
    + [f"step.{what} {step}" for what in ("entered", "completed") for step in ("seat", "nap", "both")]
    + [f"step.{what} both/{name}/t" for what in ("entered", "completed") for name in ("hotel", "car")]
)
"""What happens in a run, in any order of the branches; steps that were tried again tell that beside it."""

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]


class Load:
    """Starts runs as long as it is let, each again until it was heard."""

    def __init__(self, service: Limiter) -> None:
        self._service = service
        self._stop = threading.Event()
        self.started: list[str] = []

    @contextmanager
    def running(self, threads: int = 4) -> Iterator[None]:
        """Start runs until the block ends."""
        workers = [threading.Thread(target=self._work, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        try:
            yield
        finally:
            self._stop.set()
            for worker in workers:
                worker.join()

    def _work(self, worker: int) -> None:
        number = 0
        while not self._stop.is_set():
            run_id = f"r{worker}-{number}"
            given = {"n": run_id, "nap_s": random.choice((0.1, 1, 2))}
            body = {"definition": "trip", "id": run_id, "input": given}
            if eventually(lambda body=body: self._heard(body), within_s=30):  # type: ignore[misc]  # Bound early.
                self.started.append(run_id)
            number += 1

    def _heard(self, body: object) -> bool:
        try:
            status, _, answer = self._service.call("POST", "/v1/runs", body)
        except OSError:
            time.sleep(0.05)
            return False
        if status in (200, 201):
            return True
        assert status in (401, 503, 504), answer  # A service that has just come back may not know the keys yet.
        time.sleep(0.05)
        return False


@pytest.mark.slow
@pytest.mark.timeout(1_800 if PROVE else 120)
def test_kills_change_no_history_and_no_count(tmp_path: Path) -> None:
    """Each run ends as it would have, and each shelf has lost one, whatever was killed when."""
    kills = 40 if PROVE else 3
    with limiter(tmp_path / "data", TENURE_OBJECTS="tests.support.carried") as running:
        service = running.beside("workflows")
        assert 201 == service.call("PUT", "/v1/definitions/trip/versions/1", DEFINITION)[0]
        load = Load(service)
        with load.running():
            for number in range(kills):
                time.sleep(random.uniform(2.0, 2.6))  # Longer than what the launcher takes for a rapid death.
                for part in VICTIMS[number % len(VICTIMS)]:
                    os.kill(service.run.pid_of(part), signal.SIGKILL)
        eventually(lambda: _status(service, load.started[-1]) == "succeeded", within_s=60)
        wrong = {run_id: told for run_id in load.started if (told := _wrong(service, run_id))}

    sys.stdout.write(f"{kills} kills: {len(load.started)} runs started and ended as without a crash\n")
    assert {} == wrong
    assert len(load.started) > 20 * kills, "there was no load"


def _status(service: Limiter, run_id: str) -> str:
    try:
        status, _, answer = service.call("GET", f"/v1/runs/{run_id}?wait=5")
    except OSError:
        return ""
    return str(answer["status"]) if status == 200 else ""


def _wrong(service: Limiter, run_id: str) -> str:
    """What of the run is not as without a crash; empty if nothing."""
    eventually(lambda: _status(service, run_id) == "succeeded", within_s=60)
    lines = service.call("GET", f"/v1/runs/{run_id}/history")[2]["lines"]
    told = sorted(f"{line['event']} {line.get('step', '')}".strip() for line in lines)
    if (seen := [line for line in told if not line.startswith("step.retried")]) != HISTORY:
        return f"history {seen}"
    left = {
        name: service.call("POST", f"/v1/objects/shelf/{run_id}%2D{name}/put_back", {"count": 0})[2]
        for name in ("seat", "hotel", "car")
    }
    return "" if set(left.values()) == {9} else f"shelves {left}"
