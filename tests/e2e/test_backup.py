"""`tenure backup`, `restore`, `export` and `import` beside a real node."""

import json
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import tenure
from tests.support.launching import eventually, put_development_key
from tests.support.service import Limiter, limiter

pytestmark = pytest.mark.timeout(120)
OBJECTS = "tests.support.troubled"
PATH = "/v1/objects/troubled/one"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Limiter]:
    with limiter(tmp_path / "data", TENURE_OBJECTS=OBJECTS) as running:
        yield running


def run(service: Limiter, *arguments: str) -> str:
    """A command that succeeds; what it printed."""
    done = tenure(*arguments, TENURE_DATA_DIR=str(service.run.data_dir), TENURE_ADMIN_PORT=str(service.run.admin_port))
    assert 0 == done.returncode, done.stderr
    return done.stdout


def keep(service: Limiter, text: str) -> None:
    status, _, answer = service.call("POST", f"{PATH}/keep", {"text": text})
    assert 200 == status, answer


def text(service: Limiter) -> Any:
    """What the object has stored; None while nobody answers."""
    done = tenure(
        *("objects", "show", "troubled", "dev", "one", "--json"),
        TENURE_DATA_DIR=str(service.run.data_dir),
        TENURE_ADMIN_PORT=str(service.run.admin_port),
    )
    return json.loads(done.stdout)["stored"]["values"]["text"]["value"] if done.returncode == 0 else None


def metrics(service: Limiter) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{service.run.admin_port}/metrics", timeout=5) as reply:
        return str(reply.read().decode())


def test_a_backup_restored_under_a_running_node_is_detected(service: Limiter, tmp_path: Path) -> None:
    """It is taken and restored while the node works: refused unless told, then reported, and work goes on from there."""
    file = str(tmp_path / "backup")
    keep(service, "old")
    run(service, "backup", file)
    keep(service, "new")
    here = {"TENURE_DATA_DIR": str(service.run.data_dir)}
    for flags, told in (((), "--replace"), (("--replace",), "--live")):
        done = tenure("restore", file, *flags, **here)
        assert (1, "") == (done.returncode, done.stdout)
        assert told in done.stderr
    assert "new" == text(service)

    assert "gone" in run(service, "restore", file, "--replace", "--live")
    assert "old" == eventually(lambda: text(service), within_s=20)
    eventually(lambda: "tenure_store_rollbacks_total" in metrics(service), within_s=10)
    counted = [line for line in metrics(service).splitlines() if line.startswith("tenure_store_rollbacks_total ")]
    assert float(counted[0].split()[1]) > 0
    log = (service.run.data_dir / "logs" / "ratelimiter.log").read_text()
    assert "store.rolled_back" in log
    eventually(lambda: 200 == service.call("POST", f"{PATH}/keep", {"text": "newer"})[0], within_s=15)
    assert "newer" == text(service)


def test_an_export_starts_a_node_with_other_shards(service: Limiter, tmp_path: Path) -> None:
    """Objects, alarms and keys: the same key opens the new installation, and what it stored is there."""
    keep(service, "moved")
    at_ms = service.call("POST", f"{PATH}/arm", {"name": "later", "in_ms": 3_600_000})[2]
    file, there = str(tmp_path / "export"), tmp_path / "there"
    assert "1 objects" in run(service, "export", file, "--kind", "troubled")
    whole = str(tmp_path / "whole")
    run(service, "export", whole)
    service.run.process.send_signal(signal.SIGTERM)
    assert 0 == service.run.exit_code()

    shards = {"TENURE_SHARDS": "16"}
    done = tenure("import", whole, TENURE_DATA_DIR=str(there), **shards)
    assert 0 == done.returncode, done.stderr
    put_development_key(there, service.key)
    with limiter(there, TENURE_OBJECTS=OBJECTS, **shards) as moved:
        assert service.key == moved.key
        assert "moved" == text(moved)
        listed = json.loads(run(moved, "alarms", "list", "--json"))["alarms"]
        assert [("later", at_ms)] == [(alarm["alarm"], alarm["due_ms"]) for alarm in listed]
        keep(moved, "and on")
