"""Tokens by which whoever was called answers later, and needs no credential: the token is one, for one attempt.

A token names the tenant, the run, the step and the serial of the attempt, and carries a keyed digest of them, so one
that nobody was given reaches no run. The key is not in the store: whoever reads that can make no token.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b

import msgspec

from services.workflows.keys import KeySet
from shared.errors import NotFoundError
from shared.objects.address import Address

_MAC_BYTES = 16


class UnknownCallbackError(NotFoundError):
    """Nobody was given this token."""

    code = "callback.unknown"

    def __init__(self) -> None:
        super().__init__("such callback")


class Pledge(msgspec.Struct, frozen=True, array_like=True):
    """Whose answer a token is for."""

    tenant: str
    run: str
    path: str
    serial: int


class Callbacks:
    """Makes and reads tokens: the id of a key, the digest, and the pledge."""

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys

    def token(self, run: Address, path: str, serial: int) -> str:
        """The token for the answer of this attempt."""
        key_id = self._keys.newest
        body = msgspec.msgpack.encode(Pledge(run.tenant, run.name, path, serial))
        whole = bytes((key_id,)) + _mac(self._keys.callback[key_id], body) + body
        return urlsafe_b64encode(whole).rstrip(b"=").decode("ascii")

    def pledge(self, token: str) -> Pledge:
        """What the token is for.

        Raises:
            UnknownCallbackError: nobody was given it, or its key has been taken out.
        """
        try:
            decoded = urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
            key, mac, body = self._keys.callback.get(decoded[0]), decoded[1 : 1 + _MAC_BYTES], decoded[1 + _MAC_BYTES :]
            if key is None or not hmac.compare_digest(mac, _mac(key, body)):
                raise UnknownCallbackError
            return msgspec.msgpack.decode(body, type=Pledge)
        except (IndexError, ValueError, UnicodeEncodeError) as error:  # A msgspec.ValidationError is a ValueError.
            raise UnknownCallbackError from error


def _mac(key: bytes, body: bytes) -> bytes:
    return blake2b(body, key=key, digest_size=_MAC_BYTES).digest()
