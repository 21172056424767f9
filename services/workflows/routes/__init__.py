"""The documented routes of the workflow service, one module for each thing that they are about."""

from services.workflows.routes import control, definitions, inbox, incidents, runs, signals, steps

HANDLERS = (
    *definitions.HANDLERS,
    *runs.HANDLERS,
    *signals.HANDLERS,
    *steps.HANDLERS,
    *control.HANDLERS,
    *incidents.HANDLERS,
    *inbox.HANDLERS,
)
