"""`tenure serve SERVICE`: this process becomes the service, so signals reach it directly."""

import argparse
import os
import sys
from collections.abc import Mapping
from typing import NoReturn


def serve(arguments: argparse.Namespace, environ: Mapping[str, str]) -> NoReturn:
    """Replace this process by `python -m services.<service>`."""
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-m", f"services.{arguments.service}"], environ)  # noqa: S606 - no shell
