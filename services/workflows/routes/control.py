"""What can be done to a whole run: cancel, terminate, pause, resume, retry, restart, reset, migrate."""

import secrets

from litestar import Response, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from services.workflows.beginning import Beginning
from services.workflows.book import DefinitionBook, UnknownDefinitionError
from services.workflows.changing import Migrate
from services.workflows.events import Cancelled, Paused, Reset, Resumed, Terminated
from services.workflows.paths import run_path
from services.workflows.records import Kept
from services.workflows.refusals import (
    NotWaitingError,
    PastPivotError,
    RunExistsError,
    UnknownStepError,
    UnmappableStepError,
    WrongAnswerError,
)
from services.workflows.routes.access import (
    ADMIN,
    EVENT_PROBLEMS,
    WRITE,
    TheRun,
    TheRuns,
    change,
    kept_of,
    made_of_key,
    seen_seq,
)
from services.workflows.run import WorkflowRun
from services.workflows.schemas import Because, MigrateRun, ResetRun, RestartRun, RunChanged
from services.workflows.standing import Look
from shared.http.auth import require
from shared.http.calls import AnyRequest, call_for, idempotency_key
from shared.objects.address import Address
from shared.objects.once import KeyedRequest

_RUN = "/v1/runs/{run_id:str}"


@change(
    _RUN + "/cancel",
    status_code=202,
    guards=[require(WRITE)],
    problems=(*EVENT_PROBLEMS, PastPivotError),
    tags=["runs"],
)
async def cancel_run(run: TheRun, runs: TheRuns, data: JSONBody[Because], request: AnyRequest) -> RunChanged:
    """Stop a run and undo what it has done, as its definition says. It has ended when all is undone."""
    return await runs.change(request, run, Cancelled(reason=data.reason))


@change(
    _RUN + "/terminate",
    guards=[require(ADMIN)],
    problems=EVENT_PROBLEMS,
    tags=["runs"],
)
async def terminate_run(run: TheRun, runs: TheRuns, data: JSONBody[Because], request: AnyRequest) -> RunChanged:
    """Stop a run at once, and undo nothing."""
    return await runs.change(request, run, Terminated(reason=data.reason))


@change(
    _RUN + "/pause",
    guards=[require(WRITE)],
    problems=EVENT_PROBLEMS,
    tags=["runs"],
)
async def pause_run(run: TheRun, runs: TheRuns, request: AnyRequest) -> RunChanged:
    """Begin no more steps. Time goes on, answers and signals are taken, and timers that are due wait."""
    return await runs.change(request, run, Paused())


@change(
    _RUN + "/resume",
    guards=[require(WRITE)],
    problems=EVENT_PROBLEMS,
    tags=["runs"],
)
async def resume_run(run: TheRun, runs: TheRuns, request: AnyRequest) -> RunChanged:
    """Go on. What became due meanwhile happens now."""
    return await runs.change(request, run, Resumed())


@post(
    _RUN + "/retry",
    status_code=202,
    guards=[require(WRITE)],
    problems=(*EVENT_PROBLEMS, NotWaitingError),
    durable=True,
    of_object=True,
    repeatable=True,
    tags=["runs"],
)
async def retry_run(run: TheRun, runs: TheRuns, request: AnyRequest) -> RunChanged:
    """Try every step of a run that has stalled again: the same visits with the same keys, and with fresh retries."""
    return RunChanged(id=run.name, status=await runs.call_once(request, run, WorkflowRun.retry_all))


@post(
    _RUN + "/restart",
    status_code=201,
    guards=[require(WRITE)],
    problems=(*EVENT_PROBLEMS, RunExistsError, UnknownDefinitionError, WrongAnswerError),
    durable=True,
    of_object=True,
    repeatable=True,
    tags=["runs"],
)
async def restart_run(
    run: TheRun, runs: TheRuns, book: NamedDependency[DefinitionBook], data: JSONBody[RestartRun], request: AnyRequest
) -> Response[RunChanged]:
    """Start a new run with the definition, input and attributes of this one, which stays as it is.

    With an `Idempotency-Key` and no id the id is made of the key, so a repeat is answered with the same run.
    """
    look: Look = await runs.call(request, run, WorkflowRun.look, 0)
    kept: Kept = await runs.call(request, run, WorkflowRun.text)
    if data.version is not None:
        kept = kept_of(book, run.tenant, look.run.definition, data.version)
    beginning = Beginning(text=kept.text, version=kept.version, input=look.run.input, attributes=look.attributes)
    key = idempotency_key(request)
    made = secrets.token_hex(8) if key is None else made_of_key(run.tenant, key)
    fresh = Address(run.kind, run.tenant, data.id or f"{look.run.definition}-{made}")
    once = None if key is None else KeyedRequest(key, WorkflowRun.start, (run.name, data))
    if not await call_for(request, runs.host, fresh, WorkflowRun.start, beginning, once=once):
        raise RunExistsError(fresh.name)
    begun: Look = await runs.call(request, fresh, WorkflowRun.look, 0)
    changed = RunChanged(id=fresh.name, status=begun.status)
    return Response(changed, headers={"location": run_path(fresh.name)})


@change(
    _RUN + "/reset",
    status_code=202,
    guards=[require(ADMIN)],
    problems=(*EVENT_PROBLEMS, UnknownStepError),
    tags=["runs"],
)
async def reset_run(run: TheRun, runs: TheRuns, data: JSONBody[ResetRun], request: AnyRequest) -> RunChanged:
    """Go on at a step of the run itself, as a new visit of it with new keys; also of a run that has ended."""
    return await runs.change(request, run, Reset(step=data.to_step, keep_signals=data.keep_signals))


@change(
    _RUN + "/migrate",
    guards=[require(ADMIN)],
    problems=(*EVENT_PROBLEMS, UnknownDefinitionError, UnmappableStepError),
    tags=["runs"],
)
async def migrate_run(
    run: TheRun, runs: TheRuns, book: NamedDependency[DefinitionBook], data: JSONBody[MigrateRun], request: AnyRequest
) -> RunChanged:
    """Have an open run go on with another version of its definition. What it is at goes on as it has begun."""
    look: Look = await runs.call(request, run, WorkflowRun.look, 0)
    kept = kept_of(book, run.tenant, look.run.definition, data.version)
    migration = Migrate(kept=kept, step_map=data.step_map)
    if data.dry_run:
        await runs.call(request, run, WorkflowRun.rehearse, migration)
        return RunChanged(id=run.name, status=look.status)
    status = await runs.call_once(request, run, WorkflowRun.migrate, migration, seen_seq(request))
    return RunChanged(id=run.name, status=status)


HANDLERS = (cancel_run, terminate_run, pause_run, resume_run, retry_run, restart_run, reset_run, migrate_run)
