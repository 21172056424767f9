"""Sockets of real processes with a client that is not ours: what it sees of evictions, stops, deaths and refusals."""

import json
import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from shared.bounds import SOCKET_FRAME_BYTES_MAX
from tests.support.launching import eventually
from tests.support.service import Limiter, limiter

pytestmark = pytest.mark.e2e
BOARD = "/v1/objects/board/one"
PAGE = "https://app.example"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Limiter]:
    with limiter(tmp_path / "data", TENURE_OBJECTS="tests.support.board", TENURE_SOCKET_ORIGINS=PAGE) as running:
        yield running


def opened(service: Limiter, *protocols: str, **options: Any) -> ClientConnection:
    """A socket: with a ticket among the protocols, or else with the key."""
    if not protocols:
        options.setdefault("additional_headers", {"Authorization": f"Bearer {service.key}"})
    address = f"ws://127.0.0.1:{service.run.port}{BOARD}/socket"
    return connect(address, subprotocols=["tenure.v1", *protocols], open_timeout=10, **options)  # type: ignore[list-item]  # Any token can be one.


def heard(client: ClientConnection) -> Any:
    """The next frame."""
    return json.loads(client.recv(timeout=10))


def pin(client: ClientConnection, text: str) -> None:
    """Pin a note."""
    client.send(json.dumps({"message": {"text": text}}))


def ended(client: ClientConnection) -> int | None:
    """The code with which it is closed, whatever comes before."""
    try:
        while True:
            client.recv(timeout=10)
    except ConnectionClosed as exc:
        return exc.rcvd.code if exc.rcvd else None


def test_two_clients_see_each_change_over_evictions_of_their_object(service: Limiter) -> None:
    """The object leaves memory between the notes, by the operator's hand; the sockets stay, the numbers go on."""
    with opened(service) as anna, opened(service) as bert:
        assert [{"seq": 1, "message": {"count": 0, "you": None}}] * 2 == [heard(anna), heard(bert)]
        for number in range(1, 6):
            pin(anna, f"note {number}")
            assert [{"seq": number + 1, "message": {"text": f"note {number}", "count": number}}] * 2 == [
                heard(anna),
                heard(bert),
            ]
            assert {"evicted": True} == evict(service)
    eventually(lambda: service.run.metric("tenure_socket_open") == 0.0, within_s=10)


def evict(service: Limiter) -> Any:
    """Send the board out of memory, through the operator's API."""
    token = (service.run.data_dir / "admin-token").read_text().strip()
    request = urllib.request.Request(
        f"http://127.0.0.1:{service.run.admin_port}/admin/objects/board/dev/one/evict",
        method="POST",
        headers={"Authorization": f"Bearer {token}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())


def test_a_page_opens_a_socket_with_a_ticket_and_a_foreign_one_does_not(service: Limiter) -> None:
    """The ticket is a subprotocol, works once, and says who came; a foreign page's is refused with 403 before all."""
    ticket = service.call("POST", f"{BOARD}/tickets", {"attachment": {"name": "anna"}})[2]["ticket"]
    with opened(service, f"tenure.ticket.{ticket}", origin=PAGE) as anna:
        assert "tenure.v1" == anna.subprotocol
        assert {"name": "anna"} == heard(anna)["message"]["you"]
    refused = []
    for protocol, origin in ((f"tenure.ticket.{ticket}", PAGE), ("tenure.ticket.none", "https://evil.example")):
        with pytest.raises(InvalidStatus) as caught:
            opened(service, protocol, origin=origin)
        refused.append((caught.value.response.status_code, json.loads(caught.value.response.body or b"")["code"]))
    assert [(401, "unauthenticated"), (403, "foreign_origin")] == refused


def test_frames_that_are_too_large_or_none_end_their_socket(service: Limiter) -> None:
    """1009, 1003 and 4400, through a real server; one of the largest size is a message."""
    with opened(service) as client:
        heard(client)
        pin(client, "x" * 60_000)
        assert 60_000 == len(heard(client)["message"]["text"])
    found = []
    for frame in ("x" * (SOCKET_FRAME_BYTES_MAX + 1), b"binary", '{"message":{"text":1}}'):
        with opened(service) as client:
            client.send(frame)
            found.append(ended(client))
    assert [1009, 1003, 4400] == found


def test_a_client_that_does_not_read_is_cut_off_and_the_others_hear_on(service: Limiter) -> None:
    """Its kernel's buffers fill, then its queue; a note to the others takes no longer than before."""
    with opened(service, max_queue=1) as slow, opened(service) as quick:
        heard(quick)
        for number in range(200):
            pin(quick, f"{number:>50000}")
            assert number + 1 == heard(quick)["message"]["count"]
        eventually(lambda: service.run.metric("tenure_socket_open") == 1.0, within_s=10)
        assert ended(slow) in (1013, None)


def test_a_node_that_stops_says_so_and_one_that_dies_cannot(service: Limiter, tmp_path: Path) -> None:
    """1012 after SIGTERM, and the object has heard of it; after `kill -9` the connection breaks, and what was told stays."""
    with opened(service) as client:
        heard(client)
        service.run.process.send_signal(signal.SIGTERM)
        assert 1012 == ended(client)
        assert 0 == service.run.exit_code()
    with limiter(tmp_path / "data", TENURE_OBJECTS="tests.support.board") as again:
        assert 1012 == again.call("POST", f"{BOARD}/closed")[2]
        with opened(again) as client:
            heard(client)
            pin(client, "kept")
            assert 1 == heard(client)["message"]["count"]
            os.kill(again.run.pid_of("services.ratelimiter"), signal.SIGKILL)
            assert ended(client) is None
        eventually(lambda: _counted(again) == 1, within_s=20)


def _counted(service: Limiter) -> int:
    try:
        return int(service.call("POST", f"{BOARD}/count")[2])
    except (OSError, TypeError, ValueError):
        time.sleep(0.1)
        return -1
