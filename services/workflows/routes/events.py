"""What happens to a run, as it happens: server-sent events that go on where a broken connection ended.

Each event is one turn of the run, with its position as the id; a browser, or whoever sends `Last-Event-ID`, misses none
and sees none twice. Nobody polls: the call waits at the run until something is stored. A stream ends within a second
with the key that opened it, and with its node. It counts among the sockets of its tenant.

Source: HTML Living Standard, 9.2 Server-sent events.
"""

from collections.abc import AsyncGenerator
from typing import Annotated

import msgspec
from litestar import get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter
from litestar.response import Stream

from services.workflows.bounds import STREAM_MS_MAX, STREAM_PAGE, STREAM_SILENCE_MS
from services.workflows.refusals import RunGoneError
from services.workflows.routes.access import READ, Runs, TheRun, TheRuns
from services.workflows.run import WorkflowRun
from services.workflows.standing import ENDED, Look
from services.workflows.views import history_page
from shared.errors import TenureError
from shared.http.auth import TheAdmission, require
from shared.http.calls import AnyRequest
from shared.http.eventstreams import TheStreams
from shared.objects.address import Address
from shared.objects.errors import DeadlineExceededError
from shared.objects.ingress import TooManySocketsError
from shared.objects.journal import JournalEntry

LastEventId = Annotated[
    int | None, HeaderParameter(name="Last-Event-ID", ge=0, description="The id of the last event that was seen.")
]
_EVENTS = {
    200: ResponseSpec(
        data_container=str,
        media_type="text/event-stream",
        description="`turn` events with the lines of the history, then one `end` with the status, and the stream ends.",
        generate_examples=False,
    )
}


@get(
    "/v1/runs/{run_id:str}/events",
    guards=[require(READ)],
    problems=(DeadlineExceededError, RunGoneError, TooManySocketsError),
    responses=_EVENTS,
    tags=["runs"],
)
async def get_events(
    *,
    run: TheRun,
    runs: TheRuns,
    request: AnyRequest,
    admission: TheAdmission,
    streams: TheStreams,
    last_event_id: LastEventId = None,
) -> Stream:
    """What has happened and what happens to a run, until it has ended; for ten minutes, then the client comes back."""
    await runs.call(request, run, WorkflowRun.look, 0)
    return await streams.open(admission, _events(runs, request, run, last_event_id or 0))


async def _events(runs: Runs, request: AnyRequest, run: Address, after: int) -> AsyncGenerator[bytes]:
    """The stream; it ends early where the run cannot be asked, and the client comes back."""
    ends_ms = runs.host.store_clock.monotonic_ms() + STREAM_MS_MAX
    try:
        while runs.host.store_clock.monotonic_ms() < ends_ms:
            look: Look = await runs.call(request, run, WorkflowRun.look, 0)
            entries: list[JournalEntry] = await runs.call(request, run, WorkflowRun.history, after, STREAM_PAGE)
            for entry in entries:
                after = entry.position
                yield _event("turn", history_page([entry], limit=0).lines, position=after)
            if len(entries) == STREAM_PAGE:
                continue
            if look.status in ENDED:
                yield _event("end", {"status": look.status})
                return
            until_ms = runs.host.store_clock.now_ms() + STREAM_SILENCE_MS
            news: Look = await runs.wait(request, run, WorkflowRun.look, until_ms, look.seq)
            if news.seq == look.seq:
                yield b": quiet\n\n"
    except TenureError:
        return


def _event(name: str, data: object, *, position: int = 0) -> bytes:
    mark = b"id: %d\n" % position if position else b""
    return b"event: %b\n%bdata: %b\n\n" % (name.encode(), mark, msgspec.json.encode(data))


HANDLERS = (get_events,)
