"""Calls that are accepted and answered later, and secrets that only the receiver sees, through the whole service."""

from pathlib import Path

import pytest

from tests.support.receivers import Receivers, replied
from tests.support.workflows_app import Workflows, code, with_workflows

SEARCH = """
workflow: search
start: a
steps: { a: { http: { POST: "https://registry.example/searches", callback: true }, timeout: P2D, end: true } }
"""


def with_search(scenario: object, calls: Receivers) -> None:
    """Run a scenario with the definition in place."""

    async def main(service: Workflows) -> None:
        assert 201 == (await service.put(SEARCH, name="search")).status
        await service.started("search", id="s-1")
        await service.ask("GET", "/v1/runs/s-1?wait=5&since=1")
        await scenario(service, _path(calls))  # type: ignore[operator]  # A scenario of this file.

    with_workflows(main, calls=calls, public_url="https://flows.example/")


def _path(calls: Receivers) -> str:
    address = calls.made[0].request.engine_headers["Tenure-Callback"]
    assert address.startswith("https://flows.example/v1/callbacks/")
    return address.removeprefix("https://flows.example")


def test_a_token_answers_its_call_without_a_key() -> None:
    """Once; the same answer again is no error, another one is."""

    async def scenario(service: Workflows, path: str) -> None:
        answers = [
            await service.ask("POST", path, {"result": {"clean": clean}}, key=None) for clean in (True, True, False)
        ]
        assert [200, 200, 409] == [answer.status for answer in answers]
        assert {"clean": True} == (await service.run("s-1"))["end"]["output"]

    with_search(scenario, Receivers(replied(202)))


def test_a_token_can_say_that_it_failed() -> None:
    """By the name of an error, which the definition handles as any other."""

    async def scenario(service: Workflows, path: str) -> None:
        answer = await service.ask("POST", path, {"error": "registry.closed", "cause": "holiday"}, key=None)
        assert (200, "stalled") == (answer.status, answer.json()["status"])

    with_search(scenario, Receivers(replied(202)))


@pytest.mark.parametrize("change", ["cut", "flipped", "other", "nonsense"])
def test_a_token_that_nobody_was_given_reaches_no_run(change: str) -> None:
    """All of them look the same."""

    async def scenario(service: Workflows, path: str) -> None:
        token = path.rpartition("/")[2]
        changed = {
            "cut": token[:-2],
            "flipped": ("B" if token[0] != "B" else "C") + token[1:],
            "other": token[:-1] + ("A" if token[-1] != "A" else "E"),
            "nonsense": "x",
        }[change]
        answer = await service.ask("POST", f"/v1/callbacks/{changed}", {"result": 1}, key=None)
        assert (404, "callback.unknown") == code(answer)
        assert "running" == (await service.run("s-1"))["status"]

    with_search(scenario, Receivers(replied(202)))


@pytest.mark.parametrize("body", [{"result": 1, "error": "x"}, {"surprise": 1}, {"error": "no name"}])
def test_an_answer_of_another_form_is_refused(body: dict[str, object]) -> None:
    """And the call still waits."""

    async def scenario(service: Workflows, path: str) -> None:
        assert 400 == (await service.ask("POST", path, body, key=None)).status
        assert "running" == (await service.run("s-1"))["status"]

    with_search(scenario, Receivers(replied(202)))


def test_an_answer_after_the_end_is_told_so() -> None:
    """409: the run has ended."""

    async def scenario(service: Workflows, path: str) -> None:
        await service.tell("s-1", "terminate")
        assert (409, "run.closed") == code(await service.ask("POST", path, {"result": 1}, key=None))

    with_search(scenario, Receivers(replied(202)))


def test_o11_a_secret_reaches_the_receiver_and_nothing_else(tmp_path: Path) -> None:
    """Not the run, its history, its definition or anything stored."""
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "registry").write_text("s3cret-value\n")
    calls = Receivers(replied(200, {"ok": True}))
    text = """
workflow: w
start: a
steps:
  a: { http: { GET: "https://x.example/", headers: { authorization: { secret: registry, prefix: "Bearer " } } }, end: true }
"""

    async def scenario(service: Workflows) -> None:
        assert 201 == (await service.put(text, name="w")).status
        run_id = await service.started("w")
        await service.ask("GET", f"/v1/runs/{run_id}?wait=5")
        shown = [
            (await service.ask("GET", path)).body.decode()
            for path in (f"/v1/runs/{run_id}", f"/v1/runs/{run_id}/history", "/v1/definitions/w/versions/1")
        ]
        assert not [text for text in shown if "s3cret" in text]
        assert "s3cret" not in repr(service.store.snapshot())

    with_workflows(scenario, calls=calls, secrets_dir=str(tmp_path))
    assert {"authorization": "Bearer s3cret-value"} == calls.made[0].request.headers


def test_o11_a_secret_that_is_not_there_is_an_error_of_the_step() -> None:
    """The step says which one, and nothing was called."""
    calls = Receivers(replied(200))
    text = """
workflow: w
start: a
steps: { a: { http: { GET: "https://x.example/", headers: { x-token: { secret: no } } }, end: true } }
"""

    async def scenario(service: Workflows) -> None:
        await service.put(text, name="w")
        run_id = await service.started("w")
        await service.ask("GET", f"/v1/runs/{run_id}?wait=5&since=1")
        (step,) = (await service.run(run_id))["steps"]
        assert ("stalled", "secret.unknown") == (step["phase"], step["error"]["error"])

    with_workflows(scenario, calls=calls)
    assert [] == calls.made
