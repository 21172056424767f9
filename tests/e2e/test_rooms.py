"""Rooms of a real process: the page of the documentation as it stands, and a socket with a client that is not ours."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.architecture.tree import ROOT
from tests.support.session_manager import Manager, running_manager
from tests.support.shell import run_in_shell, shell_blocks

pytestmark = pytest.mark.e2e
GUIDE = ROOT / "docs/how-to/rooms.md"


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """A running one, on a store of its own."""
    with running_manager(tmp_path) as running:
        yield running


def entered(manager: Manager, ticket: str) -> ClientConnection:
    """Somebody in the room."""
    protocols = ["tenure.v1", f"tenure.ticket.{ticket}"]
    address = f"ws://127.0.0.1:{manager.port}/v1/rooms/plan/socket"
    return connect(address, subprotocols=protocols, open_timeout=10)  # type: ignore[arg-type]  # Any token can be one.


def test_the_page_of_rooms_is_right(manager: Manager) -> None:
    """Its calls are answered as it says, its ticket opens a socket, and what is patched there outlives `kill -9`."""
    lines = "\n".join(shell_blocks(GUIDE)).replace("7103", str(manager.port))
    shown = run_in_shell(f"KEY={manager.key}\n{lines}").replace("}{", "}\n{").splitlines()
    told = [json.loads(line) for line in shown]
    document = {"title": "The trip", "days": {"monday": "train", "tuesday": "boat"}}
    assert [{"seq": 1}, {"seq": 2}, {"seq": 2, "document": document}] == told[:3]
    for line in shown[:3]:
        assert f"`{line}`" in GUIDE.read_text()

    with entered(manager, told[3]["ticket"]) as anna:
        assert document == json.loads(anna.recv(timeout=10))["message"]["document"]
        assert [] == json.loads(anna.recv(timeout=10))["message"]["members"]
        patch = {"type": "patch", "base_seq": 2, "merge_patch": {"title": None}, "id": "a"}
        anna.send(json.dumps({"message": patch}))
        assert {"type": "ack", "seq": 3, "id": "a"} == json.loads(anna.recv(timeout=10))["message"]
    manager.kill()
    manager.start()
    assert (200, {"seq": 3, "document": {"days": document["days"]}}) == manager.ask("GET", "/v1/rooms/plan/document")


def test_whoever_is_in_a_room_in_a_session_leaves_with_it(manager: Manager) -> None:
    """Within a second, by 4401; the others stay, and hear it."""
    session = manager.ask("POST", "/v1/principals/ann/sessions", {})[1]["session"]
    with_session = {"name": "anna", "session": {"principal": "ann", "id": session["id"]}}
    tickets = [manager.ask("POST", "/v1/rooms/plan/tickets", body)[1] for body in (with_session, {"name": "bert"})]
    with entered(manager, tickets[0]["ticket"]) as anna, entered(manager, tickets[1]["ticket"]) as bert:
        heard = [json.loads(anna.recv(timeout=10))["message"]["type"] for _ in range(3)]
        assert ["hello", "members", "joined"] == heard
        assert 200 == manager.ask("POST", "/v1/principals/ann/sessions/revoke", {})[0]
        with pytest.raises(ConnectionClosed) as closed:
            anna.recv(timeout=1)
        assert closed.value.rcvd is not None
        assert 4401 == closed.value.rcvd.code
        types = [json.loads(bert.recv(timeout=5))["message"]["type"] for _ in range(3)]
        assert ["hello", "members", "left"] == types
