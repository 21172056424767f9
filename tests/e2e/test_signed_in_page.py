"""The page on keeping users signed in, typed from top to bottom into one shell, against a real `tenure run`."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.launching import ROOT, eventually
from tests.support.programs import require_program
from tests.support.service import Limiter, limiter

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]
PAGE = ROOT / "docs/how-to/keep-users-signed-in.md"
FENCE = re.compile(r"^```sh\n(?P<typed>.*?)^```$(?:\n+^```text\n(?P<printed>.*?)^```$)?", re.MULTILINE | re.DOTALL)
MARK = "end of block"


class Block(NamedTuple):
    """What is typed, and what the page says that it prints: `...` stands for anything."""

    typed: str
    printed: str


class Shell:
    """One bash, which stops at the first command that fails."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def type(self, text: str) -> str:
        """What some lines print."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{text}\necho {MARK}\n")
        self._process.stdin.flush()
        printed = ""
        for line in self._process.stdout:
            if line == f"{MARK}\n":
                return printed.replace("\r", "")
            printed += line
        pytest.fail(f"The shell ended in:\n{text}\nafter:\n{printed}")


def test_the_page_does_what_it_says(tmp_path: Path) -> None:
    """Every block ends well and prints what stands below it, one while the store stands still, one after `kill -9`."""
    for program in ("curl", "jq", "bash"):
        require_program(program)
    with limiter(tmp_path / "data") as run, shell() as bash:
        for block in blocks():
            typed = here(run, block.typed)
            if "retry-after" in typed:
                printed = _typed_without_store(run.beside("sessions"), bash, typed)
            else:
                if "--retry" in typed:
                    os.kill(run.run.pid_of("services.sessions"), signal.SIGKILL)
                printed = bash.type(typed)
            assert re.fullmatch(pattern(block.printed), printed, re.DOTALL), f"{block.typed}printed:\n{printed}"


def test_every_block_shows_what_it_prints() -> None:
    """But for the two that print nothing, and the one that starts a service, which another test runs."""
    silent = [block.typed.partition("\n")[0] for block in blocks() if not block.printed]
    assert ["API=http://127.0.0.1:7103", "SIGNED_IN=$("] == [line[:25].partition("curl")[0] for line in silent]
    assert len(blocks()) > 10


def blocks() -> list[Block]:
    """What the page has to type, but what starts the service on a store of one's own."""
    found = FENCE.finditer(PAGE.read_text())
    return [Block(each["typed"], each["printed"] or "") for each in found if "tenure serve" not in each["typed"]]


def here(run: Limiter, typed: str) -> str:
    """The lines with the address and the key of this run in place of the usual ones."""
    sessions = run.beside("sessions")
    return typed.replace("http://127.0.0.1:7103", sessions.url).replace(
        ".tenure/dev-key", str(run.run.data_dir / "dev-key")
    )


def pattern(printed: str) -> str:
    """A regular expression of what the page says."""
    return ".*?".join(re.escape(part) for part in printed.split("..."))


def _typed_without_store(service: Limiter, bash: Shell, typed: str) -> str:
    """What is printed while the store stands still; users who were signed in are so when it is back."""
    token = service.call("POST", "/v1/principals/ben/sessions", {})[2]["token"]
    store = service.run.pid_of("valkey-server")

    def status() -> int:
        return service.call("GET", "/v1/whoami", headers={"Authorization": f"Bearer {token}"})[0]

    assert 200 == status()
    os.kill(store, signal.SIGSTOP)
    try:
        assert 200 == status(), "who is in memory is known for some seconds"
        eventually(lambda: status() == 503, within_s=20)
        return bash.type(typed)
    finally:
        os.kill(store, signal.SIGCONT)
        eventually(lambda: status() == 200, within_s=20)


@contextmanager
def shell() -> Iterator[Shell]:
    """A shell that reads what it is told to do."""
    command = ["bash", "-eu", "-o", "pipefail"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield Shell(process)
        finally:
            process.kill()
