"""Objects over REST: `POST /v1/objects/{kind}/{name}/{method}`, one route for each public method.

The body is a JSON object of the method's parameters, decoded as strictly as any body; the answer is the
JSON of what the method returns. The tenant is that of the credential, so objects of others cannot be
named. A success of a committed kind leaves after its commit and says how durable it is. Errors that
authors declare (`DomainError`) are problems with their own code and status 409; what a handler raises
besides is a fault, told without its text.

A call with an `Idempotency-Key` takes effect once, however often it is made (`shared.objects.once`); one of a
`@readonly` method changes nothing, so its key says nothing.

Any name that an object can have can stand in the path, percent-encoded whole (`shared.http.names`).
"""

import inspect
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from litestar import Request, Response, post
from litestar.handlers import HTTPRouteHandler

from shared.bounds import CALL_BYTES
from shared.errors import InvalidInputError, NotFoundError
from shared.http.arrival import Arrival, arrival_of
from shared.http.asgi import ASGIApp, Receive, Scope, Send
from shared.http.auth import Caller, require
from shared.http.contents import Content
from shared.http.decoding import strict_decoder
from shared.http.names import check_name, decoded_segment, sent_path
from shared.objects.address import Address
from shared.objects.errors import (
    CommitFailedError,
    DeadlineExceededError,
    DomainError,
    HandlerError,
    KeyReusedError,
    NoRoomError,
    OutcomeUnknownError,
)
from shared.objects.host import Host
from shared.objects.once import KeyedRequest
from shared.objects.published import PublicMethod, PublishedKind

CALL = "objects:call"
"""The scope that a credential needs to call an object."""

OBJECTS = "/v1/objects/"
IDEMPOTENCY_KEY = b"idempotency-key"
_WHERE_KEY = "header.idempotency-key"
NAME = "tenure.object_name"
"""In a scope: the name of the object in its path, as it was sent."""
_SEGMENTS = 6  # "", v1, objects, kind, name, method
_PROBLEMS = (DomainError, DeadlineExceededError)
_WRITE_PROBLEMS = (*_PROBLEMS, CommitFailedError, OutcomeUnknownError, NoRoomError)
_encode = msgspec.json.Encoder().encode


class ObjectCall(NamedTuple):
    """One call, ready to be made."""

    address: Address
    values: tuple[Any, ...]
    once: KeyedRequest | None


class ObjectMethod:
    """One public method of a kind: what a call of it brings, and how it is made."""

    __slots__ = ("_decode", "_host", "_kind", "_method", "repeatable", "route", "writes")

    def __init__(self, host: Host, kind: PublishedKind, method: PublicMethod) -> None:
        self._host = host
        self._kind = kind
        self._method = method
        self._decode = strict_decoder(method.parameters)
        self.route = f"{OBJECTS}{kind.name}/{{name}}/{method.name}"
        """As it is counted."""
        self.writes = kind.cls.durability == "committed" and not method.readonly
        """Whether a success leaves after its commit."""
        self.repeatable = not method.readonly and not kind.cls.native
        """Whether an `Idempotency-Key` makes it take effect once."""

    def read(self, arrival: Arrival, tenant: str, segment: bytes) -> ObjectCall:
        """What the request asks for; `segment` is the name as it was sent.

        Raises:
            InvalidInputError: the name, the body or the key is not what it should be.
        """
        name = decoded_segment(segment)
        check_name(name, "name", "path.name")
        address = Address(self._kind.name, tenant, name)
        values = msgspec.structs.astuple(self._decode(arrival.body or b"{}"))
        once = None if self._method.readonly else _once(arrival, self._kind, self._method, values)
        return ObjectCall(address, values, once)

    async def run(self, arrival: Arrival, call: ObjectCall) -> bytes:
        """Make the call; the reply as JSON.

        Raises:
            TenureError: what became of it otherwise.
        """
        size_bytes = CALL_BYTES + len(arrival.body)
        try:
            reply = await self._host.call(
                call.address, self._method.function, *call.values, size_bytes=size_bytes, once=call.once
            )
        finally:
            arrival.object_requests = self._host.turns_of(call.address)
        try:
            return _encode(reply)
        except (TypeError, ValueError, OverflowError, RecursionError) as exc:  # It is not what it was declared to be.
            raise HandlerError(self._kind.name, self._method.name) from exc


def object_methods(host: Host, kinds: Iterable[PublishedKind]) -> dict[tuple[str, str], ObjectMethod]:
    """Every public method of `kinds`, all of which `host` has, by kind and name."""
    return {(kind.name, method.name): ObjectMethod(host, kind, method) for kind in kinds for method in kind.methods}


def object_routes(host: Host, kinds: Iterable[PublishedKind]) -> list[HTTPRouteHandler]:
    """The routes of every public method of `kinds`, all of which `host` has."""
    return [_route(kind, method, ObjectMethod(host, kind, method)) for kind in kinds for method in kind.methods]


def named(raw: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Kind, name and method in a path as it was sent; None if it has no such form."""
    segments = raw.split(b"/")
    if len(segments) != _SEGMENTS or not raw.startswith(OBJECTS.encode()):
        return None
    return segments[3], segments[4], segments[5]


def with_object_names(app: ASGIApp) -> ASGIApp:
    """`app`, in which the routes above find the name as it was sent."""

    async def with_name(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(OBJECTS):
            scope = _for_route(scope)
        await app(scope, receive, send)

    return with_name


def _for_route(scope: Scope) -> Scope:
    """The request as its route knows it: a name that stands for any, and beside it the one that was sent."""
    found = named(sent_path(scope))
    if found is None:
        return scope
    kind, name, method = found
    path = b"/".join((kind, b"any", method)).decode("latin-1")
    return {**scope, "path": OBJECTS + path, NAME: name}


def _route(kind: PublishedKind, method: PublicMethod, called: ObjectMethod) -> HTTPRouteHandler:
    @post(
        f"{OBJECTS}{kind.name}/{{name:str}}/{method.name}",
        status_code=200,
        guards=[require(CALL)],
        tags=[f"objects of kind {kind.name}"],
        operation_id=f"objects.{kind.name}.{method.name}",
        summary=f"{kind.name} {method.name}",
        description=inspect.getdoc(method.function) or "",
        problems=(
            *(_WRITE_PROBLEMS if called.writes else _PROBLEMS),
            *((KeyReusedError,) if called.repeatable else ()),
        ),
        durable=called.writes,
        of_object=True,
        repeatable=called.repeatable,
        content=Content(method.parameters, method.reply),
    )
    async def call(credential: Caller, request: Request[Any, Any, Any]) -> Response[bytes]:
        arrival = arrival_of(request.scope)
        segment = request.scope.get(NAME)
        if not isinstance(segment, bytes):  # A path that only looks like one of ours once it is tidied.
            raise NotFoundError("such path")
        reply = await called.run(arrival, called.read(arrival, credential.tenant, segment))
        return Response(reply, media_type="application/json")

    return call


def _once(arrival: Arrival, kind: PublishedKind, method: PublicMethod, values: Sequence[Any]) -> KeyedRequest | None:
    """How the call is known again, if it has a key."""
    key = arrival.fields.get(IDEMPOTENCY_KEY)
    if key is None:
        return None
    if not key.isascii():
        raise InvalidInputError("An idempotency key has ASCII characters only", _WHERE_KEY)
    if kind.cls.native:
        raise InvalidInputError(f"A {kind.name} remembers no requests", _WHERE_KEY)
    try:
        return KeyedRequest(key.decode("ascii"), method.function, values)
    except InvalidInputError as exc:
        raise InvalidInputError(exc.detail, _WHERE_KEY) from exc
