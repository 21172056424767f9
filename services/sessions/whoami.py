"""ANY /v1/whoami[/...]: is the user of this request signed in, and as whom? For gateways, on every request they pass.

A gateway sends the header of its client's request, so nothing else of it means anything here: not its method, not the
path behind `/v1/whoami`, not its query, and none of the fields that this answer sets. The token comes in
`Authorization: Bearer` or in the cookie; both, or either twice, is a request that two programs could read in two ways,
and so is a demand of the gateway that stands there twice: nobody is let in by one of these.

A yes is 200 with every field of the contract, `-` where there is nothing to say, so that a gateway that copies them
always overwrites what its client sent. A no is 401 or, for a demand of the gateway that is not met, 401 with what is
wanted (RFC 9470). It never sets a cookie, never redirects, and is never 429. What was never issued is refused before
anybody is asked, always in the same bytes.

One turn in memory where the principal is there and nothing of it waits to be stored; else the ordinary way, which
may wait.
"""

import re
import time
from collections.abc import Callable
from typing import TypeAlias
from urllib.parse import quote

import msgspec

from services.sessions.challenges import SignedOutError, StepUpError
from services.sessions.cookies import cookie_tokens
from services.sessions.desk import Desk, Located, Within
from services.sessions.expiry import ends, lifetime_under
from services.sessions.policy import Policy, Rules
from services.sessions.principal import Principal
from services.sessions.records import Denied, Presence
from services.sessions.schemas import Whoami
from shared.errors import TenureError
from shared.http.arrival import SECURITY_HEADERS, arrival_of
from shared.http.asgi import ASGIApp, Receive, Scope, Send
from shared.http.auth import bearer_secret
from shared.http.problem import TYPE_PREFIX, Headers, ProblemTable, problem_response
from shared.objects.host import Host, NotNow
from shared.telemetry.series import Histogram

PATH = "/v1/whoami"
REQUIRE_ACR = b"x-require-acr"
DEADLINE_MS = 5_000
"""How long its objects may take: a gateway waits no longer."""
EMPTY = b"-"
_NONE = (b"", b"")
_CREDENTIALS = (b"authorization", b"cookie")
Answer: TypeAlias = tuple[int, Headers, bytes]
BindHttp: TypeAlias = Callable[[str, str, int], Histogram]
_AS_IT_IS = re.compile(r"[\w.@:-]+", re.ASCII).fullmatch  # What most names are; encoding finds that out more slowly.
_encode = msgspec.json.Encoder().encode
_NOBODY_BODY = _encode(
    {
        "type": TYPE_PREFIX + "unauthenticated",
        "title": "Authentication required",
        "status": 401,
        "detail": "A valid credential is required.",
        "code": "unauthenticated",
    }
)
NOBODY: Answer = (
    401,
    [
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(_NOBODY_BODY)),
        (b"www-authenticate", b'Bearer realm="tenure", error="invalid_token"'),
        *SECURITY_HEADERS,
    ],
    _NOBODY_BODY,
)
"""The answer to everything that is no token of ours."""


class WhoamiLane:
    """An ASGI application that answers whoami and hands everything else to `app`."""

    __slots__ = ("_app", "_counted", "_desk", "_host", "_stopwatch", "_table")

    def __init__(
        self,
        app: ASGIApp,
        *,
        desk: Desk,
        host: Host,
        table: ProblemTable,
        count: BindHttp,
        stopwatch: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._app = app
        self._desk = desk
        self._host = host
        self._table = table
        self._stopwatch = stopwatch
        self._counted = {status: count("GET", PATH, status) for status in (200, 401, 503, 504)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand the request on."""
        path = scope["path"] if scope["type"] == "http" else ""
        if not path.startswith(PATH) or path[len(PATH) :][:1] not in ("", "/"):
            await self._app(scope, receive, send)
            return
        arrival = arrival_of(scope)
        answer = await self.answer(scope)
        arrival.status = answer[0]
        await send({"type": "http.response.start", "status": answer[0], "headers": answer[1]})
        await send({"type": "http.response.body", "body": answer[2]})
        if (counted := self._counted.get(answer[0])) is not None:
            counted.observe(self._stopwatch() - arrival.started_s)

    async def answer(self, scope: Scope) -> Answer:
        """What a gateway is told."""
        fields = arrival_of(scope).fields
        try:
            located = self._desk.located(*tokens_of(fields, scope["headers"]))
            if located is None or _repeated((REQUIRE_ACR,), fields, scope["headers"]):
                return NOBODY
            rules = self._desk.rules(located.tenant)
            verdict = self._now(located, rules)
            if verdict is None:
                verdict = await self._desk.stand(located, Within(self._host, DEADLINE_MS))
            elif isinstance(verdict, Presence) and verdict.standing.succeeds(located.token.generation):
                await self._desk.note(located, verdict)
            if isinstance(verdict, Denied):
                self._desk.denied(located, verdict)
                return self._refused(SignedOutError(verdict.reason))
            wanted = fields.get(REQUIRE_ACR, b"").decode("latin-1")
            if wanted and verdict.standing.assurance.acr not in wanted.split():
                return self._refused(StepUpError(acr_values=wanted if _is_plain(wanted) else ""))
        except TenureError as exc:
            return self._refused(exc)
        return _accepted(located, verdict, rules.policy)

    def _now(self, located: Located, rules: Rules) -> Presence | Denied | None:
        """The verdict, if it can be had without waiting."""
        reply = self._host.read_now(
            located.address,
            Principal.stand,
            located.session_id,
            located.token.generation,
            self._desk.verifier(located),
            rules,
        )
        if isinstance(reply, NotNow):
            return None
        verdict: Presence | Denied = reply
        return verdict

    def _refused(self, error: TenureError) -> Answer:
        status, headers, body = problem_response(error, table=self._table)
        return status, [*headers, *SECURITY_HEADERS], body


def _accepted(located: Located, presence: Presence, policy: Policy) -> Answer:
    standing = presence.standing
    assurance = standing.assurance
    actor = standing.session.actor
    lifetime = lifetime_under(standing.session.lifetime, policy, actor is not None)
    expires = ends(lifetime, standing.seen.at_ms)[0] // 1000
    body = _encode(
        Whoami(
            principal=presence.principal,
            anonymous=presence.anonymous,
            tenant=located.tenant,
            session=presence.session_id,
            acr=assurance.acr,
            amr=assurance.amr,
            roles=assurance.roles,
            auth_time=assurance.auth_ms // 1000,
            expires=expires,
            actor="" if actor is None else actor.sub,
        )
    )
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-session-principal", field_text(presence.principal)),
        (b"x-session-id", presence.session_id.encode()),
        (b"x-session-tenant", field_text(located.tenant)),
        (b"x-session-acr", assurance.acr.encode() or EMPTY),
        (b"x-session-amr", ",".join(assurance.amr).encode() or EMPTY),
        (b"x-session-roles", ",".join(assurance.roles).encode() or EMPTY),
        (b"x-session-auth-time", b"%d" % (assurance.auth_ms // 1000)),
        (b"x-session-expires", b"%d" % expires),
        (b"x-session-actor", EMPTY if actor is None else field_text(actor.sub)),
        (b"session-cache-for", b"%d" % policy.cache_seconds),
        *SECURITY_HEADERS,
    ]
    return 200, headers, body


def tokens_of(fields: dict[bytes, bytes], headers: list[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
    """The token of a request, and a second one where it has both cookies.

    Empty where there is none, or it could be read in two ways.
    """
    authorization, cookie = fields.get(b"authorization"), fields.get(b"cookie")
    if _repeated(_CREDENTIALS, fields, headers):
        return _NONE
    from_cookies = _NONE if cookie is None else cookie_tokens(cookie)
    if authorization is None:
        return from_cookies
    return _NONE if any(from_cookies) else (bearer_secret(authorization) or b"", b"")


def _repeated(names: tuple[bytes, ...], fields: dict[bytes, bytes], headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a field of one of the names came more than once."""
    if len(fields) == len(headers):
        return False
    sent = [name for name, _ in headers if name in names]
    return len(sent) != len(set(sent))


def field_text(text: str) -> bytes:
    """A name in a header field: visible ASCII, percent-encoded; never the mark of an empty one."""
    encoded = (text if _AS_IT_IS(text) else quote(text, safe="!#$&'()*+,./:;=?@[]^_`{|}~")).encode()
    return b"%2D" if encoded == EMPTY else encoded


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and '"' not in text and "\\" not in text
