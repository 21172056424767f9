"""`tenure`, and `python -m shared.cli`: loads the command; Ctrl-C ends it without a traceback, however early."""

import signal
import sys

INTERRUPTED = 130
"""What shells say of a program that Ctrl-C has ended."""


def main() -> int:
    """Carry out one command; returns the exit code."""
    to_be_heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # Else it was started to ignore it.
    if to_be_heard:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Imported here: until all of it is there, Ctrl-C must not become the traceback of an import.
    from shared.cli.main import main as carry_out  # noqa: PLC0415 - see the line above

    try:
        if to_be_heard:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return carry_out()
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
