"""The documented routes of the workflow service, one module for each thing that they are about."""

from services.workflows.routes import (
    bulk,
    callbacks,
    control,
    definitions,
    events,
    inbox,
    incidents,
    listing,
    runs,
    schedules,
    signals,
    steps,
    tasks,
)
from services.workflows.routes.access import ADMIN, READ
from services.workflows.webhooks import RunSubscription
from shared.webhooks.routes import webhook_routes

HANDLERS = (
    *definitions.HANDLERS,
    *runs.HANDLERS,
    *listing.HANDLERS,
    *schedules.HANDLERS,
    *events.HANDLERS,
    *signals.HANDLERS,
    *steps.HANDLERS,
    *callbacks.HANDLERS,
    *control.HANDLERS,
    *bulk.HANDLERS,
    *incidents.HANDLERS,
    *tasks.HANDLERS,
    *inbox.HANDLERS,
    *webhook_routes(RunSubscription, read=READ, admin=ADMIN),
)
