"""The name of an object, and the shard it falls into.

The encoding is stored and hashed: it must never change for the life of a store. Lengths come
first, so any character is legal in a name and no two addresses share an encoding.
"""

from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from shared.bounds import KIND_BYTES_MAX, NAME_BYTES_MAX, TENANT_BYTES_MAX
from shared.errors import InvalidInputError


class Address(NamedTuple):
    """(kind, tenant, name). Equal addresses name the same object, everywhere."""

    kind: str
    tenant: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.tenant}/{self.name}"

    def encode(self) -> bytes:
        """The stored form: kind and tenant behind one length byte each, the name behind two.

        Raises:
            InvalidInputError: a part is empty, too long in UTF-8, or not encodable.
        """
        name = _part("name", self.name, NAME_BYTES_MAX)
        return b"%b%b%b" % (_start(self.kind, self.tenant), len(name).to_bytes(2, "big"), name)

    @classmethod
    def decode(cls, encoded: bytes) -> "Address":
        """The address whose stored form `encoded` is."""
        address, end = split_address(encoded)
        assert end == len(encoded), encoded
        return address


def split_address(encoded: bytes) -> tuple[Address, int]:
    """The address at the start of `encoded`, and where it ends."""
    kind_end = 1 + encoded[0]
    tenant_end = kind_end + 1 + encoded[kind_end]
    name_end = tenant_end + 2 + int.from_bytes(encoded[tenant_end : tenant_end + 2], "big")
    kind = encoded[1:kind_end].decode()
    tenant = encoded[kind_end + 1 : tenant_end].decode()
    return Address(kind, tenant, encoded[tenant_end + 2 : name_end].decode()), name_end


def shard_of(encoded: bytes, shards: int) -> int:
    """The shard of an encoded address: the same in every process and for ever."""
    return int.from_bytes(blake2b(encoded, digest_size=8).digest(), "big") % shards


@lru_cache(maxsize=1_024)
def _start(kind: str, tenant: str) -> bytes:
    kind_part = _part("kind", kind, KIND_BYTES_MAX)
    tenant_part = _part("tenant", tenant, TENANT_BYTES_MAX)
    return b"%c%b%c%b" % (len(kind_part), kind_part, len(tenant_part), tenant_part)


def _part(what: str, text: str, bytes_max: int) -> bytes:
    try:
        encoded = text.encode()
    except UnicodeEncodeError as exc:
        raise InvalidInputError(f"The {what} is not valid Unicode", what) from exc
    if not 1 <= len(encoded) <= bytes_max:
        raise InvalidInputError(f"The {what} has {len(encoded)} bytes; 1 to {bytes_max} are allowed", what)
    return encoded
