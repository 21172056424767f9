"""`tenure workflows` against a real service: what is typed, what is shown, and how it fails."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import tenure
from tests.support.launching import eventually
from tests.support.service import Limiter, limiter

pytestmark = pytest.mark.timeout(60)
ASK = {
    "workflow": "ask",
    "attributes": {"region": "{% $input.region %}"},
    "start": "a",
    "steps": {
        "a": {"wait": {"title": "Well?", "signal": "go"}, "next": "b"},
        "b": {"pass": "{% $input.missing %}", "end": True},
    },
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limiter]:
    with limiter(tmp_path_factory.mktemp("data")) as running:
        workflows = running.beside("workflows")
        assert 201 == workflows.call("PUT", "/v1/definitions/ask/versions/1", ASK)[0]
        yield workflows


def workflows(service: Limiter, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """A command of somebody who has the data directory."""
    here = {"TENURE_DATA_DIR": str(service.run.data_dir), "TENURE_PORT": str(service.run.port)}
    return tenure("workflows", *arguments, **{**here, **environ})


def said(service: Limiter, *arguments: str) -> str:
    """What a command prints, which must succeed."""
    done = workflows(service, *arguments)
    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout


def test_a_run_is_started_looked_at_and_helped(service: Limiter, tmp_path: Path) -> None:
    """Its id, what it waits for, a signal, the step that has stalled, and another try of it."""
    given = tmp_path / "input.json"
    given.write_text('{"region":"eu"}')
    assert "ask/1\n" == said(service, "start", "ask", "--id", "ask/1", "--version", "1", "--input", f"@{given}")
    shown = said(service, "show", "ask/1").splitlines()
    assert shown[0].startswith("ask/1: running, ask/1, since ")
    assert ["attributes: region=eu", "  a is waiting: Well?"] == shown[1:]
    assert "The run is stalled.\n" == said(service, "signal", "ask/1", "go", "--payload", "7")
    stalled = said(service, "show", "ask/1")
    assert "  b is stalled\n" in stalled
    assert "expression.undefined" in stalled
    assert "The run is stalled.\n" == said(service, "retry", "ask/1", "b")
    listed = said(service, "list", "--attr", "region=eu", "--status", "stalled").splitlines()
    assert ["RUN", "DEFINITION", "STATUS", "STARTED"] == listed[0].split()
    assert ["ask/1", "ask/1", "stalled"] == listed[1].split()[:3]
    assert "There is none.\n" == said(service, "list", "--definition", "ghost")


def test_pages_of_runs_say_how_to_go_on(service: Limiter) -> None:
    """On stderr; with --json the answer as it is."""
    for _ in range(2):
        said(service, "start", "approval", "--input", '{"what":"x"}')
    first = workflows(service, "list", "--definition", "approval", "--limit", "1")
    hint = first.stderr.removeprefix("There may be more: --after ").strip()
    assert hint
    told = json.loads(said(service, "list", "--definition", "approval", "--after", hint, "--json"))
    assert 1 == len(told["runs"])


def test_who_watches_ends_with_the_run(service: Limiter) -> None:
    """Live: lines come as they happen; exit code 1 where the run has not succeeded."""
    said(service, "start", "approval", "--id", "no-1", "--input", '{"what":"x"}')
    here = {"TENURE_DATA_DIR": str(service.run.data_dir), "TENURE_PORT": str(service.run.port)}
    done: list[subprocess.CompletedProcess[str]] = []

    def answered() -> bool:
        if not done:
            assert "failed" in said(service, "complete", "no-1", "decide", "--outcome", "no", "--by", "ann")
            done.append(tenure("workflows", "watch", "no-1", "--json", **here))
        return bool(done)

    eventually(answered, within_s=30)
    events = [json.loads(line)["event"] for line in done[0].stdout.splitlines()]
    assert (1, "run.started", "run.failed") == (done[0].returncode, events[0], events[-1])


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("show", "ghost"), 1, "There is no such run. (404 not_found)"),
        (("watch", "ghost"), 1, "There is no such run. (404 not_found)"),
        (("start", "ghost"), 1, "(404 definition.unknown)"),
        (("start", "ask", "--input", "{"), 2, "--input is JSON, or @ and a file of it"),
        (("start", "ask", "--input", "@/nowhere"), 2, "--input is JSON, or @ and a file of it"),
        (("start", "ask", "--input", "{}"), 2, "(422 wait.answer)"),
        (("list", "--attr", "region"), 2, "--attr is a name and a value"),
        (("list", "--limit", "0"), 2, "(400 invalid_input)"),
        (("list", "--api", "ftp://x"), 2, "--api is 'ftp://x'"),
        (("list", "--api", "http://127.0.0.1:1"), 1, "The service did not answer"),
        (("watch", "x", "--api", "http://127.0.0.1:1"), 1, "The service did not answer"),
        (("list", "--key-file", "/nowhere"), 2, "There is no API key in /nowhere"),
        (("list", "--key-file", "/dev/null"), 2, "What stands in /dev/null is no API key: one begins with tnk_."),
        (("list", "--key-file", sys.executable), 2, "is no API key: one begins with tnk_."),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    service: Limiter, arguments: tuple[str, ...], code: int, words: str
) -> None:
    """On stderr, with the exit code that says whose fault it is."""
    done = workflows(service, *arguments)
    assert (code, 1) == (done.returncode, len(done.stderr.splitlines()))
    assert words in done.stderr
