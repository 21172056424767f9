"""WebSockets at the edge: who may open one, what a frame may be, and how both sides are driven.

Nothing is accepted before the request is plain, its origin allowed and its credential valid: until then a refusal is
an ordinary problem document. A credential is an API key in `Authorization`, or, for browsers, a ticket among the
subprotocols (`shared.objects.tickets`); never anything in the URL, which ends up in logs. A request with an `Origin`
comes from a page, and the page must be one that was named, or of this host.

A frame is read when the turn of the one before it is stored, and no faster than 100 a second, so a client that sends
faster is held up by TCP and costs no memory. What is sent waits in a bounded queue (`shared.objects.wire`).

The server, as measured with uvicorn 0.54: it reads on once every message that it has is received, and a close reads on
too; a `send` waits while the peer has more than 64 KiB to read, and a close waits as well, so each has a deadline; a
message is whole in memory before its size is seen here, up to 320 KiB, and one that grows beyond is refused by the
server (1009); after a client that has left, a `send` raises.

Sources: RFC 6455; ASGI 3.0 (websocket, denial response); OWASP ASVS 5.0 V4.4.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import Annotated, Any, NamedTuple, Protocol, TypeAlias
from urllib.parse import urlsplit

import msgspec

from shared import bounds
from shared.clock import Clock
from shared.errors import ForbiddenError, InvalidInputError, NotFoundError, UnauthenticatedError
from shared.http.arrival import Arrival, arrival_of, response_headers
from shared.http.asgi import Message, Receive, Scope, Send
from shared.http.auth import Credential, KeyRing, bearer_secret
from shared.http.decoding import strict_decoder
from shared.http.errors import ForeignOriginError
from shared.http.faults import report_fault
from shared.http.names import check_name, decoded_segment, sent_path
from shared.http.objects import CALL, named
from shared.http.problem import ProblemTable, problem_response
from shared.http.streams import FindStream, Line, Pace, StalledError, StreamRoute
from shared.objects.address import Address
from shared.objects.handler import Kind
from shared.objects.host import Host
from shared.objects.ingress import SLOW, Ingress, TooManySocketsError
from shared.objects.published import PublishedKind
from shared.objects.sockets import Close
from shared.objects.tickets import Grant, Tickets
from shared.objects.wire import Wire

PROTOCOL = "tenure.v1"
"""The subprotocol of every socket: what its frames look like."""
TICKET_PREFIX = "tenure.ticket."
"""Begins the subprotocol that carries a ticket."""

TOO_MANY = Close(4429, "Too many sockets")
MALFORMED = Close(4400, "Not a frame")
NOT_TEXT = Close(1003, "Text frames only")
TOO_LARGE = Close(1009, "At most 64 KiB a frame")
FAULT = Close(1011, "A fault of the service")
_NO_TICKET = "The ticket opens nothing here: it was used, is over, or is for something else."
_GONE = 1006
_NO_CODE = 1005


class SocketRoute(NamedTuple):
    """What a path opens: a socket of the object `name` of `kind`."""

    kind: Kind
    name: bytes
    """As it was sent."""
    decode: Callable[[bytes], Any]
    """Reads the message of a frame."""
    scope: str
    """What an API key needs to open it."""
    called: str = "name"
    """What the name is, to those who send one that cannot be."""


FindRoute: TypeAlias = Callable[[bytes], SocketRoute | None]
"""The route of a path as it was sent."""


class ClientFrame(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What a client sends: one of the two."""

    message: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    ping: Annotated[int, msgspec.Meta(ge=0, le=bounds.MOMENT_MS_MAX)] | msgspec.UnsetType = msgspec.UNSET


class SocketDoor:
    """The ASGI application for WebSockets of a service."""

    def __init__(
        self,
        ingress: Ingress,
        find: Iterable[FindRoute],
        *,
        keys: KeyRing,
        tickets: Tickets,
        clock: Clock,
        table: ProblemTable,
        origins: str = "",
        find_stream: FindStream = lambda _: None,
    ) -> None:
        self._ingress = ingress
        self._find = tuple(find)
        self._find_stream = find_stream
        self._keys = keys
        self._tickets = tickets
        self._clock = clock
        self._table = table
        self._origins = frozenset(origin.strip().lower() for origin in origins.split(",") if origin.strip())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Open a socket and see it through, or refuse it."""
        arrival = arrival_of(scope)
        await receive()  # That it wants to connect.
        try:
            stream = self._find_stream(sent_path(scope))
            if stream is not None:
                tenant, counts = self._admit_to_stream(stream, scope, arrival)
                with self._ingress.streaming(tenant) as end:
                    await _accept(scope, send)
                    line = Line(receive, send, counts, self._clock)
                    await self._serve(stream.serve(tenant, line), line, end, scope)
                return
            route, grant = self._admit(scope, arrival)
            wire = await self._ingress.open(
                route.kind, grant.address, tags=grant.tags, attachment=grant.attachment, valid=grant.valid
            )
        except TooManySocketsError:  # Told by a code, since browsers hide the status of a refusal.
            await _accept(scope, send)
            await send({"type": "websocket.close", "code": TOO_MANY.code, "reason": TOO_MANY.reason})
            return
        except Exception as error:
            await self._refuse(scope, send, error, arrival)
            return
        transport = _Transport(self._ingress, wire, decode=route.decode, clock=self._clock, receive=receive, send=send)
        await self._run(scope, wire, transport, send)

    def _admit(self, scope: Scope, arrival: Arrival) -> tuple[SocketRoute, Grant]:
        """Who asks for which socket.

        Raises:
            TenureError: it may not have it.
        """
        path = sent_path(scope)
        route = next((found for find in self._find if (found := find(path)) is not None), None)
        if route is None:
            raise NotFoundError("such path")
        self._check_plain(scope, arrival)
        name = decoded_segment(route.name)
        check_name(name, route.called, f"path.{route.called}")
        return route, self._granted(route, name, scope, arrival.fields)

    def _admit_to_stream(self, route: StreamRoute, scope: Scope, arrival: Arrival) -> tuple[str, Callable[[], bool]]:
        """Whose stream it is, and what says whether the credential counts; raises as `_admit`."""
        self._check_plain(scope, arrival)
        credential = self._authenticated(route.scope, arrival.fields)
        return credential.tenant, lambda: self._keys.stands(credential)

    async def _serve(
        self, serve: Coroutine[Any, Any, Close], line: Line, end: asyncio.Future[Close], scope: Scope
    ) -> None:
        serving = asyncio.get_running_loop().create_task(serve)
        try:
            await asyncio.wait({serving, end}, return_when=asyncio.FIRST_COMPLETED)
            close = serving.result() if serving.done() else end.result()
        except StalledError:
            close = SLOW
        except Exception as error:
            report_fault(error, arrival_of(scope), method="GET", route="socket")
            close = FAULT
        finally:
            serving.cancel()
            await asyncio.wait({serving})
        with suppress(Exception):  # Servers raise what they like where the connection is gone.
            async with asyncio.timeout(bounds.SOCKET_GRACE_MS / 1000):
                await line.hand({"type": "websocket.close", "code": close.code, "reason": close.reason})

    def _check_plain(self, scope: Scope, arrival: Arrival) -> None:
        if scope["query_string"]:
            raise InvalidInputError("A socket takes no query: what stands in a URL ends up in logs", "query")
        self._check_origin(arrival.fields)

    def _check_origin(self, fields: dict[bytes, bytes]) -> None:
        origin = fields.get(b"origin")
        if origin is None:  # No page: browsers always say.
            return
        told = origin.decode("latin-1").lower()
        if told not in self._origins and "*" not in self._origins and not _is_own(told, fields[b"host"]):
            raise ForeignOriginError

    def _granted(self, route: SocketRoute, name: str, scope: Scope, fields: dict[bytes, bytes]) -> Grant:
        offered: list[str] = list(scope["subprotocols"])
        ticket = next((each for each in offered if each.startswith(TICKET_PREFIX)), None)
        if ticket is not None:
            if PROTOCOL not in offered:
                raise InvalidInputError(f"The subprotocol {PROTOCOL} must be offered", "header.sec-websocket-protocol")
            grant = self._tickets.redeem(ticket.removeprefix(TICKET_PREFIX))
            if grant is None or (grant.address.kind, grant.address.name) != (route.kind.name, name):
                raise UnauthenticatedError(detail=_NO_TICKET)
            if not grant.valid():
                raise UnauthenticatedError(detail=_NO_TICKET)
            return grant
        credential = self._authenticated(route.scope, fields)
        return Grant(Address(route.kind.name, credential.tenant, name), valid=lambda: self._keys.stands(credential))

    def _authenticated(self, scope: str, fields: dict[bytes, bytes]) -> Credential:
        credential = self._keys.authenticate(bearer_secret(fields.get(b"authorization")) or b"")
        if credential is None:
            raise UnauthenticatedError
        if scope not in credential.scopes:
            raise ForbiddenError(scope)
        return credential

    async def _refuse(self, scope: Scope, send: Send, error: Exception, arrival: Arrival) -> None:
        status, headers, body = problem_response(
            error, table=self._table, request_id=arrival.request_id, trace_id=arrival.trace_id
        )
        if status == 500:
            report_fault(error, arrival, method="GET", route="socket")
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
            return
        headers += response_headers(arrival)
        await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body})

    async def _run(self, scope: Scope, wire: Wire, transport: "_Transport", send: Send) -> None:
        code = _GONE
        try:
            await _accept(scope, send)
            code = await transport.run()
        except Exception as error:
            wire.ended_by, code = "fault", FAULT.code
            report_fault(error, arrival_of(scope), method="GET", route="socket")
            await transport.close(FAULT)
        finally:
            await self._ingress.leave(wire, code)


class _Transport:
    """Drives one accepted socket until it has ended."""

    def __init__(
        self,
        ingress: Ingress,
        wire: Wire,
        *,
        decode: Callable[[bytes], Any],
        clock: Clock,
        receive: Receive,
        send: Send,
    ) -> None:
        self._ingress, self._wire, self._decode = ingress, wire, decode
        self._clock, self._receive, self._send = clock, receive, send
        self._pace = Pace(clock)

    async def run(self) -> int:
        """Read and write until the client has left or the socket is to end; the code with which it ended."""
        wire = self._wire
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(self._read())
            writing = tasks.create_task(self._write())
            waited: set[asyncio.Future[Any]] = {reading, writing, wire.end}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if not wire.end.done():
                writing.cancel()
                reading.cancel()
                return reading.result() if reading.done() and not reading.cancelled() else _GONE
            reading.cancel()
            await asyncio.wait({reading})
            await asyncio.wait({writing}, timeout=bounds.SOCKET_GRACE_MS / 1000)
            writing.cancel()
        await self.close(wire.end.result())
        return wire.end.result().code

    async def _read(self) -> int:
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                return int(message.get("code") or _NO_CODE)
            await self._pace.keep()
            close = await self._take(message)
            if close is not None:
                why = "too_large" if close is TOO_LARGE else "malformed"
                self._ingress.end(self._wire, close, why, at_once=True)  # type: ignore[arg-type]  # One of the two.
                return close.code

    async def _take(self, message: Message) -> Close | None:
        """One frame; what is wrong with it, if it ends the socket."""
        text = message.get("text")
        if text is None:
            return NOT_TEXT
        size = len(text.encode()) if len(text) * 4 > bounds.SOCKET_FRAME_BYTES_MAX else len(text)
        if size > bounds.SOCKET_FRAME_BYTES_MAX:
            return TOO_LARGE
        self._wire.heard_ms = self._clock.monotonic_ms()
        try:
            frame = _decode_frame(text.encode())
            if (frame.message is msgspec.UNSET) == (frame.ping is msgspec.UNSET):
                return MALFORMED
            if isinstance(frame.ping, int):
                self._ingress.ping(self._wire, frame.ping)
                return None
            given = self._decode(bytes(frame.message))  # type: ignore[arg-type]  # It is set.
        except (InvalidInputError, UnicodeEncodeError):
            return MALFORMED
        await self._ingress.receive(self._wire, given, bounds.CALL_BYTES + size)
        return None

    async def _write(self) -> None:
        while (text := await self._wire.next()) is not None:
            try:
                await self._send({"type": "websocket.send", "text": text})
            except Exception:  # Servers raise what they like where the connection is gone.
                return

    async def close(self, close: Close) -> None:
        """Say why it ends; a client that reads nothing does not read this either."""
        with suppress(Exception):  # As above.
            async with asyncio.timeout(bounds.SOCKET_GRACE_MS / 1000):
                await self._send({"type": "websocket.close", "code": close.code, "reason": close.reason})


class Stands(Protocol):
    """What a door needs of the node behind it."""

    host: Host
    ingress: Ingress
    tickets: Tickets
    clock: Clock
    objects: Sequence[PublishedKind]


def socket_door(
    node: Stands,
    keys: KeyRing,
    table: ProblemTable,
    *,
    origins: str,
    find: Iterable[FindRoute] = (),
    find_stream: FindStream = lambda _: None,
) -> SocketDoor:
    """The door of a service: to the operator's own objects, to what `find` finds, and to the streams of the service."""
    return SocketDoor(
        node.ingress,
        (object_sockets(node.host, node.objects), *find),
        keys=keys,
        tickets=node.tickets,
        clock=node.clock,
        table=table,
        origins=origins,
        find_stream=find_stream,
    )


def object_sockets(host: Host, kinds: Iterable[PublishedKind]) -> FindRoute:
    """Finds `/v1/objects/{kind}/{name}/socket` of those of `kinds` that take sockets."""
    known = {
        kind.name.encode(): (hosted, strict_decoder(kind.message))
        for kind in kinds
        if kind.takes_sockets and (hosted := host.kind(kind.name)) is not None
    }

    def find(path: bytes) -> SocketRoute | None:
        found = named(path)
        if found is None or found[2] != b"socket" or found[0] not in known:
            return None
        kind, decode = known[found[0]]
        return SocketRoute(kind, found[1], decode, CALL)

    return find


async def _accept(scope: Scope, send: Send) -> None:
    """Complete the handshake; a client that offers subprotocols is told the one that is spoken."""
    spoken = PROTOCOL if PROTOCOL in scope["subprotocols"] else None
    await send({"type": "websocket.accept", "subprotocol": spoken})


def _is_own(origin: str, host: bytes) -> bool:
    """Whether a page is of the host that was asked, as a gateway has it that serves both."""
    try:
        return urlsplit(origin).netloc == host.decode("latin-1").lower() != ""
    except ValueError:  # It is no URL.
        return False


_decode_frame = strict_decoder(ClientFrame)
