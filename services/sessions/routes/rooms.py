"""Rooms: `/v1/rooms/{room}/...`, with an API key. Every room that can be named is there, empty until it is changed."""

import msgspec
from litestar import Response, get, patch, post
from litestar.params import JSONBody

from services.sessions.entrance import JOIN, room_address
from services.sessions.front import (
    IfMatch,
    MergePatch,
    RoomName,
    TheEntrance,
    TheFront,
    check_merge_patch,
    etag,
    only_if_match,
    version_in,
)
from services.sessions.refusals import SessionEndedError, UnknownSessionError
from services.sessions.room import (
    Document,
    DocumentTooLargeError,
    Room,
    RoomFullError,
    StaleDocumentError,
)
from services.sessions.schemas import EnterRoom, Patched
from shared.http.auth import Caller, require
from shared.http.calls import KEYED_PROBLEMS, AnyRequest, call_for, idempotency_key
from shared.http.errors import ForeignOriginError, UpgradeRequiredError
from shared.http.tickets import Ticket
from shared.objects.errors import (
    DeadlineExceededError,
)
from shared.objects.once import KeyedRequest

READ, WRITE = "rooms:read", "rooms:write"
_ROOM = "/v1/rooms/{room_name:str}"
_SOCKET = """A WebSocket (RFC 6455) of the room, with the subprotocol `tenure.v1`. A key of the scope `rooms:join`
stands in `Authorization`; a page offers `tenure.ticket.<ticket>` as a second subprotocol instead.

Text frames of JSON. From the client `{"ping": 1}`, at least every 90 s, or `{"message": ...}` with one of
`{"type": "patch", "base_seq": 7, "merge_patch": {...}, "id": "mine"}`, `{"type": "sync", "after": 7, "id": "a"}`,
`{"type": "cursor", "cursor": ...}`, `{"type": "presence", "presence": ...}`. To the client `{"pong": 1}`,
`{"resync": {...}}`, `{"refused": {...}}`, or `{"seq": 1, "message": ...}` with a `type` of `hello`, `members`, `ack`,
`patched`, `missed`, `joined`, `left`, `cursor`, `presence`.

409 `room_full` where 200 people are there. Close codes: 1003, 1009, 1011, 1012, 1013, 4400, 4401, 4408, 4429."""


@post(
    _ROOM + "/tickets",
    status_code=201,
    guards=[require(JOIN)],
    problems=(UnknownSessionError, SessionEndedError, DeadlineExceededError),
    tags=["rooms"],
)
async def room_ticket(credential: Caller, room: RoomName, entrance: TheEntrance, data: JSONBody[EnterRoom]) -> Ticket:
    """A ticket for one socket of the room: for 30 s, once. It ends with the key that asked for it and the `session`."""
    return await entrance.ticket(credential, room, data)


@get(
    _ROOM + "/socket",
    status_code=101,
    guards=[require(JOIN)],
    problems=(UpgradeRequiredError, ForeignOriginError, RoomFullError),
    description=_SOCKET,
    tags=["rooms"],
    sync_to_thread=False,
)
def room_socket() -> None:
    """A WebSocket of the room (`shared.http.sockets` opens it); whoever only asks is told so."""
    raise UpgradeRequiredError


@get(
    _ROOM + "/document",
    guards=[require(READ)],
    problems=(DeadlineExceededError,),
    of_object=True,
    tags=["rooms"],
)
async def get_document(credential: Caller, room: RoomName, front: TheFront, request: AnyRequest) -> Response[Document]:
    """The document of the room, and the number of the last patch that it has: its ETag. `{}` and 0 before the first."""
    document: Document = await front.call(request, room_address(credential.tenant, room), Room.document)
    return Response(document, headers={"etag": etag(document.seq)})


@patch(
    _ROOM + "/document",
    guards=[require(WRITE), only_if_match],
    problems=(*KEYED_PROBLEMS, StaleDocumentError, DocumentTooLargeError),
    durable=True,
    of_object=True,
    repeatable=True,
    tags=["rooms"],
)
async def patch_document(
    *,
    credential: Caller,
    room: RoomName,
    front: TheFront,
    data: MergePatch,
    request: AnyRequest,
    if_match: IfMatch = None,
) -> Response[Patched]:
    """Merge a patch into the document (RFC 7396, `application/merge-patch+json`), and tell it to everybody in the room.

    If-Match: only into the document that has this ETag. Without it, of two changes of one member the later counts.
    """
    check_merge_patch(request, data)
    expected, key = version_in(if_match), idempotency_key(request)
    asked = (msgspec.json.encode(data, order="deterministic"), expected)
    once = None if key is None else KeyedRequest(key, Room.patch, asked)
    address = room_address(credential.tenant, room)
    seq: int = await call_for(request, front.host, address, Room.patch, data, expected, once=once)
    return Response(Patched(seq=seq), headers={"etag": etag(seq)})


HANDLERS = (room_ticket, room_socket, get_document, patch_document)
