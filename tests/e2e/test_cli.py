"""The `tenure` command as a process: its answers, its exit codes, and what it does not import."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.testing.valkey import Valkey, start_valkey
from tests.support.launching import ROOT

pytestmark = pytest.mark.timeout(60)


def tenure(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TENURE_")}
    return subprocess.run(
        [sys.executable, "-m", "shared.cli", *arguments],
        cwd=ROOT,
        env={**inherited, **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """The data directory of the store."""
    return tmp_path / "data"


@pytest.fixture
def store(data_dir: Path) -> Iterator[Valkey]:
    """A running store, as `tenure run` would have it."""
    with start_valkey(data_dir, durable=True) as running:
        yield running


def _levels(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    return {finding["check"]: finding["level"] for finding in json.loads(done.stdout)}


def test_doctor_finds_the_embedded_store_sound(store: Valkey, data_dir: Path) -> None:
    """All checks of the store are fine; a service that does not run is a warning; exit code 0."""
    done = tenure("doctor", "-o", "json", TENURE_DATA_DIR=str(data_dir), TENURE_ADMIN_PORT="1")
    assert done.returncode == 0
    levels = _levels(done)
    assert levels.pop("ratelimiter") == "warn"
    assert set(levels.values()) == {"ok"}
    assert {"version", "eviction", "durability", "clock"} <= set(levels)


def test_doctor_fails_on_a_store_that_evicts(store: Valkey) -> None:
    """What a node would refuse is a failure in the table and in the exit code."""
    store.configure("maxmemory-policy", "allkeys-lru")
    done = tenure("doctor", TENURE_REDIS_URL=store.url, TENURE_ADMIN_PORT="1")
    assert done.returncode == 1
    assert "fail  eviction" in done.stdout


def test_doctor_fails_without_a_store(tmp_path: Path) -> None:
    """An absent store is one failed check, not a traceback."""
    done = tenure("doctor", "-o", "json", TENURE_DATA_DIR=str(tmp_path), TENURE_ADMIN_PORT="1")
    assert (done.returncode, done.stderr) == (1, "")
    assert _levels(done)["store"] == "fail"


def test_a_misspelt_value_is_one_sentence() -> None:
    """Exit code 2, no traceback."""
    done = tenure("doctor", TENURE_PORT="no")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "tenure: TENURE_PORT is 'no', but must be a whole number from 1 to 65535.\n"


def test_the_launcher_does_not_wait_for_what_it_does_not_use() -> None:
    """`tenure run` imports neither the store's client nor the web framework before it needs them."""
    program = "import shared.cli.run, sys; print([m for m in ('redis', 'litestar', 'granian') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_tenant_and_a_key_are_made_in_the_store(store: Valkey, data_dir: Path) -> None:
    """The key is alone on stdout; a second tenant of the name is refused, and so is an unknown scope."""
    here = {"TENURE_DATA_DIR": str(data_dir)}
    assert tenure("tenant", "create", "acme", **here).returncode == 0
    again = tenure("tenant", "create", "acme", **here)
    assert (again.returncode, again.stderr) == (1, "tenure: There is a tenant 'acme' already.\n")

    made = tenure("key", "create", "--tenant", "acme", "--scope", "limits:check", "--expires-days", "7", **here)
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("tnk_")
    assert len(made.stdout.splitlines()) == 1
    assert made.stdout.strip().encode() not in store.command("HVALS", "{tenure:m}:docs")

    typo = tenure("key", "create", "--tenant", "acme", "--scope", "limit:check", **here)
    assert (typo.returncode, typo.stdout) == (1, "")
    assert "limits:check" in typo.stderr


def test_a_key_needs_a_tenant(store: Valkey) -> None:
    """A misspelt tenant must not become one by the way."""
    done = tenure("key", "create", "--tenant", "nobody", "--scope", "limits:check", TENURE_REDIS_URL=store.url)
    assert (done.returncode, done.stderr) == (1, "tenure: There is no tenant 'nobody'.\n")
