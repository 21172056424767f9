"""Clients' addresses, as much of them as the tenant's policy lets be stored."""

import ipaddress
from typing import Literal

from shared.errors import InvalidInputError

_KEPT_BITS = {4: 24, 6: 48}


def stored_address(address: str, kept: Literal["full", "truncated", "none"]) -> str:
    """What is stored of an address.

    Raises:
        InvalidInputError: it is none.
    """
    if not address:
        return ""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError as exc:
        raise InvalidInputError("This is no address of IPv4 or IPv6", "$.address") from exc
    if kept == "none":
        return ""
    if kept == "full":
        return str(parsed)
    network = ipaddress.ip_network((parsed, _KEPT_BITS[parsed.version]), strict=False)
    return str(network)
