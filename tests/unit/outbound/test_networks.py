"""Which addresses may be dialled: every special range is refused, whatever its spelling."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ConfigurationError
from shared.outbound.networks import Networks, is_public, read_networks, read_ports

INTERNET = Networks()
SPECIAL = (
    *("127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.1.2.3", "100.64.0.1", "169.254.169.254"),
    *("172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.0.170", "192.0.2.1", "192.88.99.1", "192.168.1.1"),
    *("198.18.0.1", "198.51.100.7", "203.0.113.9", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::7f00:1", "64:ff9b:1::1"),
    *("fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "2001::1", "2001:10::1", "2001:db8::1"),
    *("2002:7f00:1::", "3fff::1", "5f00::1", "100::1", "4000::1"),
)


@pytest.mark.parametrize("address", SPECIAL)
def test_o02_special_addresses_are_not_dialled(address: str) -> None:
    """Loopback, private, link-local, metadata, multicast, mapped, translated and reserved ones."""
    assert not INTERNET.permit(address, 443, tls=True)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "192.0.1.1", "100.128.0.1", "2606:4700::1", "2a00:1450::1"])
def test_o02_public_addresses_are_dialled(address: str) -> None:
    """Single hosts of the internet."""
    assert INTERNET.permit(address, 443, tls=True)


@pytest.mark.parametrize(("port", "tls"), [(80, False), (443, False), (6379, True), (22, True), (8443, True)])
def test_o07_public_addresses_are_dialled_with_tls_on_its_port_only(port: int, *, tls: bool) -> None:
    """Nothing without TLS, and no other service of a public host."""
    assert not INTERNET.permit("8.8.8.8", port, tls=tls)


def test_o07_an_operator_adds_ports() -> None:
    """Then they are open too, with TLS."""
    networks = Networks(ports=frozenset({443, 8443}))

    assert networks.permit("8.8.8.8", 8443, tls=True)
    assert not networks.permit("8.8.8.8", 8443, tls=False)


def test_an_operator_opens_a_network_and_nothing_beside_it() -> None:
    """There any port will do, without TLS too."""
    networks = Networks(allowed=read_networks("10.1.0.0/16, fd00:1::/32"))

    assert networks.permit("10.1.2.3", 8080, tls=False)
    assert networks.permit("fd00:1::5", 80, tls=False)
    assert not networks.permit("10.2.0.1", 8080, tls=False)
    assert not networks.permit("::ffff:10.1.2.3", 8080, tls=False)


@pytest.mark.parametrize("text", ["10.0.0.1/8", "example.com", "10.0.0.0/40", "10.0.0.0/8;::1"])
def test_a_list_of_networks_that_cannot_be_read_stops_the_start(text: str) -> None:
    """A misspelt network must not open, or close, another."""
    with pytest.raises(ConfigurationError, match="TENURE_OUTBOUND_ALLOW"):
        read_networks(text)


@pytest.mark.parametrize("text", ["https", "0", "70000", "443;8443", "-1"])
def test_a_list_of_ports_that_cannot_be_read_stops_the_start(text: str) -> None:
    """As a list of networks does."""
    with pytest.raises(ConfigurationError, match="TENURE_OUTBOUND_PORTS"):
        read_ports(text)


def test_a_list_of_ports_is_read() -> None:
    """With or without spaces."""
    assert read_ports("443, 8443") == {443, 8443}


@pytest.mark.parametrize("address", ["127.1", "2130706433", "0x7f000001", "localhost", "", "1.2.3.4/32"])
def test_o03_what_is_no_numeric_address_is_not_dialled(address: str) -> None:
    """Spellings that a resolver would turn into loopback are not read as addresses here."""
    assert not INTERNET.permit(address, 443, tls=True)


@given(st.ip_addresses(v=4))
def test_no_private_address_is_public(address: object) -> None:
    """Whatever Python's own table calls not global, ours does not call public either."""
    parsed = ip_address(str(address))

    assert parsed.is_global or not is_public(parsed)
