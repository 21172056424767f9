"""The onboarding with real processes: the tutorial as a reader does it, and a service that is killed at the pivot."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.workflows.definition import read_yaml
from tests.e2e.test_workflows import BLOCK, MARK
from tests.support.launching import ROOT, eventually, free_ports
from tests.support.service import Limiter, limiter
from tests.support.shell import run_in_shell
from tests.support.webhook_receiver import webhook_receiver

pytestmark = pytest.mark.e2e
TUTORIAL = ROOT / "docs/tutorials/property-onboarding.md"


@pytest.fixture(scope="module")
def outside_port() -> int:
    (port,) = free_ports(1)
    return port


@pytest.fixture(scope="module")
def workflows(tmp_path_factory: pytest.TempPathFactory, outside_port: int) -> Iterator[Limiter]:
    """A run of everything as the tutorial starts it, asked at the port of the workflow service."""
    environ = {
        "TENURE_OBJECTS": "tests.support.gated_objects",
        "TENURE_DEFINITION_ENV": f'{{"notify":"http://127.0.0.1:{outside_port}"}}',
    }
    with limiter(tmp_path_factory.mktemp("data"), **environ) as running:
        yield running.beside("workflows")


def test_the_tutorial_does_what_it_says(workflows: Limiter, outside_port: int, tmp_path: Path) -> None:
    """Every block of commands prints the block that follows it; in the end the property is on offer, and a webhook says so."""
    with webhook_receiver() as mail:
        hook = {"url": f"http://127.0.0.1:{mail.port}/", "events": ["run.succeeded"]}
        assert 201 == workflows.call("PUT", "/v1/webhooks/shop", hook)[0]
        mail.secret = workflows.call("GET", "/v1/webhooks/shop/secret")[2]["secret"]
        _read_the_tutorial(workflows, outside_port, tmp_path)
        (told,) = eventually(lambda: mail.told, within_s=20)
    assert ("run.succeeded", "property_onboarding") == (told["type"], told["data"]["definition"])


def _read_the_tutorial(workflows: Limiter, outside_port: int, tmp_path: Path) -> None:
    (tmp_path / "dev-key").write_text(workflows.key)
    page = TUTORIAL.read_text()
    for here, there in (
        ("http://127.0.0.1:7102", workflows.url),
        ("7190", str(outside_port)),
        (".tenure/", f"{tmp_path}/"),
        (".venv/bin/python", sys.executable),
    ):
        page = page.replace(here, there)
    blocks = BLOCK.findall(page)[1:]  # The first one starts what runs here already.
    typed = "".join(f"{code}echo '{MARK}'\n" if kind == "sh" else "" for kind, code in blocks)
    printed = run_in_shell(f"trap 'kill $(jobs -p)' EXIT\n{typed}").split(f"{MARK}\n")[:-1]

    expected: list[str] = []
    for kind, code in blocks:
        if kind == "sh":
            expected.append("")
        else:
            expected[-1] = code
    assert expected == printed


def test_a_service_killed_past_the_pivot_goes_on_until_both_are_changed(workflows: Limiter) -> None:
    """The listing cannot be committed yet: the run is past its pivot, dies, cannot be cancelled, and ends well once it can."""
    definition = _from_the_reservation_on()
    assert 201 == workflows.call("PUT", "/v1/definitions/pivot/versions/1", definition)[0]
    assert 200 == workflows.call("POST", "/v1/objects/listing/p-2/shut", {})[0]
    given = {"property_id": "p-2", "owner": "ben", "region": "eu"}
    assert 201 == workflows.call("POST", "/v1/runs", {"definition": "pivot", "id": "r-2", "input": given})[0]
    eventually(lambda: "run.past_pivot" in _events(workflows), within_s=20)
    os.kill(workflows.run.pid_of("services.workflows"), signal.SIGKILL)

    assert (409, "run.past_pivot") == eventually(lambda: _cancelled(workflows), within_s=30)
    assert 200 == workflows.call("POST", "/v1/objects/listing/p-2/open", {})[0]
    end = eventually(lambda: workflows.call("GET", "/v1/runs/r-2?wait=5")[2]["end"], within_s=60)

    assert "succeeded" == end["status"]
    assert "published" == workflows.call("POST", "/v1/objects/listing/p-2/read", {})[2]["state"]
    assert {"listed": 1, "held": 0} == workflows.call("POST", "/v1/objects/owner_account/ben/read", {})[2]
    events = _events(workflows)
    assert (1, 1) == (events.count("run.started"), events.count("run.past_pivot"))


def _from_the_reservation_on() -> dict[str, Any]:
    """The definition of the example, from where its two objects are reserved to where they are committed."""
    tree: dict[str, Any] = read_yaml((ROOT / "examples/onboarding/onboarding.yaml").read_text()).tree
    steps = {name: tree["steps"][name] for name in ("reserve_listing", "reserve_account", "commit")}
    report = {"pass": {"score": 95}, "assign_vars": {"report": "{% $result %}"}, "next": "reserve_listing"}
    steps |= {"report": report, "notify": {"pass": "done", "end": True}}
    return {"workflow": "pivot", "start": "report", "steps": steps}


def _events(workflows: Limiter) -> list[str]:
    """What has happened to the run."""
    return [line["event"] for line in workflows.call("GET", "/v1/runs/r-2/history?limit=500")[2]["lines"]]


def _cancelled(workflows: Limiter) -> tuple[int, str] | None:
    """What is answered to who would cancel the run, once somebody answers."""
    try:
        status, _, problem = workflows.call("POST", "/v1/runs/r-2/cancel", {})
    except OSError:
        return None
    return None if status == 503 else (status, problem["code"])
