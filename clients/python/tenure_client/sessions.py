"""Who is signed in: begin sessions, ask what a token is worth, list and end them."""

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tenure_client.errors import ApiError
from tenure_client.transport import Client

_TOKEN = re.compile(r"[!-~]+")
"""What a header field can carry; nothing else was ever issued."""


@dataclass(frozen=True)
class Session:
    """A session as the service shows it; `shown` is all of it."""

    id: str
    acr: str
    roles: tuple[str, ...]
    expires_ms: int
    shown: dict[str, Any]


@dataclass(frozen=True)
class SignedIn:
    """A session that has begun, or whose token was replaced."""

    principal: str
    token: str = field(repr=False)
    """Shown once; hand it to the user and keep it nowhere."""
    set_cookie: str = field(repr=False)
    """A `Set-Cookie` field to hand it out with."""
    session: Session


class Sessions(Client):
    """Calls a session manager. Every call may be made again without harm, and is, while the service is away."""

    async def begin(
        self,
        principal: str,
        *,
        amr: Sequence[str] = (),
        roles: Sequence[str] = (),
        client: str | None = None,
        idempotency_key: str | None = None,
        **more: Any,
    ) -> SignedIn:
        """Begin a session of a user whom you have authenticated; `more` is as the API has it.

        Raises:
            ApiError: `session_limit_reached`, `principal_disabled` and so on.
        """
        body = {"amr": _words(amr), "roles": _words(roles), **more} | ({} if client is None else {"client": client})
        headers = {"idempotency-key": idempotency_key or str(uuid.uuid4())}
        return _signed_in(await self._transport.call("POST", f"{_path(principal)}/sessions", body, headers=headers))

    async def whoami(self, token: str, *, answer_s: float = 1.0) -> dict[str, Any] | None:
        """What a token is worth, as a gateway is told it; None: it does not count, be it what it may. Asked once.

        Raises:
            ApiError: nobody can say at the moment; let nobody in.
            UnreachableError: it has not answered in time; let nobody in.
        """
        try:
            shown: dict[str, Any] = await self._transport.call(
                "GET", "/v1/whoami", headers=_bearer(token), answer_s=answer_s, patience_s=0
            )
        except ApiError as error:
            if error.status == 401:
                return None
            raise
        return shown

    async def rotate(self, token: str) -> SignedIn:
        """Replace a token by its successor, which is the same for whoever asks at the same time.

        Raises:
            ApiError: `signed_out` and so on: the token does not count.
        """
        return _signed_in(await self._transport.call("POST", "/v1/session/rotate", headers=_bearer(token)))

    async def authenticate(
        self,
        principal: str,
        session_id: str,
        *,
        acr: str,
        amr: Sequence[str],
        roles: Sequence[str] | None = None,
        idempotency_key: str | None = None,
    ) -> SignedIn:
        """The user has authenticated once more, or has other roles: hand out the new token, the old one counts no more.

        Raises:
            ApiError: `unknown_session`, `session_ended` and so on.
        """
        body = {"acr": acr, "amr": _words(amr)} | ({} if roles is None else {"roles": _words(roles)})
        path = f"{_path(principal)}/sessions/{quote(session_id, safe='')}/authenticate"
        headers = {"idempotency-key": idempotency_key or str(uuid.uuid4())}
        return _signed_in(await self._transport.call("POST", path, body, headers=headers))

    async def logout(self, token: str) -> None:
        """End the session of a token; one that has ended is no error.

        Raises:
            ApiError: `unauthenticated`: it was never issued; `signed_out`: it was replaced, and its session goes on.
        """
        await self._transport.call("POST", "/v1/session/logout", headers=_bearer(token))

    async def list(self, principal: str) -> list[Session]:
        """The sessions of a user that count, oldest first."""
        shown = await self._transport.call("GET", f"{_path(principal)}/sessions")
        return [_session(one) for one in shown["sessions"]]

    async def revoke(self, principal: str, session_id: str) -> None:
        """End a session. From the answer on no token of it counts; one that has ended is no error."""
        await self._transport.call("DELETE", f"{_path(principal)}/sessions/{quote(session_id, safe='')}")

    async def revoke_all(self, principal: str, *, but: str | None = None) -> int:
        """End all sessions of a user, or all but one; how many those were."""
        body = {} if but is None else {"except_session": but}
        shown = await self._transport.call("POST", f"{_path(principal)}/sessions/revoke", body)
        return int(shown["revoked"])


def _words(words: Sequence[str]) -> list[str]:
    if isinstance(words, str):
        raise TypeError(f"a list of words is expected, not {words!r}")
    return list(words)


def _bearer(token: str) -> dict[str, str]:
    if not _TOKEN.fullmatch(token):
        raise ApiError(401, {"code": "unauthenticated", "detail": "This is no token."})
    return {"authorization": f"Bearer {token}"}


def _path(principal: str) -> str:
    return f"/v1/principals/{quote(principal, safe='').replace('.', '%2E')}"


def _session(shown: dict[str, Any]) -> Session:
    return Session(
        id=shown["id"], acr=shown["acr"], roles=tuple(shown["roles"]), expires_ms=shown["expires_ms"], shown=shown
    )


def _signed_in(shown: dict[str, Any]) -> SignedIn:
    return SignedIn(
        principal=shown["principal"],
        token=shown["token"],
        set_cookie=shown["set_cookie"],
        session=_session(shown["session"]),
    )
