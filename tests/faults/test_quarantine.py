"""An object that never gives its node back kills it once, and not the next one; a stopped process is no such object."""

import json
import os
import re
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from tests.support.launching import eventually
from tests.support.service import Limiter, limiter

OBJECTS = "tests.support.blocking_objects"
PATH = "/v1/objects/blocker"
KILLED_WITHIN_S = 15
"""A second until it is told, four in all, and a start on a busy machine."""

pytestmark = [
    pytest.mark.faults,
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Limiter]:
    with limiter(tmp_path / "data", TENURE_OBJECTS=OBJECTS) as running:
        yield running


def test_an_object_that_spins_kills_its_node_once(service: Limiter) -> None:
    """Its caller is told nothing; the node that comes back refuses it, others go on, also over a further kill."""
    assert 200 == service.call("POST", f"{PATH}/good/count")[0]
    former = service.run.pid_of("services.ratelimiter")
    heard = send(service, "bad/spin")
    back = eventually(lambda: count(service, "good", after=former), within_s=KILLED_WITHIN_S)
    assert 2 == back
    assert ["no answer"] == eventually(lambda: heard, within_s=KILLED_WITHIN_S)
    status, fields, problem = service.call("POST", f"{PATH}/bad/count")
    assert (503, "quarantined", False) == (status, problem["code"], problem["started"])
    assert 40 <= int(fields["retry-after"]) <= 60
    node = service.run.pid_of("services.ratelimiter")
    status, _, problem = service.call("POST", f"{PATH}/bad/spin")
    assert (503, "quarantined") == (status, problem["code"])
    assert "ratelimiter ended (exit code 3)" in service.run.errors

    assert ["blocker/dev/bad"] == [line["object"] for line in told(service, "object.quarantined")]
    (blocked,) = told(service, "eventloop.blocked")
    assert "blocker/dev/bad" == blocked["object"]
    assert "in spin" in blocked["stack"]
    assert 1.0 == metric(service, "tenure_object_quarantined")

    os.kill(node, signal.SIGKILL)
    assert 3 == eventually(lambda: count(service, "good", after=node), within_s=KILLED_WITHIN_S)
    assert 503 == service.call("POST", f"{PATH}/bad/count")[0]


def test_an_alarm_that_spins_does_not_kill_the_next_node(service: Limiter) -> None:
    """Nobody has to call: the alarm is there for the next owner at once, which puts it off."""
    former = service.run.pid_of("services.ratelimiter")
    assert 200 == service.call("POST", f"{PATH}/bad/spin_later")[0]
    assert 1 == eventually(lambda: count(service, "good", after=former), within_s=KILLED_WITHIN_S)
    node = service.run.pid_of("services.ratelimiter")
    time.sleep(6)  # Long enough to die of it again.
    assert node == service.run.pid_of("services.ratelimiter")
    assert 503 == service.call("POST", f"{PATH}/bad/count")[0]


def test_a_turn_that_blocks_for_two_seconds_is_told_and_lives(service: Limiter) -> None:
    """A warning with its stack and a metric; its answer comes, nothing is refused."""
    node = service.run.pid_of("services.ratelimiter")
    assert 200 == service.call("POST", f"{PATH}/slow/sleep", {"seconds": 2.0})[0]
    (blocked,) = told(service, "eventloop.blocked")
    assert ("blocker/dev/slow", True) == (blocked["object"], "in sleep" in blocked["stack"])
    assert 1.0 == metric(service, 'tenure_eventloop_blocked_total{kind="blocker"}')
    assert 200 == service.call("POST", f"{PATH}/slow/count")[0]
    assert node == service.run.pid_of("services.ratelimiter")


@pytest.mark.parametrize("turn", ["", "slow/sleep"], ids=["idle", "in_a_turn"])
def test_a_stopped_process_puts_nobody_into_quarantine(turn: str, service: Limiter) -> None:
    """SIGSTOP for 6 s, idle or in the middle of a turn that blocks for two: when it goes on, so do its objects."""
    node = service.run.pid_of("services.ratelimiter")
    assert 1 == count(service, "good")
    if turn:
        send(service, turn, {"seconds": 2.0})
        eventually(lambda: not answers(service), within_s=5)
    os.kill(node, signal.SIGSTOP)
    time.sleep(6)
    os.kill(node, signal.SIGCONT)
    assert 2 == eventually(lambda: count(service, "good"), within_s=KILLED_WITHIN_S)
    assert 1 == eventually(lambda: count(service, "slow"), within_s=KILLED_WITHIN_S)
    assert node == service.run.pid_of("services.ratelimiter")
    assert [] == told(service, "object.quarantined")
    assert 0.0 == metric(service, "tenure_object_quarantined")


def send(service: Limiter, call: str, body: Any = None) -> list[str]:
    """Send a call whose answer nobody waits for; what its caller hears comes into the list."""
    heard: list[str] = []

    def ask() -> None:
        try:
            heard.append(str(service.call("POST", f"{PATH}/{call}", body)[0]))
        except (OSError, HTTPException):
            heard.append("no answer")

    threading.Thread(target=ask, daemon=True).start()
    return heard


def count(service: Limiter, name: str, *, after: int = 0) -> int | None:
    """The count of an object, from another process than `after`; None while there is no answer."""
    try:
        if after and service.run.pid_of("services.ratelimiter") == after:
            return None
        status, _, answer = service.call("POST", f"{PATH}/{name}/count")
    except (OSError, ValueError):  # Not there, or two processes for a moment.
        return None
    return int(answer) if status == 200 else None


def told(service: Limiter, event: str) -> list[dict[str, Any]]:
    """The lines of the service's log with this event."""
    lines = (service.run.data_dir / "logs/ratelimiter.log").read_text().splitlines()
    records = [json.loads(line) for line in lines if line.startswith("{")]
    return [record for record in records if record["event"] == event]


def metric(service: Limiter, name: str) -> float:
    """A value of a scrape."""
    with urllib.request.urlopen(f"http://127.0.0.1:{service.run.admin_port}/metrics", timeout=5) as reply:
        found = re.search(rf"^{re.escape(name)} (\S+)", reply.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def answers(service: Limiter) -> bool:
    """Whether the loop of the node comes round."""
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{service.run.admin_port}/health/live", timeout=0.2).close()
    except OSError:
        return False
    return True
