"""The span of a request, for those requests that are sampled; the others pay for one decision.

It is Litestar middleware because the name of the span is the route template, which is not known
before routing. Inside, `current_trace` is the context that turns and commits hang their spans on.

Source: OpenTelemetry semantic conventions for HTTP spans.
"""

from collections.abc import Callable

from litestar.types import ASGIApp, Receive, Scope, Send

from shared.http.arrival import arrival_of
from shared.http.observe import UNROUTED, method_label
from shared.telemetry.traces import Tracer, parse_traceparent


def traced(tracer: Tracer) -> Callable[[ASGIApp], ASGIApp]:
    """Middleware that records `{METHOD} {route template}` for sampled requests."""

    def wrap(app: ASGIApp) -> ASGIApp:
        async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
            arrival = arrival_of(scope)
            method, route = method_label(str(scope.get("method", ""))), str(scope.get("path_template", UNROUTED))
            parent = parse_traceparent(arrival.fields[b"traceparent"]) if b"traceparent" in arrival.fields else None
            with tracer.span(f"{method} {route}", parent=parent, kind="server") as span:
                if span.context is None:
                    await app(scope, receive, send)
                    return
                arrival.trace = span.context
                span.set("http.request.method", method)
                span.set("http.route", route)
                span.set("url.path", scope["path"])
                await app(scope, receive, send)
                span.set("http.response.status_code", arrival.status)
                if arrival.status >= 500:
                    span.fail(str(arrival.status))

        return middleware

    return wrap
