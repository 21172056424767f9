"""Makes tenants and API keys, lists them and takes them back: whom the API lets in.

They are documents that all services share, written straight to the store; nodes take a change in
with their next poll. A key's text is returned once and never stored; what is stored is its digest.

A revoked key is deleted, not marked: a mark would mean nothing to a node of an earlier release.
What this release cannot read of a tenant it neither writes over nor forgets.
"""

import re
from typing import Any, Literal, TypeVar

import msgspec

from shared.bounds import DOCUMENT_POLL_MS, TENANT_BYTES_MAX
from shared.clock import Clock
from shared.errors import ConflictError, InvalidInputError, NotFoundError
from shared.objects.config import Document, Documents, VersionMismatchError
from shared.storage.records import SCOPES, KeyRecord, TenantRecord, key_digest, new_key_id, new_key_text

TENANT = "tenant"
KEY = "key"
DAY_MS = 24 * 3_600_000
KNOWN_WITHIN_S = 2
"""When every node that reaches the store goes by a change: one poll, and the time that it takes."""
assert DOCUMENT_POLL_MS < KNOWN_WITHIN_S * 1000
_DIGEST_SHOWN = 12  # Hexadecimal digits: enough to find a key by its text, too few to be taken for a secret.
# A tenant's name is typed by people and stands in logs and metrics, so it is narrower than an address allows.
_TENANT_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{TENANT_BYTES_MAX - 1}}}")
T = TypeVar("T")


class TenantView(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant as it is listed. `unreadable`: another release wrote it, and nobody is let in under it."""

    name: str
    state: Literal["enabled", "disabled", "unreadable"]
    created_ms: int | None
    changed_ms: int


class KeyView(msgspec.Struct, frozen=True, kw_only=True):
    """An API key as it is listed: what it is for and how to find it, nothing that lets anybody in."""

    tenant: str
    id: str
    digest: str
    """The first digits of the SHA-256 of its text, in hexadecimal."""
    state: Literal["valid", "expired", "unreadable"]
    scopes: tuple[str, ...]
    label: str
    created_ms: int | None
    changed_ms: int
    expires_ms: int | None


async def create_tenant(documents: Documents, name: str, *, clock: Clock) -> None:
    """Make a tenant.

    Raises:
        InvalidInputError: the name is not one a tenant can have.
        ConflictError: there is one of that name.
    """
    if not _TENANT_NAME.fullmatch(name):
        raise InvalidInputError(
            f"{name!r} cannot be the name of a tenant: letters, digits, '.', '_' and '-', "
            f"at most {TENANT_BYTES_MAX}, beginning with a letter or digit"
        )
    body = msgspec.json.encode(TenantRecord(created_ms=clock.now_ms()))
    try:
        await documents.put(TENANT, name, name, body, expected=0)
    except VersionMismatchError as exc:
        raise ConflictError(f"There is a tenant {name!r} already.") from exc


async def create_key(
    documents: Documents,
    tenant: str,
    *,
    scopes: frozenset[str],
    label: str,
    expires_days: int | None,
    clock: Clock,
) -> str:
    """Make an API key of `tenant` and return its text, which nobody can find out later.

    Raises:
        NotFoundError: there is no such tenant.
        InvalidInputError: a scope that does not exist, no scope at all, or an expiry that is not ahead.
    """
    if documents.get(TENANT, tenant, tenant) is None:
        raise NotFoundError(f"tenant {tenant!r}")
    if not scopes or not scopes <= SCOPES:
        unknown = ", ".join(sorted(scopes - SCOPES)) or "none"
        raise InvalidInputError(f"Scopes are {', '.join(sorted(SCOPES))}; given: {unknown}")
    if expires_days is not None and expires_days < 1:
        raise InvalidInputError("A key must be valid for at least one day")
    now_ms = clock.now_ms()
    text = new_key_text()
    record = KeyRecord(
        digest=key_digest(text),
        scopes=sorted(scopes),
        label=label,
        created_ms=now_ms,
        expires_ms=None if expires_days is None else now_ms + expires_days * DAY_MS,
    )
    await documents.put(KEY, tenant, new_key_id(), msgspec.json.encode(record), expected=0)
    return text


def list_tenants(documents: Documents) -> list[TenantView]:
    """All tenants, by name."""
    return [_tenant_view(document) for document in documents.list_all(TENANT)]


async def set_tenant_disabled(documents: Documents, name: str, *, disabled: bool) -> None:
    """Shut a tenant's credentials out, or let them in again. Its keys and data stay as they are.

    Raises:
        NotFoundError: there is no such tenant.
        ConflictError: somebody else is changing it, or this release cannot read it.
    """
    document = documents.get(TENANT, name, name)
    if document is None:
        raise NotFoundError(f"tenant {name!r}")
    record = _read(document, TenantRecord)
    if record is None:
        raise ConflictError(f"What is stored of tenant {name!r} is not of this release; nobody is let in under it.")
    if record.disabled == disabled:
        return
    stored: dict[str, Any] = msgspec.json.decode(document.body)  # With what a later release may have added.
    body = msgspec.json.encode({**stored, "disabled": disabled})
    try:
        await documents.put(TENANT, name, name, body, expected=document.version)
    except VersionMismatchError as exc:
        raise ConflictError(f"Somebody else has just changed tenant {name!r}; try again.") from exc


def list_keys(documents: Documents, tenant: str | None, *, clock: Clock) -> list[KeyView]:
    """The keys of a tenant, or of all, by tenant and id.

    Raises:
        NotFoundError: there is no such tenant, and no key of it.
    """
    found = documents.list_all(KEY) if tenant is None else documents.list(KEY, tenant)
    if tenant is not None and not found and documents.get(TENANT, tenant, tenant) is None:
        raise NotFoundError(f"tenant {tenant!r}")
    now_ms = clock.now_ms()
    return [_key_view(document, now_ms) for document in found]


async def revoke_key(documents: Documents, tenant: str, id_or_digest: str) -> str:
    """Delete a key: it is nobody's from then on, and cannot come back. Returns its id.

    A digest may be cut off where a list cuts it off, or later.

    Raises:
        NotFoundError: there is no such tenant, or it has no such key.
        ConflictError: more than one key has a digest that begins so.
    """
    found = [one for one in documents.list(KEY, tenant) if _is_named(one, id_or_digest)]
    if len(found) > 1:
        raise ConflictError(f"{len(found)} keys of tenant {tenant!r} have a digest that begins with {id_or_digest}.")
    if not found:
        if documents.get(TENANT, tenant, tenant) is None:
            raise NotFoundError(f"tenant {tenant!r}")
        raise NotFoundError(f"key {id_or_digest!r} of tenant {tenant!r}: it is revoked already, or never was")
    await documents.delete(KEY, tenant, found[0].name, expected=None)
    return found[0].name


def _is_named(document: Document, id_or_digest: str) -> bool:
    if document.name == id_or_digest:
        return True
    record = _read(document, KeyRecord) if len(id_or_digest) >= _DIGEST_SHOWN else None
    return record is not None and record.digest.startswith(id_or_digest.lower())


def _tenant_view(document: Document) -> TenantView:
    record = _read(document, TenantRecord)
    return TenantView(
        name=document.name,
        state="unreadable" if record is None else "disabled" if record.disabled else "enabled",
        created_ms=None if record is None else record.created_ms,
        changed_ms=document.changed_ms,
    )


def _key_view(document: Document, now_ms: int) -> KeyView:
    record = _read(document, KeyRecord)
    expires_ms = None if record is None else record.expires_ms
    expired = expires_ms is not None and now_ms >= expires_ms
    return KeyView(
        tenant=document.tenant,
        id=document.name,
        digest="" if record is None else record.digest[:_DIGEST_SHOWN],
        state="unreadable" if record is None else "expired" if expired else "valid",
        scopes=() if record is None else tuple(record.scopes),
        label="" if record is None else record.label,
        created_ms=None if record is None else record.created_ms,
        changed_ms=document.changed_ms,
        expires_ms=expires_ms,
    )


def _read(document: Document, type_: type[T]) -> T | None:
    try:
        return msgspec.json.decode(document.body, type=type_)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
