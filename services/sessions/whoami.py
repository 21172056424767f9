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
may wait. What a token says, and the fields of the last yes to it, are kept for those in most use; whether it counts is
asked of its principal every time.
"""

import re
import time
from collections.abc import Awaitable, Callable
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
from shared.cache import Cache
from shared.clock import Clock
from shared.errors import TenureError
from shared.http.arrival import SECURITY_HEADERS, arrival_of
from shared.http.asgi import Answer, ASGIApp, Coming, Prompt, Receive, Scope, Send, send_answer
from shared.http.auth import bearer_secret
from shared.http.problem import TYPE_PREFIX, ProblemTable, problem_response
from shared.objects.host import Host, NotNow
from shared.telemetry.series import Histogram

PATH = "/v1/whoami"
REQUIRE_ACR = b"x-require-acr"
DEADLINE_MS = 5_000
"""How long its objects may take: a gateway waits no longer."""
KNOWN_TOKENS_MAX = 8_192  # The tokens in most use; about 3 KiB each.
KNOWN_TOKENS_MS = 60_000
EMPTY = b"-"
_NONE = (b"", b"")
_CREDENTIALS = (b"authorization", b"cookie")
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

    __slots__ = ("_app", "_counted", "_desk", "_host", "_stopwatch", "_table", "_tokens", "prompt")

    def __init__(
        self,
        app: ASGIApp,
        *,
        desk: Desk,
        host: Host,
        table: ProblemTable,
        clock: Clock,
        count: BindHttp,
        stopwatch: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._app = app
        self._desk = desk
        self._host = host
        self._table = table
        self._tokens: Cache[bytes, _Known] = Cache(clock, entries_max=KNOWN_TOKENS_MAX, ttl_ms=KNOWN_TOKENS_MS)
        self._stopwatch = stopwatch
        self._counted = {status: count("GET", PATH, status) for status in (200, 401, 503, 504)}
        self.prompt = Prompt((PATH,), self._answer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand the request on."""
        answer = self._answer(scope) if scope["type"] == "http" else None
        if answer is None:
            await self._app(scope, receive, send)
            return
        await send_answer(send, answer if isinstance(answer, tuple) else await answer)

    def _answer(self, scope: Scope, _: bytes = b"") -> Answer | Coming | None:
        """What a gateway is told, at once where that can be; None: it asks for something else."""
        path = scope["path"]
        if not path.startswith(PATH) or path[len(PATH) :][:1] not in ("", "/"):
            return None
        try:
            known = self._known(scope)
            if known is None:
                return self._counts(scope, NOBODY)
            rules = self._desk.rules(known.located.tenant)
            verdict = self._now(known, rules)
            if verdict is None:
                coming = self._desk.stand(known.located, Within(self._host, DEADLINE_MS))
                return self._later(scope, known, coming, rules.policy)
            if isinstance(verdict, Presence) and verdict.standing.succeeds(known.located.token.generation):
                known.noting = True
                return self._later(scope, known, self._noted(known, verdict), rules.policy)
            return self._counts(scope, self._told(scope, known, verdict, rules.policy))
        except TenureError as exc:
            return self._counts(scope, self._refused(exc))

    async def _later(
        self, scope: Scope, known: "_Known", coming: Awaitable[Presence | Denied], policy: Policy
    ) -> Answer:
        try:
            return self._counts(scope, self._told(scope, known, await coming, policy))
        except TenureError as exc:
            return self._counts(scope, self._refused(exc))

    async def _noted(self, known: "_Known", presence: Presence) -> Presence:
        """The first use of a successor, once it is stored: nobody is let in by it before.

        Raises:
            TenureError: as `Desk.note`.
        """
        try:
            await self._desk.note(known.located, presence)
        finally:
            known.noting = False
        return presence

    def _known(self, scope: Scope) -> "_Known | None":
        """The token of the request; None: nobody may be let in by it."""
        fields, headers = arrival_of(scope).fields, scope["headers"]
        text, other = tokens_of(fields, headers)
        if _repeated((REQUIRE_ACR,), fields, headers):
            return None
        known = None if other else self._tokens.get(text)
        if known is not None:
            return known if self._desk.let_in(known.located) else None
        located = self._desk.located(text, other)
        if located is None:
            return None
        known = _Known(located, self._desk.verifier(located))
        known.noting = bool(other)
        if not other:
            self._tokens.put(text, known)
        return known

    def _now(self, known: "_Known", rules: Rules) -> Presence | Denied | None:
        """The verdict, if it can be had without waiting."""
        if known.noting:
            return None
        located = known.located
        reply = self._host.read_now(
            located.address, Principal.stand, located.session_id, located.token.generation, known.verifier, rules
        )
        if isinstance(reply, NotNow):
            return None
        verdict: Presence | Denied = reply
        return verdict

    def _told(self, scope: Scope, known: "_Known", verdict: Presence | Denied, policy: Policy) -> Answer:
        if isinstance(verdict, Denied):
            self._desk.denied(known.located, verdict)
            return self._refused(SignedOutError(verdict.reason))
        wanted = arrival_of(scope).fields.get(REQUIRE_ACR, b"").decode("latin-1")
        if wanted and verdict.standing.assurance.acr not in wanted.split():
            return self._refused(StepUpError(acr_values=wanted if _is_plain(wanted) else ""))
        return known.accepted(verdict, policy)

    def _counts(self, scope: Scope, answer: Answer) -> Answer:
        arrival = arrival_of(scope)
        arrival.status = answer[0]
        if (counted := self._counted.get(answer[0])) is not None:
            counted.observe(self._stopwatch() - arrival.started_s)
        return answer

    def _refused(self, error: TenureError) -> Answer:
        status, headers, body = problem_response(error, table=self._table)
        return status, [*headers, *SECURITY_HEADERS], body


class _Known:
    """A token that has been checked, and the last answer to it, which holds as long as what it was made of."""

    __slots__ = ("_answer", "_policy", "_presence", "located", "noting", "verifier")

    def __init__(self, located: Located, verifier: bytes) -> None:
        self.located = located
        self.verifier = verifier
        self.noting = False
        """Its first use is about to be stored: who comes with it meanwhile waits behind that."""
        self._answer: Answer = NOBODY
        self._presence: Presence | None = None
        self._policy: Policy | None = None

    def accepted(self, presence: Presence, policy: Policy) -> Answer:
        """Yes, and who it is."""
        if self._presence is None or policy is not self._policy or not _says_the_same(self._presence, presence):
            self._answer = _accepted(self.located, presence, policy)
            self._presence, self._policy = presence, policy
        return self._answer


def _says_the_same(one: Presence, other: Presence) -> bool:
    """Whether the answers are equal; where the object was in memory all the time, they are seen to be."""
    was, now = one.standing, other.standing
    return (
        was.session is now.session
        and was.assurance is now.assurance
        and was.seen.at_ms == now.seen.at_ms
        and one.principal == other.principal
        and one.anonymous == other.anonymous
    )


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
