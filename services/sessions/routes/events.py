"""What happens to a principal, as it happens: server-sent events that go on where a broken connection ended.

Numbers have no gaps. The newest 256 or more are kept: who was away for longer hears `reset` first, and what is kept.

Source: HTML Living Standard, 9.2 Server-sent events.
"""

from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from litestar import get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter
from litestar.response import Stream

from services.sessions.bounds import FEED_PAGE, STREAM_MS_MAX, STREAM_SILENCE_MS
from services.sessions.front import Front, Name, TheFront
from services.sessions.principal import Principal
from services.sessions.records import Feed
from services.sessions.routes.principals import READ
from shared.bounds import HANDLER_DEADLINE_MS
from shared.errors import TenureError
from shared.http.auth import Caller, require
from shared.http.calls import AnyRequest
from shared.objects.address import Address
from shared.objects.errors import DeadlineExceededError

LastEventId = Annotated[
    int | None, HeaderParameter(name="Last-Event-ID", ge=0, description="The id of the last event that was seen.")
]
_RESET = b"event: reset\ndata: {}\n\n"
_EVENTS = {
    200: ResponseSpec(
        data_container=str,
        media_type="text/event-stream",
        description="Events by their kinds, as `session.revoked`; `reset` where some are not kept any more.",
        generate_examples=False,
    )
}


@get(
    "/v1/principals/{principal_name:str}/events",
    guards=[require(READ)],
    problems=(DeadlineExceededError,),
    responses=_EVENTS,
    tags=["sessions"],
)
async def get_events(
    *, credential: Caller, principal: Name, front: TheFront, request: AnyRequest, last_event_id: LastEventId = None
) -> Stream:
    """What has happened and what happens to a principal; for ten minutes, then the client comes back."""
    address = front.desk.address(credential.tenant, principal)
    feed: Feed = await front.call(request, address, Principal.events, 0, 1, 0)
    after = last_event_id or 0
    gone = after > feed.last or (last_event_id is not None and after + 1 < feed.first)
    return Stream(_events(front, request, address, 0 if gone else after, reset=gone), media_type="text/event-stream")


async def _events(
    front: Front, request: AnyRequest, address: Address, after: int, *, reset: bool
) -> AsyncIterator[bytes]:
    """The stream; it ends early where the principal cannot be asked, and the client comes back."""
    clock = front.host.store_clock
    ends_ms = clock.monotonic_ms() + STREAM_MS_MAX
    if reset:
        yield _RESET
    try:
        while clock.monotonic_ms() < ends_ms:
            until_ms = clock.now_ms() + STREAM_SILENCE_MS
            args = (after, FEED_PAGE, until_ms)
            patience_ms = STREAM_SILENCE_MS + HANDLER_DEADLINE_MS
            feed: Feed = await front.call(request, address, Principal.events, *args, patience_ms=patience_ms)
            if after and after + 1 < feed.first:  # Not kept any more, since it was asked for last.
                after = feed.first - 1
                yield _RESET
                continue
            for seq, event in feed.events:
                after = seq
                yield b"id: %d\nevent: %b\ndata: %b\n\n" % (seq, event.kind.encode(), msgspec.json.encode(event))
            if not feed.events:
                if feed.last < after:  # Forgotten whole, and begun anew.
                    after = 0
                yield b": quiet\n\n"
    except TenureError:
        return


HANDLERS = (get_events,)
