"""`tenure run` with a service of the tests in place of the real ones: `standin`, or the one that is named."""

import os
import sys
from pathlib import Path

from shared.errors import ConfigurationError, TenureError
from shared.runtime import launcher

if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else "standin"
    script = Path(__file__).with_name(f"{name}_service.py")
    try:
        sys.exit(launcher.run(os.environ, services=[launcher.ServiceCommand(name, (sys.executable, str(script)))]))
    except TenureError as exc:
        sys.stderr.write(f"tenure: {exc}\n")
        sys.exit(2 if isinstance(exc, ConfigurationError) else 1)
