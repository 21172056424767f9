"""The desk: it makes tokens and reads them, and asks the principals that they lead to.

Secrets are here and nowhere else: a principal gets verifiers, and says what a token is to be made of. A token is looked
at in this order, so that garbage costs nobody anything: its form and its check, its tenant, and only then its
principal.
"""

import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Protocol

import msgspec

from services.sessions.directory import Directory
from services.sessions.policy import Rules
from services.sessions.principal import Principal
from services.sessions.records import Authentication, Denied, Issued, NewSession, Presence, SessionView
from services.sessions.refusals import SessionEndedError, SupersededError
from services.sessions.session import Material
from services.sessions.tokens import Token, Tokens, new_nonce, new_session_id, session_bytes, session_text
from shared.errors import InvalidInputError
from shared.objects.address import Address
from shared.objects.errors import DeadlineExceededError
from shared.objects.host import Host
from shared.objects.once import KeyedRequest

_TRIES = 4
ANONYMOUS = "anon-"


class Call(Protocol):
    """`Host.call`, as far as it is needed here."""

    async def __call__(
        self, address: Address, method: Callable[..., Any], *args: Any, once: KeyedRequest | None = None
    ) -> Any:
        """The reply of the object."""
        ...


class Within:
    """Calls of one request, which together wait no longer than it does."""

    __slots__ = ("_ends_ms", "_host")

    def __init__(self, host: Host, patience_ms: int) -> None:
        self._host = host
        self._ends_ms = host.store_clock.monotonic_ms() + patience_ms

    async def __call__(
        self, address: Address, method: Callable[..., Any], *args: Any, once: KeyedRequest | None = None
    ) -> Any:
        """The reply of the object.

        Raises:
            TenureError: as `Host.call`.
        """
        left_ms = self._ends_ms - self._host.store_clock.monotonic_ms()
        if left_ms <= 0:
            raise DeadlineExceededError(started=False)
        return await self._host.call(address, method, *args, once=once, deadline_ms=left_ms)


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """A token, to be handed out once, and the session that it is of."""

    token: str
    session: SessionView

    def __repr__(self) -> str:
        return f"Grant(session={self.session!r})"


class Located(msgspec.Struct, frozen=True):
    """A token that was issued here, by its check, with the tenant and the object that it leads to."""

    token: Token
    tenant: str
    address: Address
    session_id: str


class Desk:
    """Makes and reads tokens for one service."""

    __slots__ = ("_call", "_came", "_directory", "_tokens")

    def __init__(
        self, tokens: Tokens, directory: Directory, call: Call, *, came: Callable[[Address], None] = lambda _: None
    ) -> None:
        """`came` hears of principals whose tenant has ended the token that came, and that have not told of it."""
        self._tokens = tokens
        self._directory = directory
        self._call = call
        self._came = came

    def address(self, tenant: str, principal: str) -> Address:
        """The object of a principal."""
        return _address(tenant, self._tokens.principal_ref(tenant, principal))

    def located(self, text: bytes, other: bytes = b"") -> Located | None:
        """Where a token leads; None if it was never issued, or its tenant is not let in. Asks nobody.

        `other`: of the cookie of a domain, beside that of one host. Both are there when the policy has changed since
        one of them was set; that of today's policy counts.

        Raises:
            UnavailableError: the view of tenants is too old to say.
        """
        found = self._located(text)
        second = self._located(other) if other else None
        if found is None or second is None:
            return found or second
        return second if self.rules(found.tenant).policy.cookie_domain else found

    def _located(self, text: bytes) -> Located | None:
        token = self._tokens.read(text)
        if token is None:
            return None
        tenant = self._directory.tenant(token.tenant_ref)
        if tenant is None:
            return None
        return Located(token, tenant, _address(tenant, token.principal_ref), session_text(token.session))

    def let_in(self, located: Located) -> bool:
        """Whether the tenant of a token that was located before is let in still.

        Raises:
            UnavailableError: as `located`.
        """
        return self._directory.tenant(located.token.tenant_ref) is not None

    def verifier(self, located: Located) -> bytes:
        """What the principal compares."""
        return self._tokens.verifier(located.token)

    def rules(self, tenant: str) -> Rules:
        """See `Directory.rules`."""
        return self._directory.rules(tenant)

    async def create(self, tenant: str, order: NewSession, *, key: str | None = None) -> Grant:
        """Begin a session.

        Raises:
            TenureError: as `Principal.create`, `Host.call`.
        """
        self._check_moment(tenant, order.auth_ms, "$.auth_ms")
        address = self.address(tenant, order.principal)
        asked = msgspec.structs.replace(order, data=b"", replaces=None)  # What may differ when it is asked again.
        session, nonce = new_session_id(), new_nonce()
        token = self._first(address, self._tokens.signing_id, session, 1, nonce)
        order = msgspec.structs.replace(order, session_id=session_text(session), material=self._material(token, nonce))
        once = None if key is None else KeyedRequest(key, Principal.create, (asked,))
        issued: Issued = await self._call(address, Principal.create, order, self.rules(tenant), once=once)
        return self._granted(address, issued)

    async def stand(self, located: Located, call: Call | None = None) -> Presence | Denied:
        """What a token is worth. `call`: how the objects are called, if it is not as ever.

        Raises:
            TenureError: as `Host.call`: nobody can say.
        """
        args = (located.session_id, located.token.generation, self.verifier(located), self.rules(located.tenant))
        call = call or self._call
        reply: Presence | Denied = await call(located.address, Principal.stand, *args)
        if isinstance(reply, Presence):
            await self.note(located, reply, call)
        else:
            self.denied(located, reply)
        return reply

    def denied(self, located: Located, verdict: Denied) -> None:
        """A token does not count: its principal is to tell why, if it has not. Nobody waits for that."""
        if verdict.untold:
            self._came(located.address)

    async def note(self, located: Located, presence: Presence, call: Call | None = None) -> None:
        """Store that a successor was used, before it is let in: then the token before has ended, over any crash.

        Raises:
            TenureError: as `Host.call`.
        """
        if presence.standing.succeeds(located.token.generation):
            await (call or self._call)(located.address, Principal.keep_use, located.session_id)

    async def rotate(self, located: Located) -> Grant | Denied:
        """The token that takes the place of this one: the same for all who ask in its window.

        Raises:
            TenureError: as `Host.call`.
        """
        token, nonce = located.token, new_nonce()
        material = self._material(self._tokens.successor(token, key_id=self._tokens.signing_id, nonce=nonce), nonce)
        args = (located.session_id, token.generation, self.verifier(located), material, self.rules(located.tenant))
        issued: Issued | Denied = await self._call(located.address, Principal.rotate, *args)
        if isinstance(issued, Denied):
            return issued
        self._check_key(issued)
        successor = self._tokens.successor(token, key_id=issued.key_id, nonce=issued.nonce)
        return _grant(self._tokens.text(successor), issued)

    async def authenticate(
        self, tenant: str, principal: str, session_id: str, authentication: Authentication, *, key: str | None = None
    ) -> Grant:
        """Note that the user has authenticated anew; the token of before counts no longer.

        Raises:
            TenureError: as `Principal.authenticate`, `Host.call`.
        """
        self._check_moment(tenant, authentication.auth_ms, "$.at_ms")
        address, rules = self.address(tenant, principal), self.rules(tenant)
        once = None if key is None else KeyedRequest(key, Principal.authenticate, (session_id, authentication))
        for _ in range(_TRIES - 1):
            try:
                return await self._authenticate(address, session_id, authentication, rules, once)
            except SupersededError:  # Rotated since we looked.
                continue
        return await self._authenticate(address, session_id, authentication, rules, once)

    async def _authenticate(
        self,
        address: Address,
        session_id: str,
        authentication: Authentication,
        rules: Rules,
        once: KeyedRequest | None,
    ) -> Grant:
        view: SessionView = await self._call(address, Principal.look, session_id, rules)
        session = session_bytes(session_id)
        assert session is not None, "a session that is there has an id that we made"
        nonce = new_nonce()
        token = self._first(address, self._tokens.signing_id, session, view.generation + 1, nonce)
        args = (session_id, view.generation, authentication, self._material(token, nonce), rules)
        issued: Issued = await self._call(address, Principal.authenticate, *args, once=once)
        return self._granted(address, issued)

    def _granted(self, address: Address, issued: Issued) -> Grant:
        """The token of a session that has begun, or whose user has authenticated, now or when it was asked first."""
        session = session_bytes(issued.session_id)
        assert session is not None, "we made it"
        self._check_key(issued)
        token = self._first(address, issued.key_id, session, issued.generation, issued.nonce)
        return _grant(self._tokens.text(token), issued)

    def _check_key(self, issued: Issued) -> None:
        if not self._tokens.signs(issued.key_id):  # Its master was taken out: nobody is let in by what it has signed.
            raise SessionEndedError("revoked")

    def _check_moment(self, tenant: str, auth_ms: int | None, where: str) -> None:
        """Refuse a moment of authentication that ends the session as it begins.

        Raises:
            InvalidInputError: everything that began then was ended.
        """
        if auth_ms is not None and 0 < self.rules(tenant).not_before_ms >= auth_ms:
            raise InvalidInputError(
                "All sessions of users who had authenticated by then were ended: let the user authenticate anew",
                where,
            )

    def _first(self, address: Address, key_id: int, session: bytes, generation: int, nonce: bytes) -> Token:
        return self._tokens.first(
            key_id,
            tenant_ref=self._tokens.tenant_ref(address.tenant),
            principal_ref=bytes.fromhex(address.name),
            session=session,
            generation=generation,
            nonce=nonce,
        )

    def _material(self, token: Token, nonce: bytes) -> Material:
        return Material(token.key_id, nonce, self._tokens.verifier(token))


def anonymous_name(key: str | None) -> str:
    """The name of a new anonymous principal: nobody's, or the same for a request that is repeated with its key."""
    raw = secrets.token_bytes(16) if key is None else sha256(b"anonymous\0" + key.encode()).digest()[:16]
    return ANONYMOUS + urlsafe_b64encode(raw).rstrip(b"=").decode()


def _grant(text: str, issued: Issued) -> Grant:
    assert issued.view is not None, "what leaves the object has it"
    return Grant(token=text, session=issued.view)


def _address(tenant: str, principal_ref: bytes) -> Address:
    return Address(Principal.kind, tenant, principal_ref.hex())
