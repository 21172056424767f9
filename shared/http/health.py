"""The admin listener: is the process alive, may it get traffic, what does it measure, what is its API.

`/health/live` says that the event loop turns, and asks nobody: a store that is away must not make
an orchestrator kill the processes that wait for it. `/health/ready` says whether traffic should
come, and if not, why. There is nothing secret here and nothing that changes anything, but nothing
for the public either: the listener binds to loopback unless told otherwise.

A scrape of many series takes some 20 ms, so it is rendered in a thread, one at a time: checks are
answered meanwhile.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import cache

import msgspec

from shared.errors import NotFoundError
from shared.http.arrival import SECURITY_HEADERS, Arrival
from shared.http.asgi import ASGIApp, Receive, Scope, Send
from shared.http.docs import CONTENT_SECURITY_POLICY, render_docs
from shared.http.errors import MethodNotAllowedError
from shared.http.faults import report_fault
from shared.http.observe import method_label
from shared.http.problem import Headers, problem_response

_JSON = b"application/json"
_LIVE = msgspec.json.encode({"live": True})
_DOCS_HEADERS = [(name, value) for name, value in SECURITY_HEADERS if name != b"content-security-policy"]
_DOCS_HEADERS.append((b"content-security-policy", CONTENT_SECURITY_POLICY))

Answer = tuple[int, Headers, bytes]
Page = Callable[[Scope], Awaitable[Answer]]


def create_admin_app(
    *,
    ready: Callable[[], list[str]],
    scrape: Callable[[str], tuple[bytes, str]],
    openapi: Callable[[], bytes],
) -> ASGIApp:
    """The ASGI application of the admin listener.

    `ready` returns the reasons why traffic should not come; none means ready. It may not wait.
    `scrape` is called in a thread with the `Accept` field of the request, and returns the metrics
    and their media type. `openapi` makes the document that `/openapi.json` and `/docs` show, once
    and only when somebody asks: a process that was killed answers sooner without it.
    """
    document = cache(openapi)
    docs = cache(lambda: render_docs(document()))
    one_at_a_time = asyncio.Lock()

    def answer_ready() -> Answer:
        reasons = ready()
        body = msgspec.json.encode({"ready": not reasons, "reasons": reasons})
        return _plain(body, _JSON, 503 if reasons else 200)

    async def answer_metrics(scope: Scope) -> Answer:
        async with one_at_a_time:
            body, media_type = await asyncio.to_thread(scrape, _accept(scope))
        return _plain(body, media_type.encode("ascii"))

    pages: dict[str, Page] = {
        "/health/live": _at_once(lambda: _plain(_LIVE, _JSON)),
        "/health/ready": _at_once(answer_ready),
        "/metrics": answer_metrics,
        "/openapi.json": _at_once(lambda: _plain(document(), _JSON)),
        "/docs": _at_once(lambda: (200, [*_typed(docs(), b"text/html; charset=utf-8"), *_DOCS_HEADERS], docs())),
    }

    async def admin(scope: Scope, _: Receive, send: Send) -> None:
        if scope["type"] == "http":
            status, headers, body = await _answer(scope, pages)
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": ""})

    return admin


def _at_once(make: Callable[[], Answer]) -> Page:
    async def page(_: Scope) -> Answer:
        return make()

    return page


async def _answer(scope: Scope, pages: dict[str, Page]) -> Answer:
    page = pages.get(scope["path"])
    try:
        if page is None:
            raise NotFoundError("such path")
        if scope["method"] not in ("GET", "HEAD"):
            raise MethodNotAllowedError("GET, HEAD")
        return await page(scope)
    except Exception as error:
        arrival = Arrival(dict(scope["headers"]), 0.0)
        status, headers, body = problem_response(error, request_id=arrival.request_id)
        if status == 500:
            report_fault(error, arrival, method=method_label(scope["method"]), route=scope["path"])
        return status, [*headers, *SECURITY_HEADERS], body


def _accept(scope: Scope) -> str:
    """The `Accept` field, which may be sent in several parts."""
    return ",".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"accept")


def _plain(body: bytes, media_type: bytes, status: int = 200) -> Answer:
    return status, [*_typed(body, media_type), *SECURITY_HEADERS], body


def _typed(body: bytes, media_type: bytes) -> Headers:
    return [(b"content-type", media_type), (b"content-length", b"%d" % len(body))]
