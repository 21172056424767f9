"""Servers that a benchmark starts and ends: each is tethered to the benchmark, so that none outlives it."""

import http.client
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from shared.storage.leftover import pid_file
from shared.tether import tethered
from tests.support.launching import ROOT, eventually

SCRATCH = ROOT / ".benchmarks"
"""What benchmarks install and write, on the disk of the project: a directory for temporary files may be in memory."""

START_S = 20
STOP_S = 10


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for one run, on a real disk; gone in the end."""
    SCRATCH.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SCRATCH, prefix="run-") as folder:
        yield Path(folder)


@contextmanager
def serving(
    command: Sequence[str], port: int, *, environ: Mapping[str, str], speaks_http: bool = True
) -> Iterator[int]:
    """The id of the process that runs `command`, once it answers HTTP on `port` of loopback; else once it listens.

    Raises:
        AssertionError: it ended, or does not answer within 20 s.
    """
    process = subprocess.Popen(tethered(command), env=environ, stdin=subprocess.DEVNULL)
    try:
        eventually(partial(_answers if speaks_http else _listens, process, port), within_s=START_S)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def store_pid(folder: Path) -> int:
    """The process of the store that keeps its data in the folder."""
    return int(pid_file(folder / "store").read_text())


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    assert process.poll() is None, f"it ended at once: {process.args!r}"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    with suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/")
        connection.getresponse().read()
        return True
    connection.close()
    return False


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    assert process.poll() is None, f"it ended at once: {process.args!r}"
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
