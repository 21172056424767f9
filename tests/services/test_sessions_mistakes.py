"""What those who use sessions get wrong, and what they are told: the reason, the place, and nothing that is not so."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support.far_end import knock
from tests.support.limiter_app import Answer
from tests.support.sessions_app import Sessions, with_sessions

JSON = ("content-type", "application/json")
PATCH = ("content-type", "application/merge-patch+json")
NO_TOKEN = "A session token is required, in Authorization: Bearer or in the cookie."


def _told(answer: Answer) -> tuple[int, str, str]:
    problem = answer.json()
    return answer.status, problem["code"], problem["detail"]


@pytest.mark.parametrize("sent", [None, "tns_garbage", "the key"])
def test_a_users_call_without_a_token_is_told_what_is_wanted(sent: str | None) -> None:
    """A token of a session, and no API key: with none, with nonsense, and with a key."""

    async def scenario(service: Sessions) -> None:
        answer = await service.ask("GET", "/v1/session", key=service.key if sent == "the key" else sent)
        assert (401, "unauthenticated", NO_TOKEN) == _told(answer)
        assert 'Bearer realm="tenure"' == answer.field("www-authenticate")

    with_sessions(scenario)


def test_a_token_that_has_ended_and_one_that_is_too_little_are_told_why() -> None:
    """At the gateway and in a user's own call; none of them is asked for an API key."""

    async def scenario(service: Sessions) -> None:
        granted = await service.signed_in(auth_ms=1)
        token = granted["token"]
        demands = {"aal2": "aal2", 'a"b': "as X-Require-Acr says"}
        for demand, said in demands.items():
            answer = await service.whoami(token, headers=[("x-require-acr", demand)])
            detail = f"The user must have authenticated more surely: {said}."
            assert (401, "insufficient_user_authentication", detail) == _told(answer)
        stale = await service.ask("POST", "/v1/session/revoke", {"others": True}, key=token)
        detail = "The user must have authenticated within the last 900 s."
        assert (401, "insufficient_user_authentication", detail) == _told(stale)
        await service.of("POST", "sessions/revoke", {})
        for answer in (await service.whoami(token), await service.ask("GET", "/v1/session", key=token)):
            assert (401, "signed_out", "The session token does not count any more: revoked.") == _told(answer)

    with_sessions(scenario)


@pytest.mark.parametrize("end", ["logout", "revoked", "disabled"])
def test_signing_out_of_what_has_ended_is_no_error(end: str) -> None:
    """Its first answer may have been lost: the cookie goes whatever has ended the session, which keeps its reason."""

    async def scenario(service: Sessions) -> None:
        granted = await service.signed_in()
        headers = (("cookie", f"__Host-sid={granted['token']}"), ("sec-fetch-site", "same-origin"), JSON)

        async def sign_out() -> Answer:
            return await service.ask("POST", "/v1/session/logout", key=None, headers=headers)

        ends: dict[str, Callable[[], Awaitable[Answer]]] = {
            "logout": sign_out,
            "revoked": lambda: service.of("POST", "sessions/revoke", {}),
            "disabled": lambda: service.of("POST", "disable"),
        }
        assert (await ends[end]()).status in (200, 204)
        for answer in (await sign_out(), await sign_out()):
            assert 204 == answer.status
            assert (answer.field("set-cookie") or "").startswith('__Host-sid="";')
            assert '"cache","cookies","storage"' == answer.field("clear-site-data")
        gone = await service.of("GET", f"sessions/{granted['session']['id']}")
        assert (410, end) == (gone.status, gone.json()["reason"])

    with_sessions(scenario)


def test_only_a_token_whose_session_may_go_on_cannot_sign_out() -> None:
    """One that was replaced is 401, since its session is not over; and so is one of which nothing is known."""

    async def scenario(service: Sessions) -> None:
        await service.ask("PUT", "/v1/tenant/policy", {"retention_ms": 0})
        granted = await service.signed_in()
        path = f"sessions/{granted['session']['id']}"
        raised = (await service.of("POST", f"{path}/authenticate", {"acr": "aal2", "amr": ["otp"]})).json()
        old = await service.ask("POST", "/v1/session/logout", key=granted["token"])
        assert (401, "superseded", 200) == (old.status, old.json()["reason"], await service.status(raised["token"]))
        await service.of("DELETE", path)
        unknown = await service.ask("POST", "/v1/session/logout", key=raised["token"])
        assert (401, "unknown") == (unknown.status, unknown.json()["reason"])

    with_sessions(scenario)


@pytest.mark.parametrize(
    ("path", "header", "where"),
    [
        ("events", ("last-event-id", "x"), "header.last-event-id"),
        ("events", ("last-event-id", "-1"), "header.last-event-id"),
        ("sessions", ("idempotency-key", "k" * 256), "header.idempotency-key"),
        ("sessions", ("idempotency-key", ""), "header.idempotency-key"),
        ("sessions", ("idempotency-key", "\xe4"), "header.idempotency-key"),
    ],
)
def test_a_header_field_that_cannot_be_is_named_as_it_was_sent(path: str, header: tuple[str, str], where: str) -> None:
    """`where` is `header.` and its name in lower case."""

    async def scenario(service: Sessions) -> None:
        body: Any = None if path == "events" else {}
        answer = await service.of("GET" if body is None else "POST", path, body, headers=(header,))
        assert (400, where) == (answer.status, answer.json()["where"])

    with_sessions(scenario)


@pytest.mark.parametrize(
    ("members", "where", "said"),
    [
        ({"origins": ["https://a.example", "app.example"]}, "$.origins[1]", "an origin as browsers say it"),
        ({"origins": ["*"]}, "$.origins[0]", "an origin"),
        ({"origins": ["null"]}, "$.origins[0]", "an origin"),
        ({"origins": ["https://app.example/"]}, "$.origins[0]", "an origin"),
        ({"origins": ["https://App.example"]}, "$.origins[0]", "an origin"),
        ({"origins": ["https://app.example:443"]}, "$.origins[0]", "no usual port"),
        ({"origins": ["http://app.example:80"]}, "$.origins[0]", "no usual port"),
        ({"cookie_domain": "Example.org"}, "$.cookie_domain", "a host name in lower case, as example.org"),
        ({"cookie_domain": "org"}, "$.cookie_domain", "a host name with a dot in it"),
        ({"cookie_domain": ".example.org"}, "$.cookie_domain", "a host name"),
        ({"cookie_domain": "a..org"}, "$.cookie_domain", "a host name"),
    ],
)
def test_a_policy_that_no_browser_could_meet_is_refused(members: Any, where: str, said: str) -> None:
    """An origin that none ever says and a domain that none takes would be a silent no; the rule is told in words."""

    async def scenario(service: Sessions) -> None:
        answer = await service.ask("PUT", "/v1/tenant/policy", members)
        assert (400, where) == (answer.status, answer.json()["where"])
        assert said in answer.json()["detail"]
        assert 0 == (await service.ask("GET", "/v1/tenant/policy")).json()["version"]

    with_sessions(scenario)


def test_a_policy_takes_the_origins_that_browsers_say() -> None:
    """With a port of its own, an address, another scheme, or a host without a dot."""

    async def scenario(service: Sessions) -> None:
        origins = ["https://app.example", "http://localhost:3000", "http://[::1]:8080", "capacitor://localhost"]
        answer = await service.ask("PUT", "/v1/tenant/policy", {"origins": origins, "cookie_domain": "app.example.org"})
        assert (200, origins) == (answer.status, answer.json()["policy"]["origins"])

    with_sessions(scenario)


def test_a_condition_that_is_not_understood_is_not_overlooked() -> None:
    """`If-None-Match` on what is only conditional on `If-Match`: nothing is replaced."""

    async def scenario(service: Sessions) -> None:
        data = f"/v1/principals/ann/sessions/{(await service.signed_in(data={'a': 1}))['session']['id']}/data"
        none = ("if-none-match", "*")
        calls: tuple[tuple[str, str, tuple[str, str]], ...] = (
            ("PUT", data, JSON),
            ("PATCH", data, PATCH),
            ("PUT", "/v1/tenant/policy", JSON),
            ("PATCH", "/v1/rooms/plan/document", PATCH),
        )
        for method, path, media_type in calls:
            answer = await service.ask(method, path, {}, headers=(media_type, none))
            assert (400, "header.if-none-match") == (answer.status, answer.json()["where"]), path
        got = await service.ask("GET", data)
        assert ({"a": 1}, '"v1"') == (got.json(), got.field("etag"))

    with_sessions(scenario)


def test_who_has_as_many_sessions_as_one_client_may_is_told_of_those_alone() -> None:
    """Ending another one would not help."""

    async def scenario(service: Sessions) -> None:
        limits = {"total": 3, "per_client": {"web": 1}, "on_limit": "reject"}
        assert 200 == (await service.ask("PUT", "/v1/tenant/policy", {"limits": limits})).status
        tv, web = [(await service.signed_in(client=client))["session"]["id"] for client in ("tv", "web")]
        refused = await service.of("POST", "sessions", {"client": "web"})
        said = "The policy refuses one more session beside 1 of the client 'web'."
        assert (409, "session_limit_reached", said) == _told(refused)
        assert [web] == refused.json()["sessions"]
        other = (await service.signed_in(client="tv"))["session"]["id"]
        refused = await service.of("POST", "sessions", {"client": "tv"})
        said = "The policy refuses one more session beside 3."
        *same, last = refused.json()["sessions"]
        assert (409, said, {tv, other}, web) == (refused.status, _told(refused)[2], set(same), last)

    with_sessions(scenario)


def test_what_is_kept_is_never_too_deep_to_be_changed() -> None:
    """At the bound it is kept, read and patched; past it, it is refused in a session, a room and a room's frame."""

    async def scenario(service: Sessions) -> None:
        path = f"/v1/principals/ann/sessions/{(await service.signed_in())['session']['id']}/data"
        room = "/v1/rooms/plan/document"
        deep, too_deep = (b'{"a":%b%b}' % (b"[" * depth, b"]" * depth) for depth in (127, 128))
        for method, at, media_type in (("PUT", path, JSON), ("PATCH", path, PATCH), ("PATCH", room, PATCH)):
            statuses = [
                (await service.ask(method, at, body, headers=(media_type,))).status for body in (deep, too_deep, deep)
            ]
            assert [200, 400, 200] == statuses, (method, at)
        for at in (path, room):
            assert 200 == (await service.ask("PATCH", at, {"b": 1}, headers=(PATCH,))).status
        far = await knock(service.app, "/v1/rooms/plan/socket", key=service.key)
        patch = b'{"message":{"type":"patch","base_seq":1,"merge_patch":%b}}' % too_deep
        await far.send_text(patch.decode())
        assert (4400, "Not a frame") == await far.end()

    with_sessions(scenario)


def test_a_visitor_is_let_in_unless_a_level_is_demanded() -> None:
    """An anonymous session is a session: a gateway that wants users says which levels they have."""

    async def scenario(service: Sessions) -> None:
        token = (await service.ask("POST", "/v1/anonymous", {})).json()["token"]
        seen = await service.whoami(token)
        assert (200, "aal0", True) == (seen.status, seen.field("x-session-acr"), seen.json()["anonymous"])
        wanted = [("x-require-acr", "aal1 aal2 aal3")]
        assert 401 == (await service.whoami(token, headers=wanted)).status
        assert 200 == (await service.whoami((await service.signed_in())["token"], headers=wanted)).status

    with_sessions(scenario)


@pytest.mark.parametrize("path", ["/v1/rooms/plan/document", "/v1/principals/ann/sessions/x/data"])
@pytest.mark.parametrize("sent", ["application/json", "application/json-patch+json", "text/plain"])
def test_a_patch_of_another_kind_is_told_which_is_taken(path: str, sent: str) -> None:
    """And not that it should be the JSON that is refused next."""

    async def scenario(service: Sessions) -> None:
        answer = await service.ask("PATCH", path, {}, headers=(("content-type", sent),))
        assert (415, "unsupported_media_type") == _told(answer)[:2]
        assert "must be application/merge-patch+json" in _told(answer)[2]

    with_sessions(scenario)
