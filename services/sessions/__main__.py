"""`python -m services.sessions`: one node of the session manager, set up by TENURE_* variables, until SIGTERM."""

import os
import sys

from services.sessions.app import Service
from services.sessions.settings import PREFIX, SERVICE, SessionsSettings
from shared.errors import ConfigurationError
from shared.runtime.node import run_service
from shared.settings import read_settings


def main() -> int:
    """Serve; the exit code is 2 where the configuration cannot be right."""
    try:
        settings = read_settings(SessionsSettings, os.environ)
        service = Service(settings)
        run_service(
            settings, service=SERVICE, prefix=PREFIX, kinds=service.kinds, build=service.build, around=service.running
        )
    except ConfigurationError as exc:
        sys.stderr.write(f"tenure: {exc}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
