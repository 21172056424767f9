"""The how-to on keys and tenants is typed as it stands, with the id of a key that is there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shared.testing.valkey import start_valkey
from tests.support.commands import tenure
from tests.support.launching import ROOT

pytestmark = pytest.mark.timeout(60)
PAGE = (ROOT / "docs/how-to/keys-and-tenants.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
ID = "5d41402abc4b2a76"


@pytest.mark.slow
def test_the_page_can_be_typed_from_top_to_bottom(tmp_path: Path) -> None:
    """In the order of the page, on a store that does not run: every block ends well, and the digest finds its key."""
    here = {"TENURE_DATA_DIR": str(tmp_path / "data")}
    with start_valkey(tmp_path / "data", durable=True):
        pass
    where = tmp_path / "bin"
    where.mkdir()
    (where / "tenure").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m shared.cli "$@"\n')
    (where / "tenure").chmod(0o700)
    environ = {**os.environ, **here, "PATH": f"{where}{os.pathsep}{os.environ['PATH']}"}

    said = []
    for block in BLOCKS:
        found = json.loads(tenure("key", "list", "-o", "json", **here).stdout)
        typed = block.replace(ID, found[0]["id"]) if found else block
        done = subprocess.run(
            ["sh", "-e"], input=typed, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
        )
        assert 0 == done.returncode, done.stderr
        said.append(done.stdout)
        environ["KEY"] = said[0].splitlines()[-1]

    assert ID in PAGE
    assert said[2].strip() in said[1]
    assert "is revoked" in said[3]
    assert "Tenant acme is enabled" in said[4]
