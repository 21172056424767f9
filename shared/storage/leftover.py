"""Finds and stops an embedded store that outlived the process that started it.

It is known by the pid file in its directory, and told from a stranger that has the same process id
since by its command line, which names that directory.
"""

import os
import platform
import select
import signal
import subprocess
import time
from pathlib import Path

from shared.clock import SystemClock
from shared.errors import TenureError

_GRACE_S = 5.0
_POLL_S = 0.005
_LINUX = platform.system() == "Linux"
_clock = SystemClock()


class StoreStartError(TenureError):
    """The embedded store did not start. The message carries its own last words."""

    code = "store_start"


def pid_file(directory: Path) -> Path:
    """Where the server of `directory` writes its process id."""
    return directory / "valkey.pid"


def stop_leftover(directory: Path) -> bool:
    """Stop the server that the pid file in `directory` names, if it still runs there. Says whether it did.

    Raises:
        StoreStartError: it cannot be stopped.
    """
    try:
        pid = int(pid_file(directory).read_text())
    except (OSError, ValueError):
        return False
    if not _is_our_server(pid, directory):
        return False
    try:
        for how in (signal.SIGTERM, signal.SIGKILL):
            os.kill(pid, how)
            if _wait_gone(pid, directory, _GRACE_S):
                return True
    except ProcessLookupError:
        return True
    except PermissionError as exc:
        raise StoreStartError(f"A store of another user runs on {directory} as process {pid}.") from exc
    raise StoreStartError(f"Process {pid}, a store left over on {directory}, cannot be stopped.")


def _is_our_server(pid: int, directory: Path) -> bool:
    words = _command_line(pid)
    return any("valkey-server" in word for word in words[:1]) and str(directory) in words


def _command_line(pid: int) -> list[str]:
    """The words of a process's command line; none if it does not run."""
    if _LINUX:
        try:
            raw = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return []
        return [os.fsdecode(word) for word in raw.split(b"\0")]
    listing = subprocess.run(  # noqa: S603  # A fixed command.
        ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return listing.stdout.split()


def _wait_gone(pid: int, directory: Path, timeout_s: float) -> bool:
    """Wait until the process has ended. It is not our child, so only the kernel's word counts."""
    if _LINUX:
        fd = os.pidfd_open(pid)
        try:
            return bool(select.select([fd], [], [], timeout_s)[0])
        finally:
            os.close(fd)
    deadline_ms = _clock.monotonic_ms() + int(timeout_s * 1000)
    while _is_our_server(pid, directory):
        if _clock.monotonic_ms() > deadline_ms:
            return False
        time.sleep(_POLL_S)
    return True
