"""What can be done to a whole run: cancel, terminate, pause, resume, reset."""

from litestar import post
from litestar.params import JSONBody

from services.workflows.events import Cancelled, Paused, Reset, Resumed, Terminated
from services.workflows.refusals import PastPivotError, UnknownStepError
from services.workflows.routes.access import ADMIN, EVENT_PROBLEMS, WRITE, AnyRequest, TheRun, TheRuns
from services.workflows.schemas import Because, ResetRun, RunChanged
from shared.http.auth import require

_RUN = "/v1/runs/{run_id:str}"


@post(
    _RUN + "/cancel",
    status_code=202,
    guards=[require(WRITE)],
    problems=(*EVENT_PROBLEMS, PastPivotError),
    durable=True,
    of_object=True,
    repeatable=True,
    tags=["runs"],
)
async def cancel_run(run: TheRun, runs: TheRuns, data: JSONBody[Because], request: AnyRequest) -> RunChanged:
    """Stop a run and undo what it has done, as its definition says. It has ended when all is undone."""
    return await runs.change(request, run, Cancelled(reason=data.reason))


@post(
    _RUN + "/terminate",
    status_code=200,
    guards=[require(ADMIN)],
    problems=EVENT_PROBLEMS,
    durable=True,
    of_object=True,
    repeatable=True,
    tags=["runs"],
)
async def terminate_run(run: TheRun, runs: TheRuns, data: JSONBody[Because], request: AnyRequest) -> RunChanged:
    """Stop a run at once, and undo nothing."""
    return await runs.change(request, run, Terminated(reason=data.reason))


@post(
    _RUN + "/pause",
    status_code=200,
    guards=[require(WRITE)],
    problems=EVENT_PROBLEMS,
    durable=True,
    of_object=True,
    repeatable=True,
    tags=["runs"],
)
async def pause_run(run: TheRun, runs: TheRuns, request: AnyRequest) -> RunChanged:
    """Begin no more steps. Time goes on, answers and signals are taken, and timers that are due wait."""
    return await runs.change(request, run, Paused())


@post(
    _RUN + "/resume",
    status_code=200,
    guards=[require(WRITE)],
    problems=EVENT_PROBLEMS,
    durable=True,
    of_object=True,
    repeatable=True,
    tags=["runs"],
)
async def resume_run(run: TheRun, runs: TheRuns, request: AnyRequest) -> RunChanged:
    """Go on. What became due meanwhile happens now."""
    return await runs.change(request, run, Resumed())


@post(
    _RUN + "/reset",
    status_code=202,
    guards=[require(ADMIN)],
    problems=(*EVENT_PROBLEMS, UnknownStepError),
    durable=True,
    of_object=True,
    repeatable=True,
    tags=["runs"],
)
async def reset_run(run: TheRun, runs: TheRuns, data: JSONBody[ResetRun], request: AnyRequest) -> RunChanged:
    """Go on at a step of the run itself, as a new visit of it with new keys; also of a run that has ended."""
    return await runs.change(request, run, Reset(step=data.to_step, keep_signals=data.keep_signals))


HANDLERS = (cancel_run, terminate_run, pause_run, resume_run, reset_run)
