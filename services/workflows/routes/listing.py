"""Many runs: find them, count them."""

from typing import Annotated, Literal

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery, JSONBody, QueryParameter

from services.workflows.book import DefinitionBook
from services.workflows.listing import Asked, attribute_in, count_by_definition, count_runs, list_runs
from services.workflows.routes.access import READ, TheRuns
from services.workflows.schemas import RunCount, RunFilter, RunList, SearchRuns, Sort
from services.workflows.standing import Status
from shared.bounds import MOMENT_MS_MAX
from shared.errors import InvalidInputError
from shared.http.auth import Caller, require
from shared.http.calls import AnyRequest
from shared.http.cursors import PageCursor, PageLimit
from shared.objects.errors import DeadlineExceededError

Book = NamedDependency[DefinitionBook]
AtStep = Annotated[
    str | None, QueryParameter(description="Runs that are at this step themselves; with their definition.")
]
OfVersion = Annotated[int | None, QueryParameter(ge=1, le=2**31, description="Of the definition, with that.")]
DueBefore = Annotated[
    int | None,
    QueryParameter(
        ge=0,
        le=MOMENT_MS_MAX,
        description="Unix ms: open runs of which a step times out, wakes or is tried again, or the deadline is over,"
        " before then.",
    ),
]
InOrder = Annotated[
    Sort | None, QueryParameter(description="`-created`: newest first; `due`: what is due, the earliest first.")
]


@get("/v1/runs", guards=[require(READ)], problems=(DeadlineExceededError,), query_prefix="attr.", tags=["runs"])
async def get_runs(
    *,
    credential: Caller,
    runs: TheRuns,
    request: AnyRequest,
    status: FromQuery[Status | None] = None,
    definition: FromQuery[str | None] = None,
    version: OfVersion = None,
    step: AtStep = None,
    due_before: DueBefore = None,
    sort: InOrder = None,
    cursor: PageCursor = None,
    limit: PageLimit = 100,
) -> RunList:
    """Runs, newest first, or what is due in its order. `attr.<name>=<value>` finds runs by one attribute of theirs."""
    wanted = RunFilter(
        status=status,
        definition=definition,
        version=version,
        attribute=attribute_in(request.query_params.items()),
        step=step,
        due_before=due_before,
    )
    asked = Asked.of(wanted, sort=sort, at="query")
    return await list_runs(runs.host, credential.tenant, asked, cursor=cursor, limit=limit)


@post("/v1/runs/search", status_code=200, guards=[require(READ)], problems=(DeadlineExceededError,), tags=["runs"])
async def search_runs(credential: Caller, runs: TheRuns, data: JSONBody[SearchRuns]) -> RunList:
    """Find runs as `GET /v1/runs` does, by a filter as a body, which is that of `POST /v1/bulk` too."""
    asked = Asked.of(data.filter, sort=data.sort)
    return await list_runs(runs.host, credential.tenant, asked, cursor=data.cursor, limit=data.limit)


@get("/v1/runs/count", guards=[require(READ)], tags=["runs"])
async def get_run_count(
    *,
    credential: Caller,
    runs: TheRuns,
    book: Book,
    definition: FromQuery[str | None] = None,
    group_by: FromQuery[Literal["status", "definition"]] = "status",
) -> RunCount:
    """How many runs there are of each status, of all definitions or of one; or of each definition that there is."""
    if group_by == "status":
        return await count_runs(runs.host, credential.tenant, definition)
    if definition is not None:
        raise InvalidInputError("Runs of one definition are counted by status", "query.definition")
    return await count_by_definition(runs.host, credential.tenant, book.names(credential.tenant))


HANDLERS = (get_runs, search_runs, get_run_count)
