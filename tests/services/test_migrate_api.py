"""Runs moved to another version of their definition: one of them, or many as an operation."""

from typing import Any

import pytest

from shared.objects.address import Address
from tests.support.workflows_app import ORDER, REFUND, Workflows, code, served

NEXT = REFUND.replace("refuse: { fail:", "refuse: { wait: { title: Why }, next: no }\n  no: { fail:")
RENAMED = REFUND.replace("decide", "choose").replace("choosed", "decided")


async def both(service: Workflows) -> str:
    """A run of the first version, with a second one beside it; its id."""
    assert 201 == (await service.put(NEXT, name="refund", version=2)).status
    return await service.started("refund", ORDER, version=1, id="r")


def test_a_run_goes_on_with_another_version() -> None:
    """It is shown, listed and told in its history; and so it is after a crash of its node, as it is stored so."""

    async def scenario(service: Workflows) -> None:
        run_id = await both(service)
        answer = await service.tell(run_id, "migrate", {"version": 2})
        assert (200, {"id": "r", "status": "running"}) == (answer.status, answer.json())
        run = await service.run(run_id)
        assert (2, ["decide"]) == (run["version"], [step["path"] for step in run["steps"]])
        (listed,) = (await service.ask("GET", "/v1/runs?status=running")).json()["runs"]
        assert 2 == listed["version"]
        lines = (await service.ask("GET", "/v1/runs/r/history")).json()["lines"]
        assert ("run.migrated", {"from": 1, "to": 2}) == (lines[-1]["event"], lines[-1]["data"])
        await service.settle()
        assert service.host.residents.passivate(Address("run", "acme", run_id))
        assert 200 == (await service.tell(run_id, "steps/decide/complete", {"outcome": "no"})).status
        assert ["refuse"] == [step["path"] for step in (await service.run(run_id))["steps"]]

    served(scenario)


def test_what_cannot_go_on_is_said_and_mapped() -> None:
    """With the step; a dry run says the same and changes nothing."""

    async def scenario(service: Workflows) -> None:
        await service.put(RENAMED, name="refund", version=2)
        run_id = await service.started("refund", ORDER, version=1)
        for dry in (True, False):
            answer = await service.tell(run_id, "migrate", {"version": 2, "dry_run": dry})
            assert (422, "step.unmappable", "decide") == (*code(answer), answer.json()["step"])
        mapped = {"version": 2, "step_map": {"decide": "choose"}}
        before = await service.run(run_id)
        assert 200 == (await service.tell(run_id, "migrate", {**mapped, "dry_run": True})).status
        assert before == await service.run(run_id)
        assert 200 == (await service.tell(run_id, "migrate", mapped)).status
        assert ["choose"] == [step["path"] for step in (await service.run(run_id))["steps"]]
        assert 200 == (await service.tell(run_id, "steps/choose/complete", {"outcome": "yes"})).status

    served(scenario)


def test_a_migration_is_made_once_and_only_to_the_run_as_it_was_seen() -> None:
    """Under its key, and by the entity tag of the run."""

    async def scenario(service: Workflows) -> None:
        run_id = await both(service)
        body = {"version": 2, "step_map": {"decide": "decide"}}
        seen = (await service.run(run_id))["seq"]
        late = await service.tell(run_id, "migrate", body, headers=[("if-match", f'"s{seen + 1}"')])
        assert (412, "precondition_failed") == code(late)
        headers = [("idempotency-key", "k"), ("if-match", f'"s{seen}"')]
        answers = [await service.tell(run_id, "migrate", body, headers=headers) for _ in range(2)]
        assert [200, 200] == [answer.status for answer in answers]
        events = [line["event"] for line in (await service.ask("GET", "/v1/runs/r/history")).json()["lines"]]
        assert 1 == events.count("run.migrated")

    served(scenario)


def test_what_is_no_open_run_or_no_version_is_refused() -> None:
    """An ended run, a version that is not there, and a key that may not."""

    async def scenario(service: Workflows) -> None:
        run_id = await both(service)
        assert (404, "definition.unknown") == code(await service.tell(run_id, "migrate", {"version": 3}))
        assert 400 == (await service.tell(run_id, "migrate", {})).status
        assert 404 == (await service.tell("ghost", "migrate", {"version": 2})).status
        await service.tell(run_id, "terminate")
        assert (409, "run.closed") == code(await service.tell(run_id, "migrate", {"version": 2}))
        service.key = await service.add_key("acme", "workflows:read", "workflows:write")
        assert 403 == (await service.tell(run_id, "migrate", {"version": 2})).status

    served(scenario)


def test_many_runs_are_migrated_as_an_operation() -> None:
    """Those that fit; each other is told with its reason, first by a dry run that changes none."""

    async def scenario(service: Workflows) -> None:
        await service.put(NEXT, name="refund", version=2)
        await service.put("workflow: other\nstart: a\nsteps: { a: { wait: {}, end: true } }", name="other")
        for name in ("a", "b", "c"):
            await service.started("refund", ORDER, version=1, id=name)
        await service.started("other", id="d")
        await service.tell("b", "steps/decide/complete", {"outcome": "yes"})
        await service.settle()
        await service.tell("c", "terminate")
        to = {"definition": "refund", "version": 2}
        refused = {"c": "run.closed", "d": "conflict"}
        for dry in (True, False):
            body = {"op": "migrate", "ids": ["a", "b", "c", "d"], "to": to, "dry_run": dry}
            told = (await service.ask("POST", "/v1/bulk", body)).json()
            await service.settle()
            told = (await service.ask("GET", f"/v1/operations/{told['id']}")).json()
            assert ("done", 2, 2) == (told["status"], told["changed"], told["refused"])
            assert refused == {one["id"]: one["code"] for one in told["errors"]}
            versions = [(await service.run(name))["version"] for name in ("a", "b", "c")]
            assert ([1, 1, 1] if dry else [2, 2, 1]) == versions

    served(scenario)


@pytest.mark.parametrize(
    ("body", "status", "where"),
    [
        ({"op": "migrate", "filter": {}}, 400, "$.to"),
        ({"op": "pause", "filter": {}, "to": {"definition": "refund", "version": 1}}, 400, "$.to"),
        ({"op": "migrate", "filter": {}, "to": {"definition": "refund"}}, 400, "$.to"),
        ({"op": "migrate", "filter": {}, "to": {"definition": "refund", "version": 9}}, 404, None),
        (
            {"op": "migrate", "filter": {}, "to": {"definition": "refund", "version": 1, "step_map": {"a": "ghost"}}},
            422,
            None,
        ),
    ],
)
def test_an_operation_that_migrates_to_nowhere_is_refused(body: dict[str, Any], status: int, where: str | None) -> None:
    """Before any run is touched."""

    async def scenario(service: Workflows) -> None:
        answer = await service.ask("POST", "/v1/bulk", body)
        assert (status, where) == (answer.status, answer.json().get("where"))

    served(scenario)


def test_a_repeat_is_answered_though_the_version_was_deleted_since() -> None:
    """With the operation that keeps it; another request is refused."""

    async def scenario(service: Workflows) -> None:
        run_id = await both(service)
        body = {"op": "migrate", "ids": [run_id], "to": {"definition": "refund", "version": 2}}
        first = await service.ask("POST", "/v1/bulk", body, headers=[("idempotency-key", "k")])
        assert 204 == (await service.ask("DELETE", "/v1/definitions/refund/versions/2")).status
        await service.settle()
        again = await service.ask("POST", "/v1/bulk", body, headers=[("idempotency-key", "k")])
        assert (202, first.json()["id"], 1) == (again.status, again.json()["id"], again.json()["changed"])
        other = await service.ask("POST", "/v1/bulk", {**body, "dry_run": True}, headers=[("idempotency-key", "k")])
        assert (422, "idempotency_key_reused") == code(other)
        assert (404, "definition.unknown") == code(await service.ask("POST", "/v1/bulk", body))

    served(scenario)
