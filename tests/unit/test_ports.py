"""The ports that tests give to what they start."""

import socket

from tests.support.launching import free_row


def test_no_port_is_given_twice_while_those_who_have_it_may_not_listen_yet() -> None:
    """A port is taken from when it is given, not from when somebody listens on it."""
    rows = [free_row(3) for _ in range(300)]
    assert 900 == len({port for first in rows for port in range(first, first + 3)})


def test_a_row_has_no_port_that_somebody_listens_on() -> None:
    """Rows step over ports that other programs of the machine use."""
    taken = free_row(1) + 2
    with socket.create_server(("127.0.0.1", taken)):
        first = free_row(3)
    assert taken not in range(first, first + 3)
