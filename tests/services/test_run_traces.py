"""One trace joins what a request began: the run, the objects that its steps call, the child and what that calls."""

from shared.telemetry.sampling import Sampler
from shared.telemetry.spans import SpanData
from shared.telemetry.traces import Tracer
from tests.support.carried import Shelf
from tests.support.receivers import Receivers, replied
from tests.support.workflows_app import Workflows, with_workflows

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = """
workflow: parent
start: take
steps:
  take: { object: { type: shelf, id: a, call: take, args: { count: 1 } }, next: below }
  below: { child: { workflow: child }, end: true }
"""
CHILD = "workflow: child\nstart: a\nsteps: { a: { object: { type: shelf, id: b, call: take, args: { count: 1 } }, end: true } }"


class Spans:
    """What was recorded."""

    def __init__(self) -> None:
        self.found: list[SpanData] = []

    def emit(self, span: SpanData, /) -> None:
        self.found.append(span)


def test_what_a_run_has_done_at_once_belongs_to_the_trace_of_its_request() -> None:
    """Two shelves, two runs, and the report from one to the other: each turn is in the trace of the start."""
    spans = Spans()

    async def scenario(service: Workflows) -> None:
        for name, text in (("parent", PARENT), ("child", CHILD)):
            await service.put(text, name=name)
        sampled = [("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01")]
        started = await service.ask("POST", "/v1/runs", {"definition": "parent", "id": "p"}, headers=sampled)
        assert 201 == started.status
        await service.settle()
        assert "succeeded" == (await service.run("p"))["status"]

    with_workflows(scenario, objects=[Shelf], tracer=Tracer(Sampler(ratio=0.0), spans))
    assert {TRACE} == {f"{span.context.trace_id:032x}" for span in spans.found}
    turns = [span.name for span in spans.found if span.name.startswith("turn ")]
    assert 2 == turns.count("turn shelf/take")
    assert {"turn run/start", "turn run/start_child", "turn run/settle"} <= set(turns)


SLOW = """
workflow: slow
start: ask
steps:
  ask: { wait: { title: Go? }, next: rest }
  rest: { sleep: 30s, next: both }
  both:
    parallel:
      join: any
      branches:
        a: { start: t, steps: { t: { wait: {}, end: true } } }
        b: { start: t, steps: { t: { wait: {}, end: true } } }
    next: done
  done: { pass: 1, end: true }
"""


async def lived_through(service: Workflows, headers: list[tuple[str, str]]) -> None:
    """A run from its start to the message of its end; who answers it samples nothing."""
    assert 201 == (await service.put(SLOW, name="slow")).status
    hook = await service.ask("PUT", "/v1/webhooks/shop", {"url": "https://shop.example/hooks"})
    assert 201 == hook.status
    started = await service.ask("POST", "/v1/runs", {"definition": "slow", "id": "r-1"}, headers=headers)
    assert 201 == started.status
    await service.pass_time(60_000)
    assert 200 == (await service.tell("r-1", "steps/ask/complete")).status
    await service.pass_time(40_000)
    step = "/v1/runs/r-1/steps/both%2Fa%2Ft/complete"
    assert 200 == (await service.ask("POST", step, {}, raw_path=step.encode())).status
    await service.pass_time(10_000)
    assert "succeeded" == (await service.run("r-1"))["status"]


def traced(headers: list[tuple[str, str]]) -> list[SpanData]:
    """The spans of that life."""
    spans = Spans()

    async def scenario(service: Workflows) -> None:
        await lived_through(service, headers)

    with_workflows(scenario, tracer=Tracer(Sampler(ratio=0.0), spans), calls=Receivers(replied(204)))
    return spans.found


def test_each_step_of_a_run_is_a_span_that_is_linked_to_its_start() -> None:
    """With how long it took and how it ended; what woke the run, and the message to a subscriber, are linked too."""
    found = traced([("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01")])
    (start,) = (span.context for span in found if span.name == "turn run/start")
    steps = {str(span.attributes["tenure.step.path"]): span for span in found if span.name.startswith("step slow/")}
    assert {"ask", "rest", "both", "both/a/t", "both/b/t"} == steps.keys()
    seconds = {path: round((span.end_ns - span.start_ns) / 1e9) for path, span in steps.items()}
    assert {"ask": 60, "rest": 30, "both": 10, "both/a/t": 10, "both/b/t": 10} == seconds
    outcomes = {path: span.attributes["tenure.outcome"] for path, span in steps.items()}
    assert ("completed", "withdrawn") == (outcomes["ask"], outcomes["both/b/t"])
    events = [span for span in found if span.name.startswith("run ")]
    assert ["run Completed", "run TimerDue", "run Completed"] == [span.name for span in events]
    for span in (*steps.values(), *events):
        assert start in span.links
        assert start.trace_id != span.context.trace_id
    (tell,) = (span for span in found if span.name == "turn delivery/tell")
    (sent,) = (span for span in found if span.name.startswith("webhook "))
    assert ([tell.context], 204) == (list(sent.links), sent.attributes["http.response.status_code"])
    assert events[-1].context.trace_id == tell.context.trace_id


def test_a_run_that_nobody_samples_leaves_no_span() -> None:
    """Neither at its start nor at any later turn."""
    assert [] == traced([])
