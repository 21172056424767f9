"""What of a run's history is counted: how runs begin and end, and what becomes of steps."""

from collections.abc import Iterable

from services.workflows.intents import Intent, Record
from shared.telemetry.catalogue import WORKFLOW_RUNS, WORKFLOW_STEPS
from shared.telemetry.metrics import Metrics

_RUNS = {f"run.{event}": event for event in WORKFLOW_RUNS.labels["event"] or ()}
_STEPS = {f"step.{event}": event for event in WORKFLOW_STEPS.labels["event"] or ()}


def count(metrics: Metrics, effects: Iterable[Intent]) -> None:
    """Count what a turn tells. A turn that is not stored was counted all the same, and is counted again."""
    for effect in effects:
        if not isinstance(effect, Record):
            continue
        if (event := _STEPS.get(effect.event)) is not None:
            metrics.workflow_step(event)
        elif (event := _RUNS.get(effect.event)) is not None:
            metrics.workflow_run(event)
