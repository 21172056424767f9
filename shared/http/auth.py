"""Who is calling: API keys, checked without waiting and without a scan.

A key is looked up by the digest of its text, so a request costs one SHA-256 and one dictionary
lookup however many keys there are, and what an attacker can time is the digest of a guess, which
tells nothing about any key. The keys are a view of replicated documents: a revoked key, a disabled
or deleted tenant counts within one poll, and where the view is too old nobody is let in.

No route is open by omission: the application asks for a credential everywhere, a route has to say
`anonymous=True` to be excepted, and `routes_without_credential` lists those that did.

Sources: RFC 6750 2.1 (Bearer), OWASP ASVS 5.0 V8.2, V11.4, V13.2.
"""

from collections.abc import Callable
from hashlib import sha256
from typing import Any, TypeAlias

import msgspec
from litestar import Litestar
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.handlers.base import BaseRouteHandler
from litestar.routes import HTTPRoute
from litestar.types import Scope

from shared.bounds import RETRY_AFTER_MS
from shared.clock import Clock
from shared.errors import BEARER, ForbiddenError, UnauthenticatedError
from shared.http.arrival import arrival_of
from shared.objects.config import Document, Documents, read_document, report_unreadable
from shared.objects.errors import UnavailableError
from shared.storage.records import KEY_PREFIX, KEY_TEXT_LENGTH, SCOPES, KeyRecord, TenantRecord

GATEWAY_KEY = b"x-tenure-key"
"""Where a gateway puts its own key. It overwrites what a client may have sent."""

ANONYMOUS = "anonymous"
"""Option of a route handler: needs no credential."""

BY_SESSION = "by_session"
"""Option of a route handler: the credential is a user's session token, which the route itself looks at."""

BY_GATEWAY = "by_gateway"
"""Option of a route handler: the credential is the gateway's, in `X-Tenure-Key`; Authorization is not read."""

_BEARER = b"bearer "
_KEY_PREFIX = KEY_PREFIX.encode()
_decode_tenant = msgspec.json.Decoder(TenantRecord).decode
_decode_key = msgspec.json.Decoder(KeyRecord).decode
Connection = ASGIConnection[Any, Any, Any, Any]


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a key speaks for, and what it may do. The tenant of a request is this one and no other."""

    tenant: str
    key_id: str
    scopes: frozenset[str]

    def require(self, scope: str) -> None:
        """Raises ForbiddenError if the key lacks `scope`."""
        if scope not in self.scopes:
            raise ForbiddenError(scope)


Caller: TypeAlias = NamedDependency[Credential]
"""The annotation of a handler's parameter `credential`: who is calling."""


class Admission:
    """A caller that was let in."""

    __slots__ = ("_credential", "_keys")

    def __init__(self, keys: "KeyRing", credential: Credential) -> None:
        self._keys, self._credential = keys, credential

    @property
    def tenant(self) -> str:
        """For whom its credential speaks."""
        return self._credential.tenant

    def counts(self) -> bool:
        """Whether its credential still does; see `KeyRing.stands`."""
        return self._keys.stands(self._credential)


TheAdmission: TypeAlias = NamedDependency[Admission]
"""The annotation of a handler's parameter `admission`, for answers that last."""


class KeyRing:
    """Every valid API key, kept up to date with the documents of kinds "tenant" and "key"."""

    __slots__ = ("_by_digest", "_clock", "_digests", "_documents", "_tenants")

    def __init__(self, documents: Documents, clock: Clock) -> None:
        self._documents = documents
        self._clock = clock
        self._tenants: set[str] = set()
        self._by_digest: dict[bytes, tuple[Credential, int | None]] = {}
        self._digests: dict[tuple[str, str], bytes] = {}
        documents.subscribe("tenant", self._tenant_changed)
        documents.subscribe("key", self._key_changed)

    def authenticate(self, secret: bytes) -> Credential | None:
        """Whose key this is; None if it is nobody's, has expired, or its tenant is disabled or gone.

        Raises:
            UnavailableError: the view of the keys is too old to say.
        """
        if not self._documents.fresh():
            raise UnavailableError("The keys cannot be checked at the moment.", retry_after_ms=RETRY_AFTER_MS)
        if len(secret) != KEY_TEXT_LENGTH or not secret.startswith(_KEY_PREFIX):
            return None
        found = self._by_digest.get(sha256(secret).digest())
        if found is None:
            return None
        credential, expires_ms = found
        if credential.tenant not in self._tenants:
            return None
        if expires_ms is not None and self._clock.now_ms() >= expires_ms:
            return None
        return credential

    def stands(self, credential: Credential) -> bool:
        """Whether a credential that was authenticated still counts, as far as is known: what is stale ends nothing."""
        digest = self._digests.get((credential.tenant, credential.key_id))
        found = None if digest is None else self._by_digest.get(digest)
        if found is None or credential.tenant not in self._tenants:
            return False
        expires_ms = found[1]
        return expires_ms is None or self._clock.now_ms() < expires_ms

    def _tenant_changed(self, tenant: str, name: str, document: Document | None) -> None:
        record = None if document is None else read_document(document, _decode_tenant)
        if record is None or record.disabled:
            self._tenants.discard(name)
        elif tenant == name:
            self._tenants.add(name)

    def _key_changed(self, tenant: str, key_id: str, document: Document | None) -> None:
        old = self._digests.pop((tenant, key_id), None)
        if old is not None:
            del self._by_digest[old]
        if document is None:
            return
        record = read_document(document, _decode_key)
        if record is None:  # What cannot be read lets nobody in.
            return
        digest = _digest(record.digest)
        if digest is None or digest in self._by_digest:  # Two keys of one text would be one key of two tenants.
            report_unreadable(document, "The digest is none, or that of another key.")
            return
        scopes = frozenset(record.scopes) & SCOPES
        self._digests[tenant, key_id] = digest
        self._by_digest[digest] = (Credential(tenant=tenant, key_id=key_id, scopes=scopes), record.expires_ms)


def bearer_secret(authorization: bytes | None) -> bytes | None:
    """The credential of an Authorization field; None if there is none of the scheme Bearer."""
    if authorization is None or authorization[:7].lower() != _BEARER:
        return None
    return authorization[7:].strip(b" ")


class Authenticate:
    """The guard of the whole application: without a valid credential no route is reached."""

    __slots__ = ("_keys",)

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys

    async def __call__(self, connection: Connection, handler: BaseRouteHandler) -> None:
        """Put the `Credential` where `connection.auth` finds it.

        Raises:
            UnauthenticatedError: there is none that is valid. Which of its reasons holds is not said.
            UnavailableError: nobody can say at the moment.
        """
        if handler.opt.get(ANONYMOUS) or handler.opt.get(BY_SESSION):
            return
        fields = arrival_of(connection.scope).fields
        by_gateway = handler.opt.get(BY_GATEWAY)
        secret = fields.get(GATEWAY_KEY) if by_gateway else bearer_secret(fields.get(b"authorization"))
        credential = self._keys.authenticate(secret) if secret else None
        if credential is None:
            raise UnauthenticatedError(field=_field_of(handler))
        connection.scope["auth"] = credential


class Require:
    """The guard of one route: the credential must have `scope`."""

    __slots__ = ("scope",)

    def __init__(self, scope: str) -> None:
        assert scope in SCOPES, scope
        self.scope = scope

    async def __call__(self, connection: Connection, handler: BaseRouteHandler) -> None:
        """Raises ForbiddenError, or UnauthenticatedError where nobody has authenticated."""
        credential = connection.scope.get("auth")
        if not isinstance(credential, Credential):
            raise UnauthenticatedError(field=_field_of(handler))
        if self.scope not in credential.scopes:
            raise ForbiddenError(self.scope, _field_of(handler))


def require(scope: str) -> Require:
    """For `guards=[...]` of a route handler: let only credentials with `scope` pass."""
    return Require(scope)


def provide_credential(scope: Scope) -> Credential:
    """The dependency `credential`: who is calling."""
    credential = scope.get("auth")
    if not isinstance(credential, Credential):
        raise UnauthenticatedError
    return credential


def provide_admission(keys: KeyRing) -> Callable[[Credential], Admission]:
    """Provides the dependency `admission`: who was let in."""

    def provide(credential: Caller) -> Admission:
        return Admission(keys, credential)

    return provide


def routes_without_credential(app: Litestar) -> list[str]:
    """Every route, as "GET /path", that can be reached without a credential."""
    return sorted(
        f"{method} {path}"
        for method, path, handler in _routes(app)
        if handler.opt.get(ANONYMOUS) or not any(isinstance(guard, Authenticate) for guard in handler.resolve_guards())
    )


def scopes_by_route(app: Litestar) -> dict[str, frozenset[str]]:
    """The scopes that each route, as "GET /path", requires."""
    return {f"{method} {path}": required_scopes(handler) for method, path, handler in _routes(app)}


def required_scopes(handler: BaseRouteHandler) -> frozenset[str]:
    """The scopes that a credential needs for this handler."""
    return frozenset(guard.scope for guard in handler.resolve_guards() if isinstance(guard, Require))


def _field_of(handler: BaseRouteHandler) -> str:
    return "X-Tenure-Key" if handler.opt.get(BY_GATEWAY) else BEARER


def _routes(app: Litestar) -> list[tuple[str, str, BaseRouteHandler]]:
    found: list[tuple[str, str, BaseRouteHandler]] = []
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            by_method = route.route_handler_map.items()
            found += [(str(method), route.path_format, handler) for method, (handler, _) in by_method]
        else:
            found.append((route.scope_type.value.upper(), route.path_format, route.route_handler))
    return found


def _digest(text: str) -> bytes | None:
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        return None
    return digest if len(digest) == 32 else None
