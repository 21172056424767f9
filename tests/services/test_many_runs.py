"""Runs that begin later, begin anew, and are signalled or counted many at a time."""

from tests.support.workflows_app import ORDER, Workflows, code, served

MINUTE_MS = 60_000


def test_a_run_may_begin_later() -> None:
    """Until then it is scheduled and takes signals; its deadline counts from its beginning."""
    text = "workflow: late\ndeadline: { after: 1m }\nstart: a\nsteps: { a: { wait: { signal: go }, end: true } }"

    async def scenario(service: Workflows) -> None:
        await service.put(text, name="late")
        ids = []
        for _ in range(2):
            ids.append(await service.started("late", delay_ms=10 * MINUTE_MS))
            await service.pass_time(1)
        run = await service.run(ids[0])
        assert ("scheduled", []) == (run["status"], run["steps"])
        assert 202 == (await service.tell(ids[0], "signals/go", {"payload": 7})).status
        assert "scheduled" == (await service.run(ids[0]))["status"]
        listed = (await service.ask("GET", "/v1/runs?status=scheduled")).json()["runs"]
        assert ids[::-1] == [one["id"] for one in listed]
        await service.pass_time(10 * MINUTE_MS + 100)
        assert 7 == (await service.run(ids[0]))["end"]["output"]
        assert "running" == (await service.run(ids[1]))["status"]
        await service.pass_time(MINUTE_MS)
        assert "failed" == (await service.run(ids[1]))["status"]

    served(scenario)


def test_a_run_that_has_not_begun_can_be_cancelled_paused_and_begun_by_a_reset() -> None:
    """It waits for its time, or for whoever resumes it; a reset does not wait."""

    async def scenario(service: Workflows) -> None:
        moment = (await service.run(await service.started("refund", ORDER)))["started_ms"] + 10 * MINUTE_MS
        ids = [await service.started("refund", ORDER, start_at_ms=moment) for _ in range(3)]
        assert "cancelled" == (await service.tell(ids[0], "cancel")).json()["status"]
        assert "paused" == (await service.tell(ids[1], "pause")).json()["status"]
        assert "running" == (await service.tell(ids[2], "reset", {"to_step": "confirm"})).json()["status"]
        await service.pass_time(11 * MINUTE_MS)
        assert ("paused", []) == ((run := await service.run(ids[1]))["status"], run["steps"])
        assert "running" == (await service.tell(ids[1], "resume")).json()["status"]
        assert ["decide"] == [step["path"] for step in (await service.run(ids[1]))["steps"]]
        assert ["confirm"] == [step["path"] for step in (await service.run(ids[2]))["steps"]]

    served(scenario)


def test_a_run_can_be_started_anew() -> None:
    """With its input and attributes, by its own definition or another version; the old one stays."""

    async def scenario(service: Workflows) -> None:
        run_id = await service.started("refund", ORDER, attributes={"team": "a"})
        await service.tell(run_id, "terminate")
        again = await service.tell(run_id, "restart", {"id": "again"})
        assert (201, "/v1/runs/again") == (again.status, again.field("location"))
        assert {"id": "again", "status": "running"} == again.json()
        fresh, old = await service.run("again"), await service.run(run_id)
        assert (old["input"], old["attributes"], "terminated") == (fresh["input"], fresh["attributes"], old["status"])
        assert (409, "run.exists") == code(await service.tell(run_id, "restart", {"id": "again"}))
        assert (404, "definition.unknown") == code(await service.tell(run_id, "restart", {"version": 9}))
        assert 201 == (await service.tell(run_id, "restart", {"version": 1})).status
        assert 404 == (await service.tell("ghost", "restart")).status

    served(scenario)


def test_a_run_is_started_anew_once_for_each_key() -> None:
    """Under an id that the key makes, or that is given; another body under the key is refused."""

    async def scenario(service: Workflows) -> None:
        run_id = await service.started("refund", ORDER)
        headers = [("idempotency-key", "k")]
        made = [(await service.tell(run_id, "restart", {}, headers=headers)).json()["id"] for _ in range(2)]
        named = [await service.tell(run_id, "restart", {"id": "again"}, headers=headers) for _ in range(2)]
        assert [(201, "again")] * 2 == [(answer.status, answer.json()["id"]) for answer in named]
        other = await service.tell(run_id, "restart", {"id": "again", "version": 1}, headers=headers)
        assert (422, "idempotency_key_reused") == code(other)
        listed = (await service.ask("GET", "/v1/runs")).json()["runs"]
        assert {run_id, made[0], "again"} == {one["id"] for one in listed}
        assert made[0] == made[1]

    served(scenario)


def test_all_stalled_steps_of_a_run_are_tried_again() -> None:
    """At once; where none has stalled that is 409."""
    text = """
workflow: both
start: p
steps:
  p:
    parallel:
      branches:
        a: { start: s, steps: { s: { object: { type: shelf, id: x, call: take, args: { count: 11 } }, end: true } } }
        b: { start: s, steps: { s: { object: { type: shelf, id: y, call: take, args: { count: 11 } }, end: true } } }
    end: true
"""

    async def scenario(service: Workflows) -> None:
        await service.put(text, name="both")
        run_id = await service.started("both")
        await service.settle()
        for name in ("x", "y"):
            await service.ask("POST", f"/v1/objects/shelf/{name}/put_back", {"count": 5})
        for _ in range(2):
            told = await service.tell(run_id, "retry", headers=[("idempotency-key", "k")])
            assert (202, "running") == (told.status, told.json()["status"])
        await service.settle()
        assert {"a": 4, "b": 4} == (await service.run(run_id))["end"]["output"]
        assert (409, "step.not_waiting") == code(await service.tell(run_id, "retry"))

    served(scenario)


def test_a_signal_finds_the_runs_that_it_is_about() -> None:
    """Open ones, once for each key; where there is none that is 404 for whoever needs one."""

    async def scenario(service: Workflows) -> None:
        ids = [await service.started("refund", ORDER) for _ in range(2)]
        await service.tell(ids[0], "terminate")
        body = {"definition": "refund", "attribute": ["region", "eu"], "name": "seen", "payload": 1}
        for _ in range(2):
            sent = await service.ask("POST", "/v1/signals", body, headers=[("idempotency-key", "k")])
            assert (202, [ids[1]]) == (sent.status, sent.json()["changed"])
        assert ["seen"] == (await service.run(ids[1]))["signals"]
        nobody = {**body, "attribute": ["region", "us"]}
        assert [] == (await service.ask("POST", "/v1/signals", nobody)).json()["changed"]
        assert 404 == (await service.ask("POST", "/v1/signals", {**nobody, "require_match": True})).status

    served(scenario)


def test_runs_are_counted_by_definition() -> None:
    """Of each that there is, also of one with no run; that and one definition are two questions."""

    async def scenario(service: Workflows) -> None:
        for number in range(3):
            await service.started("refund", ORDER, id=f"r-{number}")
        await service.put("workflow: other\nstart: a\nsteps: { a: { pass: 1, end: true } }", name="other")
        answer = await service.ask("GET", "/v1/runs/count", query="group_by=definition")
        assert {"counts": {"other": 0, "refund": 3}, "total": 3} == answer.json()
        both = await service.ask("GET", "/v1/runs/count", query="group_by=definition&definition=refund")
        assert (400, "query.definition") == (both.status, both.json()["where"])
        wrong = await service.ask("GET", "/v1/runs/count", query="group_by=colour")
        assert (400, "query.group_by") == (wrong.status, wrong.json()["where"])

    served(scenario)
