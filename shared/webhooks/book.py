"""Who is told of what happens, and by which secret what they are told is signed.

An endpoint is a document that every node holds. It has no secret, but what one is derived from: a master key that is
not in the store, and a salt. So whoever reads the store can sign nothing.
"""

import asyncio
import hmac
import secrets
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from shared.bounds import OUTBOUND_URL_BYTES_MAX, WEBHOOKS_MAX
from shared.errors import ConflictError, NotFoundError
from shared.objects.config import Document, Documents, VersionMismatchError, read_document
from shared.outbound.errors import BadTargetError
from shared.outbound.request import check_url
from shared.webhooks.errors import WebhookKeyGoneError

WEBHOOK: Final = "webhook"
TEST: Final = "webhook.test"
_SALT_BYTES = 16


class WebhookKeys(msgspec.Struct, frozen=True, kw_only=True):
    """What secrets are derived from, by the ids of the masters, which are not in the store."""

    newest: int
    """Makes what is new."""
    by_id: Mapping[int, bytes]


class Subscription(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a subscriber wants to be told, and where. A service's own form of it names the events that there are."""

    url: Annotated[str, Meta(min_length=1, max_length=OUTBOUND_URL_BYTES_MAX)]
    events: Annotated[tuple[str, ...], Meta(max_length=16)] = ()
    """Which; all if none is named."""
    enabled: bool = True
    description: Annotated[str, Meta(max_length=256)] = ""


class SecretSource(msgspec.Struct, frozen=True, kw_only=True):
    """What a secret is derived from, beside the master of that id."""

    key_id: int
    salt: bytes


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a document: a subscription with its secret, and while that is being replaced the one before."""

    subscription: Subscription
    source: SecretSource
    previous: SecretSource | None = None
    previous_until_ms: int = 0
    disabled_because: str = ""
    """Why we have disabled it; empty if we have not."""


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint with its name, and when it was changed."""

    name: str
    endpoint: Endpoint
    changed_ms: int


_decode = msgspec.json.Decoder(Endpoint).decode


class WebhookBook:
    """The endpoints of all tenants, for look-ups that cannot wait, and how they are changed."""

    def __init__(self, documents: Documents, keys: WebhookKeys) -> None:
        self._documents, self._keys = documents, keys
        self._endpoints: dict[str, dict[str, Endpoint]] = {}
        self._counted = asyncio.Lock()  # Of two that are put at once, the second is counted with the first.
        documents.subscribe(WEBHOOK, self._changed)

    def listeners(self, tenant: str, event: str) -> list[str]:
        """The names of the endpoints that are to be told of this."""
        return [name for name, endpoint in self._endpoints.get(tenant, {}).items() if _hears(endpoint, event)]

    def all(self, tenant: str) -> list[Listed]:
        """The endpoints of a tenant, by name."""
        return [self.get(tenant, name) for name in sorted(self._endpoints.get(tenant, ()))]

    def get(self, tenant: str, name: str) -> Listed:
        """One of them.

        Raises:
            NotFoundError: there is none of that name.
        """
        document = self._documents.get(WEBHOOK, tenant, name)
        endpoint = self._endpoints.get(tenant, {}).get(name)
        if document is None or endpoint is None:
            raise NotFoundError(f"webhook {name!r}")
        return _listed(document, endpoint)

    async def put(self, tenant: str, name: str, subscription: Subscription) -> bool:
        """Set what a subscriber is told; whether it is new. One that is there keeps its secret.

        Raises:
            BadTargetError: the address can never be called.
            ConflictError: the tenant has 20 endpoints, or somebody else changes this one.
        """
        try:
            check_url(subscription.url)
        except BadTargetError as error:
            raise BadTargetError(error.detail, "$.url") from error
        async with self._counted:
            return await self._put(tenant, name, subscription)

    async def _put(self, tenant: str, name: str, subscription: Subscription) -> bool:
        document = self._documents.get(WEBHOOK, tenant, name)
        if document is None:
            if len(self._endpoints.get(tenant, ())) >= WEBHOOKS_MAX:
                raise ConflictError(f"A tenant has at most {WEBHOOKS_MAX} webhooks.")
            endpoint = Endpoint(subscription=subscription, source=self._new_source())
        else:
            before = self.get(tenant, name).endpoint
            endpoint = msgspec.structs.replace(before, subscription=subscription, disabled_because="")
        await self._write(tenant, name, endpoint, document)
        return document is None

    async def rotate(self, tenant: str, name: str, *, until_ms: int) -> Endpoint:
        """Give an endpoint a new secret; until then what it is told is signed with the old one too.

        Raises:
            NotFoundError: there is none of that name.
            ConflictError: somebody else changes it.
        """
        before = self.get(tenant, name).endpoint
        endpoint = msgspec.structs.replace(
            before, source=self._new_source(), previous=before.source, previous_until_ms=until_ms
        )
        await self._write(tenant, name, endpoint, self._documents.get(WEBHOOK, tenant, name))
        return endpoint

    async def disable(self, tenant: str, name: str, *, url: str, because: str) -> bool:
        """Tell an endpoint nothing more, because of what it has said itself at that address; whether that was done.

        One that is gone is none, and one that has another address by now has not said it.
        """
        document = self._documents.get(WEBHOOK, tenant, name)
        endpoint = self._endpoints.get(tenant, {}).get(name)
        if document is None or endpoint is None or not endpoint.subscription.enabled:
            return False
        if endpoint.subscription.url != url:
            return False
        off = msgspec.structs.replace(endpoint.subscription, enabled=False)
        await self._write(
            tenant, name, msgspec.structs.replace(endpoint, subscription=off, disabled_because=because), document
        )
        return True

    async def delete(self, tenant: str, name: str) -> None:
        """Forget an endpoint. What is to be told to it is given up.

        Raises:
            NotFoundError: there is none of that name.
        """
        self.get(tenant, name)
        await self._documents.delete(WEBHOOK, tenant, name, expected=None)

    def secrets(self, tenant: str, name: str, endpoint: Endpoint, *, now_ms: int) -> list[bytes]:
        """The secrets that count now, the newest first.

        Raises:
            WebhookKeyGoneError: the master of the newest one has been taken out.
        """
        found = [self._secret(tenant, name, endpoint.source)]
        if endpoint.previous is not None and now_ms < endpoint.previous_until_ms:
            found.append(self._secret(tenant, name, endpoint.previous))
        if found[0] is None:
            raise WebhookKeyGoneError(name)
        return [secret for secret in found if secret is not None]

    def _secret(self, tenant: str, name: str, source: SecretSource) -> bytes | None:
        key = self._keys.by_id.get(source.key_id)
        if key is None:
            return None
        return hmac.digest(key, msgspec.msgpack.encode((tenant, name, source.salt)), "sha256")

    def _new_source(self) -> SecretSource:
        return SecretSource(key_id=self._keys.newest, salt=secrets.token_bytes(_SALT_BYTES))

    async def _write(self, tenant: str, name: str, endpoint: Endpoint, before: Document | None) -> None:
        expected = 0 if before is None else before.version
        try:
            await self._documents.put(WEBHOOK, tenant, name, msgspec.json.encode(endpoint), expected=expected)
        except VersionMismatchError as error:
            raise ConflictError("Somebody else changes this webhook; look at it and say it again.") from error

    def _changed(self, tenant: str, name: str, document: Document | None) -> None:
        endpoint = None if document is None else read_document(document, _decode)
        endpoints = self._endpoints.setdefault(tenant, {})
        if endpoint is not None:
            endpoints[name] = endpoint
        else:
            endpoints.pop(name, None)


def _hears(endpoint: Endpoint, event: str) -> bool:
    subscription = endpoint.subscription
    return subscription.enabled and (not subscription.events or event in subscription.events)


def _listed(document: Document, endpoint: Endpoint) -> Listed:
    return Listed(name=document.name, endpoint=endpoint, changed_ms=document.changed_ms)
