"""Which addresses may be dialled: public ones on the port for HTTPS, and what the operator names. Pure.

A tenant writes the address of a call, and a name may resolve to anything, at any moment to something else. So this is
asked about the numeric address that is dialled and about nothing that was written. It is a rule of what is allowed: an
address that nobody has thought of is refused.

`ipaddress.is_global` alone will not do: up to Python 3.11.7 it takes 192.0.0.8, multicast, 6to4 and NAT64 for global.

Source: IANA registries of special-purpose addresses (RFC 6890 and its successors).
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

import msgspec

from shared.errors import ConfigurationError
from shared.settings import NodeSettings

IpAddress: TypeAlias = IPv4Address | IPv6Address
IpNetwork: TypeAlias = IPv4Network | IPv6Network

HTTPS_PORT = 443
_NOT_PUBLIC_V4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # Of carriers, and of clouds for their own services.
        "127.0.0.0/8",
        "169.254.0.0/16",  # The metadata of clouds.
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
_PUBLIC_V6 = IPv6Network("2000::/3")
_NOT_PUBLIC_V6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # Teredo and other protocols.
        "2001:db8::/32",
        "2002::/16",  # 6to4 carries an IPv4 address, which may be a private one.
        "3fff::/20",
    )
)
"""Beside these, NAT64, mapped and compatible addresses lie outside 2000::/3."""


class Networks(msgspec.Struct, frozen=True, kw_only=True):
    """What may be dialled. In `allowed` networks also without TLS, and on any port."""

    allowed: tuple[IpNetwork, ...] = ()
    ports: frozenset[int] = frozenset({HTTPS_PORT})

    def permit(self, address: str, port: int, *, tls: bool) -> bool:
        """Whether this numeric address may be dialled on this port; what is no address may not."""
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        if any(parsed in network for network in self.allowed if network.version == parsed.version):
            return True
        return tls and port in self.ports and is_public(parsed)


def is_public(address: IpAddress) -> bool:
    """Whether the address is one of the internet's, of a single host."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_V4)
    if address.scope_id is not None or address not in _PUBLIC_V6:
        return False
    return not any(address in network for network in _NOT_PUBLIC_V6)


def read_networks(text: str) -> tuple[IpNetwork, ...]:
    """The networks of a list with commas, such as `127.0.0.0/8,fd00::/8`; an address is a network of one.

    Raises:
        ConfigurationError: one of them is none.
    """
    return tuple(_network(item.strip()) for item in text.split(",") if item.strip())


def read_ports(text: str) -> frozenset[int]:
    """The ports of a list with commas.

    Raises:
        ConfigurationError: one of them is none.
    """
    ports = [item.strip() for item in text.split(",") if item.strip()]
    if not all(port.isascii() and port.isdecimal() and 1 <= int(port) <= 65_535 for port in ports):
        raise ConfigurationError(f"TENURE_OUTBOUND_PORTS is {text!r}, but must be ports with commas between them.")
    return frozenset(int(port) for port in ports)


def networks_of(settings: NodeSettings) -> Networks:
    """What the calls of a node may reach, as its operator has set it.

    Raises:
        ConfigurationError: a network or a port is none.
    """
    return Networks(allowed=read_networks(settings.outbound_allow), ports=read_ports(settings.outbound_ports))


def _network(text: str) -> IpNetwork:
    try:
        return ip_network(text)
    except ValueError as error:
        raise ConfigurationError(f"TENURE_OUTBOUND_ALLOW has {text!r}, which is no network: {error}.") from error
