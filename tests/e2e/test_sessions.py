"""The session manager as a real process on a real store: what it was told survives its death."""

import http.client
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from services.sessions.keys import read_keys
from shared.testing.valkey import start_valkey
from tests.architecture.tree import ROOT
from tests.support.session_manager import COMMAND, Manager, running_manager

pytestmark = pytest.mark.e2e
GUIDE = ROOT / "docs/how-to/keep-users-signed-in.md"


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """A running one, on a store of its own that has what it has answered on its disk."""
    with running_manager(tmp_path) as running:
        yield running


def test_s19_what_was_acknowledged_survives_kill_9(manager: Manager) -> None:
    """S-19: the next process denies what was revoked, and lets in whoever is signed in."""
    kept, gone = (manager.ask("POST", "/v1/principals/ann/sessions", {})[1] for _ in range(2))
    assert [200, 200] == [manager.status(granted["token"]) for granted in (kept, gone)]
    assert 204 == manager.ask("DELETE", f"/v1/principals/ann/sessions/{gone['session']['id']}")[0]
    manager.kill()
    manager.start()
    assert [200, 401] == [manager.status(granted["token"]) for granted in (kept, gone)]
    rotated = manager.ask("POST", "/v1/session/rotate", token=kept["token"])[1]["token"]
    assert [200, 200] == [manager.status(token) for token in (kept["token"], rotated)]


def test_a_socket_ends_with_its_session_within_a_second(tmp_path: Path) -> None:
    """By 4401, with a client that is not ours; the socket of another session stays."""
    with start_valkey(tmp_path, durable=True) as store:
        manager = Manager(tmp_path, store.url, TENURE_OBJECTS="tests.support.board")
        manager.start()
        try:
            with _socket_in_a_session(manager, "ann") as gone, _socket_in_a_session(manager, "ben") as kept:
                assert "count" in json.loads(gone.recv(timeout=10))["message"]
                assert "count" in json.loads(kept.recv(timeout=10))["message"]
                assert 200 == manager.ask("POST", "/v1/principals/ann/sessions/revoke", {})[0]
                with pytest.raises(ConnectionClosed) as closed:
                    gone.recv(timeout=1)
                assert closed.value.rcvd is not None
                assert 4401 == closed.value.rcvd.code
                kept.send(json.dumps({"message": {"text": "still here"}}))
                assert "still here" == json.loads(kept.recv(timeout=5))["message"]["text"]
        finally:
            manager.kill()


def test_the_feed_goes_over_a_websocket_of_a_real_process(manager: Manager) -> None:
    """What was and what comes, and on from there in the next process."""
    session = manager.ask("POST", "/v1/principals/ann/sessions", {})[1]["session"]
    with _feed(manager) as feed:
        feed.send('{"after":0}')
        assert (1, "session.created") == _event(feed)
        assert 204 == manager.ask("DELETE", f"/v1/principals/ann/sessions/{session['id']}")[0]
        assert (2, "session.revoked") == _event(feed)
    manager.kill()
    manager.start()
    manager.ask("POST", "/v1/principals/ann/sessions", {})
    with _feed(manager) as feed:
        feed.send('{"after":2}')
        assert (3, "session.created") == _event(feed)


def _feed(manager: Manager) -> ClientConnection:
    """The feed of ann."""
    address = f"ws://127.0.0.1:{manager.port}/v1/principals/ann/events"
    return connect(address, additional_headers={"Authorization": f"Bearer {manager.key}"}, open_timeout=10)


def _event(feed: ClientConnection) -> tuple[int, str]:
    """Number and kind of the next event."""
    told = json.loads(feed.recv(timeout=10))
    return told["seq"], told["event"]["kind"]


def _socket_in_a_session(manager: Manager, principal: str) -> ClientConnection:
    """A socket of the board, opened in a new session."""
    session = manager.ask("POST", f"/v1/principals/{principal}/sessions", {})[1]["session"]
    asked = {"session": {"principal": principal, "id": session["id"]}}
    status, ticket = manager.ask("POST", "/v1/objects/board/one/tickets", asked)
    assert 201 == status, ticket
    protocols = ["tenure.v1", f"tenure.ticket.{ticket['ticket']}"]
    address = f"ws://127.0.0.1:{manager.port}/v1/objects/board/one/socket"
    return connect(address, subprotocols=protocols, open_timeout=10)  # type: ignore[arg-type]  # Any token can be one.


def test_a_node_that_stops_ends_its_feeds_and_does_not_wait_for_their_clients(manager: Manager) -> None:
    """After SIGTERM the socket ends with 1012 and the stream as an answer ends; the process is gone within 3 s."""
    assert 201 == manager.ask("POST", "/v1/principals/ann/sessions", {})[0]
    assert manager.process is not None
    with closing(http.client.HTTPConnection("127.0.0.1", manager.port, timeout=10)) as connection:
        connection.request("GET", "/v1/principals/ann/events", headers={"Authorization": f"Bearer {manager.key}"})
        stream = connection.getresponse()
        assert b"id: 1\n" == stream.readline()
        with _feed(manager) as feed:
            feed.send('{"after":0}')
            assert (1, "session.created") == _event(feed)
            manager.process.send_signal(signal.SIGTERM)
            began_s = time.monotonic()
            with pytest.raises(ConnectionClosed) as closed:
                feed.recv(timeout=10)
        assert closed.value.rcvd is not None
        assert 1012 == closed.value.rcvd.code
        assert b"event: session.created" in stream.read(), "read to its end, which is no broken connection"
    assert 0 == manager.process.wait(10)
    assert time.monotonic() - began_s < 3


def test_s20_an_owner_that_wakes_from_a_pause_lets_nobody_in(manager: Manager, tmp_path: Path) -> None:
    """S-20: its lease ended, the next owner signed the user out; of ten requests that waited for it none gets a 200."""
    granted = manager.ask("POST", "/v1/principals/ann/sessions", {})[1]
    assert 200 == manager.status(granted["token"])
    manager.pause()
    successor = Manager(tmp_path, manager.redis_url, key=manager.key)
    try:
        successor.start()
        assert 200 == successor.status(granted["token"])
        assert 204 == successor.ask("DELETE", f"/v1/principals/ann/sessions/{granted['session']['id']}")[0]
        with ThreadPoolExecutor(10) as clients:
            waiting = [clients.submit(manager.asked_once, granted["token"]) for _ in range(10)]
            manager.resume()
            answers = [answer.result() for answer in waiting]
        assert {401, 503} >= set(answers), "answered, and by no yes"
        assert 401 == successor.status(granted["token"])
    finally:
        manager.resume()
        successor.kill()


def test_without_keys_it_says_so_in_one_sentence() -> None:
    """Exit code 2, before it asks for a store; and no key is ever repeated."""
    for keys, said in (("", "TENURE_SESSION_KEYS must hold"), ("1:AAAA", "TENURE_SESSION_KEYS: item 1")):
        environ = {**os.environ, "TENURE_REDIS_URL": "redis://127.0.0.1:1", "TENURE_SESSION_KEYS": keys}
        done = subprocess.run(COMMAND, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
        assert 2 == done.returncode
        assert done.stderr.startswith(f"tenure: {said}")
        assert "AAAA" not in done.stderr


def test_the_guide_makes_keys_that_can_be_read() -> None:
    """The lines of docs/how-to/keep-users-signed-in.md, run by a shell."""
    found = re.search(r"```sh\n[^`]*?(new_key\(\) .*?)tenure serve", GUIDE.read_text(), re.DOTALL)
    assert found is not None
    script = found[1] + 'printf %s "$TENURE_SESSION_KEYS"'
    text = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert 1 == read_keys(text).signing_id
