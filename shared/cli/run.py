"""`tenure run`: everything on this machine, until Ctrl-C."""

import argparse
from collections.abc import Mapping

from shared.runtime import launcher


def run(_arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Run the launcher. See `shared.runtime.launcher`."""
    return launcher.run(environ)
