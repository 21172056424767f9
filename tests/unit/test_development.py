"""The development key is handed out when every service knows it, not before."""

import asyncio
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from shared.clock import SystemClock
from shared.runtime.development import LIMITER, SESSIONS, WORKFLOWS, development_key, key_path
from shared.runtime.local_call import Endpoint
from shared.testing.valkey import start_valkey
from tests.support.http_server import http_server

REFUSALS = 3


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    with start_valkey(tmp_path / "store") as store:
        yield store.url


@pytest.mark.parametrize("late", [LIMITER, WORKFLOWS, SESSIONS])
def test_a_key_is_handed_out_when_each_service_knows_it(late: str, redis_url: str, tmp_path: Path) -> None:
    """Each hears of it in its own time: also the one in which nothing is put for the newcomer."""
    said: list[int] = []

    class Prompt(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.say(200)

        def do_PUT(self) -> None:
            self.do_GET()

        def say(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Late(Prompt):
        def say(self, status: int) -> None:
            said.append(401 if len(said) < REFUSALS else status)
            super().say(said[-1])

    with http_server(Prompt) as prompt, http_server(Late) as behind:
        apis = {
            name: Endpoint("127.0.0.1", behind if name == late else prompt) for name in (LIMITER, WORKFLOWS, SESSIONS)
        }
        key = asyncio.run(development_key(tmp_path, apis, redis_url=redis_url, clock=SystemClock()))

    assert [401] * REFUSALS + [200] == said[: REFUSALS + 1]
    assert key == key_path(tmp_path).read_text().strip()
