"""Whoami both ways: what is answered at once is what ASGI would have answered, and what is kept of a token ages with it."""

import asyncio
from typing import Any

import msgspec
import pytest

from services.sessions import whoami
from shared.storage.records import TenantRecord
from shared.testing.store import MemoryStore
from tests.support.limiter_app import Answer
from tests.support.sessions_app import Sessions, with_sessions

MINUTE_MS = 60_000


async def both(service: Sessions, token: str | None, **more: Any) -> Answer:
    """The answer, which is the same at once and by ASGI."""
    app = service.app

    async def by_asgi(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    first = await service.ask("GET", "/v1/whoami", key=token, **more)
    later = await service.ask("GET", "/v1/whoami", key=token, app=by_asgi, **more)  # Knows of the use before it.
    assert later == await service.ask("GET", "/v1/whoami", key=token, **more)
    assert first.status == later.status
    return later


def test_both_ways_say_the_same() -> None:
    """Nobody, somebody, demands that are met and not, an end; the requests are counted alike."""

    async def scenario(service: Sessions) -> None:
        token = (await service.signed_in(roles=["a", "b"], acr="aal2"))["token"]
        cookie = (("cookie", f"__Host-sid={token}"),)
        statuses = [
            (await both(service, None)).status,
            (await both(service, token)).status,
            (await both(service, None, headers=cookie)).status,
            (await both(service, token, headers=(("x-require-acr", "aal2"),))).status,
            (await both(service, token, headers=(("x-require-acr", "aal3"),))).status,
        ]
        await service.ask("POST", "/v1/session/logout", key=token)
        statuses.append((await both(service, token)).status)
        assert [401, 200, 200, 200, 401, 401] == statuses
        text = service.node.metrics.scrape("")[0].decode()
        counted = {
            status: sum(float(line.split()[-1]) for line in text.splitlines() if _counts(line, status))
            for status in (200, 401)
        }
        assert {200: 9, 401: 9} == counted

    with_sessions(scenario)


def _counts(line: str, status: int) -> bool:
    return "duration_seconds_count" in line and '"/v1/whoami"' in line and f'"{status}"' in line


def test_a_kept_answer_changes_with_what_it_was_made_of() -> None:
    """The policy, a use, an authentication, a principal who is disabled, an end of everything, a tenant that is not let in."""

    async def scenario(service: Sessions) -> None:
        granted = await service.signed_in()
        token, session = granted["token"], granted["session"]["id"]
        first = await both(service, token)
        assert ("0", "aal1") == (first.field("session-cache-for"), first.field("x-session-acr"))
        policy = {"cache_seconds": 5, "idle_ms": 10 * MINUTE_MS, "elevation_overlap_ms": MINUTE_MS}
        await service.ask("PUT", "/v1/tenant/policy", policy)
        lowered = await both(service, token)
        assert "5" == lowered.field("session-cache-for")
        for _ in range(3):
            await service.settle(2 * MINUTE_MS)
            await both(service, token)
        used = await both(service, token)
        assert int(used.field("x-session-expires") or 0) > int(lowered.field("x-session-expires") or 0)
        path = f"sessions/{session}/authenticate"
        elevated = await service.of("POST", path, {"acr": "aal2", "amr": ["otp"]})
        assert ["aal1", "aal2"] == [
            (await both(service, each)).field("x-session-acr") for each in (token, elevated.json()["token"])
        ]
        await service.of("POST", "disable", {})
        assert 401 == (await both(service, elevated.json()["token"])).status
        await service.of("POST", "enable", {})
        again = (await service.signed_in())["token"]
        assert 200 == (await both(service, again)).status
        shut = msgspec.json.encode(TenantRecord(created_ms=0, disabled=True))
        await service.node.shared_documents.put("tenant", "acme", "acme", shut, expected=None)
        assert 401 == (await both(service, again)).status

    with_sessions(scenario)


def test_few_tokens_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those unused for longest are checked anew; two cookies are never kept, as which of them counts is the policy's."""
    monkeypatch.setattr(whoami, "KNOWN_TOKENS_MAX", 2)

    async def scenario(service: Sessions) -> None:
        tokens = [(await service.signed_in(f"user-{n}"))["token"] for n in range(4)]
        for _ in range(2):
            for number, token in enumerate(tokens):
                assert f"user-{number}" == (await both(service, token)).field("x-session-principal")
        cookies = (("cookie", f"__Host-sid={tokens[0]}; __Secure-sid={tokens[1]}"),)
        assert "user-0" == (await both(service, None, headers=cookies)).field("x-session-principal")
        await service.ask("PUT", "/v1/tenant/policy", {"cookie_domain": "example.org"})
        assert "user-1" == (await both(service, None, headers=cookies)).field("x-session-principal")

    with_sessions(scenario)


def test_who_comes_with_a_successor_at_the_same_time_waits_until_its_first_use_is_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a crash could bring back the token before it, after somebody was let in by this one."""
    commit = MemoryStore.commit
    stored = asyncio.Event()

    async def slow(store: MemoryStore, *args: Any, **named: Any) -> Any:
        await asyncio.sleep(1)
        answer = await commit(store, *args, **named)
        stored.set()
        return answer

    async def scenario(service: Sessions) -> None:
        token = (await service.signed_in())["token"]
        rotated = (await service.ask("POST", "/v1/session/rotate", key=token)).json()["token"]
        assert 200 == await service.status(token), "within the grace of the rotation"
        monkeypatch.setattr(MemoryStore, "commit", slow)
        bearer = (b"authorization", b"Bearer " + rotated.encode())
        cookies = (b"cookie", f"__Host-sid={rotated}; __Secure-sid={rotated}".encode())

        async def let_in(coming: Any) -> tuple[int, bool]:
            return (await coming)[0], stored.is_set()

        asked = [  # As by requests that came in one read: nothing else runs between them.
            service.app.prompt.answer(service.scope("GET", "/v1/whoami", [(b"host", b"h"), field]), b"")
            for field in (bearer, bearer, cookies, bearer)
        ]
        assert [(200, True)] * 4 == list(await asyncio.gather(*map(let_in, asked)))

    with_sessions(scenario)
