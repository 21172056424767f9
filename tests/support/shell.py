"""Lines of a document or of the screen, run by a shell as a reader types them."""

import os
import re
import subprocess
from pathlib import Path

from tests.support.launching import ROOT
from tests.support.programs import require_program

SHELL_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def shell_blocks(page: Path) -> list[str]:
    """The blocks of a page that are typed."""
    return SHELL_BLOCK.findall(page.read_text())


def run_in_shell(script: str) -> str:
    """What the lines print, each line run as a reader types it."""
    for program in ("curl", "jq", "bash"):
        require_program(program)
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", script],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout
