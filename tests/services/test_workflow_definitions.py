"""Definitions through the routes of the workflow service: put, looked at, validated, and a step of one tried."""

from typing import Any

import pytest

from tests.support.workflows_app import ORDER, REFUND, Workflows, code, served


def test_a_version_of_a_definition_never_changes() -> None:
    """The same content once more is 200, another is 409; the newest is that with the highest number."""

    async def scenario(service: Workflows) -> None:
        changed = REFUND.replace("P3D", "P4D")
        assert 200 == (await service.put(REFUND + "# the same\n", name="refund")).status
        assert (409, "definition.exists") == code(await service.put(changed, name="refund"))
        assert 201 == (await service.put(changed, name="refund", version=3)).status
        newest = (await service.ask("GET", "/v1/definitions/refund")).json()
        assert (3, [3, 1], changed) == (newest["version"], newest["versions"], newest["source"])
        listed = (await service.ask("GET", "/v1/definitions")).json()
        assert {"definitions": [{"name": "refund", "versions": [3, 1]}]} == listed
        assert 200 == (await service.ask("GET", "/v1/definitions/refund/versions/1")).status
        assert (404, "definition.unknown") == code(await service.ask("GET", "/v1/definitions/refund/versions/2"))

    served(scenario)


def test_a_definition_that_is_deleted_leaves_its_runs() -> None:
    """They go on; no new one starts."""

    async def scenario(service: Workflows) -> None:
        run_id = await service.started("refund", ORDER)
        assert 204 == (await service.ask("DELETE", "/v1/definitions/refund/versions/1")).status
        assert (404, "definition.unknown") == code(
            await service.ask("POST", "/v1/runs", {"definition": "refund", "input": ORDER})
        )
        assert 404 == (await service.ask("DELETE", "/v1/definitions/refund/versions/1")).status
        assert 200 == (await service.tell(run_id, "steps/decide/complete", {"outcome": "no"})).status

    served(scenario)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("workflow: w\nstart: a\nsteps: { a: { next: b } }", "/steps/a"),
        ("workflow: other\nstart: a\nsteps: { a: { pass: 1, end: true } }", "/workflow"),
        ("workflow: w\nversion: 2\nstart: a\nsteps: { a: { pass: 1, end: true } }", "/version"),
        ('workflow: w\nstart: a\nsteps: { a: { pass: "{% ( %}", end: true } }', "/steps/a/pass"),
        ("workflow: w\nstart: a\nsteps: { a: { http: { GET: 'ftp://x/' }, end: true } }", "/steps/a/http/GET"),
        (
            "workflow: w\nstart: a\nsteps: { a: { map: { items: [1] }, each: { start: b, steps: { b: { next: c } } }, end: true } }",
            "/steps/a/each/steps/b",
        ),
        ("workflow: [", ""),
    ],
)
def test_a_definition_that_cannot_be_run_is_told_where(text: str, at: str) -> None:
    """422 with every problem; `validate` says the same."""

    async def scenario(service: Workflows) -> None:
        put = await service.put(text, name="w")
        assert (422, "definition.invalid") == code(put)
        assert at in {problem["at"] for problem in put.json()["problems"]}
        if at not in {"/workflow", "/version"}:
            checked = await service.ask_yaml("POST", "/v1/definitions/validate", text)
            assert (422, put.json()["problems"]) == (checked.status, checked.json()["problems"])

    served(scenario)


def test_a_definition_may_be_json_and_nothing_else() -> None:
    """YAML and JSON are told apart by their media type; any other is 415, and bytes that are no text are 400."""

    async def scenario(service: Workflows) -> None:
        tree = {"workflow": "w", "start": "a", "steps": {"a": {"pass": 1, "end": True}}}
        assert 201 == (await service.ask("PUT", "/v1/definitions/w/versions/1", tree)).status
        valid = await service.ask("POST", "/v1/definitions/validate", tree)
        assert (200, {"name": "w", "steps": 1}) == (valid.status, valid.json())
        other = await service.ask("PUT", "/v1/definitions/w/versions/1", b"x", headers=[("content-type", "text/plain")])
        assert (415, "unsupported_media_type") == code(other)
        yaml_run = await service.ask("POST", "/v1/runs", b"x", headers=[("content-type", "application/yaml")])
        assert (415, "unsupported_media_type") == code(yaml_run)
        broken = await service.ask(
            "PUT", "/v1/definitions/w/versions/1", b"\xff", headers=[("content-type", "application/yaml")]
        )
        assert (400, "invalid_input") == code(broken)

    served(scenario)


def test_one_step_can_be_tried() -> None:
    """What it would send, where its answer leads, and what becomes of an error; nothing is sent."""
    tree: dict[str, Any] = {
        "workflow": "w",
        "start": "ask",
        "steps": {
            "ask": {
                "wait": {"title": "{% $input.name %}", "outcomes": ["yes", "no"]},
                "choice": [{"when": "{% $outcome = 'yes' %}", "next": "done", "assign_vars": {"v": "{% $result %}"}}],
                "default": "over",
                "catch": [{"errors": ["lost"], "next": "over"}],
            },
            "over": {"fail": {"error": "w.over"}},
            "done": {
                "parallel": {"branches": {"b": {"start": "in", "steps": {"in": {"pass": 5, "end": True}}}}},
                "end": True,
            },
        },
    }

    async def scenario(service: Workflows) -> None:
        async def tried(**body: Any) -> Any:
            answer = await service.ask("POST", "/v1/definitions/test-step", {"definition": tree, **body})
            return answer.json() | {"status_code": answer.status}

        asked = await tried(step="ask", input={"name": "n"}, answered=False)
        assert ("waiting", "n") == (asked["state"], next(e for e in asked["effects"] if e["type"] == "AskFor")["title"])
        yes = await tried(step="ask", input={"name": "n"}, outcome="yes", result=7)
        assert ("went_on", "done", {"v": 7}) == (yes["state"], yes["next"], yes["variables"])
        assert "over" == (await tried(step="ask", input={"name": "n"}, error="lost"))["next"]
        assert "stalled" == (await tried(step="ask", input={"name": "n"}, error="other"))["state"]
        assert ("ended", "w.over") == ((over := await tried(step="over"))["state"], over["failure"]["error"])
        assert ("ended", 5) == ((inner := await tried(step="done/b/in"))["state"], inner["output"])
        assert ("ended", {"b": 5}) == ((whole := await tried(step="done"))["state"], whole["output"])
        assert (422, "step.unknown") == ((ghost := await tried(step="ghost"))["status_code"], ghost["code"])
        assert 422 == (await tried(step="ask/b/c"))["status_code"]
        assert 422 == (await tried(step="ask", input={"name": "n"}, outcome="maybe"))["status_code"]

    served(scenario)
