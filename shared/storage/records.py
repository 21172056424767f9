"""What is stored of tenants and API keys, as JSON documents that all services share.

An API key is 256 random bits; what is stored is the SHA-256 digest of its text, so neither the
store nor a backup of it holds anything that can be presented. A fast hash is right here: there is
no dictionary of 256-bit secrets to try. The text carries a fixed prefix, so that a leaked one can
be found by scanners of source code.
"""

import hashlib
import secrets
from collections.abc import Sequence

import msgspec

SCOPES = frozenset(
    {
        "limits:check",
        "limits:read",
        "limits:write",
        "objects:call",
        "rooms:join",
        "rooms:read",
        "rooms:write",
        "sessions:admin",
        "sessions:create",
        "sessions:data",
        "sessions:elevate",
        "sessions:impersonate",
        "sessions:introspect",
        "sessions:privacy",
        "sessions:read",
        "sessions:revoke",
        "workflows:read",
        "workflows:work",
        "workflows:write",
        "workflows:admin",
    }
)
"""Every scope that a key can have."""

KEY_PREFIX = "tnk_"
KEY_SECRET_BYTES = 32
KEY_TEXT_LENGTH = len(KEY_PREFIX) + 43  # 32 bytes are 43 characters of base64url without padding.


class TenantRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a document of kind "tenant", stored under (tenant, tenant)."""

    created_ms: int
    disabled: bool = False
    """While true, none of the tenant's credentials is valid."""


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a document of kind "key", stored under (tenant, key id)."""

    digest: str
    """`key_digest` of the key's text."""
    scopes: Sequence[str]
    label: str = ""
    created_ms: int
    expires_ms: int | None = None
    """From this moment on (Unix ms) the key is not valid; None: it does not expire."""


def new_key_text() -> str:
    """The text of a new API key: `tnk_` and 43 characters. To be shown once, and never stored."""
    return KEY_PREFIX + secrets.token_urlsafe(KEY_SECRET_BYTES)


def new_key_id() -> str:
    """A name for a key that may stand in logs and lists: 16 hexadecimal digits."""
    return secrets.token_hex(8)


def key_digest(text: str) -> str:
    """What is stored of a key: SHA-256 over the whole text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
