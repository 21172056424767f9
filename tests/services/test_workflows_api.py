"""The workflow service through its routes: runs, answers, control; and the status of everything that fails."""

import json
import os
from typing import Any

import pytest

from services.workflows.bounds import REQUEST_BYTES_MAX
from tests.architecture.tree import ROOT
from tests.support.workflows_app import ORDER, Workflows, code, served, with_workflows

DOCUMENT = ROOT / "docs/openapi/workflows.json"


def test_the_committed_document_is_what_is_served() -> None:
    """`UPDATE_GOLDEN=1` writes it anew."""

    async def scenario(service: Workflows) -> None:
        shown = (await service.ask("GET", "/openapi.json", app=service.admin)).body
        if os.environ.get("UPDATE_GOLDEN"):
            DOCUMENT.write_bytes(shown)
        assert DOCUMENT.read_bytes() == shown

    with_workflows(scenario)


def test_a_run_from_its_start_to_its_end() -> None:
    """Started, answered, an object called, confirmed: each change is seen at once, and the history tells it."""

    async def scenario(service: Workflows) -> None:
        answer = await service.ask("POST", "/v1/runs", {"definition": "refund", "id": "r-1", "input": ORDER})
        assert (201, "/v1/runs/r%2D1".replace("%2D", "-")) == (answer.status, answer.field("location"))
        (step,) = answer.json()["steps"]
        assert ("decide", "waiting", "Refund o-1") == (step["path"], step["phase"], step["wait"]["title"])
        told = await service.tell("r-1", "steps/decide/complete", {"outcome": "yes", "by": "ann"})
        assert (200, {"id": "r-1", "status": "running"}) == (told.status, told.json())
        assert "1" == told.field("x-tenure-durability")
        assert told.field("x-object-requests") is not None
        while (await service.run("r-1"))["steps"][0]["path"] != "confirm":
            assert 200 == (await service.ask("GET", "/v1/runs/r-1?wait=1&since=2")).status
        await service.tell("r-1", "steps/confirm/complete", {"result": {"paid": 3}})
        run = await service.run("r-1")
        assert ("succeeded", {"status": "succeeded", "output": {"paid": 3}}) == (run["status"], run["end"])
        assert {"region": "eu"} == run["attributes"]
        history = (await service.ask("GET", "/v1/runs/r-1/history")).json()
        assert [
            "run.started",
            "step.entered decide",
            "step.completed decide",
            "step.entered pay",
            "step.completed pay",
            "step.entered confirm",
            "step.completed confirm",
            "run.succeeded",
        ] == [f"{line['event']} {line.get('step', '')}".strip() for line in history["lines"]]

    served(scenario)


def test_history_comes_in_pages() -> None:
    """A page goes on where the one before ended."""

    async def scenario(service: Workflows) -> None:
        run_id = await service.started("refund", ORDER)
        await service.tell(run_id, "pause")
        await service.tell(run_id, "resume")
        first = (await service.ask("GET", f"/v1/runs/{run_id}/history?limit=2")).json()
        rest = (await service.ask("GET", f"/v1/runs/{run_id}/history?after={first['next_cursor']}")).json()
        events = [line["event"] for page in (first, rest) for line in page["lines"]]
        assert ["run.started", "step.entered", "run.paused", "run.resumed"] == events
        assert rest["next_cursor"] is None
        last = (await service.ask("GET", f"/v1/runs/{run_id}/history?reverse=true&limit=2")).json()
        back = f"/v1/runs/{run_id}/history?reverse=true&after={last['next_cursor']}"
        before = (await service.ask("GET", back)).json()
        assert events[::-1] == [line["event"] for page in (last, before) for line in page["lines"]]
        assert before["next_cursor"] is None

    served(scenario)


# Starting.


def test_a_start_that_is_repeated_starts_nothing() -> None:
    """200 for the same one; 409 for another under the same id, unless that is fine with the caller."""

    async def scenario(service: Workflows) -> None:
        body = {"definition": "refund", "id": "r-1", "input": ORDER}
        assert [201, 200] == [(await service.ask("POST", "/v1/runs", body)).status for _ in range(2)]
        other = {**body, "input": {"order": "o-2", "region": "eu"}}
        assert (409, "run.exists") == code(await service.ask("POST", "/v1/runs", other))
        used = await service.ask("POST", "/v1/runs", {**other, "on_conflict": "use_existing"})
        assert (200, ORDER) == (used.status, used.json()["input"])

    served(scenario)


def test_a_start_without_an_id_is_known_by_its_key() -> None:
    """Two with the same key are one run; two without are two."""

    async def scenario(service: Workflows) -> None:
        body = {"definition": "refund", "input": ORDER}
        keyed = [
            (await service.ask("POST", "/v1/runs", body, headers=[("idempotency-key", "k-1")])).json()["id"]
            for _ in range(2)
        ]
        free = [await service.started("refund", ORDER) for _ in range(2)]
        assert (1, 3) == (len(set(keyed)), len({*keyed, *free}))

    served(scenario)


def test_a_definition_names_its_runs() -> None:
    """By the input, so that a business has one run of its own number."""

    async def scenario(service: Workflows) -> None:
        await service.put(
            'workflow: w\nrun_id: "{% $input.n %}"\nstart: a\nsteps: { a: { wait: {}, end: true } }', name="w"
        )
        assert "w/7" == await service.started("w", {"n": "w/7"})
        assert "running" == (await service.run("w/7"))["status"]
        assert (422, "wait.answer") == code(await service.ask("POST", "/v1/runs", {"definition": "w", "input": {}}))

    served(scenario)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"definition": "ghost"}, (404, "definition.unknown")),
        ({"definition": "refund", "version": 2}, (404, "definition.unknown")),
        ({"definition": "refund", "input": {}}, (422, "wait.answer")),
        ({"definition": "refund", "input": {"order": "x" * 100_000, "region": "eu"}}, (413, "payload.too_large")),
        ({"definition": "refund", "id": "x" * 300, "input": ORDER}, (400, "invalid_input")),
        ({"definition": "refund", "id": "ü" * 200, "input": ORDER}, (400, "invalid_input")),
        ({"definition": "refund", "input": ORDER, "attributes": {"a/b": "x"}}, (422, "wait.answer")),
        ({"definition": "refund", "input": ORDER, "surprise": 1}, (400, "invalid_input")),
        ({"definition": "refund", "input": "x" * REQUEST_BYTES_MAX}, (413, "too_large")),
    ],
)
def test_a_start_that_cannot_be_is_told_why(body: dict[str, Any], expected: tuple[int, str]) -> None:
    """And nothing has started."""

    async def scenario(service: Workflows) -> None:
        assert expected == code(await service.ask("POST", "/v1/runs", body))
        assert 0 == (await service.ask("GET", "/v1/runs/count")).json()["total"]

    served(scenario)


# Answers.


@pytest.mark.parametrize(
    ("what", "body", "expected"),
    [
        ("steps/decide/complete", {"outcome": "maybe"}, (422, "wait.answer")),
        ("steps/pay/complete", {}, (409, "step.not_waiting")),
        ("steps/ghost/complete", {}, (409, "step.not_waiting")),
        ("steps/decide/complete", {"outcome": "yes", "serial": 99}, (404, "task.unknown")),
        ("steps/decide/complete", {"outcome": "yes", "result": "x" * 100_000}, (413, "payload.too_large")),
        ("steps/decide/retry", {}, (409, "step.not_waiting")),
        ("steps/decide/assign", {}, (400, "invalid_input")),
        ("steps/decide/fail", {"error": "not a name"}, (400, "invalid_input")),
        ("reset", {"to_step": "ghost"}, (422, "step.unknown")),
        ("signals/seen", {"payload": "x" * 100_000}, (413, "payload.too_large")),
    ],
)
def test_what_does_not_fit_is_refused_and_the_run_is_as_it_was(what: str, body: Any, expected: tuple[int, str]) -> None:
    """Each with its status; afterwards the run is answered as if nothing had been."""

    async def scenario(service: Workflows) -> None:
        run_id = await service.started("refund", ORDER)
        before = await service.run(run_id)
        assert expected == code(await service.tell(run_id, what, body))
        assert before == await service.run(run_id)
        assert 200 == (await service.tell(run_id, "steps/decide/complete", {"outcome": "no"})).status

    served(scenario)


def test_an_answer_is_taken_once() -> None:
    """The same once more is no error where it says what it answers; another one is 409, and one to a later attempt too."""

    async def scenario(service: Workflows) -> None:
        run_id = await service.started("refund", ORDER)
        serial = (await service.run(run_id))["steps"][0]["serial"]
        answer = {"outcome": "yes", "serial": serial}
        assert [200, 200] == [(await service.tell(run_id, "steps/decide/complete", answer)).status for _ in range(2)]
        other = {"outcome": "no", "serial": serial}
        assert (409, "task.already_completed") == code(await service.tell(run_id, "steps/decide/complete", other))
        assert (409, "step.not_waiting") == code(await service.tell(run_id, "steps/decide/complete", {"outcome": "no"}))

    served(scenario)


def test_an_answer_by_name_is_known_by_its_key() -> None:
    """The same key and answer get the same reply, and another answer under it is 422."""

    async def scenario(service: Workflows) -> None:
        run_id = await service.started("refund", ORDER)
        key = [("idempotency-key", "k")]
        told = [await service.tell(run_id, "steps/decide/complete", {"outcome": "yes"}, headers=key) for _ in range(2)]
        assert [200, 200] == [answer.status for answer in told]
        other = await service.tell(run_id, "steps/decide/complete", {"outcome": "no"}, headers=key)
        assert (422, "idempotency_key_reused") == code(other)

    served(scenario)


def test_an_answer_after_its_timeout_is_gone() -> None:
    """410: the run has gone on without it."""

    async def scenario(service: Workflows) -> None:
        await service.put(
            "workflow: w\nstart: a\nsteps: { a: { wait: {}, timeout: 1s, catch: [ { errors: [timeout], next: b } ], end: true }, b: { wait: {}, end: true } }",
            name="w",
        )
        run_id = await service.started("w")
        serial = (await service.run(run_id))["steps"][0]["serial"]
        assert 200 == (await service.ask("GET", f"/v1/runs/{run_id}?wait=5&since=1")).status
        late = await service.tell(run_id, "steps/a/complete", {"serial": serial})
        assert (410, "task.timed_out") == code(late)

    served(scenario)


def test_a_wait_is_claimed_and_assigned() -> None:
    """Two cannot have it; whoever has it can give it back."""

    async def scenario(service: Workflows) -> None:
        run_id = await service.started("refund", ORDER)
        assert 200 == (await service.tell(run_id, "steps/decide/claim", {"by": "ann"})).status
        assert (409, "wait.claimed") == code(await service.tell(run_id, "steps/decide/claim", {"by": "ben"}))
        assert 200 == (await service.tell(run_id, "steps/decide/claim", {"by": ""})).status
        assert 200 == (await service.tell(run_id, "steps/decide/assign", {"user": "ben"})).status
        assert {"user": "ben"} == (await service.run(run_id))["steps"][0]["wait"]["assign"]

    served(scenario)


def test_the_same_person_cannot_answer_what_another_has_to() -> None:
    """403, and so is somebody without a name; nor is the first answer taken from somebody without one, who may be anybody."""
    text = "workflow: four\nstart: a\nsteps: { a: { wait: {}, next: b }, b: { wait: { forbid_same_user_as: [a] }, end: true } }"

    async def scenario(service: Workflows) -> None:
        await service.put(text, name="four")
        run_id = await service.started("four")
        nameless = await service.tell(run_id, "steps/a/complete", {})
        assert ((422, "wait.answer"), "/by") == (code(nameless), nameless.json()["where"])
        await service.tell(run_id, "steps/a/complete", {"by": "ann"})
        for body in ({"by": "ann"}, {}):
            assert (403, "wait.same_user") == code(await service.tell(run_id, "steps/b/complete", body))
        assert 200 == (await service.tell(run_id, "steps/b/complete", {"by": "ben"})).status

    served(scenario)


def test_a_signal_may_come_before_its_wait() -> None:
    """It is kept; sent twice under one key it is one."""
    text = "workflow: s\nstart: a\nsteps: { a: { wait: {}, next: b }, b: { wait: { signal: go }, end: true } }"

    async def scenario(service: Workflows) -> None:
        await service.put(text, name="s")
        run_id = await service.started("s")
        for _ in range(2):
            sent = await service.tell(run_id, "signals/go", {"payload": 7}, headers=[("idempotency-key", "k")])
            assert 202 == sent.status
        assert ["go"] == (await service.run(run_id))["signals"]
        await service.tell(run_id, "steps/a/complete")
        assert 7 == (await service.run(run_id))["end"]["output"]
        assert (409, "run.closed") == code(await service.tell(run_id, "signals/go", {}))

    served(scenario)


def test_a_change_can_be_made_to_the_run_as_it_was_seen_alone() -> None:
    """With its entity tag; where it has changed since that is 412, and nothing happens."""

    async def scenario(service: Workflows) -> None:
        run_id = await service.started("refund", ORDER)
        tag = (await service.ask("GET", f"/v1/runs/{run_id}")).field("etag")
        assert tag is not None
        assert 200 == (await service.tell(run_id, "pause", headers=[("if-match", tag)])).status
        assert (412, "precondition_failed") == code(await service.tell(run_id, "cancel", headers=[("if-match", tag)]))
        assert (400, "invalid_input") == code(await service.tell(run_id, "cancel", headers=[("if-match", '"v1"')]))
        assert "paused" == (await service.run(run_id))["status"]
        assert 200 == (await service.tell(run_id, "resume", headers=[("if-match", "*")])).status

    served(scenario)


def test_a_mailbox_that_is_full_says_when_to_come_again() -> None:
    """429 with Retry-After, and the run goes on."""

    async def scenario(service: Workflows) -> None:
        run_id = await service.started("refund", ORDER)
        for number in range(100):
            assert 202 == (await service.tell(run_id, f"signals/s{number}")).status
        full = await service.tell(run_id, "signals/more")
        assert ((429, "run.mailbox_full"), "1") == (code(full), full.field("retry-after"))
        assert 200 == (await service.tell(run_id, "steps/decide/complete", {"outcome": "no"})).status

    served(scenario)


# Trouble.


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ('{ pass: "{% $input.gone %}", end: true }', "expression.undefined"),
        ('{ pass: "{% ($f := function($n) { $f($n + 1) }; $f(0)) %}", end: true }', "expression.limit"),
        ("{ object: { type: shelf, id: money, call: take, args: { count: 99 } }, end: true }", "object.sold_out"),
    ],
)
def test_a_step_that_cannot_go_on_is_an_incident(step: str, error: str) -> None:
    """The run is not wedged: the step is listed, can be tried again, and can be skipped."""

    async def scenario(service: Workflows) -> None:
        await service.put(f"workflow: w\nstart: a\nsteps: {{ a: {step} }}", name="w")
        run_id = await service.started("w", {})
        await service.ask("GET", f"/v1/runs/{run_id}?wait=1")
        (incident,) = (await service.ask("GET", "/v1/incidents")).json()["incidents"]
        assert (run_id, "a", error) == (incident["run"], incident["step"], incident["error"]["error"])
        assert 200 == (await service.tell(run_id, "steps/a/retry")).status
        await service.ask("GET", f"/v1/runs/{run_id}?wait=1")
        assert "stalled" == (await service.run(run_id))["status"]
        assert "succeeded" == (await service.tell(run_id, "steps/a/skip", {"result": 1})).json()["status"]
        assert [] == (await service.ask("GET", "/v1/incidents")).json()["incidents"]

    served(scenario)


def test_a_run_that_is_cancelled_is_undone() -> None:
    """What it has taken is put back; what is terminated stays as it is."""

    async def scenario(service: Workflows) -> None:
        ids = [await service.started("refund", ORDER) for _ in range(2)]
        for run_id, how, status in zip(ids, ("cancel", "terminate"), (202, 200), strict=True):
            await service.tell(run_id, "steps/decide/complete", {"outcome": "yes"})
            await service.ask("GET", f"/v1/runs/{run_id}?wait=1")
            assert status == (await service.tell(run_id, how, {"reason": "enough"})).status
            await service.ask("GET", f"/v1/runs/{run_id}?wait=1")
        assert ["cancelled", "terminated"] == [(await service.run(run_id))["status"] for run_id in ids]
        left = await service.ask("POST", "/v1/objects/shelf/money/put_back", {"count": 0})
        assert 7 == left.json()
        assert (409, "run.closed") == code(await service.tell(ids[0], "cancel"))

    served(scenario)


def test_past_its_pivot_a_run_cannot_be_cancelled() -> None:
    """409; it can be terminated."""

    async def scenario(service: Workflows) -> None:
        await service.put(
            "workflow: p\nstart: a\nsteps: { a: { pass: 1, pivot: true, next: b }, b: { wait: {}, end: true } }",
            name="p",
        )
        run_id = await service.started("p")
        assert (409, "run.past_pivot") == code(await service.tell(run_id, "cancel"))
        assert "terminated" == (await service.tell(run_id, "terminate")).json()["status"]

    served(scenario)


def test_a_run_can_be_reset_to_a_step() -> None:
    """Also one that has ended: a new visit, in a new generation."""

    async def scenario(service: Workflows) -> None:
        run_id = await service.started("refund", ORDER)
        await service.tell(run_id, "steps/decide/complete", {"outcome": "no"})
        assert "failed" == (await service.run(run_id))["status"]
        assert 202 == (await service.tell(run_id, "reset", {"to_step": "decide"})).status
        run = await service.run(run_id)
        assert ("running", 2, "decide") == (run["status"], run["generation"], run["steps"][0]["path"])

    served(scenario)


def test_only_a_run_that_has_ended_is_forgotten() -> None:
    """409 while it is open; afterwards it is gone, and its id is free."""

    async def scenario(service: Workflows) -> None:
        run_id = await service.started("refund", ORDER)
        assert 409 == (await service.ask("DELETE", f"/v1/runs/{run_id}")).status
        await service.tell(run_id, "terminate")
        assert 204 == (await service.ask("DELETE", f"/v1/runs/{run_id}")).status
        for path in ("", "/history", "/events"):
            assert (410, "run.gone") == code(await service.ask("GET", f"/v1/runs/{run_id}{path}"))
        assert (410, "run.gone") == code(await service.tell(run_id, "pause"))
        assert (
            201
            == (await service.ask("POST", "/v1/runs", {"definition": "refund", "id": run_id, "input": ORDER})).status
        )
        assert "running" == (await service.run(run_id))["status"]

    served(scenario)


# Looking.


def test_who_waits_and_nothing_changes_is_told_so() -> None:
    """304 with the entity tag; and without `since`, the run as it is then."""

    async def scenario(service: Workflows) -> None:
        run_id = await service.started("refund", ORDER)
        seq = (await service.run(run_id))["seq"]
        unchanged = await service.ask("GET", f"/v1/runs/{run_id}?wait=2&since={seq}")
        assert (304, f'"s{seq}"', b"") == (unchanged.status, unchanged.field("etag"), unchanged.body)
        assert "running" == (await service.run(run_id, "wait=2"))["status"]

    served(scenario)


def test_runs_are_found_by_status_definition_and_attribute() -> None:
    """Newest first, in pages that together have each once."""

    async def scenario(service: Workflows) -> None:
        ids = []
        for number in range(5):
            ids.append(await service.started("refund", {"order": "o", "region": "eu" if number % 2 else "us"}))
            await service.ask("GET", f"/v1/runs/{ids[-1]}?wait=1")  # So that the next one is newer.
        await service.tell(ids[0], "terminate")

        async def found(query: str) -> list[str]:
            page = (await service.ask("GET", f"/v1/runs?{query}")).json()
            assert page["next_cursor"] is None
            return [run["id"] for run in page["runs"]]

        assert ids[::-1] == await found("limit=100")
        assert ids[:0:-1] == await found("status=running")
        assert [ids[3], ids[1]] == await found("attr.region=eu")
        assert [ids[0]] == await found("attr.region=us&status=terminated")
        assert [] == await found("definition=other")
        assert ids[:0:-1] == await found("definition=refund&status=running")
        counts = (await service.ask("GET", "/v1/runs/count?definition=refund")).json()
        assert (5, 4, 1) == (counts["total"], counts["counts"]["running"], counts["counts"]["terminated"])

    served(scenario)


def test_pages_of_runs_go_on_where_they_ended() -> None:
    """Two at a time, each once."""

    async def scenario(service: Workflows) -> None:
        ids = {await service.started("refund", ORDER) for _ in range(5)}
        seen: list[str] = []
        cursor = ""
        while True:
            page = (await service.ask("GET", f"/v1/runs?limit=2{cursor}")).json()
            seen += [run["id"] for run in page["runs"]]
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
        assert (5, ids) == (len(seen), set(seen))

    served(scenario)


@pytest.mark.parametrize(
    "query", ["cursor=no", "cursor=%21", "limit=0", "status=odd", "attr.a=1&attr.b=2", "attr.=1", "attr.a%2Fb=1"]
)
def test_a_listing_that_cannot_be_is_refused(query: str) -> None:
    """400 each, with the place."""

    async def scenario(service: Workflows) -> None:
        answer = await service.ask("GET", f"/v1/runs?{query}")
        assert (400, "invalid_input") == code(answer)

    served(scenario)


def test_runs_of_other_tenants_are_not_there() -> None:
    """Neither found, nor listed, nor changed; nor are their definitions."""

    async def scenario(service: Workflows) -> None:
        run_id = await service.started("refund", ORDER)
        other = await service.add_key("other", "workflows:read", "workflows:write", "workflows:admin")
        assert 404 == (await service.ask("GET", f"/v1/runs/{run_id}", key=other)).status
        assert [] == (await service.ask("GET", "/v1/runs", key=other)).json()["runs"]
        assert 404 == (await service.tell(run_id, "terminate", key=other)).status
        assert 404 == (await service.ask("GET", "/v1/definitions/refund", key=other)).status
        assert "running" == (await service.run(run_id))["status"]

    served(scenario)


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("PUT", "/v1/definitions/w/versions/1", "workflows:admin"),
        ("DELETE", "/v1/definitions/w/versions/1", "workflows:admin"),
        ("GET", "/v1/definitions", "workflows:read"),
        ("POST", "/v1/runs", "workflows:write"),
        ("GET", "/v1/runs/r", "workflows:read"),
        ("DELETE", "/v1/runs/r", "workflows:admin"),
        ("POST", "/v1/runs/r/terminate", "workflows:admin"),
        ("POST", "/v1/runs/r/cancel", "workflows:write"),
        ("POST", "/v1/runs/r/steps/a/complete", "workflows:write"),
        ("POST", "/v1/runs/r/steps/a/skip", "workflows:admin"),
        ("POST", "/v1/runs/r/signals/a", "workflows:write"),
        ("GET", "/v1/incidents", "workflows:read"),
    ],
)
def test_each_route_has_its_scope(method: str, path: str, scope: str) -> None:
    """A key with all other scopes is refused with the name of the one that it lacks; no key at all with 401."""

    async def scenario(service: Workflows) -> None:
        others = {"workflows:read", "workflows:write", "workflows:admin"} - {scope}
        weak = await service.add_key("acme", *others)
        refused = await service.ask(method, path, {"any": 1}, key=weak)
        assert (403, scope) == (refused.status, refused.json()["scope"])
        assert 401 == (await service.ask(method, path, {"any": 1}, key=None)).status

    served(scenario)


def test_names_in_paths_are_taken_as_they_are() -> None:
    """An id with slashes and dots, one that is called as a route is, and one that is none."""

    async def scenario(service: Workflows) -> None:
        for run_id in ("a/b", "..", "count", "ü", "a%2Fb"):
            assert run_id == await service.started("refund", ORDER, id=run_id)
        for run_id in ("a/b", "..", "ü", "a%2Fb"):
            assert run_id == (await service.run(run_id))["id"]
        named = await service.ask("GET", "/v1/runs/count", raw_path=b"/v1/runs/%63ount")
        assert "count" == named.json()["id"]
        assert 404 == (await service.ask("GET", "/v1/runs/a", raw_path=b"/v1/runs/a%2Fc")).status
        assert 400 == (await service.ask("GET", "/v1/runs/a", raw_path=b"/v1/runs/%zz")).status
        assert 400 == (await service.ask("GET", "/v1/runs/a", raw_path=b"/v1/runs/" + b"x" * 600)).status

    served(scenario)


def test_children_are_shown_with_their_parent() -> None:
    """Whose id has a slash, as that of every child that nobody named."""

    async def scenario(service: Workflows) -> None:
        await service.put(
            "workflow: p\nstart: a\nsteps: { a: { child: { workflow: refund }, input: '{% $input %}', end: true } }",
            name="p",
        )
        run_id = await service.started("p", ORDER)
        await service.ask("GET", f"/v1/runs/{run_id}?wait=1")
        child = await service.run(f"{run_id}/a:1")
        assert (run_id, "running") == (child["parent"], child["status"])
        assert 200 == (await service.tell(f"{run_id}/a:1", "steps/decide/complete", {"outcome": "no"})).status
        await service.ask("GET", f"/v1/runs/{run_id}?wait=1")
        assert "stalled" == (await service.run(run_id))["status"]

    served(scenario)


def test_the_definition_sees_its_installation() -> None:
    """`$env` is what the operator has set."""

    async def scenario(service: Workflows) -> None:
        await service.put('workflow: e\nstart: a\nsteps: { a: { pass: "{% $env.notify %}", end: true } }', name="e")
        run_id = await service.started("e")
        assert "http://here" == (await service.run(run_id))["end"]["output"]

    with_workflows(scenario, env={"notify": "http://here"})


def test_every_operation_names_its_credential() -> None:
    """No route is open, but the one whose path holds a credential."""
    paths = json.loads(DOCUMENT.read_text())["paths"]
    assert [] == paths.pop("/v1/callbacks/{token}")["post"]["security"]
    scopes = {path: [one["security"] for one in operations.values()] for path, operations in paths.items()}
    assert len(scopes) > 20
    assert all(one == [{"bearer": [one[0]["bearer"][0]]}] for several in scopes.values() for one in several)
