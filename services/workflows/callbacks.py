"""Tokens by which whoever was called answers later, and needs no credential: the token is one, for one attempt.

A token names the tenant, the run, the step and the serial of the attempt, and carries a keyed digest of them, so one
that nobody was given reaches no run. The key is one of the installation: made when it is first needed, and kept as a
document that every node holds. Whoever reads the store can make tokens.
"""

import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b
from typing import Final

import msgspec

from shared.errors import NotFoundError
from shared.objects.address import Address
from shared.objects.config import Documents, VersionMismatchError

CALLBACK_KEY: Final = "callback_key"
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
    """Makes and reads tokens."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def token(self, run: Address, path: str, serial: int) -> str:
        """The token for the answer of this attempt.

        Raises:
            StoreError: the key was to be made, and the store did not answer.
        """
        body = msgspec.msgpack.encode(Pledge(run.tenant, run.name, path, serial))
        return urlsafe_b64encode(_mac(await self._key(), body) + body).rstrip(b"=").decode("ascii")

    async def pledge(self, token: str) -> Pledge:
        """What the token is for.

        Raises:
            UnknownCallbackError: nobody was given it.
            StoreError: the key is not here yet, and the store did not answer.
        """
        try:
            decoded = urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
            mac, body = decoded[:_MAC_BYTES], decoded[_MAC_BYTES:]
            if not hmac.compare_digest(mac, _mac(await self._key(), body)):
                raise UnknownCallbackError
            return msgspec.msgpack.decode(body, type=Pledge)
        except (ValueError, UnicodeEncodeError) as error:  # A msgspec.ValidationError is a ValueError.
            raise UnknownCallbackError from error

    async def _key(self) -> bytes:
        """The key of the installation. Of two nodes that make one at the same moment, the first counts."""
        held = self._documents.get(CALLBACK_KEY, "", "1")
        if held is None:
            try:
                held = await self._documents.put(CALLBACK_KEY, "", "1", secrets.token_bytes(32), expected=0)
            except VersionMismatchError:
                await self._documents.poll()
                held = self._documents.get(CALLBACK_KEY, "", "1")
        assert held is not None, "it was there a moment ago"
        return held.body


def _mac(key: bytes, body: bytes) -> bytes:
    return blake2b(body, key=key, digest_size=_MAC_BYTES).digest()
