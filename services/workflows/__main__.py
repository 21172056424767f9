"""`python -m services.workflows`: one node of the workflow service, set up by TENURE_* variables, until SIGTERM."""

import os
import sys

from services.workflows.app import Service
from services.workflows.settings import PREFIX, SERVICE, WorkflowsSettings
from shared.errors import ConfigurationError
from shared.runtime.node import run_service
from shared.settings import read_settings


def main() -> int:
    """Serve; the exit code is 2 where the configuration cannot be right."""
    try:
        settings = read_settings(WorkflowsSettings, os.environ)
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
