"""The documented routes of the workflow service, one module for each thing that they are about."""

from services.workflows.routes import control, definitions, events, inbox, incidents, runs, signals, steps, tasks

HANDLERS = (
    *definitions.HANDLERS,
    *runs.HANDLERS,
    *events.HANDLERS,
    *signals.HANDLERS,
    *steps.HANDLERS,
    *control.HANDLERS,
    *incidents.HANDLERS,
    *tasks.HANDLERS,
    *inbox.HANDLERS,
)
