"""Programs from outside Python that some tests need."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.support.environment import IN_CI

# Where servers are installed, which is not on the path of every user, and what comes as a package.
_ALSO_IN = ("/usr/sbin", "/usr/local/sbin", "/sbin", str(Path(sys.executable).parent))


def require_program(name: str) -> str:
    """The path of a program. Without it the test is skipped with its name; in CI it fails."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *_ALSO_IN]))
    if found:
        return found
    reason = f"needs the program {name}, which is not installed"
    if IN_CI:
        pytest.fail(reason)
    pytest.skip(reason)
