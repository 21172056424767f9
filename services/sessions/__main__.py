"""`python -m services.sessions`: one node of the session manager, set up by TENURE_* variables, until SIGTERM."""

import os
import sys
from functools import partial

from services.sessions.app import build_app
from services.sessions.principal import Principal
from services.sessions.settings import PREFIX, SERVICE, SessionsSettings
from shared.errors import ConfigurationError
from shared.runtime.node import run_service
from shared.settings import read_settings


def main() -> int:
    """Serve; the exit code is 2 where the configuration cannot be right."""
    try:
        settings = read_settings(SessionsSettings, os.environ)
        build = partial(build_app, keys=settings.keys())
        run_service(settings, service=SERVICE, prefix=PREFIX, kinds=[Principal], build=build)
    except ConfigurationError as exc:
        sys.stderr.write(f"tenure: {exc}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
