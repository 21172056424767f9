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
from typing import Any

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
_NAME = "tenure.object_name"
_SEGMENTS = 6  # "", v1, objects, kind, name, method
_PROBLEMS = (DomainError, DeadlineExceededError)
_WRITE_PROBLEMS = (*_PROBLEMS, CommitFailedError, OutcomeUnknownError, NoRoomError)
_encode = msgspec.json.Encoder().encode


def object_routes(host: Host, kinds: Iterable[PublishedKind]) -> list[HTTPRouteHandler]:
    """The routes of every public method of `kinds`, all of which `host` has."""
    return [_route(host, kind, method) for kind in kinds for method in kind.methods]


def with_object_names(app: ASGIApp) -> ASGIApp:
    """`app`, in which the routes above find the name as it was sent."""

    async def named(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(OBJECTS):
            scope = _for_route(scope)
        await app(scope, receive, send)

    return named


def _for_route(scope: Scope) -> Scope:
    """The request as its route knows it: a name that stands for any, and beside it the one that was sent."""
    raw = sent_path(scope)
    segments = raw.split(b"/")
    if len(segments) != _SEGMENTS or not raw.startswith(OBJECTS.encode()):
        return scope
    _, _, _, kind, name, method = segments
    path = b"/".join((kind, b"any", method)).decode("latin-1")
    return {**scope, "path": OBJECTS + path, _NAME: name}


def _route(host: Host, kind: PublishedKind, method: PublicMethod) -> HTTPRouteHandler:
    decode = strict_decoder(method.parameters)
    writes = kind.cls.durability == "committed" and not method.readonly
    repeatable = not method.readonly and not kind.cls.native

    @post(
        f"{OBJECTS}{kind.name}/{{name:str}}/{method.name}",
        status_code=200,
        guards=[require(CALL)],
        tags=[f"objects of kind {kind.name}"],
        operation_id=f"objects.{kind.name}.{method.name}",
        summary=f"{kind.name} {method.name}",
        description=inspect.getdoc(method.function) or "",
        problems=(*(_WRITE_PROBLEMS if writes else _PROBLEMS), *((KeyReusedError,) if repeatable else ())),
        durable=writes,
        of_object=True,
        repeatable=repeatable,
        content=Content(method.parameters, method.reply),
    )
    async def call(credential: Caller, request: Request[Any, Any, Any]) -> Response[bytes]:
        arrival = arrival_of(request.scope)
        address = Address(kind.name, credential.tenant, _name(request.scope))
        arguments = decode(arrival.body or b"{}")
        values = msgspec.structs.astuple(arguments)
        size_bytes = CALL_BYTES + len(arrival.body)
        once = None if method.readonly else _once(arrival, method, values)
        try:
            reply = await host.call(address, method.function, *values, size_bytes=size_bytes, once=once)
        finally:
            arrival.object_requests = host.turns_of(address)
        return Response(_encoded(kind, method, reply), media_type="application/json")

    return call


def _once(arrival: Arrival, method: PublicMethod, values: Sequence[Any]) -> KeyedRequest | None:
    """How the call is known again, if it has a key."""
    key = arrival.fields.get(IDEMPOTENCY_KEY)
    if key is None:
        return None
    if not key.isascii():
        raise InvalidInputError("An idempotency key has ASCII characters only", "idempotency-key")
    return KeyedRequest(key.decode("ascii"), method.function, values)


def _name(scope: Any) -> str:
    segment: bytes | None = scope.get(_NAME)
    if segment is None:  # A path that only looks like one of ours once it is tidied.
        raise NotFoundError("such path")
    name = decoded_segment(segment)
    check_name(name, "name", "path.name")
    return name


def _encoded(kind: PublishedKind, method: PublicMethod, reply: Any) -> bytes:
    try:
        return _encode(reply)
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:  # It is not what it was declared to be.
        raise HandlerError(kind.name, method.name) from exc
