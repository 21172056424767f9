"""What happens to a principal, as it happens: server-sent events that go on where a broken connection ended.

Numbers have no gaps. The newest 256 or more are kept: who was away for longer hears `reset` first, and what is kept. A
stream ends within a second with the key that opened it, and with its node. It counts among the sockets of its tenant.

Source: HTML Living Standard, 9.2 Server-sent events.
"""

from collections.abc import AsyncGenerator
from contextlib import suppress
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
from shared.http.auth import Caller, TheAdmission, require
from shared.http.calls import AnyRequest
from shared.http.eventstreams import TheStreams
from shared.objects.address import Address
from shared.objects.errors import DeadlineExceededError
from shared.objects.ingress import TooManySocketsError

LastEventId = Annotated[
    int | None,
    HeaderParameter(name="Last-Event-ID", ge=0, description="The id of the last event that was seen; 0: none was."),
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
    problems=(DeadlineExceededError, TooManySocketsError),
    responses=_EVENTS,
    tags=["sessions"],
)
async def get_events(
    *,
    credential: Caller,
    admission: TheAdmission,
    streams: TheStreams,
    principal: Name,
    front: TheFront,
    request: AnyRequest,
    last_event_id: LastEventId = None,
) -> Stream:
    """What has happened and what happens to a principal; for ten minutes, then the client comes back."""
    address = front.desk.address(credential.tenant, principal)
    await front.call(
        request, address, Principal.events, 0, 1, 0
    )  # What keeps it from being asked is told as an answer.
    return await streams.open(admission, _events(front, request, address, last_event_id or 0))


async def _events(front: Front, request: AnyRequest, address: Address, after: int) -> AsyncGenerator[bytes]:
    """The stream; it ends early where the principal cannot be asked, and the client comes back."""
    clock = front.host.store_clock
    ends_ms = clock.monotonic_ms() + STREAM_MS_MAX
    with front.cuts.listening(address), suppress(TenureError):
        while clock.monotonic_ms() < ends_ms:
            until_ms = clock.now_ms() + STREAM_SILENCE_MS
            args = (after, FEED_PAGE, until_ms)
            patience_ms = STREAM_SILENCE_MS + HANDLER_DEADLINE_MS
            feed: Feed = await front.call(request, address, Principal.events, *args, patience_ms=patience_ms)
            after, reset = feed.onward(after)
            if reset:
                yield _RESET
                continue
            for seq, event in feed.events:
                after = seq
                yield b"id: %d\nevent: %b\ndata: %b\n\n" % (seq, event.kind.encode(), msgspec.json.encode(event))
            if not feed.events:
                yield b": quiet\n\n"


HANDLERS = (get_events,)
