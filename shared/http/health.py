"""The admin listener: is the process alive, may it get traffic, what does it measure, what is its API; and `/admin/`.

`/health/live` says that the event loop turns, and asks nobody: a store that is away must not make
an orchestrator kill the processes that wait for it. `/health/ready` says whether traffic should
come, and if not, why. There is nothing secret in these pages and nothing that changes anything, but nothing
for the public either: the listener binds to loopback unless told otherwise. What is secret, or changes
something, is below `/admin/`, and has its own credential (`shared.http.admin`).

A scrape of many series takes some 20 ms, so it is rendered in a thread, one at a time: checks are
answered meanwhile.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import cache

import msgspec

from shared.errors import NotFoundError
from shared.http.arrival import SECURITY_HEADERS, Arrival
from shared.http.asgi import Answer, ASGIApp, Receive, Scope, Send, send_answer
from shared.http.docs import CONTENT_SECURITY_POLICY, render_docs
from shared.http.errors import AdminOffError, MethodNotAllowedError
from shared.http.faults import report_fault
from shared.http.observe import method_label
from shared.http.problem import Headers, ProblemTable, Row, problem_response

OPERATOR = "/admin/"
"""What the paths of the operator's API begin with."""

_JSON = b"application/json"
_TABLE = ProblemTable({AdminOffError: Row(403, "Not allowed")})
_LIVE = msgspec.json.encode({"live": True})
_DOCS_HEADERS = [(name, value) for name, value in SECURITY_HEADERS if name != b"content-security-policy"]
_DOCS_HEADERS.append((b"content-security-policy", CONTENT_SECURITY_POLICY))

Page = Callable[[Scope], Awaitable[Answer]]
Operator = Callable[[Scope, Receive], Awaitable[Answer]]


def create_admin_app(
    *,
    ready: Callable[[], list[str]],
    scrape: Callable[[str], tuple[bytes, str]],
    openapi: Callable[[], bytes],
    owner: str = "",
    operator: Operator | None = None,
) -> ASGIApp:
    """The ASGI application of the admin listener.

    `ready` returns the reasons why traffic should not come; none means ready. It may not wait.
    `scrape` is called in a thread with the `Accept` field of the request, and returns the metrics
    and their media type. `openapi` makes the document that `/openapi.json` and `/docs` show, once
    and only when somebody asks: a process that was killed answers sooner without it. `owner` is the mark by
    which the leases of this process are found in a store, so that whoever asks can see on which one it works.
    `operator` answers below `/admin/`; what it raises is told as a problem.
    """
    document = cache(openapi)
    docs = cache(lambda: render_docs(document()))
    one_at_a_time = asyncio.Lock()

    def answer_ready() -> Answer:
        reasons = ready()
        body = msgspec.json.encode({"ready": not reasons, "reasons": reasons, "owner": owner})
        return plain(body, _JSON, 503 if reasons else 200)

    async def answer_metrics(scope: Scope) -> Answer:
        async with one_at_a_time:
            body, media_type = await asyncio.to_thread(scrape, _accept(scope))
        return plain(body, media_type.encode("ascii"))

    pages: dict[str, Page] = {
        "/health/live": _at_once(lambda: plain(_LIVE, _JSON)),
        "/health/ready": _at_once(answer_ready),
        "/metrics": answer_metrics,
        "/openapi.json": _at_once(lambda: plain(document(), _JSON)),
        "/docs": _at_once(lambda: (200, [*_typed(docs(), b"text/html; charset=utf-8"), *_DOCS_HEADERS], docs())),
    }

    async def admin(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            status, headers, body = await _answer(scope, receive, pages, operator)
            await send_answer(send, (status, headers, b"" if scope["method"] == "HEAD" else body))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": ""})

    return admin


def _at_once(make: Callable[[], Answer]) -> Page:
    async def page(_: Scope) -> Answer:
        return make()

    return page


async def _answer(scope: Scope, receive: Receive, pages: dict[str, Page], operator: Operator | None) -> Answer:
    page = pages.get(scope["path"])
    try:
        if operator is not None and scope["path"].startswith(OPERATOR):
            return await operator(scope, receive)
        if page is None:
            raise NotFoundError(f"such path; here are {', '.join(pages)} and what is below {OPERATOR}")
        if scope["method"] not in ("GET", "HEAD"):
            raise MethodNotAllowedError("GET, HEAD")
        return await page(scope)
    except Exception as error:
        arrival = Arrival(dict(scope["headers"]), 0.0)
        status, headers, body = problem_response(error, table=_TABLE, request_id=arrival.request_id)
        if status == 500:
            report_fault(error, arrival, method=method_label(scope["method"]), route=scope["path"])
        return status, [*headers, *SECURITY_HEADERS], body


def _accept(scope: Scope) -> str:
    """The `Accept` field, which may be sent in several parts."""
    return ",".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"accept")


def plain(body: bytes, media_type: bytes = _JSON, status: int = 200) -> Answer:
    """An answer of one piece, with the security fields."""
    return status, [*_typed(body, media_type), *SECURITY_HEADERS], body


def _typed(body: bytes, media_type: bytes) -> Headers:
    return [(b"content-type", media_type), (b"content-length", b"%d" % len(body))]
