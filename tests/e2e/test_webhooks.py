"""Webhooks with real processes: the guide as a reader does it, and a message that outlives its node."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_workflows import BLOCK, MARK
from tests.support.launching import ROOT, eventually, free_ports
from tests.support.service import Limiter, limiter
from tests.support.shell import run_in_shell
from tests.support.webhook_receiver import webhook_receiver

pytestmark = pytest.mark.e2e
GUIDE = ROOT / "docs/how-to/receive-webhooks.md"
HELLO = {"workflow": "hello", "start": "a", "steps": {"a": {"pass": 1, "end": True}}}


@pytest.fixture(scope="module")
def workflows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limiter]:
    """A run of everything, asked at the port of the workflow service."""
    with limiter(tmp_path_factory.mktemp("data")) as running:
        yield running.beside("workflows")


def test_the_guide_does_what_it_says(workflows: Limiter, tmp_path: Path) -> None:
    """Every block of commands prints the block that follows it; the receiver is the example."""
    (tmp_path / "dev-key").write_text(workflows.key)
    port, other = free_ports(2)
    page = GUIDE.read_text()
    for here, there in (
        ("http://127.0.0.1:7102", workflows.url),
        ("http://127.0.0.1:7103", workflows.beside("sessions").url),
        ("7191", str(port)),
        ("7192", str(other)),
        (".tenure/", f"{tmp_path}/"),
        (".venv/bin/python", sys.executable),
    ):
        page = page.replace(here, there)
    blocks = BLOCK.findall(page)
    commands = [code for kind, code in blocks if kind == "sh"]
    expected = [code for kind, code in blocks if kind == "text"]
    typed = "".join(f"{code}echo '{MARK}'\n" for code in commands)
    printed = run_in_shell(f"trap 'kill $(jobs -p)' EXIT\n{typed}").split(f"{MARK}\n")[:-1]
    assert ["", *expected] == printed


def test_a_message_outlives_a_service_that_is_killed(workflows: Limiter) -> None:
    """It was not taken when the service died; the next one sends it, and the library says that it is whole."""
    with webhook_receiver() as mail:
        hook = {"url": f"http://127.0.0.1:{mail.port}/hooks", "events": ["run.succeeded"]}
        assert 201 == workflows.call("PUT", "/v1/webhooks/late", hook)[0]
        secret = workflows.call("GET", "/v1/webhooks/late/secret")[2]["secret"]
        assert 201 == workflows.call("PUT", "/v1/definitions/late/versions/1", HELLO | {"workflow": "late"})[0]
        assert 201 == workflows.call("POST", "/v1/runs", {"definition": "late", "id": "late-1"})[0]
        pending = "/v1/webhooks/late/deliveries?status=pending"
        eventually(lambda: workflows.call("GET", pending)[2]["deliveries"], within_s=10)
        os.kill(workflows.run.pid_of("services.workflows"), signal.SIGKILL)
        mail.secret = secret
        eventually(lambda: mail.told, within_s=40)
        assert ("run.succeeded", "late-1") == (mail.told[0]["type"], mail.told[0]["data"]["run"])
