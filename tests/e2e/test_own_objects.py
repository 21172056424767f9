"""The tutorial as a reader does it: `tenure run` with an object of one's own, real HTTP, a real store."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.launching import ROOT, eventually, launched
from tests.support.programs import require_program
from tests.support.service import RUN, Limiter, limiter

COUNTER = "examples.counter.objects"
CALLS = ROOT / "examples/counter/calls.sh"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limiter]:
    with limiter(tmp_path_factory.mktemp("data"), TENURE_OBJECTS=COUNTER) as running:
        yield running


def test_the_calls_of_the_tutorial_do_what_it_says(service: Limiter) -> None:
    """5, refused with the declared code, still 5, and 0 once the alarm has rung."""
    require_program("curl")
    environ = {**os.environ, "KEY": service.key, "API": f"http://127.0.0.1:{service.run.port}"}
    done = subprocess.run(["sh", CALLS], env=environ, capture_output=True, text=True, check=True)
    added, refused, read, later = _documents(done.stdout)

    assert (5, 5) == (added["total"], read["total"])
    assert added["resets_at_ms"] == read["resets_at_ms"]
    assert (409, "counter_full", "101 would be more than 100.") == (
        refused["status"],
        refused["code"],
        refused["detail"],
    )
    assert {"total": 0, "resets_at_ms": None} == later


def test_the_start_says_how_the_objects_are_called(service: Limiter) -> None:
    """The kind and its methods, at the address that listens; nothing is said where none is hosted."""
    line = f"POST http://127.0.0.1:{service.run.port}/v1/objects/counter/{{name}}/{{method}}   (add, read)\n"
    assert line in service.run.screen


def test_every_name_is_a_counter_of_its_own(service: Limiter) -> None:
    """Over real HTTP: slashes, dots and percent signs, encoded whole, name what is meant."""
    names = ["/", "a//b", "..", "%2F", "a?b#c", " ", "ä"]
    paths = [f"/v1/objects/counter/{quote(name, safe='').replace('.', '%2E')}" for name in names]
    for amount, path in enumerate(paths, start=1):
        assert 200 == service.call("POST", f"{path}/add", {"amount": amount})[0]

    assert [1, 2, 3, 4, 5, 6, 7] == [service.call("POST", f"{path}/read")[2]["total"] for path in paths]
    assert 404 == service.call("POST", "/v1/objects/counter/a/b/read")[0]
    assert 400 == service.call("POST", "/v1/objects/counter/%zz/read")[0]


def test_an_answer_is_kept_over_kill_9(service: Limiter) -> None:
    """What was acknowledged is there when the service has come back, and the answer said how safe it was."""
    path = "/v1/objects/counter/kept"
    _, fields, added = service.call("POST", f"{path}/add", {"amount": 7})
    os.kill(service.run.pid_of("services.ratelimiter"), signal.SIGKILL)

    def read() -> object:
        try:
            status, _, reading = service.call("POST", f"{path}/read")
        except OSError:
            return None
        return reading if status == 200 else None

    assert added == eventually(read, within_s=15)
    assert ("1", "1") == (fields["x-tenure-durability"], fields["x-object-requests"])


def test_the_document_of_the_node_has_the_object(service: Limiter) -> None:
    """The admin listener shows its routes beside the service's own."""
    with urllib.request.urlopen(f"http://127.0.0.1:{service.run.admin_port}/openapi.json", timeout=5) as reply:
        paths = json.load(reply)["paths"]

    assert {"/v1/check", "/v1/objects/counter/{name}/add", "/v1/objects/counter/{name}/read"} <= paths.keys()


def test_a_module_that_is_not_there_ends_the_start(tmp_path: Path) -> None:
    """One sentence, exit code 2; nothing runs without the objects it was asked for."""
    with launched(tmp_path / "data", command=RUN, TENURE_OBJECTS="examples.counter.missing") as run:
        assert 2 == run.exit_code()
        expected = (
            "tenure: TENURE_OBJECTS names examples.counter.missing, which cannot be imported: "
            "ModuleNotFoundError: No module named 'examples.counter.missing'.\n"
        )
        assert expected == run.errors


def test_serve_refuses_it_alike(tmp_path: Path) -> None:
    """`tenure serve ratelimiter` says the same sentence, before it asks for a store."""
    environ = {**os.environ, "TENURE_OBJECTS": "json", "TENURE_DATA_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "shared.cli", "serve", "ratelimiter"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, cwd=ROOT)

    assert (2, "tenure: TENURE_OBJECTS names json, which defines no DurableObject.\n") == (done.returncode, done.stderr)


def _documents(text: str) -> list[dict[str, object]]:
    """The JSON documents that stand in `text` one after another."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while at < len(text.rstrip()):
        document, at = decoder.raw_decode(text, at)
        found.append(document)
    return found
