"""The feed of a principal over server-sent events: nothing missed, nothing twice, and told as it happens."""

import asyncio
import gc
import re
from collections.abc import AsyncGenerator, Awaitable, Callable

import msgspec
import pytest

from services.sessions.bounds import FEED_ENTRIES, FEED_SLACK
from services.sessions.policy import Rules
from services.sessions.principal import Principal
from shared import bounds
from shared.http.asgi import Message
from shared.http.auth import Admission, KeyRing
from shared.http.eventstreams import EventStreams
from shared.storage.records import TenantRecord
from tests.support.far_end import knock
from tests.support.limiter_app import Answer
from tests.support.sessions_app import Sessions, with_sessions

EVENT = re.compile(r"(?:id: (\d+)\n)?event: ([\w.]+)\n")


def told(answer: Answer) -> list[tuple[str, str]]:
    """Numbers and kinds of what came."""
    return EVENT.findall(answer.body.decode())


async def watched(
    service: Sessions, *, after: int | None = None, principal: str = "ann", leaves: asyncio.Event | None = None
) -> Answer:
    """The stream until it ends by itself, or its client leaves."""
    await service.node.documents.poll()
    await service.node.shared_documents.poll()
    headers = [(b"host", b"x"), (b"authorization", b"Bearer " + service.key.encode())]
    if after is not None:
        headers.append((b"last-event-id", b"%d" % after))
    path = f"/v1/principals/{principal}/events"
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    messages: list[Message] = []
    ended = leaves or asyncio.Event()

    async def receive() -> Message:
        await ended.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        messages.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            ended.set()

    await service.app(scope, receive, send)
    start, *rest = messages
    answer = Answer(start["status"], list(start["headers"]), b"".join(part.get("body", b"") for part in rest))
    assert (200, "text/event-stream") == (answer.status, (answer.field("content-type") or "").partition(";")[0])
    return answer


def test_a_watcher_hears_what_was_and_what_comes() -> None:
    """From the first number on, while it happens; a token is in none of it."""

    async def scenario(service: Sessions) -> None:
        first = await service.signed_in()
        watching = asyncio.ensure_future(watched(service))
        await asyncio.sleep(60)
        await service.node.documents.poll()
        await service.node.shared_documents.poll()
        token = (await service.ask("POST", "/v1/session/rotate", key=first["token"])).json()["token"]
        await service.of("POST", "sessions/revoke", {})
        answer = await watching
        assert [("1", "session.created"), ("2", "session.rotated"), ("3", "session.revoked")] == told(answer)
        assert b": quiet" in answer.body
        assert token.encode() not in answer.body

    with_sessions(scenario)


def test_a_watcher_goes_on_behind_what_it_has_seen() -> None:
    """With `Last-Event-ID` nothing comes twice."""

    async def scenario(service: Sessions) -> None:
        for _ in range(3):
            await service.signed_in()
        assert [("3", "session.created")] == told(await watched(service, after=2))
        assert [] == told(await watched(service, after=3))

    with_sessions(scenario)


def test_a_watcher_that_has_missed_some_is_told_so() -> None:
    """`reset` first, then all that is kept; also where its number is beyond the last. Numbers go on over an erasure."""

    async def scenario(service: Sessions) -> None:
        granted = await service.signed_in()
        path = f"sessions/{granted['session']['id']}/data"
        for number in range(FEED_ENTRIES + FEED_SLACK):
            assert 200 == (await service.of("PUT", path, {"n": number})).status
        first, second, *_, last = told(await watched(service, after=1))
        newest = FEED_ENTRIES + FEED_SLACK + 1
        assert (("", "reset"), str(newest - FEED_ENTRIES + 1), str(newest)) == (first, second[0], last[0])
        await service.node.documents.poll()
        await service.node.shared_documents.poll()
        assert 200 == (await service.of("DELETE", "")).status
        assert [(str(newest + 1), "principal.erased")] == told(await watched(service, after=newest))
        await service.node.documents.poll()
        await service.node.shared_documents.poll()
        assert [("", "reset"), (str(newest + 1), "principal.erased")] == told(await watched(service, after=9_999))

    with_sessions(scenario)


def test_a_watcher_that_has_seen_nothing_has_missed_nothing() -> None:
    """It hears all that is kept, whether it says 0 or nothing."""

    async def scenario(service: Sessions) -> None:
        path = f"sessions/{(await service.signed_in())['session']['id']}/data"
        for number in range(FEED_ENTRIES + FEED_SLACK):
            assert 200 == (await service.of("PUT", path, {"n": number})).status
        for after in (0, None):
            assert (str(FEED_SLACK + 2), "session.data_changed") == told(await watched(service, after=after))[0]

    with_sessions(scenario)


def test_a_watcher_hears_of_the_end_of_everything_within_a_second() -> None:
    """With the tenant as the reason; one that comes later hears of it too, though nobody has asked the principal since."""

    async def scenario(service: Sessions) -> None:
        await service.signed_in()
        await service.signed_in("ben")
        watching = asyncio.ensure_future(watched(service))
        await asyncio.sleep(1)
        assert 200 == (await service.ask("POST", "/v1/tenant/sessions/revoke")).status
        await asyncio.sleep(1)
        await without_key(service)
        expected = [("1", "session.created"), ("2", "session.revoked")]
        answer = await watching
        assert expected == told(answer)
        assert b'"reason":"tenant"' in answer.body
        await asyncio.sleep(700)
        service.key = await service.add_key("acme", "sessions:read")
        assert expected == told(await watched(service, principal="ben"))

    with_sessions(scenario)


@pytest.mark.parametrize("bound", ["SOCKETS_MAX", "SOCKETS_PER_TENANT_MAX"])
def test_one_stream_too_many_is_refused(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 with when to come back; they count with sockets, and where one leaves, one may come."""
    monkeypatch.setattr(bounds, bound, 2)

    async def scenario(service: Sessions) -> None:
        leaves = asyncio.Event()
        first = asyncio.ensure_future(watched(service, leaves=leaves))
        await asyncio.sleep(0.1)
        socket = await knock(service.app, "/v1/principals/ann/events", key=service.key)
        assert 2 == service.node.ingress.open_sockets
        refused = await service.of("GET", "events")
        assert (503, "too_many_sockets", False) == (
            refused.status,
            refused.json()["code"],
            refused.json()["started"],
        )
        assert "1" == refused.field("retry-after")
        assert (4429, "Too many sockets") == await (
            await knock(service.app, "/v1/principals/ann/events", key=service.key)
        ).end()
        leaves.set()
        await first
        assert 1 == service.node.ingress.open_sockets
        second = asyncio.ensure_future(watched(service))
        await asyncio.sleep(0.1)
        assert 2 == service.node.ingress.open_sockets
        assert socket.closed is None
        second.cancel()
        await asyncio.wait({second})
        await asyncio.sleep(0.1)
        assert 1 == service.node.ingress.open_sockets

    with_sessions(scenario)


def test_a_stream_that_nobody_reads_is_not_counted_for_ever() -> None:
    """Though its answer was made: the request may have been cancelled then."""

    async def scenario(service: Sessions) -> None:
        async def parts() -> AsyncGenerator[bytes]:
            yield b"never"

        ring = KeyRing(service.node.shared_documents, service.node.clock)
        credential = ring.authenticate(service.key.encode())
        assert credential is not None
        streams = EventStreams(service.node.ingress)
        answer = await streams.open(Admission(ring, credential), parts())
        assert 1 == service.node.ingress.open_sockets
        del answer
        gc.collect()
        await asyncio.sleep(0.001)
        assert 0 == service.node.ingress.open_sockets

    with_sessions(scenario)


def test_streams_and_sockets_end_at_once_with_a_node_that_stops() -> None:
    """It need not wait for them, and lets none in any more."""

    async def scenario(service: Sessions) -> None:
        await service.signed_in()
        watching = asyncio.ensure_future(watched(service))
        far = await knock(service.app, "/v1/principals/ann/events", key=service.key)
        await asyncio.sleep(60.1)
        await service.settle(0)
        began_ms = service.node.clock.monotonic_ms()
        await service.node.ingress.stop()
        assert (0, began_ms) == (service.node.ingress.open_sockets, service.node.clock.monotonic_ms())
        assert [("1", "session.created")] == told(await watching)
        assert (1012, "The node stops: connect again") == await far.end()
        assert 503 == (await service.of("GET", "events")).status

    with_sessions(scenario)


def test_a_stopping_node_waits_for_a_socket_that_reads_nothing_no_longer_than_for_others() -> None:
    """Two seconds for what is under way."""

    async def scenario(service: Sessions) -> None:
        far = await knock(service.app, "/v1/principals/ann/events", key=service.key)
        await far.send_text('{"after":0}')
        await asyncio.sleep(0.1)
        far.stalled.clear()
        await service.signed_in()
        await asyncio.sleep(0.5)
        began_ms = service.node.clock.monotonic_ms()
        await service.node.ingress.stop()
        assert 2_000 >= service.node.clock.monotonic_ms() - began_ms
        assert 0 == service.node.ingress.open_sockets

    with_sessions(scenario)


async def without_key(service: Sessions) -> None:
    """The key is deleted."""
    documents = service.node.shared_documents
    (document,) = documents.list_all("key")
    await documents.delete("key", document.tenant, document.name, expected=None)


async def without_tenant(service: Sessions) -> None:
    """The tenant is disabled."""
    body = msgspec.json.encode(TenantRecord(created_ms=0, disabled=True))
    await service.node.shared_documents.put("tenant", "acme", "acme", body, expected=None)


@pytest.mark.parametrize("taken_back", [without_key, without_tenant])
def test_a_stream_ends_with_its_key(taken_back: Callable[[Sessions], Awaitable[None]]) -> None:
    """Within a second, and nothing that happens afterwards is told."""

    async def scenario(service: Sessions) -> None:
        await service.signed_in()
        address = next(one for one in service.host.residents.by_address if one.kind == Principal.kind)
        watching = asyncio.ensure_future(watched(service))
        await asyncio.sleep(60)
        await taken_back(service)
        await service.host.call(address, Principal.revoke_all, Rules())
        await asyncio.sleep(1)
        assert watching.done()
        assert [("1", "session.created")] == told(await watching)

    with_sessions(scenario)
