"""One trace joins what a request began: the run, the objects that its steps call, the child and what that calls."""

from shared.telemetry.sampling import Sampler
from shared.telemetry.spans import SpanData
from shared.telemetry.traces import Tracer
from tests.support.carried import Shelf
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
