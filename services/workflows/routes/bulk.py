"""Many runs at once: change those that a filter finds, signal those that are about something."""

from litestar import post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from services.workflows.book import DefinitionBook, UnknownDefinitionError
from services.workflows.bulk import change_runs
from services.workflows.refusals import RunExistsError, WrongAnswerError
from services.workflows.routes.access import ADMIN, SIGNAL_PROBLEMS, WRITE, TheRuns
from services.workflows.schemas import ChangeRuns, RunsChanged, SignalRuns
from services.workflows.signalling import signal_runs
from shared.errors import NotFoundError
from shared.http.auth import Caller, require
from shared.http.calls import AnyRequest, idempotency_key


@post("/v1/bulk", status_code=200, guards=[require(ADMIN)], durable=True, tags=["runs"])
async def change_many(credential: Caller, runs: TheRuns, data: JSONBody[ChangeRuns]) -> RunsChanged:
    """Do the same to the runs that a filter finds, 100 at most; go on with `next_cursor`. `dry_run` only names them."""
    return await change_runs(runs.host, credential.tenant, data)


@post(
    "/v1/signals",
    status_code=202,
    guards=[require(WRITE)],
    problems=(
        *SIGNAL_PROBLEMS,
        NotFoundError,
        RunExistsError,
        UnknownDefinitionError,
        WrongAnswerError,
    ),
    durable=True,
    repeatable=True,
    tags=["runs"],
)
async def signal_many(
    credential: Caller,
    runs: TheRuns,
    book: NamedDependency[DefinitionBook],
    data: JSONBody[SignalRuns],
    request: AnyRequest,
) -> RunsChanged:
    """Send a signal to the open runs that are about something, without knowing their ids; or begin one with it."""
    return await signal_runs(runs.host, book, credential.tenant, data, idempotency_key(request))


HANDLERS = (change_many, signal_many)
