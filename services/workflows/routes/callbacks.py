"""Answers that come later: whoever was called answers by the token that the call brought, and needs no key."""

from litestar import post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from services.workflows.callbacks import Callbacks, UnknownCallbackError
from services.workflows.events import AnyEvent, Completed, Failed
from services.workflows.refusals import (
    AlreadyCompletedError,
    SupersededError,
    TimedOutError,
    UnknownSerialError,
)
from services.workflows.routes.access import ANSWER_PROBLEMS, TheRuns
from services.workflows.run import WorkflowRun
from services.workflows.schemas import CallBack, RunChanged
from shared.errors import InvalidInputError
from shared.http.calls import AnyRequest
from shared.objects.address import Address

TheCallbacks = NamedDependency[Callbacks]


@post(
    "/v1/callbacks/{token:str}",
    status_code=200,
    problems=(
        *ANSWER_PROBLEMS,
        SupersededError,
        TimedOutError,
        AlreadyCompletedError,
        UnknownSerialError,
        UnknownCallbackError,
    ),
    durable=True,
    tags=["callbacks"],
    anonymous=True,
)
async def answer_call(
    runs: TheRuns, callbacks: TheCallbacks, token: FromPath[str], data: JSONBody[CallBack], request: AnyRequest
) -> RunChanged:
    """Answer an `http` step that was accepted with 202. The first answer counts; the same one again is no error."""
    pledge = callbacks.pledge(token)
    run = Address(WorkflowRun.kind, pledge.tenant, pledge.run)
    event = _event(pledge.path, pledge.serial, data)
    return RunChanged(id=run.name, status=await runs.call(request, run, WorkflowRun.happen, event))


def _event(path: str, serial: int, data: CallBack) -> AnyEvent:
    if data.error is not None:
        if data.result is not None:
            raise InvalidInputError("A call has a result or an error", "$")
        return Failed(path=path, serial=serial, error=data.error, cause=data.cause, data=data.data)
    return Completed(path=path, serial=serial, result=data.result)


HANDLERS = (answer_call,)
