"""`http` steps with the real service, real sockets and a receiver on this machine."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from threading import Event
from typing import Any

import pytest

from tests.support.http_server import http_server
from tests.support.launching import eventually
from tests.support.service import Limiter, limiter


@pytest.fixture(scope="module")
def workflows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limiter]:
    """A run of everything, asked at the port of the workflow service."""
    with limiter(tmp_path_factory.mktemp("data")) as running:
        yield running.beside("workflows")


class Receiver:
    """Keeps what it is sent. While `hold` is not set, it answers nothing."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.hold = Event()
        self.hold.set()
        self.url = ""


@contextmanager
def receiver() -> Iterator[Receiver]:
    """A receiver on a port of its own."""
    kept = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.calls.append({"path": self.path, "key": self.headers["Idempotency-Key"], "body": json.loads(body)})
            kept.hold.wait(20)
            answer = b'{"id":"x-1"}'
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            return

    with http_server(Handler) as port:
        kept.url = f"http://127.0.0.1:{port}/orders"
        try:
            yield kept
        finally:
            kept.hold.set()


def put(flows: Limiter, name: str, url: str) -> None:
    """Put a definition with one call."""
    step = {"http": {"POST": url, "body": {"n": "{% $input.n %}"}}, "end": True}
    definition = {"workflow": name, "start": "a", "steps": {"a": step}}
    assert 201 == flows.call("PUT", f"/v1/definitions/{name}/versions/1", definition)[0]


def test_a_step_calls_an_address_of_this_machine_and_no_private_one(workflows: Limiter) -> None:
    """`tenure run` opens loopback; what else is private stays closed and reads like a closed port."""
    with receiver() as there:
        put(workflows, "order", there.url)
        put(workflows, "peek", "http://169.254.169.254/latest/meta-data")
        workflows.call("POST", "/v1/runs", {"definition": "order", "id": "o-1", "input": {"n": 7}})
        workflows.call("POST", "/v1/runs", {"definition": "peek", "id": "p-1", "input": {"n": 7}})
        run = workflows.call("GET", "/v1/runs/o-1?wait=20")[2]
        peeked = eventually(lambda: workflows.call("GET", "/v1/runs/p-1")[2]["steps"][0].get("error"), within_s=20)

    assert {"status": "succeeded", "output": {"id": "x-1"}} == run["end"]
    assert [{"path": "/orders", "key": "o-1/a:1", "body": {"n": 7}}] == there.calls
    assert "http.unreachable" == peeked["error"]


@pytest.mark.slow
def test_a_call_under_way_when_the_node_is_killed_is_made_again_with_the_same_key(workflows: Limiter) -> None:
    """Its answer was never stored, so the next node calls once more; the run ends as if nothing had happened."""
    with receiver() as there:
        put(workflows, "slow", there.url)
        there.hold.clear()
        workflows.call("POST", "/v1/runs", {"definition": "slow", "id": "o-2", "input": {"n": 8}})
        eventually(lambda: there.calls, within_s=20)
        os.kill(workflows.run.pid_of("services.workflows"), signal.SIGKILL)
        eventually(lambda: len(there.calls) > 1, within_s=30)
        there.hold.set()

        def ended() -> Any:
            try:
                return workflows.call("GET", "/v1/runs/o-2")[2].get("end")
            except OSError:
                return None

        end = eventually(ended, within_s=30)

    assert {"status": "succeeded", "output": {"id": "x-1"}} == end
    assert {"o-2/a:1"} == {call["key"] for call in there.calls}
