"""`tenure run` with the stand-in service in place of the real ones."""

import os
import sys
from pathlib import Path

from shared.errors import ConfigurationError, TenureError
from shared.runtime import launcher

STANDIN = Path(__file__).with_name("standin_service.py")

if __name__ == "__main__":
    service = launcher.ServiceCommand("standin", (sys.executable, str(STANDIN)))
    try:
        sys.exit(launcher.run(os.environ, services=[service]))
    except TenureError as exc:
        sys.stderr.write(f"tenure: {exc}\n")
        sys.exit(2 if isinstance(exc, ConfigurationError) else 1)
