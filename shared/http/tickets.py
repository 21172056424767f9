"""Sockets of objects over REST: the ticket that a page opens one with, and what the path says to those who only GET it.

`POST /v1/objects/{kind}/{name}/tickets` gives the application, which has authenticated its user, a ticket for that
user's page; what the socket is to remember of the user travels in it, out of the page's reach.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Annotated, Any, TypeAlias

import msgspec
from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler

from shared import bounds
from shared.errors import InvalidInputError, NotFoundError, TenureError
from shared.http.arrival import Arrival, arrival_of
from shared.http.auth import Caller, KeyRing, require
from shared.http.contents import Content
from shared.http.decoding import check_keys, strict_decoder
from shared.http.errors import ForeignOriginError, UpgradeRequiredError
from shared.http.names import check_name, decoded_segment
from shared.http.objects import CALL, NAME, OBJECTS
from shared.objects.address import Address
from shared.objects.changes import check_size
from shared.objects.published import PublishedKind
from shared.objects.tickets import Grant, Tickets

Tag = Annotated[str, msgspec.Meta(min_length=1, max_length=bounds.SOCKET_TAG_BYTES_MAX)]

SOCKET_DESCRIPTION = """A WebSocket (RFC 6455) of one object, with the subprotocol `tenure.v1`. A key of the scope
`objects:call` stands in `Authorization`; a page offers `tenure.ticket.<ticket>` as a second subprotocol instead.

Text frames of JSON. From the client `{"message": ...}`, which is a turn of the object, or `{"ping": 1}`, at least every
90 s. To the client `{"seq": 1, "message": ...}`, `{"resync": {"after": 1, "received": 0}}`, `{"refused": {...}}`,
`{"pong": 1}`. Close codes: 1003, 1009, 1011, 1012, 1013, 4400, 4401, 4408, 4429, and the object's own."""


class SocketGrant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the socket will have that is opened with the ticket."""

    tags: Annotated[Sequence[Tag], msgspec.Meta(max_length=bounds.SOCKET_TAGS_MAX)] = ()
    """By which the object finds its sockets."""
    attachment: Any = None
    """What the object is to know of the client, at most 16 KiB of JSON."""


class SessionRef(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A session of a user."""

    principal: Annotated[str, msgspec.Meta(min_length=1, max_length=bounds.NAME_BYTES_MAX)]
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class SessionGrant(SocketGrant, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the socket will have that is opened with the ticket, and in whose session."""

    session: SessionRef | None = None
    """The ticket and its socket end with this session, within a second, by the code 4401."""


Valid: TypeAlias = Callable[[], bool]
Bind: TypeAlias = Callable[[str, SessionRef], Awaitable[Valid]]
"""Finds a session of a tenant, and returns what says whether it counts; raises a TenureError if it does not."""


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket, to be used once."""

    ticket: str
    """To be offered as the subprotocol `tenure.ticket.<ticket>`, beside `tenure.v1`."""
    expires_in_ms: int


def socket_routes(
    tickets: Tickets,
    keys: KeyRing,
    kinds: Iterable[PublishedKind],
    *,
    bind: Bind | None = None,
    problems: Sequence[type[TenureError]] = (),
) -> list[HTTPRouteHandler]:
    """The routes of those of `kinds` that take sockets; where the service knows sessions, `bind` raises `problems`."""
    taking = [kind for kind in kinds if kind.takes_sockets]
    return [
        *(_tickets_route(tickets, keys, kind, bind, problems) for kind in taking),
        *(_socket_route(kind.name) for kind in taking),
    ]


def issue(tickets: Tickets, address: Address, asked: SocketGrant, valid: Valid) -> Ticket:
    """A ticket; a socket opened with it ends when it is not `valid` any more.

    Raises:
        InvalidInputError, TooLargeError: tags or attachment are too large.
        OverloadedError: too many are out.
    """
    for tag in asked.tags:
        if len(tag.encode()) > bounds.SOCKET_TAG_BYTES_MAX:
            raise InvalidInputError(f"A tag has at most {bounds.SOCKET_TAG_BYTES_MAX} bytes", "$.tags")
    attachment = msgspec.json.encode(asked.attachment)
    check_size("The attachment", len(attachment), bounds.SOCKET_ATTACHMENT_BYTES_MAX)
    grant = Grant(address, tags=tuple(asked.tags), attachment=attachment, valid=valid)
    return Ticket(ticket=tickets.issue(grant), expires_in_ms=bounds.TICKET_MS)


def _tickets_route(
    tickets: Tickets, keys: KeyRing, kind: PublishedKind, bind: Bind | None, problems: Sequence[type[TenureError]]
) -> HTTPRouteHandler:
    form = SocketGrant if bind is None else SessionGrant
    decode = strict_decoder(form)

    @post(
        f"{OBJECTS}{kind.name}/{{name:str}}/tickets",
        status_code=201,
        guards=[require(CALL)],
        tags=[f"objects of kind {kind.name}"],
        operation_id=f"objects.{kind.name}.tickets",
        summary=f"{kind.name} ticket for a socket",
        description="A ticket for one socket of the object: for 30 s, once. It ends with the key that asked for it.",
        content=Content(form, Ticket),
        problems=tuple(problems),
    )
    async def ticket(credential: Caller, request: Request[Any, Any, Any]) -> Response[Ticket]:
        arrival = arrival_of(request.scope)
        address = Address(kind.name, credential.tenant, _name(request))
        asked = _asked(decode, arrival)
        counts: Valid = _always
        if bind is not None and isinstance(asked, SessionGrant) and asked.session is not None:
            counts = await bind(credential.tenant, asked.session)
        given = issue(tickets, address, asked, lambda: keys.stands(credential) and counts())
        return Response(given, status_code=201)

    return ticket


def _always() -> bool:
    return True


def _socket_route(kind: str) -> HTTPRouteHandler:
    @get(
        f"{OBJECTS}{kind}/{{name:str}}/socket",
        guards=[require(CALL)],
        tags=[f"objects of kind {kind}"],
        operation_id=f"objects.{kind}.socket",
        summary=f"{kind} socket",
        description=SOCKET_DESCRIPTION,
        problems=(UpgradeRequiredError, ForeignOriginError),
        status_code=101,
        sync_to_thread=False,
    )
    def socket() -> None:
        raise UpgradeRequiredError

    return socket


def _asked(decode: Any, arrival: Arrival) -> SocketGrant:
    check_keys(arrival.body or b"{}")
    asked: SocketGrant = decode(arrival.body or b"{}")
    return asked


def _name(request: Request[Any, Any, Any]) -> str:
    segment = request.scope.get(NAME)
    if not isinstance(segment, bytes):  # A path that only looks like one of ours once it is tidied.
        raise NotFoundError("such path")
    name = decoded_segment(segment)
    check_name(name, "name", "path.name")
    return name
