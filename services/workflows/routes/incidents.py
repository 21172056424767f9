"""Incidents: steps that wait for somebody who helps."""

from litestar import get

from services.workflows.listing import list_incidents
from services.workflows.routes.access import READ, Cursor, Limit, TheRuns
from services.workflows.schemas import IncidentList
from shared.http.auth import Caller, require
from shared.objects.errors import DeadlineExceededError


@get("/v1/incidents", guards=[require(READ)], problems=(DeadlineExceededError,), tags=["incidents"])
async def get_incidents(credential: Caller, runs: TheRuns, cursor: Cursor = None, limit: Limit = 100) -> IncidentList:
    """Steps that have stalled, with why; of the newest runs first. Retry or skip the step, or end its run."""
    return await list_incidents(runs.host, credential.tenant, cursor=cursor, limit=limit)


HANDLERS = (get_incidents,)
