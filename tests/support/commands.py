"""The `tenure` command as a process of its own."""

import os
import subprocess
import sys

from tests.support.launching import ROOT


def tenure(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command; of `TENURE_*` it sees `environ` alone."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TENURE_")}
    return subprocess.run(
        [sys.executable, "-m", "shared.cli", *arguments],
        cwd=ROOT,
        env={**inherited, **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
