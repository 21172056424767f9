"""The tree is the architecture: the import contracts of pyproject.toml hold, and they bite."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.launching import ROOT


class Trespass(NamedTuple):
    """A line that must not be written, where, and the contract that forbids it."""

    path: str
    line: str
    contract: str


TRESPASSES = (
    Trespass("shared/utils.py", "", "The floors of shared"),
    Trespass("shared/retry.py", "import shared.objects.errors", "The floors of shared"),
    Trespass("shared/storage/codec.py", "import shared.http.app", "The floors of shared"),
    Trespass("shared/objects/address.py", "import shared.storage.redis.store", "The core knows no HTTP and no Redis"),
    Trespass("shared/runtime/documents.py", "import shared.testing.clock", "Nobody but tests imports shared.testing"),
    Trespass("services/ratelimiter/window.py", "import redis", "Only the storage room speaks Redis"),
    Trespass("services/workflows/bounds.py", "import jlens", "One file knows the engine of expressions"),
    Trespass("services/workflows/bounds.py", "import services.ratelimiter", "Services do not know each other"),
    Trespass(
        "services/ratelimiter/limiter.py",
        "import structlog",
        "Only the telemetry room knows OpenTelemetry, Prometheus and structlog",
    ),
)


def test_the_contracts_are_kept() -> None:
    """Arrows point down, and each library stays in its room."""
    kept, report = _lint(ROOT)

    assert kept, report


@pytest.mark.parametrize("trespass", TRESPASSES, ids=lambda trespass: f"{trespass.path}: {trespass.line}")
def test_a_trespass_is_seen(trespass: Trespass, tmp_path: Path) -> None:
    """A forbidden import, or a room that nobody planned, breaks the contract that is meant for it."""
    for room in ("services", "shared"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / trespass.path).open("a") as module:
        module.write(f"\n{trespass.line}\n")

    kept, report = _lint(tmp_path)

    assert not kept
    assert f"{trespass.contract} BROKEN" in report


def _lint(directory: Path) -> tuple[bool, str]:
    """Whether the code in `directory` keeps its contracts, and what the linter says about it."""
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [linter, "--no-cache"],
        cwd=directory,
        env={"PYTHONPATH": str(directory), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode == 0, done.stdout + done.stderr
