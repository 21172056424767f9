"""Load from `wrk` (Debian: wrk) on loopback, and what it costs the servers: shared by the benchmarks."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.sides import Sample

CONNECTIONS = 64


def wrk_is_here() -> bool:
    """Whether the load generator is installed; says so on stderr if not."""
    found = shutil.which("wrk") is not None
    if not found:
        sys.stderr.write("wrk is needed (Debian: wrk)\n")
    return found


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(port: int, script: Path, seconds: int) -> float:
    """Requests a second from 64 connections, all answered with 2xx; ends after `seconds`."""
    command = [
        "wrk",
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{seconds}s",
        "-s",
        str(script),
        f"http://127.0.0.1:{port}/v1/check",
    ]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in text, text
    found = re.search(r"Requests/sec:\s+([\d.]+)", text)
    assert found, text
    return float(found[1])


def measure(port: int, pid: int, script: Path, seconds: int) -> tuple[float, float]:
    """Requests a second and microseconds of the server's CPU for each."""
    before = cpu_s(pid)
    rate = load(port, script, seconds)
    return rate, (cpu_s(pid) - before) * 1e6 / (rate * seconds)


def sample(port: int, script: Path, seconds: int, *, server: int, store: int | None = None) -> Sample:
    """One round of a side: its rate, and the CPU of its server and of its store for each request."""
    pids = (server,) if store is None else (server, store)
    before = [cpu_s(pid) for pid in pids]
    rate = load(port, script, seconds)
    requests = max(1.0, rate * seconds)  # A server that hangs on its disk may answer none.
    return Sample(rate, *((cpu_s(pid) - start) * 1e6 / requests for pid, start in zip(pids, before, strict=True)))
