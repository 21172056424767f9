"""Objects of one's own take sockets on the session service as they do on the others."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from shared import bounds
from tests.services.test_sockets_api import HALL, TICKETS
from tests.simulation.test_sockets import Hall
from tests.support.far_end import FarEnd, knock
from tests.support.limiter_app import Answer
from tests.support.sessions_app import Sessions, with_sessions


def test_the_session_service_opens_sockets_of_objects_that_it_hosts() -> None:
    """With a key, with a ticket, and with neither not at all."""

    async def scenario(service: Sessions) -> None:
        ticket = (await service.ask("POST", TICKETS, {})).json()["ticket"]
        told = [
            (await knock(service.app, HALL, **shown)).status for shown in ({"key": service.key}, {"ticket": ticket}, {})
        ]
        assert [0, 0, 401] == told
        assert 2 == service.node.ingress.open_sockets

    with_sessions(scenario, objects=[Hall])


async def opened(service: Sessions, session: Any, *, principal: str = "ann") -> FarEnd:
    """A socket in a user's session."""
    body = {"session": {"principal": principal, "id": session["id"]}}
    answer = await service.ask("POST", TICKETS, body)
    assert 201 == answer.status, answer
    return await knock(service.app, HALL, ticket=answer.json()["ticket"])


async def within_a_second(service: Sessions, *far: FarEnd) -> list[int]:
    """The codes by which they have ended within a second, in which the ingress looks around twice; 0: it is open."""
    for _ in range(2):
        await asyncio.sleep(bounds.SOCKET_SWEEP_MS / 1_000)
        service.node.ingress.sweep()
    await asyncio.sleep(0)
    return [(one.closed or (0,))[0] for one in far]


def test_a_socket_ends_with_its_session_and_no_other_does() -> None:
    """Within a second, by 4401; a rotation or a change of data ends none."""

    async def scenario(service: Sessions) -> None:
        first, second = await service.signed_in(), await service.signed_in()
        here, there = await opened(service, first["session"]), await opened(service, second["session"])
        free = await knock(service.app, HALL, key=service.key)
        rotated = await service.ask("POST", "/v1/session/rotate", key=first["token"])
        assert 200 == rotated.status
        assert [0] == await within_a_second(service, here)
        assert 204 == (await service.of("DELETE", f"sessions/{first['session']['id']}")).status
        assert [4401, 0, 0] == await within_a_second(service, here, there, free)

    with_sessions(scenario, objects=[Hall])


ENDINGS: dict[str, Callable[[Sessions, Any], Awaitable[Answer]]] = {
    "revoked": lambda service, _: service.of("POST", "sessions/revoke", {}),
    "signed out": lambda service, it: service.ask("POST", "/v1/session/logout", key=it["token"]),
    "disabled": lambda service, _: service.of("POST", "disable"),
    "erased": lambda service, _: service.of("DELETE", ""),
    "the tenant": lambda service, _: service.ask("POST", "/v1/tenant/sessions/revoke", {}),
}


def test_a_principal_with_a_socket_tells_of_the_end_of_everything() -> None:
    """Within a second, though nobody watches its feed."""

    async def scenario(service: Sessions) -> None:
        it = await service.signed_in()
        far = await opened(service, it["session"])
        assert 200 == (await service.ask("POST", "/v1/tenant/sessions/revoke")).status
        assert [4401] == await within_a_second(service, far)
        events = (await service.of("GET", "export")).json()["events"]
        assert [("session.created", ""), ("session.revoked", "tenant")] == [
            (one["event"]["kind"], one["event"].get("reason", "")) for one in events
        ]

    with_sessions(scenario, objects=[Hall])


@pytest.mark.parametrize("ending", ENDINGS)
def test_whatever_ends_a_session_ends_its_sockets(ending: str) -> None:
    """Within a second of the answer; and a ticket that was not used yet opens none."""

    async def scenario(service: Sessions) -> None:
        it = await service.signed_in()
        far = await opened(service, it["session"])
        body = {"session": {"principal": "ann", "id": it["session"]["id"]}}
        unused = (await service.ask("POST", TICKETS, body)).json()["ticket"]
        answer = await ENDINGS[ending](service, it)
        assert answer.status in {200, 204}, answer
        assert [4401] == await within_a_second(service, far)
        assert 401 == (await knock(service.app, HALL, ticket=unused)).status
        assert (await service.ask("POST", TICKETS, body)).status in {404, 410}

    with_sessions(scenario, objects=[Hall])


def test_a_session_that_runs_out_ends_its_sockets() -> None:
    """By its idle time-out: a socket is no use of a session."""

    async def scenario(service: Sessions) -> None:
        policy = {"absolute_ms": 3_600_000, "idle_ms": 60_000}
        assert 200 == (await service.ask("PUT", "/v1/tenant/policy", policy)).status
        it = await service.signed_in()
        far = await opened(service, it["session"])
        for _ in range(15):
            await far.send_text('{"ping":1}')
            await service.settle(4_300)
        assert [4401] == await within_a_second(service, far)

    with_sessions(scenario, objects=[Hall])


@pytest.mark.parametrize("lowered", ["absolute_ms", "idle_ms"])
def test_a_session_that_a_lowered_policy_ends_ends_its_sockets(lowered: str) -> None:
    """Within a second of what gateways are told."""

    async def scenario(service: Sessions) -> None:
        it = await service.signed_in()
        far = await opened(service, it["session"])
        assert 200 == (await service.ask("PUT", "/v1/tenant/policy", {lowered: 60_000})).status
        for _ in range(4):
            await far.send_text('{"ping":1}')
            await service.settle(13_000)
            assert [0] == await within_a_second(service, far)
        for _ in range(4):  # To 60.0 s of its age, as the node looks around twice a second.
            await within_a_second(service, far)
        assert 401 == await service.status(it["token"])
        assert [4401] == await within_a_second(service, far)

    with_sessions(scenario, objects=[Hall])


def test_the_use_of_a_session_keeps_its_sockets_open() -> None:
    """Its end is looked for when it is due, and is later by then."""

    async def scenario(service: Sessions) -> None:
        assert 200 == (await service.ask("PUT", "/v1/tenant/policy", {"idle_ms": 60_000})).status
        it = await service.signed_in()
        far = await opened(service, it["session"])
        for _ in range(10):
            await far.send_text('{"ping":1}')
            assert 200 == await service.status(it["token"])
            await service.settle(13_000)
            assert [0] == await within_a_second(service, far)

    with_sessions(scenario, objects=[Hall])


def test_a_watch_outlives_a_crash_of_the_principal_and_ends_with_its_sockets() -> None:
    """Many sessions of one user are one watch."""

    async def scenario(service: Sessions) -> None:
        sessions = [await service.signed_in() for _ in range(3)]
        far = [await opened(service, one["session"]) for one in sessions]
        address = next(address for address in service.host.residents.by_address if address.kind == "principal")
        activation = service.host.residents.by_address[address]
        service.host.residents.evict(activation)
        await asyncio.sleep(1)
        assert 204 == (await service.of("DELETE", f"sessions/{sessions[0]['session']['id']}")).status
        assert [4401, 0, 0] == await within_a_second(service, *far)
        assert 1 == len([task for task in asyncio.all_tasks() if "SessionWatch._watch" in repr(task)])
        for other in far[1:]:
            await other.leave()
        await asyncio.sleep(70)
        assert 0 == len([task for task in asyncio.all_tasks() if "SessionWatch._watch" in repr(task)])

    with_sessions(scenario, objects=[Hall])


def test_a_ticket_in_a_session_that_there_is_not_is_refused() -> None:
    """404, or 410 where it is known that it has ended; a bad reference says where."""

    async def scenario(service: Sessions) -> None:
        it = await service.signed_in()
        for session, status in (
            ({"principal": "ben", "id": it["session"]["id"]}, 404),
            ({"principal": "ann", "id": "none"}, 404),
            ({"principal": "ann"}, 400),
            ({"principal": "ann", "id": it["session"]["id"], "more": 1}, 400),
        ):
            answer = await service.ask("POST", TICKETS, {"session": session})
            assert status == answer.status, answer
            assert (status != 400) or answer.json()["where"].startswith("$.session")

    with_sessions(scenario, objects=[Hall])
