"""The admin listener: is the process alive, may it get traffic, what does it measure, what is its API.

`/health/live` says that the event loop turns, and asks nobody: a store that is away must not make
an orchestrator kill the processes that wait for it. `/health/ready` says whether traffic should
come, and if not, why. There is nothing secret here and nothing that changes anything, but nothing
for the public either: the listener binds to loopback unless told otherwise.
"""

from collections.abc import Callable
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

METRICS_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
"""The Prometheus text format."""

_JSON = b"application/json"
_LIVE = msgspec.json.encode({"live": True})
_DOCS_HEADERS = [(name, value) for name, value in SECURITY_HEADERS if name != b"content-security-policy"]
_DOCS_HEADERS.append((b"content-security-policy", CONTENT_SECURITY_POLICY))

Answer = tuple[int, Headers, bytes]


def create_admin_app(
    *,
    ready: Callable[[], list[str]],
    metrics_render: Callable[[], bytes],
    openapi: Callable[[], bytes],
    metrics_type: bytes = METRICS_TYPE,
) -> ASGIApp:
    """The ASGI application of the admin listener.

    `ready` returns the reasons why traffic should not come; none means ready. Neither it nor
    `metrics_render` may wait. `openapi` makes the document that `/openapi.json` and `/docs` show,
    once and only when somebody asks: a process that was killed answers sooner without it.
    """
    document = cache(openapi)
    docs = cache(lambda: render_docs(document()))

    def answer_ready() -> Answer:
        reasons = ready()
        body = msgspec.json.encode({"ready": not reasons, "reasons": reasons})
        return _plain(body, _JSON, 503 if reasons else 200)

    pages: dict[str, Callable[[], Answer]] = {
        "/health/live": lambda: _plain(_LIVE, _JSON),
        "/health/ready": answer_ready,
        "/metrics": lambda: _plain(metrics_render(), metrics_type),
        "/openapi.json": lambda: _plain(document(), _JSON),
        "/docs": lambda: (200, [*_typed(docs(), b"text/html; charset=utf-8"), *_DOCS_HEADERS], docs()),
    }

    async def admin(scope: Scope, _: Receive, send: Send) -> None:
        if scope["type"] == "http":
            status, headers, body = _answer(scope, pages)
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": ""})

    return admin


def _answer(scope: Scope, pages: dict[str, Callable[[], Answer]]) -> Answer:
    page = pages.get(scope["path"])
    try:
        if page is None:
            raise NotFoundError("such path")
        if scope["method"] not in ("GET", "HEAD"):
            raise MethodNotAllowedError("GET, HEAD")
        return page()
    except Exception as error:
        arrival = Arrival(dict(scope["headers"]), 0.0)
        status, headers, body = problem_response(error, request_id=arrival.request_id)
        if status == 500:
            report_fault(error, arrival, method=method_label(scope["method"]), route=scope["path"])
        return status, [*headers, *SECURITY_HEADERS], body


def _plain(body: bytes, media_type: bytes, status: int = 200) -> Answer:
    return status, [*_typed(body, media_type), *SECURITY_HEADERS], body


def _typed(body: bytes, media_type: bytes) -> Headers:
    return [(b"content-type", media_type), (b"content-length", b"%d" % len(body))]
