"""The secrets of the service: one 32-byte master for each key id, and what is derived from it.

Key id 0 is the *routing* master: it names tenants and principals in tokens, and never changes, or nobody's
sessions would be found again. Every other master signs: the first in the list makes new tokens, the others are
accepted until they are taken out, which signs everybody out whose token is as old.

A master is used for one thing only: to derive keys with HKDF, one for each purpose, so that no two purposes share
one. None of them is ever shown: not in a `repr`, not in the sentence about a list that cannot be read.

Sources: RFC 5869 (HKDF), OWASP ASVS 5.0 V11.2, V13.3.
"""

import binascii
import hmac
from collections.abc import Mapping
from typing import NamedTuple

from shared.errors import ConfigurationError

MASTER_BYTES = 32
ROUTING_ID = 0
KEY_ID_MAX = 255
_EXAMPLE = "0:<43 characters>,1:<43 characters>"


class SigningKeys(NamedTuple):
    """What is derived from one master: for the token's own check, for what is stored of it, for its successors."""

    edge: bytes
    verifier: bytes
    successor: bytes


class KeySet:
    """All keys of a service, and which of them makes new tokens."""

    __slots__ = ("principal", "signing", "signing_id", "tenant")

    def __init__(self, masters: Mapping[int, bytes], *, signing_id: int) -> None:
        assert ROUTING_ID in masters
        assert signing_id in masters
        assert signing_id != ROUTING_ID
        routing = masters[ROUTING_ID]
        self.tenant = derived(routing, b"tenure sessions tenant")
        self.principal = derived(routing, b"tenure sessions principal")
        self.signing_id = signing_id
        self.signing = {key_id: _signing(master) for key_id, master in masters.items() if key_id != ROUTING_ID}


def read_keys(text: str) -> KeySet:
    """The keys of a list as `0:<base64url>,1:<base64url>`; the first after 0 signs.

    Raises:
        ConfigurationError: it is no such list. The sentence does not repeat it.
    """
    masters: dict[int, bytes] = {}
    for place, item in enumerate(text.split(","), 1):
        key_id, _, encoded = item.strip().partition(":")
        master = _decoded(encoded)
        known = key_id.isascii() and key_id.isdigit() and int(key_id) <= KEY_ID_MAX
        if not known or master is None or int(key_id) in masters:
            raise ConfigurationError(
                f"TENURE_SESSION_KEYS: item {place} is not an id from 0 to {KEY_ID_MAX} of its own, a colon and "
                f"{MASTER_BYTES} bytes in base64url, as in {_EXAMPLE}."
            )
        masters[int(key_id)] = master
    signing = [key_id for key_id in masters if key_id != ROUTING_ID]
    if ROUTING_ID not in masters or not signing:
        raise ConfigurationError(
            f"TENURE_SESSION_KEYS needs the routing key 0 and at least one that signs, as in {_EXAMPLE}."
        )
    return KeySet(masters, signing_id=signing[0])


def derived(master: bytes, label: bytes) -> bytes:
    """HKDF-SHA256 of a master without salt, 32 bytes (RFC 5869)."""
    extracted = hmac.digest(bytes(MASTER_BYTES), master, "sha256")
    return hmac.digest(extracted, label + b"\x01", "sha256")


def _signing(master: bytes) -> SigningKeys:
    return SigningKeys(
        edge=derived(master, b"tenure sessions edge"),
        verifier=derived(master, b"tenure sessions verifier"),
        successor=derived(master, b"tenure sessions successor"),
    )


def _decoded(encoded: str) -> bytes | None:
    try:
        text = encoded.encode("ascii").replace(b"-", b"+").replace(b"_", b"/")
        master = binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)
    except (ValueError, UnicodeEncodeError):
        return None
    return master if len(master) == MASTER_BYTES else None
