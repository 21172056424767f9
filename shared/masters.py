"""Master keys of a service, 32 bytes each with an id, and what is derived from them.

A master is used for one thing only: to derive keys with HKDF, one for each purpose, so that no two purposes share
one. None is ever shown: not in a `repr`, not in the sentence about a list that cannot be read.

Sources: RFC 5869 (HKDF), OWASP ASVS 5.0 V11.2, V13.3.
"""

import binascii
import hmac

from shared.errors import ConfigurationError

MASTER_BYTES = 32
KEY_ID_MAX = 255


def read_masters(text: str, variable: str) -> dict[int, bytes]:
    """The masters of a list as `1:<base64url>,2:<base64url>`, in its order.

    Raises:
        ConfigurationError: it is no such list. The sentence names the `variable` and does not repeat the list.
    """
    masters: dict[int, bytes] = {}
    for place, item in enumerate(text.split(","), 1):
        key_id, _, encoded = item.strip().partition(":")
        master = _decoded(encoded)
        known = key_id.isascii() and key_id.isdigit() and int(key_id) <= KEY_ID_MAX
        if not known or master is None or int(key_id) in masters:
            raise ConfigurationError(
                f"{variable}: item {place} is not an id from 0 to {KEY_ID_MAX} of its own, a colon and "
                f"{MASTER_BYTES} bytes in base64url, as in 0:<43 characters>,1:<43 characters>."
            )
        masters[int(key_id)] = master
    return masters


def derived(master: bytes, label: bytes) -> bytes:
    """HKDF-SHA256 of a master without salt, 32 bytes (RFC 5869)."""
    extracted = hmac.digest(bytes(MASTER_BYTES), master, "sha256")
    return hmac.digest(extracted, label + b"\x01", "sha256")


def _decoded(encoded: str) -> bytes | None:
    try:
        text = encoded.encode("ascii").replace(b"-", b"+").replace(b"_", b"/")
        master = binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)
    except (ValueError, UnicodeEncodeError):
        return None
    return master if len(master) == MASTER_BYTES else None
