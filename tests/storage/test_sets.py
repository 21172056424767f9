"""The SETs that the benchmarks compare with are what they say: answered one by one, and stored."""

from pathlib import Path

import pytest

from benchmarks.sets import set_rate
from shared.testing.valkey import start_valkey


def test_every_name_is_set_and_the_client_leaves_room(tmp_path: Path) -> None:
    """The values have the size that was asked for, and the rate is of answers, not of commands that were sent."""
    with start_valkey(tmp_path) as server:
        sets = set_rate(server.socket_path, connections=4, seconds=0.2, names=3, value_bytes=32)

        assert b":3\r\n" == server.command("DBSIZE")
        assert b":32\r\n" == server.command("STRLEN", "object-2")
    assert sets.rate > 0
    assert 0 < sets.client_share < 1.1


def test_an_answer_that_is_not_ok_ends_the_measurement(tmp_path: Path) -> None:
    """A full store would otherwise look like a fast one."""
    with start_valkey(tmp_path) as server:
        server.configure("maxmemory", "1")

        with pytest.raises(AssertionError, match="OOM"):
            set_rate(server.socket_path, connections=2, seconds=1, names=3, value_bytes=32)
