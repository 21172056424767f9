"""The feed of a principal over a WebSocket: nothing missed, nothing twice, and only for who may read it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from services.sessions.bounds import FEED_ENTRIES, FEED_SLACK
from shared import bounds
from shared.bounds import NAME_BYTES_MAX
from tests.support.far_end import FarEnd, knock, pinged_s
from tests.support.sessions_app import Sessions, with_sessions

FEED = "/v1/principals/ann/events"


async def opened(service: Sessions, after: int = 0, **options: Any) -> FarEnd:
    """A socket that goes on after an event."""
    far = await knock(service.app, FEED, **{"key": service.key, **options})
    assert far.closed is None, far.closed
    await far.send_text(f'{{"after":{after}}}')
    return far


async def told(far: FarEnd, count: int) -> list[tuple[int, str]]:
    """Numbers and kinds of the next events."""
    frames = [await far.frame() for _ in range(count)]
    return [(frame["seq"], frame["event"]["kind"]) for frame in frames]


async def revoked(service: Sessions) -> None:
    """The key of the service is no more."""
    document = next(one for one in service.node.shared_documents.list_all("key"))
    await service.node.shared_documents.delete("key", document.tenant, document.name, expected=None)


def test_a_client_hears_what_was_and_what_comes() -> None:
    """At once, without gaps, each once; and goes on where another socket ended."""

    async def scenario(service: Sessions) -> None:
        session = (await service.signed_in())["session"]
        far = await opened(service)
        assert [(1, "session.created")] == await told(far, 1)
        await service.signed_in()
        assert [(2, "session.created")] == await told(far, 1)
        await far.leave()
        await service.of("DELETE", f"sessions/{session['id']}")
        again = await opened(service, 2)
        (frame,) = [await again.frame()]
        assert (3, "session.revoked", session["id"]) == (
            frame["seq"],
            frame["event"]["kind"],
            frame["event"]["session"],
        )

    with_sessions(scenario)


def test_a_client_hears_of_the_end_of_everything_within_a_second() -> None:
    """Whatever the principal was asked meanwhile."""

    async def scenario(service: Sessions) -> None:
        await service.signed_in()
        far = await opened(service)
        assert [(1, "session.created")] == await told(far, 1)
        assert 200 == (await service.ask("POST", "/v1/tenant/sessions/revoke")).status
        async with asyncio.timeout(1):
            frame = await far.frame()
        assert (2, "session.revoked", "tenant") == (frame["seq"], frame["event"]["kind"], frame["event"]["reason"])

    with_sessions(scenario)


def test_a_client_that_was_away_for_too_long_is_told_so() -> None:
    """Where events that it has not heard are not kept any more, and where the feed began anew."""

    async def scenario(service: Sessions) -> None:
        path = f"sessions/{(await service.signed_in())['session']['id']}/data"
        for number in range(FEED_ENTRIES + FEED_SLACK):
            assert 200 == (await service.of("PUT", path, {"n": number})).status
        first = FEED_SLACK + 2
        for after in (1, 10_000):
            far = await opened(service, after)
            assert {"reset": {"first": first}} == await far.frame()
            assert [(first, "session.data_changed")] == await told(far, 1)
        late = await opened(service)
        assert first == (await told(late, 1))[0][0], "whoever asks for all that is kept has missed nothing"

    with_sessions(scenario)


def test_a_feed_of_which_nothing_is_kept_is_waited_for() -> None:
    """It is asked once, and not again and again."""

    async def scenario(service: Sessions) -> None:
        await service.of("POST", "disable")
        await service.of("POST", "enable")
        await asyncio.sleep(1)  # Nothing needs to be known of it any more.
        far = await opened(service)
        await asyncio.sleep(0.1)
        address = next(one for one in service.host.residents.by_address if one.kind == "principal")
        turns = service.host.turns_of(address)
        await asyncio.sleep(1)
        assert turns == service.host.turns_of(address) > 0
        await service.signed_in()
        assert "session.created" == (await told(far, 1))[0][1]

    with_sessions(scenario)


def test_a_client_says_that_it_lives() -> None:
    """A ping is answered; one that says nothing for 90 s is closed."""

    async def scenario(service: Sessions) -> None:
        far = await opened(service)
        await far.send_text('{"ping":7}')
        assert {"pong": 7} == await far.frame()
        assert (4408, "Say ping within 90 s") == await far.end()

    with_sessions(scenario)


@pytest.mark.parametrize("frame", ["", "x", "{}", '{"after":-1}', '{"after":1,"ping":1}', '{"after":1}', '{"more":1}'])
def test_a_frame_that_is_none_ends_the_socket(frame: str) -> None:
    """4400; `after` is said once."""

    async def scenario(service: Sessions) -> None:
        far = await opened(service)
        await far.send_text(frame)
        assert (4400, "Not a frame") == await far.end()

    with_sessions(scenario)


def test_a_binary_frame_and_one_that_is_too_large_end_the_socket_as_any_other() -> None:
    """1003 and 1009: the codes are those of sockets of objects."""

    async def scenario(service: Sessions) -> None:
        binary, large = await opened(service), await opened(service)
        await binary.send_bytes(b"x")
        await large.send_text('{"ping":1}' + " " * 64 * 1024)
        assert [1003, 1009] == [(end[0] if (end := await far.end()) else 0) for far in (binary, large)]

    with_sessions(scenario)


def test_a_key_that_ends_ends_the_socket() -> None:
    """Within a second."""

    async def scenario(service: Sessions) -> None:
        far = await opened(service)
        await revoked(service)
        await asyncio.sleep(1)
        assert 4401 == (far.closed or (0,))[0]

    with_sessions(scenario)


@pytest.mark.parametrize("bound", ["SOCKETS_MAX", "SOCKETS_PER_TENANT_MAX"])
def test_one_socket_too_many_is_closed_with_4429(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They count with those of objects; where one leaves, one may come."""
    monkeypatch.setattr(bounds, bound, 2)

    async def scenario(service: Sessions) -> None:
        first, _ = await opened(service), await opened(service)
        assert 2 == service.node.ingress.open_sockets
        third = await knock(service.app, FEED, key=service.key)
        assert (4429, "Too many sockets") == await third.end()
        await first.leave()
        assert (await opened(service)).closed is None

    with_sessions(scenario)


def test_a_sender_that_is_too_fast_is_read_more_slowly() -> None:
    """As at the sockets of objects: of 300 frames at once 200 pass, and the others take a second."""

    async def scenario(service: Sessions) -> None:
        far = await opened(service)
        assert 0.9 <= await pinged_s(far, 300) <= 1.2

    with_sessions(scenario)


async def told_of(service: Sessions, far: FarEnd) -> None:
    """An event is to be sent."""
    await service.signed_in()


async def asked(service: Sessions, far: FarEnd) -> None:
    """An answer is to be sent."""
    await far.send_text('{"ping":1}')


@pytest.mark.parametrize("said", [told_of, asked])
def test_a_client_that_reads_nothing_is_cut_off(said: Callable[[Sessions, FarEnd], Awaitable[None]]) -> None:
    """With 1013, within four seconds; nothing of it is left, whatever it was to be sent."""

    async def scenario(service: Sessions) -> None:
        far = await opened(service)
        await asyncio.sleep(0.1)
        far.stalled.clear()
        await said(service, far)
        await asyncio.sleep(3)
        far.stalled.set()
        assert (1013, "Read faster, or less") == await far.end()
        assert 0 == service.node.ingress.open_sockets

    with_sessions(scenario)


def test_a_key_that_ends_while_a_slow_client_is_told_ends_the_telling() -> None:
    """It hears the event that was under way, and then 4401, though more would have come."""

    async def scenario(service: Sessions) -> None:
        for _ in range(5):
            await service.signed_in()
        far = await knock(service.app, FEED, key=service.key)
        far.stalled.clear()
        await far.send_text('{"after":0}')
        await asyncio.sleep(1)
        await revoked(service)
        far.stalled.set()
        assert [(1, "session.created")] == await told(far, 1)
        assert (4401, "The credential has ended") == await far.end()
        with pytest.raises(AssertionError):
            await far.frame()

    with_sessions(scenario)


def test_who_may_not_read_the_feed_opens_nothing() -> None:
    """401 and 403 as any request; a bad name or a query is 400."""

    async def scenario(service: Sessions) -> None:
        other = await service.add_key("acme", "sessions:create")
        statuses = [
            (await knock(service.app, FEED)).status,
            (await knock(service.app, FEED, key="tnk_none")).status,
            (await knock(service.app, FEED, key=other)).status,
            (await knock(service.app, FEED, key=service.key, query=b"after=1")).status,
            (await knock(service.app, FEED, key=service.key, headers=[("origin", "https://evil.example")])).status,
            (await knock(service.app, f"/v1/principals/{'n' * (NAME_BYTES_MAX + 1)}/events", key=service.key)).status,
            (await knock(service.app, "/v1/principals/ann/other", key=service.key)).status,
        ]
        assert [401, 401, 403, 400, 403, 400, 404] == statuses

    with_sessions(scenario)
