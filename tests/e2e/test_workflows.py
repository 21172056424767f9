"""Workflows with real processes: the guide as a reader does it, what the screen says, and a service that is killed."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.launching import ROOT, eventually
from tests.support.service import Limiter, limiter
from tests.support.shell import run_in_shell

GUIDES = (ROOT / "docs/how-to/run-a-workflow.md", ROOT / "docs/how-to/schedule-runs.md")
BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = "---- block ----"
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limiter]:
    with limiter(tmp_path_factory.mktemp("data")) as running:
        yield running


@pytest.fixture(scope="module")
def workflows(service: Limiter) -> Limiter:
    """The same run, asked at the port of the workflow service."""
    return service.beside("workflows")


def timeless(blocks: list[str]) -> list[str]:
    """The blocks with one word for every moment."""
    return [MOMENT.sub("MOMENT", block) for block in blocks]


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_the_guide_does_what_it_says(workflows: Limiter, guide: Path) -> None:
    """Every block of commands prints the block that follows it."""
    blocks = BLOCK.findall(guide.read_text())
    setup = (
        blocks[0][1].replace("http://127.0.0.1:7102", workflows.url).replace("$(cat .tenure/dev-key)", workflows.key)
    )
    commands = [code for kind, code in blocks[1:] if kind == "sh"]
    expected = [code for kind, code in blocks[1:] if kind == "text"]

    here = f"export TENURE_DATA_DIR={workflows.run.data_dir} TENURE_PORT={workflows.run.port}\n"
    command = f'tenure() {{ {sys.executable} -m shared.cli "$@"; }}\n'
    printed = run_in_shell(here + command + setup + "".join(f"{code}echo '{MARK}'\n" for code in commands))

    assert timeless(expected) == timeless(printed.split(f"{MARK}\n")[:-1])


def test_a_run_goes_on_after_kill_9(workflows: Limiter) -> None:
    """The service is killed while a run sleeps: the next one rings its alarm, and what was acknowledged is there."""
    definition = {
        "workflow": "nap",
        "start": "a",
        "steps": {"a": {"sleep": "2s", "next": "b"}, "b": {"pass": 7, "end": True}},
    }
    assert 201 == workflows.call("PUT", "/v1/definitions/nap/versions/1", definition)[0]
    status, fields, run = workflows.call("POST", "/v1/runs", {"definition": "nap", "id": "n-1"})
    assert (201, "1", "running") == (status, fields["x-tenure-durability"], run["status"])
    os.kill(workflows.run.pid_of("services.workflows"), signal.SIGKILL)

    def ended() -> object:
        try:
            status, _, seen = workflows.call("GET", "/v1/runs/n-1")
        except OSError:
            return None
        return seen if status == 200 and seen["end"] else None

    seen = eventually(ended, within_s=20)
    assert isinstance(seen, dict)
    assert {"status": "succeeded", "output": 7} == seen["end"]


def test_a_setting_that_cannot_be_ends_the_start() -> None:
    """`$env` of definitions is JSON, or the service says so in one sentence."""
    done = subprocess.run(
        [sys.executable, "-m", "shared.cli", "serve", "workflows"],
        cwd=ROOT,
        env={**os.environ, "TENURE_REDIS_URL": "redis://127.0.0.1:1", "TENURE_DEFINITION_ENV": "no"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 2 == done.returncode
    assert done.stderr.startswith("tenure: TENURE_DEFINITION_ENV must be a JSON object")
