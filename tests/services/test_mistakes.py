"""What people, workers and authors get wrong, each with its stated status; and the run goes on afterwards.

A row is a request to a run that is at a known point. A mistake changes nothing: the run is as it was, and what was to
come next still can.
"""

from typing import Any, NamedTuple

import pytest

from services.workflows.bounds import DEFINITION_BYTES_MAX, PAYLOAD_BYTES_MAX, REQUEST_BYTES_MAX
from tests.support.carried import Shelf
from tests.support.receivers import Receivers, replied
from tests.support.workflows_app import Workflows, code, with_workflows

BIG = "x" * PAYLOAD_BYTES_MAX
HUGE = "x" * REQUEST_BYTES_MAX
LOOP = "{% ($f := function($n) { $f($n + 1) }; $f(0)) %}"
DEFINITION = """
workflow: trip
attributes: { city: "{% $exists($input.city) ? $input.city : 'none' %}" }
start: call
steps:
  call: { http: { POST: "https://booking.example/", callback: true }, timeout: 1h, next: book }
  book: { task: book, timeout: 1m, retry: [], catch: [ { errors: [timeout], next: ask } ], next: ask }
  ask: { wait: { title: Go?, outcomes: [yes, no], signal: said }, timeout: 1h, retry: [], next: rest }
  rest: { wait: { title: Done? }, end: true }
"""
POINTS = ("called", "leased", "late", "asked", "ended")


class Trip:
    """A run and what is known of it: what a caller may hold in hand."""

    def __init__(self, service: Workflows, callback: str) -> None:
        self.service = service
        self.callback = callback
        self.token = "tsk_none"
        self.serials: dict[str, int] = {}

    async def note(self) -> Any:
        """The run as it is, its serials noted."""
        run = await self.service.run("r-1")
        self.serials |= {step["path"]: step["serial"] for step in run["steps"]}
        return run

    async def bring(self, point: str) -> Any:
        """Bring the run to a point; the run as it is there."""
        await self.note()
        if POINTS.index(point) >= POINTS.index("leased"):
            assert 200 == (await self.service.ask("POST", self.callback, {"result": 1}, key=None)).status
            polled = await self.service.ask("POST", "/v1/queues/book/poll", {"worker": "w", "wait_ms": 20_000})
            self.token = polled.json()["tasks"][0]["token"]
            await self.note()
        if point == "late":
            await self.service.pass_time(61_000)
        if point in {"asked", "ended"}:
            assert 200 == (await self.service.ask("POST", f"/v1/tasks/{self.token}/complete", {"result": 2})).status
            await self.note()
        if point == "ended":
            await self.finish()
        return await self.note()

    async def finish(self) -> None:
        """Answer whatever the run waits for, up to its end."""
        while (run := await self.note())["end"] is None:
            (step,) = run["steps"]
            answer = {"ask": {"outcome": "yes"}}.get(step["path"], {"result": 3})
            told = await self.service.tell("r-1", f"steps/{step['path']}/complete", answer)
            assert 200 == told.status, told
        assert "succeeded" == run["status"]

    async def make(self, path: str, body: Any) -> Any:
        """A request; names in braces are filled in from what is known."""
        known = {"callback": self.callback, "task": f"/v1/tasks/{self.token}", "run": "/v1/runs/r-1"}
        method, _, target = path.format(**known).partition(" ")
        if isinstance(body, dict) and isinstance(body.get("serial"), str):
            body = {**body, "serial": self.serials[body["serial"]]}
        return await self.service.ask(method, target, body, raw_path=target.encode())


class Mistake(NamedTuple):
    """At which point of the run, what is asked, and the answer."""

    point: str
    request: str
    body: Any
    expected: tuple[int, str]


TOO_LARGE = [
    Mistake("asked", "POST /v1/runs", {"definition": "trip", "input": BIG}, (413, "payload.too_large")),
    Mistake("asked", "POST /v1/runs", {"definition": "trip", "input": HUGE}, (413, "too_large")),
    Mistake("asked", "POST {run}/steps/ask/complete", {"outcome": "yes", "result": BIG}, (413, "payload.too_large")),
    Mistake("asked", "POST {run}/steps/ask/complete", {"result": HUGE}, (413, "too_large")),
    Mistake("asked", "POST {run}/steps/ask/skip", {"result": BIG}, (413, "payload.too_large")),
    Mistake("asked", "POST {run}/steps/ask/fail", {"error": "e", "data": BIG}, (413, "payload.too_large")),
    Mistake("asked", "POST {run}/steps/ask/fail", {"error": "e", "cause": BIG}, (413, "payload.too_large")),
    Mistake("asked", "POST {run}/signals/more", {"payload": BIG}, (413, "payload.too_large")),
    Mistake("leased", "POST {task}/complete", {"result": BIG}, (413, "payload.too_large")),
    Mistake("leased", "POST {task}/fail", {"error": "e", "data": BIG}, (413, "payload.too_large")),
    Mistake("leased", "POST {task}/heartbeat", {"progress": BIG}, (413, "payload.too_large")),
    Mistake("called", "POST {callback}", {"result": BIG}, (413, "payload.too_large")),
    Mistake("called", "POST {callback}", {"error": "e", "data": BIG}, (413, "payload.too_large")),
    Mistake(
        "asked",
        "POST /v1/signals",
        {"definition": "trip", "attribute": ["city", "none"], "name": "more", "payload": BIG},
        (413, "payload.too_large"),
    ),
    Mistake(
        "asked",
        "PUT /v1/definitions/big/versions/1",
        {"workflow": "big", "start": "a", "steps": {"a": {"pass": "x" * DEFINITION_BYTES_MAX, "end": True}}},
        (422, "definition.invalid"),
    ),
    Mistake("asked", "PUT /v1/definitions/big/versions/1", {"workflow": HUGE}, (413, "too_large")),
]
UNKNOWN = [
    *(
        Mistake("asked", f"POST {{run}}/steps/{step}/{verb}", body, (409, "step.not_waiting"))
        for step in ("ghost", "ask%2Fin%2Fside", "rest", "call", "ask%21undo")
        for verb, body in (
            ("complete", {}),
            ("fail", {"error": "e"}),
            ("claim", {"by": "ann"}),
            ("assign", {"user": "ann"}),
            ("skip", {}),
            ("retry", {}),
        )
    ),
    Mistake("asked", "POST {run}/steps/ask/retry", {}, (409, "step.not_waiting")),
    Mistake("asked", "POST {run}/reset", {"to_step": "ghost"}, (422, "step.unknown")),
    Mistake("asked", "POST /v1/runs", {"definition": "ghost"}, (404, "definition.unknown")),
    Mistake("asked", "POST /v1/runs/ghost/steps/ask/complete", {}, (404, "not_found")),
    Mistake("asked", "POST /v1/runs/ghost/signals/more", {}, (404, "not_found")),
    Mistake("asked", "POST /v1/runs/ghost/cancel", {}, (404, "not_found")),
    Mistake("asked", "POST /v1/tasks/tsk_none/complete", {}, (404, "task.unknown")),
    Mistake("asked", "POST /v1/callbacks/none", {"result": 1}, (404, "callback.unknown")),
    Mistake("asked", "POST {run}/steps/ask/complete", {"outcome": "yes", "serial": 99}, (404, "task.unknown")),
    Mistake("asked", "POST {run}/steps/ask/complete", {"outcome": "maybe"}, (422, "wait.answer")),
    Mistake(
        "asked",
        "PUT /v1/definitions/bad/versions/1",
        {"workflow": "bad", "start": "a", "steps": {"a": {"pass": 1, "next": "ghost"}}},
        (422, "definition.invalid"),
    ),
    Mistake(
        "asked",
        "PUT /v1/definitions/bad/versions/1",
        {"workflow": "bad", "start": "a", "steps": {"a": {"pass": "{% 1 + %}", "end": True}}},
        (422, "definition.invalid"),
    ),
]
TWICE_OR_LATE = [
    Mistake("asked", "POST {task}/complete", {"result": 9}, (409, "task.already_completed")),
    Mistake("asked", "POST {task}/fail", {"error": "e"}, (409, "task.already_completed")),
    Mistake(
        "asked", "POST {run}/steps/book/complete", {"result": 9, "serial": "book"}, (409, "task.already_completed")
    ),
    Mistake("asked", "POST {callback}", {"result": 9}, (409, "task.already_completed")),
    Mistake("late", "POST {task}/complete", {"result": 9}, (410, "task.timed_out")),
    Mistake("late", "POST {task}/fail", {"error": "e"}, (410, "task.timed_out")),
    Mistake("late", "POST {run}/steps/book/complete", {"result": 9, "serial": "book"}, (410, "task.timed_out")),
]
ENDED = [
    *(
        Mistake("ended", f"POST {{run}}/{what}", body, (409, "run.closed"))
        for what, body in (
            ("signals/said", {"payload": 1}),
            ("signals/more", {}),
            ("steps/ask/complete", {"outcome": "yes"}),
            ("steps/rest/fail", {"error": "e"}),
            ("steps/rest/skip", {}),
            ("steps/rest/retry", {}),
            ("steps/rest/claim", {"by": "ann"}),
            ("pause", {}),
            ("resume", {}),
            ("cancel", {}),
            ("terminate", {}),
        )
    ),
    Mistake("ended", "POST {task}/complete", {"result": 9}, (409, "run.closed")),
    Mistake("ended", "POST {callback}", {"result": 9}, (409, "run.closed")),
]


@pytest.mark.parametrize("point", POINTS)
def test_a_mistake_has_its_status_and_changes_nothing(point: str) -> None:
    """All that is done wrong with a run at this point, one after another: it is as it was, and goes on to its end."""
    calls = Receivers(replied(202))
    rows = [row for row in (*TOO_LARGE, *UNKNOWN, *TWICE_OR_LATE, *ENDED) if row.point == point]
    assert rows

    async def scenario(service: Workflows) -> None:
        assert 201 == (await service.put(DEFINITION, name="trip")).status
        await service.started("trip", {}, id="r-1")
        await service.settle()
        trip = Trip(service, calls.made[0].request.engine_headers["Tenure-Callback"])
        before = await trip.bring(point)
        answers = [(row, code(await trip.make(row.request, row.body))) for row in rows]
        shown = [(str(row)[:120], row.expected, answer) for row, answer in answers if row.expected != answer]
        assert [] == shown
        assert before == await service.run("r-1")
        await trip.finish()

    with_workflows(scenario, calls=calls)


PLACES = {
    "a result": {"pass": LOOP, "end": True},
    "a rule": {"choice": [{"when": LOOP, "next": "rest"}], "default": "rest"},
    "a title": {"wait": {"title": LOOP}, "end": True},
    "an address": {"http": {"POST": LOOP}, "end": True},
    "the input of a task": {"task": "q", "input": LOOP, "end": True},
    "the arguments of an object": {
        "object": {"type": "shelf", "id": "s", "call": "take", "args": {"count": LOOP}},
        "end": True,
    },
    "the items of a map": {
        "map": {"items": LOOP},
        "each": {"start": "in", "steps": {"in": {"pass": 1, "end": True}}},
        "end": True,
    },
    "how long to sleep": {"sleep": LOOP, "end": True},
    "until when to sleep": {"sleep_until": LOOP, "end": True},
    "a variable": {"pass": 1, "assign_vars": {"v": LOOP}, "end": True},
    "an output": {"pass": 1, "output": LOOP, "end": True},
    "a child's input": {"child": {"workflow": "trip"}, "input": LOOP, "end": True},
    "a cause": {"fail": {"error": "e", "cause": LOOP}},
    "an end": {"succeed": LOOP},
}


@pytest.mark.parametrize("loop", [LOOP, "{% $input.gone %}", "{% 'a' + 1 %}"], ids=["endless", "no value", "no number"])
def test_an_expression_that_is_wrong_is_an_incident_wherever_it_stands(loop: str) -> None:
    """The step stalls with the error of the expression, and who looks at it can skip the step or cancel the run."""

    async def scenario(service: Workflows) -> None:
        assert 201 == (await service.put(DEFINITION, name="trip")).status
        for place, tree in PLACES.items():
            await wrong(service, place, _with(tree, loop))

    with_workflows(scenario, objects=[Shelf])


async def wrong(service: Workflows, place: str, step: Any) -> None:
    """A run of this step is an incident, and can be got out of it."""
    name = place.replace(" ", "-").replace("'", "")
    rest = {"rest": {"wait": {}, "end": True}} if "rest" in str(step) else {}
    tree = {"workflow": name, "start": "a", "steps": {"a": step, **rest}}
    put = await service.ask("PUT", f"/v1/definitions/{name}/versions/1", tree)
    assert 201 == put.status, (place, put)
    await service.started(name, {}, id=name)
    await service.settle()
    (incident,) = (await service.ask("GET", "/v1/incidents")).json()["incidents"]
    assert (name, "a") == (incident["run"], incident["step"])
    assert incident["error"]["error"].startswith("expression."), (place, incident)
    if {"assign_vars", "output", "choice"} & set(step):  # Skipped, it would be evaluated again.
        assert 409 == (await service.tell(name, "steps/a/complete", {})).status
        assert 202 == (await service.tell(name, "cancel", {})).status
    else:
        assert "succeeded" == (await service.tell(name, "steps/a/skip", {"result": 1})).json()["status"]
    await service.settle()
    assert [] == (await service.ask("GET", "/v1/incidents")).json()["incidents"], place


@pytest.mark.parametrize("loop", [LOOP, "{% $input.gone %}"], ids=["endless", "no value"])
@pytest.mark.parametrize("member", ["run_id", "attributes"])
def test_a_start_whose_expression_is_wrong_starts_nothing(member: str, loop: str) -> None:
    """422, with the reason, and nothing is kept."""
    value: Any = loop if member == "run_id" else {"city": loop}
    tree = {"workflow": "w", "start": "a", "steps": {"a": {"pass": 1, "end": True}}, member: value}

    async def scenario(service: Workflows) -> None:
        assert 201 == (await service.ask("PUT", "/v1/definitions/w/versions/1", tree)).status
        refused = await service.ask("POST", "/v1/runs", {"definition": "w", "input": {}})
        assert (422, "wait.answer") == code(refused)
        assert 0 == (await service.ask("GET", "/v1/runs/count")).json()["total"]

    with_workflows(scenario)


def _with(tree: Any, loop: str) -> Any:
    """The step with another expression in the place of the endless one."""
    if isinstance(tree, dict):
        return {name: _with(value, loop) for name, value in tree.items()}
    if isinstance(tree, list):
        return [_with(value, loop) for value in tree]
    return loop if tree == LOOP else tree
