"""The whole limiter in virtual time over the store in memory, and a way to ask it through real ASGI."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeVar, cast
from urllib.parse import quote

import msgspec

from services.ratelimiter.app import build_app
from services.ratelimiter.limiter import Limiter
from shared.http.asgi import ASGIApp, Message
from shared.http.guard import Guard
from shared.objects.config import Documents
from shared.objects.handler import DurableObject
from shared.objects.host import Host
from shared.objects.ingress import Ingress, LocalOwners
from shared.objects.inspection import Inspection
from shared.objects.published import published
from shared.objects.tickets import Tickets
from shared.runtime.node import Node
from shared.storage.keys import SHARED
from shared.storage.records import KeyRecord, TenantRecord, key_digest, new_key_id, new_key_text
from shared.telemetry.sampling import Sampler
from shared.telemetry.spans import SpanData
from shared.telemetry.traces import Tracer
from shared.testing.clock import LoopClock, run_virtual
from shared.testing.store import MemoryStore
from tests.support.simulated import Core, core

T = TypeVar("T")
ADMIN_TOKEN = "an operator's token of 32 and more"
ALL = ("limits:check", "limits:read", "limits:write", "objects:call")


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    def field(self, name: str) -> str | None:
        values = [value.decode() for key, value in self.headers if key == name.encode()]
        assert len(values) < 2, f"{name} was sent {len(values)} times"
        return values[0] if values else None


class Service:
    """A node of the limiter with one tenant, `acme`, and a key for everything."""

    def __init__(
        self,
        running: Core,
        store: MemoryStore,
        *,
        sampler: Sampler | None = None,
        objects: Sequence[type[DurableObject]] = (),
    ) -> None:
        self.core = running
        self.store = store
        self.spans: list[SpanData] = []
        clock = LoopClock(asyncio.get_running_loop())
        host = running.host
        self.node = SimpleNamespace(
            host=host,
            clock=clock,
            documents=Documents(store, "rl", clock),
            shared_documents=Documents(store, SHARED, clock),
            metrics=host.metrics,
            tracer=Tracer(sampler, self) if sampler else Tracer(),
            ready=list,
            durability=1,
            objects=[published(cls) for cls in objects],
            inspection=Inspection(host, store, running.ownership),
            ingress=Ingress(LocalOwners(host), clock, host.metrics),
            tickets=Tickets(clock),
            ownership=running.ownership,
            settings=SimpleNamespace(admin_token=ADMIN_TOKEN, socket_origins="https://app.example"),
        )
        self.clock = clock
        self.key = ""

    async def start(self) -> None:
        """Make the applications, the tenant and its key."""
        await self.node.documents.poll()
        await self.node.shared_documents.poll()
        self.app: Guard
        self.app, self.admin = build_app(cast("Node", self.node))
        self.key = await self.add_key("acme", *ALL)

    @property
    def host(self) -> Host:
        return self.core.host

    def emit(self, span: SpanData, /) -> None:
        self.spans.append(span)

    async def add_key(self, tenant: str, *scopes: str) -> str:
        documents = self.node.shared_documents
        body = msgspec.json.encode(TenantRecord(created_ms=0))
        await documents.put("tenant", tenant, tenant, body, expected=None)
        text = new_key_text()
        record = KeyRecord(digest=key_digest(text), scopes=scopes, created_ms=0)
        await documents.put("key", tenant, new_key_id(), msgspec.json.encode(record), expected=0)
        return text

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = "",
        headers: Sequence[tuple[str, str]] = (),
        gateway: bool = False,
        app: ASGIApp | None = None,
        query: str | None = None,
        raw_path: bytes = b"",
        gone: asyncio.Event | None = None,
    ) -> Answer:
        """One request; `body` is sent as JSON unless it is bytes. Without `query`, a "?" in the path begins one.

        `raw_path` is the path as it is on the wire; without it the path is encoded as most clients do. `gone` is set when
        the caller goes away before it is answered. As the listener does, the service is asked first for an answer at
        once, where it may have one; another `app` is asked by ASGI alone.
        """
        raw = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
        sent = [(b"host", b"localhost"), *((name.encode(), value.encode("latin-1")) for name, value in headers)]
        secret = self.key if key == "" else key
        if secret is not None:
            sent.append(
                (b"x-tenure-key", secret.encode()) if gateway else (b"authorization", b"Bearer " + secret.encode())
            )
        if raw:
            if not any(name == b"content-type" for name, _ in sent):
                sent.append((b"content-type", b"application/json"))
            sent.append((b"content-length", b"%d" % len(raw)))
        bare = path
        if query is None:
            bare, _, query = path.partition("?")
        scope = self.scope(method, bare, sent, query=query, raw_path=raw_path)
        prompt = self.app.prompt if app is None else None
        if prompt is not None and path.startswith(prompt.paths):
            answer = prompt.answer(dict(scope), raw)
            if isinstance(answer, Coroutine):
                answer = await answer
            if answer is not None:
                return Answer(*answer)
        return await _run(app or self.app, scope, raw, gone or asyncio.Event())

    def scope(
        self, method: str, path: str, headers: list[tuple[bytes, bytes]], *, query: str = "", raw_path: bytes = b""
    ) -> dict[str, Any]:
        """The ASGI scope of a request."""
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": raw_path or quote(path).encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
        }

    async def check(self, subject: str, policy: str = "api", **rest: Any) -> Any:
        """The body of one check, which must be answered with 200."""
        answer = await self.ask("POST", "/v1/check", {"policy": policy, "subject": subject, **rest})
        assert answer.status == 200, answer
        return answer.json()

    async def put_policy(self, name: str, *limits: tuple[str, int, int], on_error: str = "open") -> Answer:
        body = {
            "limits": [{"name": title, "limit": limit, "window_ms": window_ms} for title, limit, window_ms in limits],
            "on_error": on_error,
        }
        return await self.ask("PUT", f"/v1/policies/{name}", body)

    async def put_profile(self, name: str, **members: Any) -> Answer:
        body = {"policy": "api", "subject_header": "x-tenure-subject", **members}
        return await self.ask("PUT", f"/v1/profiles/{name}", body)


def with_service(
    scenario: Callable[[Service], Awaitable[T]],
    *,
    sampler: Sampler | None = None,
    start: bool = True,
    objects: Sequence[type[DurableObject]] = (),
) -> T:
    """Run `scenario` with a service of its own, in virtual time; `objects` are hosted beside the limiter."""

    async def main() -> T:
        store = MemoryStore(LoopClock(asyncio.get_running_loop()))
        async with core(store, kinds=[Limiter, *objects]) as running:
            service = Service(running, store, sampler=sampler, objects=objects)
            if start:
                await service.start()
            return await scenario(service)

    return run_virtual(main)


async def _run(app: ASGIApp, scope: dict[str, Any], body: bytes, gone: asyncio.Event) -> Answer:
    messages: list[Message] = []
    pending = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if pending:
            return pending.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        messages.append(message)

    await app(scope, receive, send)
    start, *rest = messages
    return Answer(start["status"], list(start["headers"]), b"".join(part.get("body", b"") for part in rest))
