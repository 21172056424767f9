"""The real nginx in front, with the configuration that users copy."""

import http.client
import http.server
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.http_server import http_server
from tests.support.launching import eventually, free_ports
from tests.support.otlp_receiver import export_to, otlp_receiver
from tests.support.programs import require_program
from tests.support.service import Limiter, limiter

EXAMPLE = Path(__file__).parents[2] / "examples/gateways/nginx/nginx.conf"


def report(text: str, goodput: float) -> None:
    """Shown by `pytest -rA`: the figures of a proof are part of it."""
    sys.stdout.write(f"{text}, goodput {goodput:.3f}\n")


class _App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = b"app"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Gateway:
    """nginx, the limiter behind it, and an application."""

    def __init__(self, port: int, service: Limiter) -> None:
        self.port = port
        self.service = service

    def get(self, path: str = "/", headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
        """One request of a client."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with front(tmp_path) as running:
        yield running


@contextmanager
def front(tmp_path: Path) -> Iterator[Gateway]:
    """Nginx with the example's configuration, but for the ports."""
    nginx = require_program("nginx")
    with limiter(tmp_path / "data") as service, http_server(_App) as app_port:
        (port,) = free_ports(1)
        folder = tmp_path / "nginx"
        folder.mkdir()
        text = EXAMPLE.read_text()
        for old, new in (("7101", service.run.port), ("8000", app_port), ("8080", port)):
            text = text.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}")
        (folder / "nginx.conf").write_text(text)
        (folder / "key.conf").write_text(f'set $tenure_key "{service.key}";\n')
        process = subprocess.Popen([nginx, "-p", folder, "-c", "nginx.conf"], stderr=subprocess.DEVNULL)
        try:
            running = Gateway(port, service)

            def answers() -> bool:
                try:
                    return running.get()[0] in (200, 429)
                except OSError:
                    return False

            eventually(answers, within_s=5)
            service.call("DELETE", "/v1/subjects/127.0.0.1")
            yield running
        finally:
            process.terminate()
            process.wait(10)
            shutil.rmtree(folder)


def test_nginx_passes_the_limit_and_then_answers_429(gateway: Gateway) -> None:
    """200s with the fields, then 429 with RateLimit, RateLimit-Policy and Retry-After."""
    gateway.service.policy("api", ("minute", 5, 60_000))
    answers = [gateway.get() for _ in range(7)]

    assert [200] * 5 + [429] * 2 == [status for status, _, _ in answers]
    assert b"app" == answers[0][2]
    assert '"minute";q=5;w=60' == answers[0][1]["ratelimit-policy"]
    assert answers[0][1]["ratelimit"].startswith('"minute";r=4;t=')
    _, headers, body = answers[6]
    assert 1 <= int(headers["retry-after"]) <= 61
    assert '"minute";q=5;w=60' == headers["ratelimit-policy"]
    assert headers["ratelimit"].startswith('"minute";r=0;t=')
    assert "application/problem+json" == headers["content-type"]
    assert b'"status":429' in body


def test_what_the_client_sends_changes_nothing(gateway: Gateway) -> None:
    """Its own key, subject, check id, forwarding headers and query are not read."""
    gateway.service.policy("api", ("minute", 5, 60_000))
    forged = {
        "X-Tenure-Subject": "somebody-else",
        "X-Tenure-Key": "tnk_" + "A" * 43,
        "X-Tenure-Check-Id": "constant",
        "X-Request-Id": "constant",
        "X-Forwarded-For": "10.0.0.1",
        "Authorization": "Bearer nonsense",
    }
    answers = [gateway.get(f"/x?cost=0&policy=other&subject={i}", forged)[0] for i in range(7)]

    assert [200] * 5 + [429] * 2 == answers


def test_one_trace_joins_the_request_the_turn_and_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sampled `traceparent` sent to nginx leads through request, turn and commit, seen by a real OTLP receiver."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    with otlp_receiver() as receiver:
        export_to(receiver, monkeypatch)
        with front(tmp_path) as gateway:
            gateway.get("/", {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
            gateway.service.call(
                "DELETE", "/v1/subjects/127.0.0.1", None, {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
            )

            def names() -> set[str]:
                return {received.span.name for received in receiver.spans if received.span.trace_id.hex() == trace}

            wanted = {"GET /check/p/{profile}", "turn limiter/check", "commit limiter"}
            eventually(lambda: wanted <= names() or sys.stdout.write(f"{names()}\n") < 0, within_s=15)


@pytest.mark.slow
@pytest.mark.parametrize("load", [1, 2, 10])
def test_an_access_log_replayed_through_nginx_never_passes_the_limit_in_any_window(gateway: Gateway, load: int) -> None:
    """No span of the window's length holds more than L requests that were sent and answered within it."""
    limit, window_ms, seconds = 40, 1_000, 8
    gateway.service.policy("api", ("second", limit, window_ms))
    spans: list[tuple[float, float, bool]] = []
    lock = threading.Lock()
    start_s = time.monotonic() + 0.2
    workers = 8

    def replay(worker: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
        count = limit * load * seconds // workers
        for i in range(count):
            due_s = start_s + i * seconds / count + worker * 0.0003
            time.sleep(max(0.0, due_s - time.monotonic()))
            sent_s = time.monotonic()
            connection.request("GET", f"/page/{i % 17}")
            answer = connection.getresponse()
            answer.read()
            with lock:
                spans.append((sent_s, time.monotonic(), answer.status == 200))
        connection.close()

    threads = [threading.Thread(target=replay, args=(worker,)) for worker in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    passed = sorted((sent, received) for sent, received, ok in spans if ok)
    worst = 0
    for sent, _ in passed:
        worst = max(worst, sum(1 for s, r in passed if s >= sent and r <= sent + window_ms / 1000))
    duration_s = max(received for _, received, _ in spans) - start_s
    goodput = len(passed) / (limit * duration_s)
    report(f"load {load}x: {len(spans)} sent, {len(passed)} passed, worst window {worst} of {limit}", goodput)
    assert worst <= limit
    if load >= 2:
        assert goodput >= 0.97
