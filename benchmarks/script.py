"""How a benchmark beside peers is started: what can be said to it, where it works, and what is said where it cannot."""

import argparse
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks.load import wrk_is_here
from benchmarks.peers.packages import MissingError
from benchmarks.serving import scratch_folder


def options(**sizes: int) -> argparse.Namespace:
    """What the command line says of rounds, their seconds, and further sizes, which are given with their defaults."""
    parser = argparse.ArgumentParser()
    for name, default in {"rounds": 5, "seconds": 4, **sizes}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args()


def exit_code(measured: Callable[[ExitStack, Path], None]) -> int:
    """Have it measured, with a folder of its own and a stack for what must be ended; 1 if a program is missing."""
    if not wrk_is_here():
        return 1
    try:
        with ExitStack() as stack:
            measured(stack, stack.enter_context(scratch_folder()))
    except MissingError as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    return 0
