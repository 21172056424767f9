"""Session tokens: opaque to everybody else, told from garbage without asking anybody, worthless at rest.

A token is `tns_` and 120 characters of base64url, of

    version 1 | key id 1 | tenant 8 | principal 16 | session 12 | generation 4 | secret 32 | check 16    bytes

*tenant* and *principal* are keyed digests of the names: they lead to the one object that has the session and say
nothing about whom they name. *check* is a MAC over all before it: a node refuses what was never issued before it
asks an owner or the store. It is not what makes a session safe; the 256-bit secret is. What is stored of a token is
a keyed digest over its whole body (*verifier*), so it holds only for this tenant, principal, session and generation:
a reader of the store can present nothing, and a writer cannot move a session to somebody else.

A secret is derived, never stored: of a nonce (the first of a session, and after each authentication), or of a nonce
and the secret before it (a rotation). Whoever repeats a request gets the same token again, as long as somebody
remembers the nonce.

Sources: OWASP ASVS 5.0 V7.2, V11.4; NIST SP 800-63B-4 5.1.
"""

import binascii
import hmac
import secrets

import msgspec

from services.sessions.keys import KeySet

PREFIX = "tns_"
VERSION = 1
NONCE_BYTES = 16
SESSION_BYTES = 12
_MAC_BYTES = 16
_BODY_BYTES = 1 + 1 + 8 + 16 + SESSION_BYTES + 4 + 32
TEXT_LENGTH = len(PREFIX) + (_BODY_BYTES + _MAC_BYTES) * 4 // 3
assert (_BODY_BYTES + _MAC_BYTES) % 3 == 0  # No padding, and no bits that could be written in two ways.

_PREFIX = PREFIX.encode()
_FROM_URL = bytes.maketrans(b"-_+/", b"+/!!")  # One way to write each: the two that are not of this alphabet fail.
_TO_URL = bytes.maketrans(b"+/", b"-_")
_DASH = 62  # The six bits that are written as "-".


class Token(msgspec.Struct, frozen=True, gc=False):
    """What a token says. Its `repr` hides the secret."""

    key_id: int
    tenant_ref: bytes
    principal_ref: bytes
    session: bytes
    generation: int
    secret: bytes

    def __repr__(self) -> str:
        return f"Token(session={session_text(self.session)!r}, generation={self.generation})"

    def body(self) -> bytes:
        """All of it that the check covers."""
        return b"%c%c%b%b%b%b%b" % (
            VERSION,
            self.key_id,
            self.tenant_ref,
            self.principal_ref,
            self.session,
            self.generation.to_bytes(4),
            self.secret,
        )


class Tokens:
    """Makes and reads tokens with the keys of a service."""

    __slots__ = ("_keys",)

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys

    @property
    def signing_id(self) -> int:
        """The key id of new tokens."""
        return self._keys.signing_id

    def signs(self, key_id: int) -> bool:
        """Whether tokens of that key are accepted, and can be made."""
        return key_id in self._keys.signing

    def tenant_ref(self, tenant: str) -> bytes:
        """How tokens name a tenant."""
        return hmac.digest(self._keys.tenant, tenant.encode(), "sha256")[:8]

    def principal_ref(self, tenant: str, principal: str) -> bytes:
        """How tokens name a principal of a tenant."""
        name = b"%b\0%b" % (self.tenant_ref(tenant), principal.encode())
        return hmac.digest(self._keys.principal, name, "sha256")[:16]

    def text(self, token: Token) -> str:
        """The token as it is handed out."""
        body = token.body()
        check = hmac.digest(self._keys.signing[token.key_id].edge, body, "sha256")[:_MAC_BYTES]
        return PREFIX + binascii.b2a_base64(body + check, newline=False).translate(_TO_URL).decode()

    def read(self, text: bytes) -> Token | None:
        """The token that a text is, if it was issued with one of the keys; None says nothing of why."""
        if len(text) != TEXT_LENGTH or not text.startswith(_PREFIX):
            return None
        try:
            raw = binascii.a2b_base64(text[len(_PREFIX) :].translate(_FROM_URL), strict_mode=True)
        except ValueError:
            return None
        keys = self._keys.signing.get(raw[1])
        body, check = raw[:_BODY_BYTES], raw[_BODY_BYTES:]
        if keys is None or raw[0] != VERSION:
            return None
        if not hmac.compare_digest(hmac.digest(keys.edge, body, "sha256")[:_MAC_BYTES], check):
            return None
        return Token(raw[1], raw[2:10], raw[10:26], raw[26:38], int.from_bytes(raw[38:42]), raw[42:74])

    def verifier(self, token: Token) -> bytes:
        """What is stored of a token, and compared with what is stored."""
        return hmac.digest(self._keys.signing[token.key_id].verifier, token.body(), "sha256")

    def first(
        self, key_id: int, *, tenant_ref: bytes, principal_ref: bytes, session: bytes, generation: int, nonce: bytes
    ) -> Token:
        """The token of a session that begins, or begins anew with an authentication, with `nonce`."""
        place = b"first%b%b%b%b%b" % (tenant_ref, principal_ref, session, generation.to_bytes(4), nonce)
        secret = hmac.digest(self._keys.signing[key_id].successor, place, "sha256")
        return Token(key_id, tenant_ref, principal_ref, session, generation, secret)

    def successor(self, token: Token, *, key_id: int, nonce: bytes) -> Token:
        """The next generation of a token: the same for every caller who has the one before and knows the nonce."""
        generation = token.generation + 1
        place = b"next%b%b%b%b" % (token.session, generation.to_bytes(4), nonce, token.secret)
        secret = hmac.digest(self._keys.signing[key_id].successor, place, "sha256")
        return Token(key_id, token.tenant_ref, token.principal_ref, token.session, generation, secret)


def new_session_id() -> bytes:
    """The id of a new session; it is public, unique for all practical purposes, and never looks like an option."""
    while True:
        made = secrets.token_bytes(SESSION_BYTES)
        if made[0] >> 2 != _DASH:
            return made


def new_nonce() -> bytes:
    """What the secret of a new token is derived from."""
    return secrets.token_bytes(NONCE_BYTES)


def session_text(session: bytes) -> str:
    """A session id as it stands in lists, paths and logs: 16 characters."""
    return binascii.b2a_base64(session, newline=False).translate(_TO_URL).decode()


def session_bytes(text: str) -> bytes | None:
    """The session id that `session_text` wrote; None if it is none."""
    try:
        raw = binascii.a2b_base64(text.encode("ascii").translate(_FROM_URL), strict_mode=True)
    except (ValueError, UnicodeEncodeError):
        return None
    return raw if len(raw) == SESSION_BYTES else None
