"""A child process that cannot outlive the one that started it.

Run as a script, this asks the kernel to kill the process when its parent ends, however that
ends, and then becomes the command it was given. It is a step of its own because the request has
to be made inside the child, and code between fork and exec is not safe in a process with threads.

Source: prctl(2), PR_SET_PDEATHSIG; it survives execve(2). The kernel counts the *thread* that
started the child as the parent, so start children from the main thread. Only Linux has this;
elsewhere the command runs untethered, and a child left over is found by its pid file.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def tethered(command: Sequence[str]) -> list[str]:
    """The command line that runs `command` for as long as this process lives."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def _main(parent_pid: int, command: list[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:  # It ended before the request was made.
        os._exit(1)
    for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored_by_python, signal.SIG_DFL)
    os.execvp(command[0], command)


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2:])
