"""What every test stands on: a clean environment, one event loop, and how hard hypothesis tries.

Strictness (warnings are errors, time-outs, markers) is set in pyproject.toml.
"""

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.support.environment import IN_CI, PROVE

# Settings of whoever runs the tests must not reach the nodes under test.
for _name in [name for name in os.environ if name.startswith(("TENURE_", "OTEL_"))]:
    del os.environ[_name]

# No deadline an example: a busy machine is not a failure; pytest's time-out ends what hangs.
settings.register_profile("dev", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The same examples at each run: a red build is the fault of the change, not of luck.
settings.register_profile("ci", settings.get_profile("dev"), max_examples=100, derandomize=True, print_blob=True)
settings.register_profile("prove", settings.get_profile("dev"), max_examples=5_000, print_blob=True)
settings.load_profile("prove" if PROVE else "ci" if IN_CI else "dev")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio, which is what a node runs on."""
    return "asyncio"
