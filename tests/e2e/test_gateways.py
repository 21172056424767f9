"""Whoami under the real gateways, with the configurations that users copy (S-29)."""

import hashlib
import http.client
import http.server
import json
import os
import re
import socket
import subprocess
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from services.sessions.bounds import DAY_MS, MINUTE_MS
from tests.support.aging import age
from tests.support.http_server import http_server
from tests.support.launching import ROOT, eventually, free_ports
from tests.support.programs import require_program
from tests.support.service import Limiter, limiter

EXAMPLES = ROOT / "examples/gateways/sessions"
FORGED = {
    "X-Session-Principal": "admin",
    "x-session-roles": "admin",
    "X-Session-Actor": "admin",
    "X_Session_Roles": "admin",
    "X-Session_Roles": "admin",  # These are the same to a program that makes each into HTTP_X_SESSION_ROLES.
    "X_Session-Roles": "admin",
    "x-session.roles": "admin",
    "X.Session.Roles": "admin",
    "X~Session!Roles": "admin",
}
TOLD = {"principal", "id", "tenant", "acr", "amr", "roles", "auth-time", "expires", "actor"}

WAIT = re.compile(r"\b6s\b|\b6000\b")
"""How long a gateway waits for whoami, which takes 5 s at most."""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3


class Kind(NamedTuple):
    """A gateway: its files, the first of which it is started with, its command, and its answers where nobody can say.

    `away`: whoami cannot be asked; `late`: it does not answer. `demand`: what its example has, and has where a level of
    authentication is wanted.
    """

    files: tuple[str, ...]
    command: Callable[[Path], list[str]]
    away: int
    late: int
    demand: tuple[str, str]


KINDS = {
    "nginx": Kind(
        ("nginx.conf",),
        lambda folder: ["-p", str(folder), "-c", "nginx.conf"],
        away=500,
        late=500,
        demand=('X-Require-Acr ""', 'X-Require-Acr "aal2 aal3"'),
    ),
    "caddy": Kind(
        ("Caddyfile",),
        lambda folder: ["run", "--config", str(folder / "Caddyfile")],
        away=502,
        late=504,
        demand=("# header_up X-Require-Acr", "header_up X-Require-Acr"),
    ),
    "traefik": Kind(
        ("traefik.yaml", "traefik-routes.yaml"),
        lambda _: ["--configFile=traefik.yaml"],
        away=502,
        late=504,
        demand=('X-Require-Acr: ""', 'X-Require-Acr: "aal2 aal3"'),
    ),
    "envoy": Kind(
        ("envoy.yaml",),
        lambda _: ["-c", "envoy.yaml", "--use-dynamic-base-id", "--concurrency", "1", "-l", "warn"],
        away=503,
        late=503,
        demand=("# authorization_request:", "authorization_request:"),
    ),
    "haproxy": Kind(
        ("haproxy.cfg", "whoami.lua"),
        lambda _: ["-f", "haproxy.cfg"],
        away=503,
        late=503,
        demand=("REQUIRE_ACR = nil", 'REQUIRE_ACR = "aal2 aal3"'),
    ),
}


class Seen(http.server.BaseHTTPRequestHandler):
    """An application that answers with what it was sent."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.headers.get("Upgrade", "").lower() == "websocket":
            self._greet()
            return
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        lines = [[name.lower(), value] for name, value in self.headers.items()]
        body = json.dumps({"method": self.command, "path": self.path, "fields": lines, "body": sent}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _greet(self) -> None:
        """Open a WebSocket, say who the application was told, and leave."""
        accept = hashlib.sha1(self.headers["Sec-WebSocket-Key"].encode() + _GUID, usedforsecurity=False).digest()
        self.send_response(101)
        for name, value in (("Upgrade", "websocket"), ("Connection", "Upgrade")):
            self.send_header(name, value)
        self.send_header("Sec-WebSocket-Accept", b64encode(accept).decode())
        self.end_headers()
        told = self.headers.get_all("X-Session-Principal", [])
        text = json.dumps(told).encode()
        self.wfile.write(bytes((0x81, len(text))) + text + b"\x88\x02\x03\xe8")
        self.close_connection = True

    do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_GET  # noqa: N815  # As the base class calls them.

    def log_message(self, *_: object) -> None:
        pass


class Answer(NamedTuple):
    """What a client is told. `seen` is what the application was sent, None if it was not asked."""

    status: int
    fields: dict[str, str]
    seen: Any


class Gateway:
    """A running gateway, and the session manager that it asks."""

    def __init__(self, port: int, kind: Kind, service: Limiter) -> None:
        self.port = port
        self.kind = kind
        self.service = service

    def ask(self, method: str = "GET", path: str = "/", token: str = "", **fields: str) -> Answer:
        """One request of a client."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            sent = {"Authorization": f"Bearer {token}"} if token else {}
            body = b"text" if method in ("POST", "PUT") else None
            connection.request(method, path, body, {**FORGED, **sent, **fields})
            answer = connection.getresponse()
            content = answer.read()
            reached = answer.status == 200 and content
            told = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, told, json.loads(content) if reached else None)
        finally:
            connection.close()

    def answers(self) -> bool:
        """Whether it is there, and has its routes: Traefik answers 404 before."""
        try:
            return self.ask().status != 404
        except (OSError, http.client.HTTPException):
            return False

    def signed_in(self, principal: str = "ann", **members: Any) -> Any:
        """A user who has signed in: token, session."""
        body = {"amr": ["pwd"], "roles": ["editor"], **members}
        path = f"/v1/principals/{quote(principal, safe='')}/sessions"
        status, _, granted = self.service.call("POST", path, body)
        assert 201 == status, granted
        return granted


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limiter]:
    with limiter(tmp_path_factory.mktemp("run") / "data") as running:
        yield running.beside("sessions")


@pytest.fixture(scope="module")
def app_port() -> Iterator[int]:
    with http_server(Seen) as port:
        yield port


@pytest.fixture(scope="module", params=KINDS)
def gateway(
    request: pytest.FixtureRequest, service: Limiter, app_port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    with started(request.param, service, service.port, app_port, tmp_path_factory.mktemp("gateway")) as running:
        yield running


@contextmanager
def started(
    name: str,
    service: Limiter,
    sessions: int,
    app_port: int,
    folder: Path,
    *,
    edit: Callable[[str], str] = str,
) -> Iterator[Gateway]:
    """A gateway with the configuration of the example, but for the ports, and for what `edit` makes of it."""
    program, kind = require_program(name), KINDS[name]
    port, own = free_ports(2)
    for file in kind.files:
        text = edit((EXAMPLES / file).read_text())
        for old, new in (("7103", sessions), ("8000", app_port), ("8080", port), ("8079", own)):
            text = text.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}").replace(f"value: {old}", f"value: {new}")
        (folder / file).write_text(text)
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            [program, *kind.command(folder)],
            cwd=folder,
            env={**os.environ, "XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)},  # Where Caddy writes.
            stdout=said,
            stderr=said,
        )
    try:
        running = Gateway(port, kind, service)
        eventually(lambda: process.poll() is not None or running.answers(), within_s=10)
        assert process.poll() is None, (folder / "said").read_text()
        yield running
    finally:
        process.terminate()
        process.wait(10)


def test_s29_the_application_is_told_by_tenure_alone(gateway: Gateway) -> None:
    """S-29: every field of the contract once and as whoami says it, and nothing that the client said of them."""
    granted = gateway.signed_in()

    answer = gateway.ask(path="/page?x=1", token=granted["token"])

    assert (200, "/page?x=1") == (answer.status, answer.seen["path"])
    told = [(n, v) for n, v in answer.seen["fields"] if re.match("x[^a-z0-9]session", n)]
    assert sorted(f"x-session-{name}" for name in TOLD) == sorted(name for name, _ in told)
    said = dict(told)
    assert ("ann", granted["session"]["id"], "dev") == tuple(
        said[f"x-session-{name}"] for name in ("principal", "id", "tenant")
    )
    assert ("editor", "pwd", "-") == tuple(said[f"x-session-{name}"] for name in ("roles", "amr", "actor"))


def test_s29_the_longest_names_and_roles_reach_the_application(gateway: Gateway) -> None:
    """S-29: each at its bound and percent-encoded, about 6 KiB together."""
    words = [f"{number:02}".ljust(64, "x") for number in range(32)]
    name, actor = "\xe4" * 256, "\xf6" * 256
    granted = gateway.signed_in(name, amr=words[:16], roles=words, actor={"sub": actor, "reason": "ticket"})

    answer = gateway.ask(token=granted["token"])

    assert 200 == answer.status
    said = dict(answer.seen["fields"])
    assert (quote(name), quote(actor), ",".join(words[:16]), ",".join(words)) == tuple(
        said[f"x-session-{field}"] for field in ("principal", "actor", "amr", "roles")
    )


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
def test_s29_every_method_is_judged_and_passed_on_alike(gateway: Gateway, method: str) -> None:
    """S-29: with its body, below any path; whoever is not signed in is refused in each."""
    token = gateway.signed_in()["token"]

    let_in, refused = (gateway.ask(method, "/v1/whoami/x?principal=admin", token=by) for by in (token, ""))

    assert (200, 401) == (let_in.status, refused.status)
    if method != "HEAD":
        sent = "text" if method in ("POST", "PUT") else ""
        assert (method, sent) == (let_in.seen["method"], let_in.seen["body"])


def test_s29_who_is_not_signed_in_is_told_so(gateway: Gateway) -> None:
    """S-29: no token, a forged one, one that was revoked and one that is sent in two ways: 401 with the challenge."""
    granted = gateway.signed_in("ben")
    token, path = granted["token"], f"/v1/principals/ben/sessions/{granted['session']['id']}"
    forged = token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB")
    assert 200 == gateway.ask(token=token).status
    twice = gateway.ask(token=token, Cookie=f"__Host-sid={token}")
    assert 204 == gateway.service.call("DELETE", path)[0]

    answers = [gateway.ask(), gateway.ask(token=forged), gateway.ask(token=token), twice]

    assert [401] * 4 == [answer.status for answer in answers]
    assert all(answer.fields["www-authenticate"].startswith("Bearer") for answer in answers)
    assert not any("set-cookie" in answer.fields for answer in answers)


@pytest.mark.parametrize("ended_by", ["absolute_timeout", "idle_timeout"])
def test_s29_a_session_that_has_run_out_is_told_so(gateway: Gateway, ended_by: str) -> None:
    """S-29: too old, or unused for too long: 401 with the challenge, where its token was let in before."""
    idle, service = ended_by == "idle_timeout", gateway.service
    assert 200 == service.call("PUT", "/v1/tenant/policy", {"idle_ms": MINUTE_MS if idle else 0})[0]
    granted = gateway.signed_in("dora")
    token, session_id = granted["token"], granted["session"]["id"]
    assert 200 == gateway.ask(token=token).status

    age(service, "dora", session_id, MINUTE_MS if idle else 31 * DAY_MS)
    answer = gateway.ask(token=token)

    assert (401, None) == (answer.status, answer.seen)
    assert answer.fields["www-authenticate"].startswith("Bearer")
    ended = service.call("GET", f"/v1/principals/dora/sessions/{session_id}")
    assert (410, ended_by) == (ended[0], ended[2]["reason"])
    assert 200 == service.call("PUT", "/v1/tenant/policy", {})[0]


def test_s29_a_cookie_counts_as_a_header_does(gateway: Gateway) -> None:
    """S-29: a browser sends nothing else."""
    token = gateway.signed_in()["token"]
    assert 200 == gateway.ask(Cookie=f"theme=dark; __Host-sid={token}").status


@pytest.mark.parametrize("name", KINDS)
def test_s29_nobody_is_let_in_while_nobody_can_say(name: str, service: Limiter, app_port: int, tmp_path: Path) -> None:
    """S-29: with the session manager away the application is not asked."""
    with started(name, service, free_ports(1)[0], app_port, tmp_path) as gateway:
        answer = gateway.ask(token=gateway.signed_in()["token"])
        assert (gateway.kind.away, None) == (answer.status, answer.seen)


@pytest.mark.parametrize("name", KINDS)
def test_s29_nobody_is_let_in_who_is_judged_too_late(
    name: str, service: Limiter, app_port: int, tmp_path: Path
) -> None:
    """S-29: a session manager that takes the question and says nothing is waited for as long as the example names."""
    named: list[str] = []

    def patience(text: str) -> str:
        named.extend(WAIT.findall(text))
        return WAIT.sub(lambda wait: wait[0].replace("6", "1"), text)

    with (
        socket.create_server(("127.0.0.1", 0)) as silent,  # The kernel takes the connections; nobody reads them.
        started(name, service, silent.getsockname()[1], app_port, tmp_path, edit=patience) as gateway,
    ):
        began = time.monotonic()
        answer = gateway.ask(token=gateway.signed_in()["token"])
        took_s = time.monotonic() - began
    assert 1 == len(named), named
    assert (gateway.kind.late, None) == (answer.status, answer.seen)
    assert 1 <= took_s < 6, took_s  # HAProxy asks four times.


@pytest.mark.parametrize("name", KINDS)
def test_s29_a_gateway_may_demand_a_level(name: str, service: Limiter, app_port: int, tmp_path: Path) -> None:
    """S-29: with the line that the example has for it; what the client demands of itself is not heard."""
    old, new = KINDS[name].demand
    found: list[int] = []

    def demanding(text: str) -> str:
        found.append(text.count(old))
        return text.replace(old, new)

    with started(name, service, service.port, app_port, tmp_path, edit=demanding) as gateway:
        low, high = (gateway.signed_in("dora", acr=acr)["token"] for acr in ("aal1", "aal3"))
        refused, let_in = gateway.ask(token=low, **{"X-Require-Acr": "aal1"}), gateway.ask(token=high)
    assert 1 == sum(found)
    assert (401, None, 200) == (refused.status, refused.seen, let_in.status)
    assert 'acr_values="aal2 aal3"' in refused.fields["www-authenticate"]


def test_s29_a_websocket_is_judged_before_it_is_opened(gateway: Gateway) -> None:
    """S-29: with a token it reaches the application, which is told who it is; without one it is answered with 401."""
    token, address = gateway.signed_in("cleo")["token"], f"ws://127.0.0.1:{gateway.port}/live"
    with connect(address, additional_headers={**FORGED, "Authorization": f"Bearer {token}"}, open_timeout=10) as socket:
        assert ["cleo"] == json.loads(socket.recv(timeout=10))
    for sent in ({}, {"Authorization": f"Bearer {token[:-4]}AAAA"}):
        with pytest.raises(InvalidStatus) as refused, connect(address, additional_headers=sent, open_timeout=10):
            pass
        assert 401 == refused.value.response.status_code
