"""Signals: kept by the run until a wait takes them, so one that comes early is not lost."""

from litestar.params import FromPath, JSONBody

from services.workflows.events import Signalled
from services.workflows.paths import name_in
from services.workflows.routes.access import SIGNAL_PROBLEMS, WRITE, TheRun, TheRuns, change
from services.workflows.schemas import RunChanged, SendSignal
from shared.http.auth import require
from shared.http.calls import AnyRequest


@change(
    "/v1/runs/{run_id:str}/signals/{signal:str}",
    status_code=202,
    guards=[require(WRITE)],
    problems=SIGNAL_PROBLEMS,
    tags=["runs"],
)
async def send_signal(
    run: TheRun, runs: TheRuns, signal: FromPath[str], data: JSONBody[SendSignal], request: AnyRequest
) -> RunChanged:
    """Send a signal to a run. The oldest wait that is for it takes it, now or later, within its `ttl_ms`."""
    return await runs.change(
        request, run, Signalled(name=name_in(signal, "signal"), payload=data.payload, ttl_ms=data.ttl_ms)
    )


HANDLERS = (send_signal,)
