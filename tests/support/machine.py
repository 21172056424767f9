"""How slow this machine is just now, for promises in seconds that hold on a machine of usual speed."""

import subprocess
import sys
import time

from tests.support.history import quantile
from tests.support.launching import ROOT

LOAD_S = 0.6
"""What a service takes to load its modules on such a machine: most of what a start takes."""


def load_s() -> float:
    """The seconds that a new process takes to load the modules of a service, as after a kill."""
    began_s = time.monotonic()
    subprocess.run([sys.executable, "-c", "import services.ratelimiter.__main__"], cwd=ROOT, check=True)
    return time.monotonic() - began_s


def slowness(loads_s: list[float]) -> float:
    """By how much this machine was slower than a usual one at these loads; 1 for one that was not."""
    return max(1.0, quantile(loads_s, 0.5) / LOAD_S)
