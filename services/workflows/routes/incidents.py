"""Incidents: steps that wait for somebody who helps."""

from litestar import get
from litestar.params import FromPath, JSONBody

from services.workflows.events import Retried, Skipped
from services.workflows.incident_ids import read_incident
from services.workflows.listing import list_incidents
from services.workflows.refusals import SupersededError
from services.workflows.routes.access import ADMIN, ANSWER_PROBLEMS, READ, WRITE, TheRuns, change
from services.workflows.run import WorkflowRun
from services.workflows.schemas import IncidentList, ResolveIncident, RunChanged
from shared.errors import ForbiddenError, InvalidInputError
from shared.http.auth import Caller, require
from shared.http.calls import AnyRequest
from shared.http.cursors import PageCursor, PageLimit
from shared.objects.address import Address
from shared.objects.errors import DeadlineExceededError


@get("/v1/incidents", guards=[require(READ)], problems=(DeadlineExceededError,), tags=["incidents"])
async def get_incidents(
    credential: Caller, runs: TheRuns, cursor: PageCursor = None, limit: PageLimit = 100
) -> IncidentList:
    """Steps that have stalled, with why; of the newest runs first. Retry or skip the step, or end its run."""
    return await list_incidents(runs.host, credential.tenant, cursor=cursor, limit=limit)


@change(
    "/v1/incidents/{incident_id:str}/resolve",
    guards=[require(WRITE)],
    problems=(*ANSWER_PROBLEMS, SupersededError),
    tags=["incidents"],
)
async def resolve_incident(
    credential: Caller, runs: TheRuns, incident_id: FromPath[str], data: JSONBody[ResolveIncident], request: AnyRequest
) -> RunChanged:
    """Retry or (with the scope `workflows:admin`) skip a step that has stalled, unless somebody else has by now."""
    run_id, path, serial = read_incident(incident_id)
    run = Address(WorkflowRun.kind, credential.tenant, run_id)
    if data.action == "retry":
        if data.result is not None:
            raise InvalidInputError("A step that is retried makes its own result", "$.result")
        return await runs.change(request, run, Retried(path=path, serial=serial))
    if ADMIN not in credential.scopes:
        raise ForbiddenError(ADMIN)
    return await runs.change(request, run, Skipped(path=path, serial=serial, result=data.result))


HANDLERS = (get_incidents, resolve_incident)
