"""One run: start it, look at it, what happened to it, forget it."""

import secrets
from typing import Annotated

from litestar import Response, delete, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody, QueryParameter

from services.workflows.beginning import Beginning, program_of, run_id_of
from services.workflows.book import Definition, DefinitionBook, UnknownDefinitionError
from services.workflows.bounds import DURATION_MS_MAX, WAIT_S_MAX
from services.workflows.paths import run_path
from services.workflows.refusals import (
    PayloadTooLargeError,
    RunExistsError,
    RunGoneError,
    RunTooLargeError,
    WrongAnswerError,
)
from services.workflows.routes.access import ADMIN, READ, WRITE, Runs, TheRun, TheRuns, made_of_key, preferred_wait_s
from services.workflows.run import WorkflowRun
from services.workflows.schemas import HistoryPage, RunView, StartRun
from services.workflows.standing import Look
from services.workflows.views import history_page, history_page_back, run_view
from shared.errors import ConflictError
from shared.http.auth import Caller, require
from shared.http.calls import KEYED_PROBLEMS, AnyRequest, call_for, idempotency_key
from shared.http.cursors import PageLimit
from shared.objects.address import Address
from shared.objects.errors import DeadlineExceededError
from shared.objects.once import KeyedRequest

Book = NamedDependency[DefinitionBook]
Wait = Annotated[
    int, QueryParameter(ge=0, le=WAIT_S_MAX, description="Seconds to wait for the end, or for news after `since`.")
]
Since = Annotated[int | None, QueryParameter(ge=0, description="A `seq`: wait for the next change after it.")]
Place = Annotated[int | None, QueryParameter(ge=0, description="`next_cursor` of the page before.")]
Reverse = Annotated[bool, QueryParameter(description="Newest first.")]
_STARTED = {
    200: ResponseSpec(data_container=RunView, description="It was started before.", generate_examples=False),
}
_UNCHANGED = {304: ResponseSpec(data_container=None, description="Nothing has changed since.", generate_examples=False)}


@post(
    "/v1/runs",
    status_code=201,
    guards=[require(WRITE)],
    problems=(
        *KEYED_PROBLEMS,
        UnknownDefinitionError,
        RunExistsError,
        WrongAnswerError,
        PayloadTooLargeError,
        RunTooLargeError,
    ),
    responses=_STARTED,
    response_description="It has started, as far as it comes at once.",
    durable=True,
    of_object=True,
    repeatable=True,
    tags=["runs"],
)
async def start_run(
    *, credential: Caller, runs: TheRuns, book: Book, data: JSONBody[StartRun], request: AnyRequest
) -> Response[RunView]:
    """Start a run (201). Of one id there is one run: the same start once more is answered with the run (200).

    Where `on_conflict` or `reuse` lets it take the id of another, the end of the one and the beginning of the other are
    one change; an `Idempotency-Key` makes it safe to repeat even once the new one has ended.

    `Prefer: wait=N` has the answer wait for the end of the run, N seconds and at most 60.
    """
    if data.on_conflict == "terminate_existing":
        credential.require(ADMIN)
    definition = book.definition(credential.tenant, data.definition, data.version)
    run = Address(WorkflowRun.kind, credential.tenant, _run_id(request, runs, credential.tenant, definition, data))
    beginning = _beginning(definition, data, now_ms=runs.host.store_clock.now_ms())
    started = await _start(request, runs, run, data, beginning)
    headers = {"location": run_path(run.name)}
    until_ms = 0
    if wait_s := preferred_wait_s(request):
        until_ms = runs.host.store_clock.now_ms() + wait_s * 1_000
        headers["preference-applied"] = f"wait={wait_s}"
    look = await runs.wait(request, run, WorkflowRun.look, until_ms)
    headers["etag"] = _tag(look)
    return Response(run_view(look), status_code=201 if started else 200, headers=headers)


@get(
    "/v1/runs/{run_id:str}",
    guards=[require(READ)],
    problems=(DeadlineExceededError, RunGoneError),
    responses=_UNCHANGED,
    of_object=True,
    tags=["runs"],
)
async def get_run(
    run: TheRun, runs: TheRuns, request: AnyRequest, wait: Wait = 0, since: Since = None
) -> Response[RunView | None]:
    """A run as it is; with `wait`, once it has ended, or has changed after `since`, or that time has passed."""
    until_ms = runs.host.store_clock.now_ms() + wait * 1_000 if wait else 0
    look: Look = await runs.wait(request, run, WorkflowRun.look, until_ms, -1 if since is None else since)
    if since is not None and look.seq <= since:
        return Response(None, status_code=304, headers={"etag": _tag(look)})
    return Response(run_view(look), headers={"etag": _tag(look)})


@get(
    "/v1/runs/{run_id:str}/history",
    guards=[require(READ)],
    problems=(RunGoneError,),
    of_object=True,
    tags=["runs"],
)
async def get_history(
    *,
    run: TheRun,
    runs: TheRuns,
    request: AnyRequest,
    after: Place = None,
    limit: PageLimit = 100,
    reverse: Reverse = False,
) -> HistoryPage:
    """What has happened, oldest first or newest first. A limit counts turns."""
    if reverse:
        return history_page_back(await runs.call(request, run, WorkflowRun.history_back, after or 0, limit))
    return history_page(await runs.call(request, run, WorkflowRun.history, after or 0, limit), limit)


@delete(
    "/v1/runs/{run_id:str}",
    guards=[require(ADMIN)],
    problems=(*KEYED_PROBLEMS, ConflictError, RunGoneError),
    durable=True,
    of_object=True,
    tags=["runs"],
)
async def purge_run(run: TheRun, runs: TheRuns, request: AnyRequest) -> None:
    """Forget a run that has ended. Its id is free again; until it is used, whoever asks is told for a week: 410."""
    await runs.call(request, run, WorkflowRun.purge)


def _beginning(definition: Definition, data: StartRun, *, now_ms: int) -> Beginning:
    begins_ms = min(data.start_at_ms or now_ms + data.delay_ms, now_ms + DURATION_MS_MAX)
    after_ms = data.deadline_after_ms and max(now_ms, begins_ms) + data.deadline_after_ms
    deadline_ms = min((moment for moment in (data.deadline_at_ms, after_ms) if moment), default=0)
    return Beginning(
        text=definition.text,
        version=definition.version,
        input=data.input,
        attributes=data.attributes,
        begins_ms=begins_ms,
        deadline_ms=min(deadline_ms, now_ms + DURATION_MS_MAX),
        reuse=data.reuse,
        replace=data.on_conflict == "terminate_existing",
    )


async def _start(request: AnyRequest, runs: Runs, run: Address, data: StartRun, beginning: Beginning) -> bool:
    """Whether the run is new. What may take the place of another is done once for each key, as the body says."""
    key = idempotency_key(request) if beginning.replace or beginning.reuse != "never" else None
    once = None if key is None else KeyedRequest(key, WorkflowRun.start, (data,))
    try:
        started: bool = await call_for(request, runs.host, run, WorkflowRun.start, beginning, once=once)
    except RunExistsError:
        if data.on_conflict != "use_existing":
            raise
        return False
    return started


def _run_id(request: AnyRequest, runs: TheRuns, tenant: str, definition: Definition, data: StartRun) -> str:
    """The id of the run: as given, as its definition makes it, of the idempotency key, or a random one."""
    if data.id is not None:
        return data.id
    program = program_of(definition.text, definition.version)
    made = run_id_of(program, data.input, now_ms=runs.host.store_clock.now_ms())
    if made is not None:
        return made
    key = idempotency_key(request)
    if key is None:
        return f"{definition.name}-{secrets.token_hex(8)}"
    return f"{definition.name}-{made_of_key(tenant, key)}"


def _tag(look: Look) -> str:
    return f'"s{look.seq}"'


HANDLERS = (start_run, get_run, get_history, purge_run)
