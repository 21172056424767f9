"""What is traced of a run: what happens to it, and each step with how long it took, over months and over crashes.

A run that was started in a sampled request keeps that span. A later turn that is in no sampled trace begins one of its
own, linked to the start, so what it causes (calls, children, messages to subscribers) is in that. A step that lasts
longer than a turn is a span of its own when it has ended, linked to the start and to the turn that ended it, or part of
the trace of the start where that goes on so long. Of a run whose start was not sampled nothing is recorded here, and
without a collector nothing is asked.
"""

from collections.abc import Iterable

from services.workflows.bounds import STEP_SPANS_PER_TURN
from services.workflows.events import AnyEvent, Heartbeat, Leased, Released
from services.workflows.intents import Intent, Record
from services.workflows.state import Activity, Run
from shared.objects.address import Address
from shared.telemetry.context import current_trace
from shared.telemetry.spans import Attribute
from shared.telemetry.traces import NO_SPAN, NoSpan, Span, Tracer

_OFTEN = (Heartbeat, Leased, Released)
"""These come as often as a worker likes, and lead to nothing."""
_MS_NS = 1_000_000
_ENDS = {"step.completed", "step.caught", "step.failed", "step.withdrawn"}
_ERRORS = {"step.caught", "step.failed"}


def event_span(tracer: Tracer, origin: str, run: Address, event: AnyEvent) -> Span | NoSpan:
    """The span of what happens to a run, where it is part of none."""
    if current_trace.get() is not None or isinstance(event, _OFTEN):
        return NO_SPAN
    return tracer.linked(f"run {type(event).__name__}", origin, {"tenure.object.id": str(run)})


def record_steps(
    tracer: Tracer, origin: str, run: Address, *, before: Run, after: Run, effects: Iterable[Intent], at_ms: int
) -> None:
    """The spans of the steps that were under way and have ended in this turn."""
    still = {activity.entry for activity in _activities(after)}
    ended = [activity for activity in _activities(before) if activity.entry not in still][:STEP_SPANS_PER_TURN]
    if not ended:
        return
    how = {one.path: one.event for one in effects if isinstance(one, Record) and one.event in _ENDS}
    for activity in ended:
        outcome = how.get(activity.path, "step.withdrawn")
        attributes: dict[str, Attribute] = {
            "tenure.object.id": str(run),
            "tenure.workflow.definition": before.definition,
            "tenure.workflow.version": before.version,
            "tenure.step.path": activity.path,
            "tenure.step.attempts": activity.attempt,
            "tenure.outcome": outcome.removeprefix("step."),
        }
        failure = activity.failure.error if activity.failure is not None else "step.failed"
        tracer.record_linked(
            f"step {before.definition}/{activity.step}",
            origin,
            activity.entered_ms * _MS_NS,
            at_ms * _MS_NS,
            attributes,
            error=failure if outcome in _ERRORS else "",
            within=current_trace.get(),
        )


def _activities(run: Run) -> list[Activity]:
    return [scope.activity for scope in run.scopes.values() if scope.activity is not None]
