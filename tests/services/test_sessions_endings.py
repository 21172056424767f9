"""What ends a session, through each route that can: whoami knows when the call is answered; and what a list may show."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support.limiter_app import Answer
from tests.support.sessions_app import Sessions, with_sessions

Ending = Callable[[Sessions, Any], Awaitable[Answer]]

ENDINGS: dict[str, Ending] = {
    "logout": lambda service, granted: service.ask("POST", "/v1/session/logout", key=granted["token"]),
    "revoke one": lambda service, granted: service.of("DELETE", f"sessions/{granted['session']['id']}"),
    "revoke own": lambda service, granted: service.ask(
        "POST", "/v1/session/revoke", {"session": granted["session"]["id"]}, key=granted["token"]
    ),
    "revoke all": lambda service, _: service.of("POST", "sessions/revoke", {}),
    "disable": lambda service, _: service.of("POST", "disable"),
    "erase": lambda service, _: service.of("DELETE", ""),
    "tenant": lambda service, _: service.ask("POST", "/v1/tenant/sessions/revoke"),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_s17_a_token_is_dead_when_its_end_is_answered(ending: str) -> None:
    """S-17: the first whoami after the answer is a 401, and so are the next, though the owner held the session."""

    async def scenario(service: Sessions) -> None:
        granted = await service.signed_in()
        bystander = await service.signed_in(principal="bob")
        assert [200, 200] == [await service.status(granted["token"]) for _ in range(2)]
        answer = await ENDINGS[ending](service, granted)
        assert answer.status in (200, 204), answer
        assert [401, 401, 401] == [await service.status(granted["token"]) for _ in range(3)]
        assert (401 if ending == "tenant" else 200) == await service.status(bystander["token"])

    with_sessions(scenario)


@pytest.mark.parametrize(
    ("kept", "v4", "v6"),
    [("truncated", "192.0.2.0/24", "2001:db8:1::/48"), ("none", "", ""), ("full", "192.0.2.77", "2001:db8:1:2::3")],
)
def test_p01_a_list_shows_no_more_of_an_address_than_the_policy_keeps(kept: str, v4: str, v6: str) -> None:
    """P-01: for the application, for the user, and in what whoami says, which names no address at all."""

    async def scenario(service: Sessions) -> None:
        assert 200 == (await service.ask("PUT", "/v1/tenant/policy", {"addresses": kept})).status
        granted = await service.signed_in(address="192.0.2.77")
        await service.signed_in(address="2001:db8:1:2::3")
        listed = (await service.of("GET", "sessions")).json()["sessions"]
        assert {v4, v6} == {session["address"] for session in listed}
        own = await service.ask("GET", "/v1/session/list", key=granted["token"])
        assert {v4, v6} == {each["session"]["address"] for each in own.json()["sessions"]}
        seen = await service.whoami(granted["token"])
        members = "principal anonymous tenant session acr amr roles auth_time expires actor"
        assert set(members.split()) >= set(seen.json())
        assert b"192.0.2" not in seen.body

    with_sessions(scenario)


def test_what_happens_to_sessions_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """By kind and reason, as are tokens that do not count; a token that is shown again long after is a line in the log."""

    async def scenario(service: Sessions) -> None:
        first, second = await service.signed_in(), await service.signed_in()
        await service.of("DELETE", f"sessions/{first['session']['id']}")
        assert 401 == await service.status(first["token"])
        for _ in range(2):
            assert 200 == (await service.ask("POST", "/v1/session/rotate", key=second["token"])).status
        await asyncio.sleep(70)
        await service.node.documents.poll()
        await service.node.shared_documents.poll()
        assert 401 == (await service.ask("POST", "/v1/session/rotate", key=second["token"])).status
        text = (await service.ask("GET", "/metrics", app=service.admin, key=None)).body.decode()
        counted = [line for line in text.splitlines() if line.startswith("tenure_session_")]
        assert {
            'tenure_session_events_total{event="session.created"} 2.0',
            'tenure_session_events_total{event="session.rotated"} 1.0',
            'tenure_session_events_total{event="session.revoked",reason="revoked"} 1.0',
            'tenure_session_events_total{event="session.reuse_detected"} 1.0',
            'tenure_session_events_total{event="session.revoked",reason="reuse_detected"} 1.0',
            'tenure_session_denials_total{reason="revoked"} 1.0',
            'tenure_session_denials_total{reason="reuse_detected"} 1.0',
        } == set(counted)

    with_sessions(scenario)
    assert "token.reused" in capsys.readouterr().out
