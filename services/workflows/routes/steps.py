"""Steps by name: people and gateways answer what they see, and operators help where a step has stalled."""

from litestar.params import FromPath, JSONBody

from services.workflows.events import Assigned, Claimed, Completed, Failed, Retried, Skipped
from services.workflows.paths import name_in
from services.workflows.refusals import (
    AlreadyCompletedError,
    ClaimedError,
    SameUserError,
    SupersededError,
    TimedOutError,
    UnknownSerialError,
)
from services.workflows.routes.access import ADMIN, ANSWER_PROBLEMS, WRITE, TheRun, TheRuns, change
from services.workflows.schemas import AssignStep, ClaimStep, CompleteStep, FailStep, RunChanged, SkipStep
from shared.errors import InvalidInputError
from shared.http.auth import require
from shared.http.calls import AnyRequest

_STEP = "/v1/runs/{run_id:str}/steps/{step:str}"
_LATE = (SupersededError, TimedOutError, AlreadyCompletedError, UnknownSerialError)


@change(
    _STEP + "/complete",
    guards=[require(WRITE)],
    problems=(*ANSWER_PROBLEMS, *_LATE, SameUserError),
    tags=["steps"],
)
async def complete_step(
    run: TheRun, runs: TheRuns, step: FromPath[str], data: JSONBody[CompleteStep], request: AnyRequest
) -> RunChanged:
    """Say that a step is done. The first answer counts; with its `serial`, the same answer once more is no error."""
    event = Completed(
        path=name_in(step, "step"), serial=data.serial, result=data.result, outcome=data.outcome, by=data.by
    )
    return await runs.change(request, run, event)


@change(
    _STEP + "/fail",
    guards=[require(WRITE)],
    problems=(*ANSWER_PROBLEMS, *_LATE),
    tags=["steps"],
)
async def fail_step(
    run: TheRun, runs: TheRuns, step: FromPath[str], data: JSONBody[FailStep], request: AnyRequest
) -> RunChanged:
    """Say that a step is not done. Its definition decides what follows: a retry, another way, or an incident."""
    event = Failed(
        path=name_in(step, "step"),
        serial=data.serial,
        error=data.error,
        cause=data.cause,
        data=data.data,
        retry_after_ms=data.retry_after_ms,
    )
    return await runs.change(request, run, event)


@change(
    _STEP + "/claim",
    guards=[require(WRITE)],
    problems=(*ANSWER_PROBLEMS, ClaimedError),
    tags=["steps"],
)
async def claim_step(
    run: TheRun, runs: TheRuns, step: FromPath[str], data: JSONBody[ClaimStep], request: AnyRequest
) -> RunChanged:
    """Take a wait for oneself, so that nobody else begins with it; an empty name gives it back."""
    return await runs.change(request, run, Claimed(path=name_in(step, "step"), by=data.by))


@change(
    _STEP + "/assign",
    guards=[require(WRITE)],
    problems=ANSWER_PROBLEMS,
    tags=["steps"],
)
async def assign_step(
    run: TheRun, runs: TheRuns, step: FromPath[str], data: JSONBody[AssignStep], request: AnyRequest
) -> RunChanged:
    """Give a wait to others: a user or a group."""
    given = {"user": data.user, "group": data.group}
    assign = {kind: name for kind, name in given.items() if name is not None}
    if len(assign) != 1:
        raise InvalidInputError("Exactly one of user and group is needed", "$")
    return await runs.change(request, run, Assigned(path=name_in(step, "step"), assign=assign))


@change(
    _STEP + "/retry",
    guards=[require(WRITE)],
    problems=ANSWER_PROBLEMS,
    tags=["steps"],
)
async def retry_step(run: TheRun, runs: TheRuns, step: FromPath[str], request: AnyRequest) -> RunChanged:
    """Try a stalled step again: the same visit with the same key, and with fresh retries."""
    return await runs.change(request, run, Retried(path=name_in(step, "step")))


@change(
    _STEP + "/skip",
    guards=[require(ADMIN)],
    problems=ANSWER_PROBLEMS,
    tags=["steps"],
)
async def skip_step(
    run: TheRun, runs: TheRuns, step: FromPath[str], data: JSONBody[SkipStep], request: AnyRequest
) -> RunChanged:
    """Take a step as done with this result, whatever it is at."""
    return await runs.change(request, run, Skipped(path=name_in(step, "step"), result=data.result))


HANDLERS = (complete_step, fail_step, claim_step, assign_step, retry_step, skip_step)
