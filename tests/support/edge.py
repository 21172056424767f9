"""A small service made the way all services are, and ways to ask it: through real ASGI, or over a socket."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, ClassVar

import httpx
from litestar import delete, get, post, put
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Meta, Struct

from shared.bounds import BODY_DEADLINE_MS, HEADER_DEADLINE_MS
from shared.errors import NotFoundError, RefusedError
from shared.http.app import asgi, create_app
from shared.http.asgi import ASGIApp
from shared.http.auth import Caller, require
from shared.http.guard import Guard
from shared.http.problem import ProblemTable, Row, Rows
from shared.objects.errors import HandlerError, OutcomeUnknownError, OverloadedError
from shared.runtime.listener import Listener
from shared.telemetry.sampling import Sampler
from shared.telemetry.spans import SpanData
from shared.telemetry.traces import TraceContext, Tracer, current_trace
from tests.support.keyring import Keys
from tests.support.launching import free_ports


class Item(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a body."""

    cost: Annotated[int, Meta(ge=0, le=1_000)]


class Order(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A body."""

    name: Annotated[str, Meta(max_length=64)]
    cost: Annotated[int, Meta(ge=0, le=1_000)] = 1
    items: list[Item] = []
    anything: Any = None


class Receipt(Struct, frozen=True, kw_only=True):
    """An answer."""

    tenant: str
    name: str
    cost: int


class TeapotError(RefusedError):
    """An error of this service alone."""

    code: ClassVar[str] = "teapot"


@post("/v1/orders", status_code=200, guards=[require("limits:check")], problems=(TeapotError,))
async def order(data: JSONBody[Order], credential: Caller) -> Receipt:
    """Take an order."""
    return Receipt(tenant=credential.tenant, name=data.name, cost=data.cost + sum(item.cost for item in data.items))


@get("/v1/orders/{name:str}", guards=[require("limits:read")])
async def find(name: FromPath[str], credential: Caller, limit: FromQuery[int] = 10) -> Receipt:
    """Look one up."""
    if name == "none":
        raise NotFoundError("order of that name")
    return Receipt(tenant=credential.tenant, name=name, cost=limit)


@put("/v1/orders/{name:str}", guards=[require("limits:write")])
async def replace(name: FromPath[str], data: JSONBody[Order], credential: Caller) -> Receipt:
    """Write one."""
    return Receipt(tenant=credential.tenant, name=name, cost=data.cost)


@delete("/v1/orders/{name:str}", guards=[require("limits:write")])
async def remove(name: FromPath[str]) -> None:
    """Remove one."""


FAULTS: dict[str, Exception] = {
    "value": ValueError("secret=hunter2"),
    "recursion": RecursionError("secret=hunter2"),
    "unicode": UnicodeDecodeError("utf-8", b"secret", 0, 1, "secret=hunter2"),
    "handler": HandlerError("secret", "hunter2"),
    "overloaded": OverloadedError("Too many calls wait.", retry_after_ms=1_500),
    "unknown": OutcomeUnknownError(),
    "teapot": TeapotError("Short and stout.", retry_after_ms=10),
}


@get("/v1/faults/{which:str}", guards=[require("limits:read")])
async def fail(which: FromPath[str]) -> None:
    """Raise something."""
    raise FAULTS[which]


@get("/v1/public", anonymous=True)
async def public() -> dict[str, bool]:
    """Answer anybody."""
    return {"sampled": current_trace.get() is not None}


@get("/v1/gateway", by_gateway=True, guards=[require("limits:check")])
async def gateway(credential: Caller) -> Receipt:
    """Answer a gateway."""
    return Receipt(tenant=credential.tenant, name="", cost=0)


HANDLERS = [order, find, replace, remove, fail, public, gateway]
PROBLEMS: Rows = {TeapotError: Row(429, "I am a teapot")}


class Edge:
    """The service under test, and ways to ask it."""

    def __init__(
        self, keys: Keys, text: str, sampler: Sampler | None = None, body_deadline_ms: int = BODY_DEADLINE_MS
    ) -> None:
        self.keys = keys
        self.text = text
        self.counted: list[tuple[str, str, int, TraceContext | None]] = []
        self.spans: list[SpanData] = []
        tracer = Tracer(sampler, self) if sampler else Tracer()
        self.litestar = create_app(
            title="Orders",
            version="1.2.3",
            route_handlers=HANDLERS,
            keys=keys.ring,
            problems=PROBLEMS,
            tracer=tracer,
            observe=self._observe,
        )
        self.app: ASGIApp = Guard(
            asgi(self.litestar),
            table=ProblemTable(PROBLEMS),
            bare=("/bare/",),
            observe=self._observe,
            body_deadline_ms=body_deadline_ms,
        )

    def emit(self, span: SpanData, /) -> None:
        """Take a span."""
        self.spans.append(span)

    def _observe(self, method: str, route: str, status: int, seconds: float, trace: TraceContext | None) -> None:
        assert 0 <= seconds < 10
        self.counted.append((method, route, status, trace))

    async def ask(self, method: str, path: str, *, key: str | None = "", **kwargs: Any) -> httpx.Response:
        """One request; with the key of the test unless another is given, with none if that is None."""
        headers = list(httpx.Headers(kwargs.pop("headers", None)).multi_items())
        if key is not None:
            headers.append(("authorization", f"Bearer {key or self.text}"))
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://limits.example") as client:
            return await client.request(method, path, headers=headers, **kwargs)

    @asynccontextmanager
    async def served(self, *, header_deadline_ms: int = HEADER_DEADLINE_MS) -> "AsyncIterator[Wire]":
        """The service on a port of this machine, on the server that is used in production."""
        (port,) = free_ports(1)
        listener = Listener(self.app, host="127.0.0.1", port=port, header_deadline_ms=header_deadline_ms)
        async with listener:
            yield Wire(port)


class Wire:
    """Sends bytes as they are."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def until_closed(self, request: bytes, deadline_s: float = 10) -> bytes:
        """All that the server sends until it closes the connection.

        Raises:
            TimeoutError: it did not close the connection in time.
        """
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request)
            async with asyncio.timeout(deadline_s):
                return await reader.read()
        finally:
            writer.close()

    async def answer(self, request: bytes, deadline_s: float = 10) -> tuple[int, bytes]:
        """Status and header of the first answer to `request`."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request)
            async with asyncio.timeout(deadline_s):
                head = await reader.readuntil(b"\r\n\r\n")
        finally:
            writer.close()
        return int(head.split(b" ", 2)[1]), head.lower()


def with_edge(scenario: Callable[[Edge], Awaitable[None]], *scopes: str, sampler: Sampler | None = None) -> None:
    """Run a scenario on an edge of its own, with one tenant and one key."""

    async def run() -> None:
        keys = Keys()
        await keys.add_tenant("acme")
        await scenario(Edge(keys, await keys.add_key("acme", *scopes), sampler))

    asyncio.run(run())
