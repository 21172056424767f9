"""How runs are started under an id that was used before, and by when they have to be over."""

import re
from typing import Any

import pytest

from tests.support.workflows_app import ALL, ORDER, Workflows, code, served

MINUTE_MS = 60_000
OTHER = ORDER | {"order": "o-2"}


async def start(service: Workflows, run_input: Any = ORDER, *, key: str = "", **more: Any) -> Any:
    """The answer to a start of the run r-1."""
    body = {"definition": "refund", "id": "r-1", "input": run_input, **more}
    return await service.ask("POST", "/v1/runs", body, headers=[("idempotency-key", key)] if key else [])


@pytest.mark.parametrize("how", ["deadline_at_ms", "deadline_after_ms"])
def test_a_run_is_given_a_deadline_at_its_start(how: str) -> None:
    """It is shown, and the run has failed once it is over, though its definition has none."""

    async def scenario(service: Workflows) -> None:
        began_ms = (await service.run(await service.started("refund", ORDER)))["started_ms"]
        due_ms = began_ms + MINUTE_MS
        given = {"deadline_at_ms": due_ms} if how == "deadline_at_ms" else {"deadline_after_ms": MINUTE_MS}
        run_id = await service.started("refund", ORDER, **given)
        assert abs((await service.run(run_id))["deadline_ms"] - due_ms) < 1_000
        await service.pass_time(MINUTE_MS - 2_000)
        assert "running" == (await service.run(run_id))["status"]
        await service.pass_time(3_000)
        run = await service.run(run_id)
        assert ("failed", "deadline", None) == (run["status"], run["end"]["error"]["error"], run["deadline_ms"])

    served(scenario)


@pytest.mark.parametrize(("after_ms", "output"), [(MINUTE_MS, "late"), (3 * MINUTE_MS, "late"), (0, "late")])
def test_the_earlier_deadline_counts(after_ms: int, output: str) -> None:
    """Of what was given and what the definition says; where the run goes on then is what the definition says."""
    text = """
workflow: due
deadline: { after: 2m, next: over }
start: a
steps: { a: { wait: {}, end: true }, over: { pass: late, end: true } }
"""

    async def scenario(service: Workflows) -> None:
        await service.put(text, name="due")
        run_id = await service.started("due", deadline_after_ms=after_ms, delay_ms=MINUTE_MS)
        due_ms = MINUTE_MS + min(after_ms or 2 * MINUTE_MS, 2 * MINUTE_MS)
        run = await service.run(run_id)
        assert abs(run["deadline_ms"] - run["started_ms"] - due_ms) < 100
        await service.pass_time(due_ms + 1_000)
        assert output == (await service.run(run_id))["end"]["output"]

    served(scenario)


def test_a_deadline_that_is_over_before_the_run_begins_is_refused() -> None:
    """A new run has not begun then; the same start of one that is there is answered all the same."""

    async def scenario(service: Workflows) -> None:
        run = (await start(service, deadline_after_ms=MINUTE_MS)).json()
        await service.pass_time(2 * MINUTE_MS)
        assert 200 == (await start(service, deadline_at_ms=run["deadline_ms"])).status
        late = await start(service, id="r-2", deadline_at_ms=run["deadline_ms"])
        assert (422, "$.deadline_at_ms") == (late.status, late.json()["where"])
        assert 404 == (await service.ask("GET", "/v1/runs/r-2")).status
        early = await start(
            service, id="r-2", delay_ms=2 * MINUTE_MS, deadline_at_ms=run["deadline_ms"] + 2 * MINUTE_MS
        )
        assert 422 == early.status

    served(scenario)


@pytest.mark.parametrize(
    ("reuse", "ended", "expected"),
    [
        ("never", "terminate", 409),
        ("failed_only", "terminate", 201),
        ("failed_only", "complete", 409),
        ("any", "complete", 201),
        ("any", "nothing", 409),
    ],
)
def test_the_id_of_a_run_that_has_ended_may_be_used_again(reuse: str, ended: str, expected: int) -> None:
    """Never, where it did not succeed, or always; never that of one that is open."""

    async def scenario(service: Workflows) -> None:
        await service.put("workflow: w\nstart: a\nsteps: { a: { wait: {}, end: true } }", name="w")
        body = {"definition": "w", "id": "r-1", "input": 1}
        await service.ask("POST", "/v1/runs", body)
        if ended != "nothing":
            await service.tell("r-1", "terminate" if ended == "terminate" else "steps/a/complete")
        answer = await service.ask("POST", "/v1/runs", body | {"input": 2, "reuse": reuse})
        assert expected == answer.status
        assert (2 if expected == 201 else 1) == (await service.run("r-1"))["input"]
        again = await service.ask("POST", "/v1/runs", body | {"input": 2, "reuse": reuse})
        assert (200 if expected == 201 else 409) == again.status

    served(scenario)


def test_a_run_takes_the_place_of_another_that_is_open() -> None:
    """The other is terminated, and found under its attributes no more; its steps cannot be answered."""

    async def scenario(service: Workflows) -> None:
        (old,) = (await start(service, attributes={"team": "a"})).json()["steps"]
        answer = await start(service, OTHER, on_conflict="terminate_existing")
        assert (201, OTHER, {"region": "eu"}) == (answer.status, answer.json()["input"], answer.json()["attributes"])
        assert [] == (await service.ask("GET", "/v1/runs?attr.team=a")).json()["runs"]
        late = await service.tell("r-1", "steps/decide/complete", {"outcome": "yes", "serial": old["serial"]})
        assert (409, "task.superseded") == code(late)
        history = (await service.ask("GET", "/v1/runs/r-1/history")).json()["lines"]
        assert [
            "run.started",
            "step.entered",
            "step.withdrawn",
            "run.terminated",
            "run.started",
            "step.entered",
        ] == [line["event"] for line in history]
        await service.settle()
        inbox = (await service.ask("GET", "/v1/inbox?group=support")).json()["items"]
        assert ["Refund o-2"] == [item["title"] for item in inbox]

    served(scenario)


def test_the_same_start_once_more_terminates_nothing() -> None:
    """Nor does one whose id belongs to a run that has ended, as long as that may not be used again."""

    async def scenario(service: Workflows) -> None:
        assert 201 == (await start(service)).status
        assert 200 == (await start(service, on_conflict="terminate_existing")).status
        await service.tell("r-1", "terminate")
        assert (409, "run.exists") == code(await start(service, OTHER, on_conflict="terminate_existing"))
        assert 201 == (await start(service, OTHER, on_conflict="terminate_existing", reuse="any")).status

    served(scenario)


def test_a_start_under_a_key_takes_a_place_once() -> None:
    """Also when what it has started has ended since, and though time has passed."""

    async def scenario(service: Workflows) -> None:
        await start(service)
        how = {"on_conflict": "terminate_existing", "reuse": "any", "delay_ms": MINUTE_MS}
        first = await start(service, OTHER, key="k", **how)
        await service.tell("r-1", "terminate")
        await service.pass_time(10)
        again = await start(service, OTHER, key="k", **how)
        assert (201, "terminated") == (first.status, again.json()["status"])
        assert (422, "idempotency_key_reused") == code(await start(service, ORDER, key="k", **how))

    served(scenario)


def test_who_may_not_terminate_may_not_have_a_start_do_it() -> None:
    """It is refused before anything is looked at."""

    async def scenario(service: Workflows) -> None:
        await start(service)
        key = await service.add_key("other", *(scope for scope in ALL if scope != "workflows:admin"))
        body = {"definition": "refund", "id": "r-1", "input": OTHER, "on_conflict": "terminate_existing"}
        await service.node.shared_documents.poll()
        refused = await service.ask("POST", "/v1/runs", body, key=key)
        assert 403 == refused.status, refused

    served(scenario)


def test_calls_of_a_run_that_took_a_place_have_keys_of_their_own() -> None:
    """A receiver takes none for a repeat of what the run before has sent."""
    text = "workflow: w\nstart: a\nsteps: { a: { task: q, end: true } }"

    async def scenario(service: Workflows) -> None:
        await service.put(text, name="w")
        keys = []
        for number in range(3):
            how = {"on_conflict": "terminate_existing"} if number else {}
            await service.started("w", number, id="r-1", **how)
            await service.settle()
            polled = await service.ask("POST", "/v1/queues/q/poll", {"worker": "w", "max": 5, "wait_ms": 1_000})
            keys += [task["key"] for task in polled.json()["tasks"]]
        assert ["r-1/a:1", "r-1/~2/a:1", "r-1/~3/a:1"] == keys
        assert all(re.fullmatch(r"[ -~]+", key) for key in keys)

    served(scenario)


def test_a_run_whose_input_would_stand_in_too_many_places_is_not_begun() -> None:
    """Its caller is told; where it is a child, the step of its parent is."""
    branches = ", ".join(f"b{n}: {{ start: t, steps: {{ t: {{ task: q, end: true }} }} }}" for n in range(5))
    wide = f"workflow: wide\nstart: a\nsteps: {{ a: {{ parallel: {{ branches: {{ {branches} }} }}, end: true }} }}"
    above = "workflow: above\nstart: a\nsteps: { a: { child: { workflow: wide }, end: true } }"

    async def scenario(service: Workflows) -> None:
        for name, text in (("wide", wide), ("above", above)):
            assert 201 == (await service.put(text, name=name)).status
        body = {"definition": "wide", "input": "x" * 60_000, "id": "r-1"}
        assert (413, "run.too_large") == code(await service.ask("POST", "/v1/runs", body))
        assert 404 == (await service.ask("GET", "/v1/runs/r-1")).status
        await service.started("above", "x" * 60_000, id="r-2")
        await service.settle()
        (step,) = (await service.run("r-2"))["steps"]
        assert ("stalled", "child.bad_input") == (step["phase"], step["error"]["error"])

    served(scenario)
