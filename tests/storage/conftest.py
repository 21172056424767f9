"""The real server of each file of this folder that asks for one."""

from collections.abc import Iterator

import pytest

from shared.testing.valkey import Valkey, start_valkey


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A real server for the tests of one file."""
    with start_valkey(tmp_path_factory.mktemp("valkey")) as running:
        yield running


@pytest.fixture
def empty(server: Valkey) -> Valkey:
    """The server, emptied."""
    server.command("FLUSHALL")
    return server
