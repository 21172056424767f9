"""The real store for tests: the server of the launcher (`shared.storage.embedded`), started, crashed, restarted.

The same binary and the same options as in production, so what a test proves here holds there.
Only the waits for the disk are switched off where a test does not crash the server.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.storage.embedded import EmbeddedStore

_TIMEOUT_S = 5.0


class Valkey:
    """A server that a test controls, stopped at first. `url` is its address, also after `restart`."""

    def __init__(self, directory: Path, *, durable: bool) -> None:
        self._store = EmbeddedStore(directory)
        self._durable = durable

    @property
    def url(self) -> str:
        """The address for a client."""
        return self._store.url

    @property
    def socket_path(self) -> Path:
        """The Unix socket on which it listens."""
        return self._store.socket_path

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            StoreStartError: it does not.
        """
        self._store.start()
        if not self._durable:
            self.configure("appendonly", "no")

    def kill(self) -> None:
        """Crash the server."""
        self._store.kill()

    def restart(self) -> None:
        """Crash the server and start it again; a durable one has lost nothing that it had answered."""
        self.kill()
        self.start()

    def configure(self, name: str, value: str) -> None:
        """Set a parameter of the running server, such as `maxmemory` or `port`.

        Raises:
            AssertionError: the server refuses.
        """
        answer = self.command("CONFIG", "SET", name, value)
        assert answer == b"+OK\r\n", answer

    def command(self, *words: str) -> bytes:
        """Send one command on a connection of its own; the answer as it came, if it is a short one."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_TIMEOUT_S)
            connection.connect(str(self.socket_path))
            parts = (f"${len(word.encode())}\r\n{word}\r\n" for word in words)
            connection.sendall(f"*{len(words)}\r\n{''.join(parts)}".encode())
            return connection.recv(65_536)


@contextmanager
def start_valkey(directory: Path, *, durable: bool = False) -> Iterator[Valkey]:
    """A running server with its data in `directory`; it is killed at the end.

    `durable`: every answered write survives `kill` and `restart`, at the price of an fsync each.
    """
    server = Valkey(directory, durable=durable)
    try:
        server.start()
        yield server
    finally:
        server.kill()
