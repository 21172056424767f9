"""Makes tenants and API keys: what has to exist before anybody can call the API.

They are documents that all services share, written straight to the store. A key's text is
returned once and never stored; what is stored is its digest.
"""

import re

import msgspec

from shared.bounds import TENANT_BYTES_MAX
from shared.clock import Clock
from shared.errors import ConflictError, InvalidInputError, NotFoundError
from shared.objects.config import Documents, VersionMismatchError
from shared.storage.records import SCOPES, KeyRecord, TenantRecord, key_digest, new_key_id, new_key_text

TENANT = "tenant"
KEY = "key"
DAY_MS = 24 * 3_600_000
# A tenant's name is typed by people and stands in logs and metrics, so it is narrower than an address allows.
_TENANT_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{TENANT_BYTES_MAX - 1}}}")


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
