"""The session manager through its routes: what applications and users do, and the status of everything that fails."""

import asyncio
import os
from collections.abc import Sequence
from typing import Any

import pytest

from services.sessions.keys import read_keys
from services.sessions.principal import Principal
from services.sessions.tokens import Tokens
from shared.objects.address import Address
from shared.storage.interface import LoadOrder, Loads
from shared.storage.records import SCOPES
from shared.testing.store import MemoryStore
from tests.architecture.tree import ROOT
from tests.support.sessions_app import ALL, Sessions, with_sessions
from tests.support.signing_in import KEYS

DOCUMENT = ROOT / "docs/openapi/sessions.json"
HOUR_S = 3_600
JSON = (("content-type", "application/json"),)
PATCH = (("content-type", "application/merge-patch+json"),)


def test_the_committed_document_is_what_is_served() -> None:
    """`UPDATE_GOLDEN=1` writes it anew."""

    async def scenario(service: Sessions) -> None:
        answer = await service.ask("GET", "/openapi.json", app=service.admin)
        assert 200 == answer.status
        shown = answer.body
        if os.environ.get("UPDATE_GOLDEN"):
            DOCUMENT.write_bytes(shown)
        assert DOCUMENT.read_bytes() == shown

    with_sessions(scenario)


def test_a_session_from_its_beginning_to_its_end() -> None:
    """Signed in, seen by a gateway, listed, stepped up, rotated, signed out."""

    async def scenario(service: Sessions) -> None:
        answer = await service.of("POST", "sessions", {"amr": ["pwd"], "roles": ["user"], "client": "web"})
        granted = answer.json()
        assert (201, "1") == (answer.status, answer.field("x-tenure-durability"))
        assert f"/v1/principals/ann/sessions/{granted['session']['id']}" == answer.field("location")
        seen = await service.whoami(granted["token"])
        assert (200, "ann", "pwd", "user", "-", "0") == (
            seen.status,
            *(seen.field(f"x-session-{name}") for name in ("principal", "amr", "roles", "actor")),
            seen.field("session-cache-for"),
        )
        assert "ann" == seen.json()["principal"]
        listed = (await service.of("GET", "sessions")).json()["sessions"]
        assert [granted["session"]["id"]] == [session["id"] for session in listed]
        path = f"sessions/{granted['session']['id']}"
        elevated = (await service.of("POST", f"{path}/authenticate", {"acr": "aal2", "amr": ["otp"]})).json()
        assert [401, 200] == [await service.status(token) for token in (granted["token"], elevated["token"])]
        rotated = (await service.ask("POST", "/v1/session/rotate", key=elevated["token"])).json()
        assert 3 == rotated["session"]["generation"]
        out = await service.ask("POST", "/v1/session/logout", key=rotated["token"])
        assert (204, '"cache","cookies","storage"') == (out.status, out.field("clear-site-data"))
        assert [401, 401] == [await service.status(token) for token in (elevated["token"], rotated["token"])]
        gone = await service.of("GET", path)
        assert (410, "logout") == (gone.status, gone.json()["reason"])

    with_sessions(scenario)


def test_s24_whoami_tells_nothing_of_what_was_never_issued() -> None:
    """S-24: missing, garbage, a broken check, an unknown key id, two tokens: the same bytes, and nobody is asked."""

    async def scenario(service: Sessions) -> None:
        token = (await service.signed_in())["token"]
        broken = token[:-1] + ("A" if token[-1] != "A" else "B")
        cookie = (("cookie", f"__Host-sid={token}"),)
        before = (service.host.turns_of(_address(service)), service.host.objects_resident)
        answers = [
            await service.whoami(None),
            await service.whoami("garbage"),
            await service.whoami(broken),
            await service.whoami(token[:40]),
            await service.whoami("tnk_" + token[4:]),
            await service.whoami(token, headers=cookie),
            await service.whoami(token, headers=(("authorization", f"Bearer {token}"),)),
            await service.whoami(None, headers=(("cookie", f"__Host-sid={token}; __Host-sid={token}"),)),
        ]
        assert [answers[0]] * 8 == answers
        assert 401 == answers[0].status
        assert before == (service.host.turns_of(_address(service)), service.host.objects_resident)
        assert 'Bearer realm="tenure", error="invalid_token"' == answers[0].field("www-authenticate")

    with_sessions(scenario)


def test_s24_nothing_is_read_before_a_token_proves_to_be_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """S-24: with nobody in memory, forgeries make no object load; the token itself makes one."""
    loaded: list[int] = []
    load = MemoryStore.load

    async def counted(store: MemoryStore, orders: Sequence[LoadOrder]) -> Loads:
        loaded.append(len(orders))
        return await load(store, orders)

    async def scenario(service: Sessions) -> None:
        token = (await service.signed_in())["token"]
        await asyncio.sleep(1)
        assert service.host.residents.passivate(_address(service))
        loaded.clear()
        places = range(len("tns_"), len(token))
        forged = [token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :] for at in places]
        assert {401} == {await service.status(text) for text in forged}
        assert ([], 0) == (loaded, service.host.objects_resident)
        assert (200, [1]) == (await service.status(token), loaded)

    monkeypatch.setattr(MemoryStore, "load", counted)
    with_sessions(scenario)


def test_s24_only_who_has_had_a_token_learns_why_it_does_not_count() -> None:
    """S-24: the reason stands in the document, the rest of the answer is the same."""

    async def scenario(service: Sessions) -> None:
        reasons = []
        for end in ("logout", "revoked"):
            granted = await service.signed_in()
            body = {"reason": end}
            assert 200 == (await service.of("POST", "sessions/revoke", body)).status
            answer = await service.whoami(granted["token"])
            reasons.append((answer.status, answer.json()["code"], answer.json()["reason"]))
        assert [(401, "signed_out", "logout"), (401, "signed_out", "revoked")] == reasons

    with_sessions(scenario)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
@pytest.mark.parametrize("path", ["/v1/whoami", "/v1/whoami/any/../path", "/v1/whoami/x?y=1&y=2&z"])
def test_s29_whoami_answers_every_method_path_and_query(method: str, path: str) -> None:
    """S-29: and overwrites whatever the client said of itself."""

    async def scenario(service: Sessions) -> None:
        token = (await service.signed_in())["token"]
        forged = (("x-session-principal", "admin"), ("x-session-actor", "admin"), ("content-type", "text/plain"))
        answer = await service.whoami(token, path, method=method, headers=forged)
        fields = (answer.field("x-session-principal"), answer.field("x-session-actor"))
        assert (200, "ann", "-") == (answer.status, *fields)
        assert answer.field("set-cookie") is None

    with_sessions(scenario)


@pytest.mark.parametrize(
    ("principal", "field"),
    [("-", "%2D"), ("ann lee", "ann%20lee"), ("ä\r\nx: y", "%C3%A4%0D%0Ax:%20y"), ("a/b", "a/b")],
)
def test_a_name_in_a_field_is_visible_ascii(principal: str, field: str) -> None:
    """And never the mark of an empty one."""

    async def scenario(service: Sessions) -> None:
        token = (await service.signed_in(principal))["token"]
        assert field == (await service.whoami(token)).field("x-session-principal")

    with_sessions(scenario)


def test_a_gateway_may_ask_for_more_assurance() -> None:
    """RFC 9470: the challenge says which; a demand that cannot stand in it is refused without being repeated."""

    async def scenario(service: Sessions) -> None:
        token = (await service.signed_in())["token"]
        for wanted, status, challenge in (
            ("aal1 aal2", 200, None),
            ("aal2 aal3", 401, ', error="insufficient_user_authentication", acr_values="aal2 aal3"'),
            ('aal2"', 401, ', error="insufficient_user_authentication"'),
        ):
            answer = await service.whoami(token, headers=(("x-require-acr", wanted),))
            expected = None if challenge is None else 'Bearer realm="tenure"' + challenge
            assert (status, expected) == (answer.status, answer.field("www-authenticate"))

    with_sessions(scenario)


def test_a_demand_that_stands_twice_is_met_by_nobody() -> None:
    """As with a token that is sent twice: the client may have sent one of them. Other fields may be repeated."""

    async def scenario(service: Sessions) -> None:
        token = (await service.signed_in())["token"]
        nobody = await service.whoami(None)
        for twice in (("aal2", "aal1"), ("aal1", "aal2"), ("aal1", "aal1")):
            assert nobody == await service.whoami(token, headers=[("x-require-acr", wanted) for wanted in twice])
        others = [("accept", "a/b"), ("accept", "c/d"), ("cookie", "theme=dark"), ("x-require-acr", "aal1")]
        assert 200 == (await service.whoami(token, headers=others)).status

    with_sessions(scenario)


def test_s25_the_cookie_is_bound_to_its_host() -> None:
    """S-25: each attribute; a higher assurance does not outlive the window, a domain changes the prefix."""

    async def scenario(service: Sessions) -> None:
        granted = await service.signed_in()
        name, *attributes = granted["set_cookie"].split("; ")
        assert f"__Host-sid={granted['token']}" == name
        assert ["Path=/", "Secure", "HttpOnly", "SameSite=Lax", "Max-Age=2592000"] == attributes
        assert len(granted["set_cookie"]) < 4_096
        assert "Max-Age" not in (await service.signed_in(acr="aal2"))["set_cookie"]
        await service.ask("PUT", "/v1/tenant/policy", {"cookie_domain": "example.org"})
        cookie = (await service.signed_in())["set_cookie"]
        assert cookie.startswith("__Secure-sid=tns_")
        assert "; Domain=example.org;" in cookie

    with_sessions(scenario)


def test_a_rotation_with_the_cookie_gives_another_cookie_and_no_script_a_token() -> None:
    """What the browser keeps from scripts stays with the browser; whoever sent a token has one."""

    async def scenario(service: Sessions) -> None:
        token = (await service.signed_in())["token"]
        headers = (("cookie", f"__Host-sid={token}"), ("sec-fetch-site", "same-origin"), *JSON)
        answer = await service.ask("POST", "/v1/session/rotate", key=None, headers=headers)
        cookie = answer.field("set-cookie") or ""
        assert cookie.startswith("__Host-sid=tns_")
        assert "; HttpOnly;" in cookie
        assert b"tns_" not in answer.body
        assert (None, None) == (answer.json()["token"], answer.json()["set_cookie"])
        again = await service.ask("POST", "/v1/session/rotate", key=token)
        assert cookie == again.json()["set_cookie"]
        assert again.field("set-cookie") is None
        assert f"__Host-sid={again.json()['token']};" in cookie

    with_sessions(scenario)


def test_a_policy_that_names_a_domain_locks_nobody_out() -> None:
    """The cookie of today's policy counts where there are both; until there is one, that of before does."""

    async def scenario(service: Sessions) -> None:
        before = (await service.signed_in())["token"]
        await service.ask("PUT", "/v1/tenant/policy", {"cookie_domain": "example.org"})
        after = (await service.signed_in("ben"))["token"]

        async def who(*cookies: str) -> str:
            answer = await service.whoami(None, headers=[("cookie", "; ".join(cookies))])
            return str(answer.json().get("principal", answer.status))

        host, domain = f"__Host-sid={before}", f"__Secure-sid={after}"
        assert ["ann", "ben", "ben", "ben"] == [
            await who(*cookies) for cookies in ((host,), (domain,), (host, domain), (domain, host))
        ]
        assert ["ben", "ann"] == [await who("__Host-sid=x", domain), await who(host, "__Secure-sid=x")]
        assert ["401", "401"] == [await who(host, host), await who(domain, domain)]
        headers = (("cookie", f"{host}; {domain}"), ("sec-fetch-site", "same-origin"), *JSON)
        out = await service.ask("POST", "/v1/session/logout", key=None, headers=headers)
        cleared = [value.decode().partition("=")[0] for name, value in out.headers if name == b"set-cookie"]
        assert ["__Host-sid", "__Secure-sid"] == sorted(cleared)
        assert "ann" == await who(host)
        await service.ask("PUT", "/v1/tenant/policy", {})
        assert "ann" == await who(host, domain)

    with_sessions(scenario)


def test_a_call_with_the_cookie_must_come_from_the_same_site() -> None:
    """Its media type and its origin, each alone, refuse it; what only reads needs neither."""

    async def scenario(service: Sessions) -> None:
        await service.ask("PUT", "/v1/tenant/policy", {"origins": ["https://app.example"]})
        cookie = ("cookie", f"a=b; __Host-sid={(await service.signed_in())['token']}")

        async def rotated(*headers: tuple[str, str]) -> int:
            answer = await service.ask("POST", "/v1/session/rotate", key=None, headers=(cookie, *headers))
            return answer.status

        here, there = ("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")
        origin, other = ("origin", "https://app.example"), ("origin", "https://evil.example")
        assert 415 == await rotated(here)
        assert [403, 403, 403] == [await rotated(*JSON, *more) for more in ((), (there,), (there, other))]
        assert [200, 200] == [await rotated(*JSON, *more) for more in ((here,), (there, origin))]
        assert 200 == (await service.ask("GET", "/v1/session", key=None, headers=(cookie,))).status
        token = (await service.signed_in())["token"]
        assert 400 == (await service.ask("GET", "/v1/session", key=token, headers=(cookie,))).status

    with_sessions(scenario)


def test_s23_only_a_fresh_authentication_may_end_other_sessions() -> None:
    """S-23: with an old one the user is asked to authenticate; then the others end, or the one that was named."""

    async def scenario(service: Sessions) -> None:
        first, second = await service.signed_in(), await service.signed_in()
        old = await service.signed_in(auth_ms=1)
        answer = await service.ask("POST", "/v1/session/revoke", {"others": True}, key=old["token"])
        assert (401, 900) == (answer.status, answer.json()["max_age"])
        assert 'max_age="900"' in (answer.field("www-authenticate") or "")
        named = {"session": second["session"]["id"]}
        assert {"revoked": 1} == (await service.ask("POST", "/v1/session/revoke", named, key=first["token"])).json()
        everything = await service.ask("POST", "/v1/session/revoke", {"others": True}, key=first["token"])
        assert {"revoked": 1} == everything.json()
        tokens = [granted["token"] for granted in (first, second, old)]
        assert [200, 401, 401] == [await service.status(token) for token in tokens]

    with_sessions(scenario)


def test_users_see_their_own_sessions_and_which_is_current() -> None:
    """Who acts in their name sees that session alone, and may not manage the others."""

    async def scenario(service: Sessions) -> None:
        own = await service.signed_in()
        actor = {"sub": "support-7", "reason": "ticket"}
        other = await service.signed_in(actor=actor)
        mine = (await service.ask("GET", "/v1/session/list", key=own["token"])).json()["sessions"]
        assert {own["session"]["id"]: True, other["session"]["id"]: False} == {
            session["session"]["id"]: session["current"] for session in mine
        }
        theirs = (await service.ask("GET", "/v1/session/list", key=other["token"])).json()["sessions"]
        assert [other["session"]["id"]] == [session["session"]["id"] for session in theirs]
        refused = await service.ask("POST", "/v1/session/revoke", {"others": True}, key=other["token"])
        assert (403, "impersonation_forbids") == (refused.status, refused.json()["code"])
        assert "support-7" == (await service.whoami(other["token"])).field("x-session-actor")
        await service.ask("PUT", "/v1/tenant/policy", {"show_impersonation": False})
        assert 1 == len((await service.ask("GET", "/v1/session/list", key=own["token"])).json()["sessions"])

    with_sessions(scenario)


def test_s27_data_is_patched_under_a_condition() -> None:
    """S-27: 412 where it is stale, 428 where the policy wants one, 415 for what is no patch, 413 past its bound."""

    async def scenario(service: Sessions) -> None:
        path = f"sessions/{(await service.signed_in(data={'a': 1}))['session']['id']}/data"
        got = await service.of("GET", path)
        assert ({"a": 1}, '"v1"') == (got.json(), got.field("etag"))
        match = (("if-match", '"v1"'),)
        patched = await service.of("PATCH", path, {"a": None, "b": [1]}, headers=(*PATCH, *match))
        assert ({"b": [1]}, '"v2"') == (patched.json(), patched.field("etag"))
        statuses = [
            (await service.of("PATCH", path, {"a": 2}, headers=(*PATCH, *match))).status,
            (await service.of("PATCH", path, {"a": 2})).status,
            (await service.of("PUT", path, {"a": "x" * 17_000})).status,
            (await service.of("PUT", path, {"a": 2}, headers=(("if-match", "v1"),))).status,
            (await service.of("PATCH", path, _nested(33), headers=PATCH)).status,
            (await service.of("PATCH", path, _nested(32), headers=PATCH)).status,
        ]
        assert [412, 415, 413, 400, 400, 200] == statuses
        await service.ask("PUT", "/v1/tenant/policy", {"require_if_match": True})
        assert 428 == (await service.of("PUT", path, {"a": 3})).status

    with_sessions(scenario)


def _nested(depth: int) -> Any:
    """So many objects in each other."""
    return {"x": _nested(depth - 1)} if depth > 1 else {"x": 1}


def test_s26_a_login_takes_over_what_is_named_of_an_anonymous_session() -> None:
    """S-26: its token is dead when the login is answered; a token of somebody's session is refused."""

    async def scenario(service: Sessions) -> None:
        visitor = (await service.ask("POST", "/v1/anonymous", {"data": {"cart": [1], "admin": True}})).json()
        assert "aal0" == visitor["session"]["acr"]
        upgrade = {"token": visitor["token"], "keep": ["cart"]}
        granted = await service.signed_in(upgrade=upgrade, data={"theme": "dark"})
        assert 401 == await service.status(visitor["token"])
        data = (await service.of("GET", f"sessions/{granted['session']['id']}/data")).json()
        assert {"cart": [1], "theme": "dark"} == data
        again = await service.of("POST", "sessions", {"upgrade": {"token": granted["token"]}})
        assert (400, "$.upgrade.token") == (again.status, again.json()["where"])
        assert 201 == (await service.of("POST", "sessions", {"upgrade": upgrade})).status

    with_sessions(scenario)


def test_a_create_is_repeated_with_its_key() -> None:
    """The same token; of an anonymous one the same principal too; another body is refused."""

    async def scenario(service: Sessions) -> None:
        key = (("idempotency-key", "k-1"),)
        first, again = [await service.of("POST", "sessions", {}, headers=key) for _ in range(2)]
        assert first.json()["token"] == again.json()["token"]
        assert 422 == (await service.of("POST", "sessions", {"client": "x"}, headers=key)).status
        visitors = [(await service.ask("POST", "/v1/anonymous", {}, headers=key)).json() for _ in range(2)]
        assert visitors[0]["token"] == visitors[1]["token"]

    with_sessions(scenario)


def test_s22_the_tenant_ends_everything_at_once() -> None:
    """S-22: every token; a login right after it counts."""

    async def scenario(service: Sessions) -> None:
        before = [await service.signed_in(name) for name in ("ann", "bob")]
        assert 200 == (await service.ask("POST", "/v1/tenant/sessions/revoke")).status
        assert [401, 401] == [await service.status(granted["token"]) for granted in before]
        assert 200 == await service.status((await service.signed_in())["token"])

    with_sessions(scenario)


def test_introspection_tells_a_tenant_about_its_own_tokens_alone() -> None:
    """RFC 7662: what it does not know is not active, and nothing more is said."""

    async def scenario(service: Sessions) -> None:
        granted = await service.signed_in(client="web", roles=["user"])

        async def told(token: str, key: str = "") -> Any:
            return (await service.ask("POST", "/v1/introspect", {"token": token}, key=key)).json()

        told_of = await told(granted["token"])
        assert (True, "ann", "acme", "web", ["user"]) == tuple(
            told_of[name] for name in ("active", "sub", "tenant", "client_id", "roles")
        )
        other = await service.add_key("other", *ALL)
        assert {"active": False} == await told(granted["token"], other)
        assert {"active": False} == await told("tns_garbage")
        await service.of("POST", "sessions/revoke", {})
        assert {"active": False} == await told(granted["token"])

    with_sessions(scenario)


def test_disabling_enabling_exporting_and_erasing() -> None:
    """Each says what it did; what is erased is gone from the export too."""

    async def scenario(service: Sessions) -> None:
        granted = await service.signed_in(address="203.0.113.77", data={"a": 1})
        assert "203.0.113.0/24" == granted["session"]["address"]
        exported = (await service.of("GET", "export")).json()
        assert ("ann", [{"a": 1}], [1]) == (
            exported["principal"],
            list(exported["data"].values()),
            [event["seq"] for event in exported["events"]],
        )
        assert {"revoked": 1} == (await service.of("POST", "disable")).json()
        assert (403, "principal_disabled") == _code(await service.of("POST", "sessions", {}))
        assert 204 == (await service.of("POST", "enable")).status
        await service.signed_in()
        assert {"revoked": 1} == (await service.of("DELETE", "")).json()
        assert (403, "principal_erased") == _code(await service.of("POST", "sessions", {}))
        exported = (await service.of("GET", "export")).json()
        assert ("", ["principal.erased"]) == (
            exported["principal"],
            [event["event"]["kind"] for event in exported["events"]],
        )

    with_sessions(scenario)


def test_a_limit_that_refuses_names_the_sessions() -> None:
    """So that an application can ask its user which of them to end."""

    async def scenario(service: Sessions) -> None:
        await service.ask("PUT", "/v1/tenant/policy", {"limits": {"total": 1, "on_limit": "reject"}})
        granted = await service.signed_in()
        answer = await service.of("POST", "sessions", {})
        assert (409, [granted["session"]["id"]]) == (answer.status, answer.json()["sessions"])

    with_sessions(scenario)


def test_the_policy_has_versions() -> None:
    """The defaults are version 0; a stale one replaces nothing."""

    async def scenario(service: Sessions) -> None:
        first = await service.ask("GET", "/v1/tenant/policy")
        assert (0, "aal1", '"v0"') == (first.json()["version"], first.json()["policy"]["preset"], first.field("etag"))
        match = (("if-match", '"v0"'),)
        put = [await service.ask("PUT", "/v1/tenant/policy", {"preset": "aal2"}, headers=match) for _ in range(2)]
        assert [200, 412] == [answer.status for answer in put]

    with_sessions(scenario)


@pytest.mark.parametrize(
    "body",
    [
        {"amr": ["a,b"]},
        {"roles": ["a b"]},
        {"acr": "x\r\ny"},
        {"address": "nowhere"},
        {"created_ms": 1},
        {"tenant": "other"},
        {"gen": 7},
        {"data": []},
        {"data": {"a": 1}, "actor": {"sub": "x"}},
    ],
)
def test_what_cannot_be_stored_or_told_is_refused_at_the_door(body: Any) -> None:
    """400, and no session begins."""

    async def scenario(service: Sessions) -> None:
        assert 400 == (await service.of("POST", "sessions", body)).status
        assert [] == (await service.of("GET", "sessions")).json()["sessions"]

    with_sessions(scenario)


@pytest.mark.parametrize(
    ("members", "where"),
    [
        ({"label": "\xe4" * 64}, None),
        ({"label": "\xe4" * 64 + "a"}, "$.label"),
        ({"label": "a" * 129}, "$.label"),
        ({"actor": {"sub": "\xe4" * 256, "reason": "ticket"}}, None),
        ({"actor": {"sub": "\xe4" * 256 + "a", "reason": "ticket"}}, "$.actor.sub"),
        ({"actor": {"sub": "\U0001f600" * 129, "reason": "ticket"}}, "$.actor.sub"),
    ],
)
def test_texts_are_measured_in_bytes(members: Any, where: str | None) -> None:
    """128 of a label, 512 of an actor, who stands in a header field: one more is 400, with the place."""

    async def scenario(service: Sessions) -> None:
        answer = await service.of("POST", "sessions", members)
        assert (201 if where is None else 400, where) == (answer.status, answer.json().get("where"))
        if "label" in members:
            assert answer.status == (await service.ask("POST", "/v1/anonymous", members)).status

    with_sessions(scenario)


def test_impersonation_needs_its_own_scope() -> None:
    """The key that signs users in may not do it for somebody else."""

    async def scenario(service: Sessions) -> None:
        key = await service.add_key("acme", "sessions:create")
        body = {"actor": {"sub": "support-7", "reason": "ticket"}}
        refused = await service.of("POST", "sessions", body, key=key)
        assert (403, "sessions:impersonate") == (refused.status, refused.json()["scope"])

    with_sessions(scenario)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/session"),
        ("GET", "/v1/session/list"),
        ("POST", "/v1/session/rotate"),
        ("POST", "/v1/session/logout"),
        ("POST", "/v1/session/revoke"),
    ],
)
def test_a_users_call_needs_a_token_of_a_user(method: str, path: str) -> None:
    """Not none, not a key of the application, not one that ended; and the key of a tenant cannot be replaced by it."""

    async def scenario(service: Sessions) -> None:
        token = (await service.signed_in())["token"]
        body = {"others": True} if path.endswith("revoke") else None
        assert [401, 401] == [(await service.ask(method, path, body, key=key)).status for key in (None, service.key)]
        await service.of("POST", "sessions/revoke", {})
        over = 204 if path.endswith("logout") else 401  # Signing out twice is no error.
        assert over == (await service.ask(method, path, body, key=token)).status
        assert 401 == (await service.of("GET", "sessions", key=token)).status

    with_sessions(scenario)


def test_every_scope_of_the_service_is_one_that_a_key_can_have() -> None:
    """And no other begins so."""
    assert {scope for scope in ALL if scope.startswith("sessions:")} == {s for s in SCOPES if s.startswith("sessions:")}


def _code(answer: Any) -> tuple[int, str]:
    return answer.status, answer.json()["code"]


def _address(service: Sessions) -> Address:
    return Address(Principal.kind, "acme", Tokens(read_keys(KEYS)).principal_ref("acme", "ann").hex())
