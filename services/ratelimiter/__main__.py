"""`python -m services.ratelimiter`: one limiter node, set up by TENURE_* variables, until SIGTERM."""

import os
import sys

from services.ratelimiter.app import build_app
from services.ratelimiter.limiter import Limiter
from services.ratelimiter.settings import PREFIX, SERVICE, RatelimiterSettings
from shared.errors import ConfigurationError
from shared.runtime.node import run_service
from shared.settings import read_settings


def main() -> int:
    """Serve; the exit code is 2 where the configuration cannot be right."""
    try:
        settings = read_settings(RatelimiterSettings, os.environ)
        run_service(settings, service=SERVICE, prefix=PREFIX, kinds=[Limiter], build=build_app)
    except ConfigurationError as exc:
        sys.stderr.write(f"tenure: {exc}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
