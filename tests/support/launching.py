"""Starts `tenure run` as a real process on a directory and free ports, and sees that nothing of it stays."""

import itertools
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from shared.runtime.development import key_path, scopes_path
from shared.storage.records import SCOPES

ROOT = Path(__file__).parents[2]
SERVICES = 3  # Room for as many as `tenure run` may start.
RUN_STANDIN = Path(__file__).with_name("run_standin.py")
# Where Python may not keep what it has compiled, each start compiles all of it: 0.2 s that users do not wait.
_NOT_INHERITED = ("TENURE_", "PYTHONDONTWRITEBYTECODE")
T = TypeVar("T")


def eventually(predicate: Callable[[], T], *, within_s: float) -> T:
    """The first true answer of `predicate`, which must come `within_s`."""
    deadline_s = time.monotonic() + within_s
    while True:
        answer = predicate()
        if answer:
            return answer
        assert time.monotonic() < deadline_s, f"not within {within_s} s: {predicate}"
        time.sleep(0.01)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on; see `free_row`."""
    first = free_row(count)
    return list(range(first, first + count))


def free_row(count: int) -> int:
    """The first of so many ports in a row that nobody listens on: `tenure run` takes one after another.

    None of them is one that the system hands out for connections, which could be taken before it is listened on; nor
    one that this process or a worker of pytest beside it was given lately, who may listen only later.
    """
    row: list[int] = []
    while len(row) < count:
        port = next(_PORTS)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            row = []
            continue
        row = [*row, port] if row and port == row[-1] + 1 else [port]
    return row[0]


def _own_ports() -> Iterator[int]:
    """The ports of this worker of pytest, of which its neighbours take none, one after another and round again."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 4
    ports = range(10_000 + worker * 5_000, 15_000 + worker * 5_000)
    begin = secrets.randbelow(len(ports))  # Elsewhere than the tests of another checkout on the same machine.
    return itertools.cycle([*ports[begin:], *ports[:begin]])


_PORTS = _own_ports()


def processes_of(data_dir: Path) -> dict[int, str]:
    """Every process that has `data_dir` in its command line or environment, by its id."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            command = (entry / "cmdline").read_bytes()
            if os.fsencode(data_dir) in command + (entry / "environ").read_bytes():
                found[int(entry.name)] = os.fsdecode(command.replace(b"\0", b" "))
    return found


def is_running(pid: int) -> bool:
    """Whether the process has not ended; one that waits to be buried has."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Launched:
    """A running `tenure run`."""

    def __init__(self, data_dir: Path, said: Path, *, command: Sequence[str], environ: dict[str, str]) -> None:
        self.data_dir = data_dir
        self.port, self.admin_port = free_row(SERVICES), free_row(SERVICES)
        self._screen, self._errors = said / "screen", said / "errors"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
        settings = {
            "TENURE_DATA_DIR": str(data_dir),
            "TENURE_PORT": str(self.port),
            "TENURE_ADMIN_PORT": str(self.admin_port),
            "PYTHONPATH": os.pathsep.join([str(ROOT), inherited.get("PYTHONPATH", "")]),
        }
        with self._screen.open("wb") as screen, self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env={**inherited, **settings, **environ}, stdout=screen, stderr=errors
            )

    @property
    def screen(self) -> str:
        """What it printed."""
        return self._screen.read_text()

    @property
    def errors(self) -> str:
        """What it said on stderr."""
        return self._errors.read_text()

    def ready(self, *, within_s: float = 20) -> "Launched":
        """Wait for the screen with the calls."""

        def printed() -> bool:
            assert self.process.poll() is None, self.errors
            return "Ctrl-C stops everything." in self.screen

        eventually(printed, within_s=within_s)
        return self

    def exit_code(self, *, within_s: float = 20) -> int:
        """Wait for the end."""
        return self.process.wait(within_s)

    def answer(self) -> str:
        """What the service answers, empty if it does not."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=1) as reply:
                return str(reply.read().decode())
        except OSError:
            return ""

    def metric(self, name: str) -> float:
        """The value of a metric without labels, 0 if it is not there yet."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/metrics", timeout=5) as reply:
            found = re.search(rf"^{name} (\S+)", reply.read().decode(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def pid_of(self, part: str) -> int:
        """The one process of this run whose command line contains `part`."""
        (pid,) = (pid for pid, command in processes_of(self.data_dir).items() if part in command)
        return pid


@contextmanager
def launched(
    data_dir: Path, *, command: Sequence[str] = (sys.executable, str(RUN_STANDIN)), **environ: str
) -> Iterator[Launched]:
    """`tenure run`, with the stand-in service unless told otherwise; what it leaves behind is killed in the end."""
    with tempfile.TemporaryDirectory(prefix="tenure-test-") as said:
        run = Launched(data_dir, Path(said), command=command, environ=environ)
        try:
            yield run
        finally:
            if run.process.poll() is None:
                run.process.kill()
                run.process.wait()
            for pid in processes_of(data_dir):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def put_development_key(data_dir: Path, key: str) -> None:
    """Leave a key that `tenure run` takes for one of this release, as it may do everything."""
    key_path(data_dir).write_text(f"{key}\n")
    scopes_path(data_dir).write_text("".join(f"{scope}\n" for scope in sorted(SCOPES)))
