"""A user's own calls, with the token or with the cookie: who they are, and that no other site made the call.

A browser sends the cookie with whatever a page makes it send. So a call with the cookie that changes something must be
of a kind that a page of another site cannot make by itself (`application/json`), and say that it comes from this one
(`Sec-Fetch-Site`, or an `Origin` that the tenant's policy names). The token in `Authorization` proves that by itself.

Source: OWASP ASVS 5.0 V3.5.1 to V3.5.3.
"""

from typing import TypeAlias

import msgspec
from litestar.di import NamedDependency

from services.sessions.challenges import CrossSiteError, NotSignedInError, SignedOutError, StepUpError
from services.sessions.cookies import cookie_tokens
from services.sessions.desk import Located
from services.sessions.front import TheFront
from services.sessions.policy import Policy
from services.sessions.records import Denied, Presence
from services.sessions.refusals import ImpersonationError
from services.sessions.whoami import tokens_of
from shared.errors import InvalidInputError
from shared.http.arrival import arrival_of
from shared.http.calls import AnyRequest
from shared.http.errors import UnsupportedMediaTypeError

_SAME_SITE = (b"same-origin", b"none")
_SAFE = ("GET", "OPTIONS")


class Me(msgspec.Struct, frozen=True):
    """The user who calls."""

    located: Located
    presence: Presence
    policy: Policy

    @property
    def tenant(self) -> str:
        """Whose tenant's user it is."""
        return self.located.tenant

    def check_may_manage(self, now_ms: int) -> None:
        """Let only users end other sessions who have authenticated lately, and in their own name.

        Raises:
            ImpersonationError, StepUpError: not this one.
        """
        if self.presence.standing.session.actor is not None:
            raise ImpersonationError
        fresh_ms = self.policy.fresh_authentication_ms
        if now_ms - self.presence.standing.assurance.auth_ms > fresh_ms:
            raise StepUpError(max_age_s=fresh_ms // 1000)


MyCall: TypeAlias = NamedDependency[Me]
MyToken: TypeAlias = NamedDependency[Located]


def provide_my_token(request: AnyRequest, front: TheFront) -> Located:
    """The token of the caller, which was issued here; whether it still counts is not asked.

    Raises:
        NotSignedInError: there is none.
        InvalidInputError: there are two.
        CrossSiteError, UnsupportedMediaTypeError: it came with the cookie, from elsewhere.
    """
    fields = arrival_of(request.scope).fields
    cookie = has_cookie(request)
    if cookie and b"authorization" in fields:
        raise InvalidInputError("Send the token or the cookie, not both", "header.authorization")
    located = front.desk.located(*tokens_of(fields, request.scope["headers"]))  # type: ignore[arg-type]  # Pairs, as the guard saw them.
    if located is None:
        raise NotSignedInError
    if cookie and request.method not in _SAFE:
        _check_site(fields, front.desk.rules(located.tenant).policy)
    return located


def has_cookie(request: AnyRequest) -> bool:
    """Whether the caller sends a cookie of ours."""
    return any(cookie_tokens(arrival_of(request.scope).fields.get(b"cookie", b"")))


async def provide_me(my_token: MyToken, request: AnyRequest, front: TheFront) -> Me:
    """Who calls, with a token that counts.

    Raises:
        SignedOutError: it does not.
    """
    verdict = await front.desk.stand(my_token)
    front.asked(request, my_token.address)
    if isinstance(verdict, Denied):
        raise SignedOutError(verdict.reason)
    return Me(my_token, verdict, front.desk.rules(my_token.tenant).policy)


def _check_site(fields: dict[bytes, bytes], policy: Policy) -> None:
    media_type = fields.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if media_type != b"application/json":
        raise UnsupportedMediaTypeError("A call with the cookie must say application/json, body or not.")
    origin = fields.get(b"origin", b"").decode("latin-1")
    if fields.get(b"sec-fetch-site") not in _SAME_SITE and origin not in policy.origins:
        raise CrossSiteError
