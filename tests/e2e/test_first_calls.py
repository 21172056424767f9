"""What a newcomer pastes first: the calls on the screen of `tenure run`, and those of the README."""

import json
import stat
from collections.abc import Iterator

import pytest

from shared.runtime.kept_secrets import session_keys_path
from tests.support.launching import ROOT
from tests.support.service import Limiter, limiter
from tests.support.shell import run_in_shell, shell_blocks

pytestmark = pytest.mark.timeout(60)
README = ROOT / "README.md"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limiter]:
    with limiter(tmp_path_factory.mktemp("data")) as running:
        yield running


def here(service: Limiter, block: str) -> str:
    """The lines with the addresses and the key of this run in place of the usual ones."""
    for index in range(3):
        block = block.replace(f"http://127.0.0.1:710{index + 1}", f"http://127.0.0.1:{service.run.port + index}")
    return block.replace(".tenure/dev-key", str(service.run.data_dir / "dev-key"))


def test_the_calls_on_the_screen_work(service: Limiter) -> None:
    """Pasted as they are: a check, a run that is started and answered, and somebody who is signed in."""
    pasted = service.run.screen[service.run.screen.index("  KEY=") :].removesuffix("Ctrl-C stops everything.\n")

    printed = run_in_shell(pasted)

    assert '"allowed":true' in printed
    assert '"status":"running"' in printed
    assert '{"id":"approval-1","status":"succeeded"}' in printed
    assert '"principal":"user-1"' in printed.splitlines()[-1]


def test_the_calls_of_the_readme_work(service: Limiter) -> None:
    """The block with the key, pasted as it stands: every call is answered as the README says."""
    (block,) = (block for block in shell_blocks(README) if "dev-key" in block)

    printed = run_in_shell(here(service, block.replace("\n\n", "\necho\n")))

    assert '"allowed":true' in printed
    assert "HTTP/1.1 200" in printed
    assert '"name":"minute"' in printed
    assert '"status":"running"' in printed
    assert "user-1" == json.loads(printed.splitlines()[-1])["principal"]


def test_the_keys_of_session_tokens_are_kept_for_their_owner_alone(service: Limiter) -> None:
    """In a file of the data directory that no other user can read."""
    assert 0o600 == stat.S_IMODE(session_keys_path(service.run.data_dir).stat().st_mode)
