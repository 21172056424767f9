"""How answered requests are counted: by words that we chose, never by words that clients choose.

A client can invent paths and methods without end; a label value made of one would be a memory leak
in every metrics system behind us.

Source: OpenTelemetry semantic conventions for HTTP (`http.request.method`, `http.route`).
"""

from collections.abc import Callable
from typing import TypeAlias

from shared.telemetry.catalogue import HTTP_METHODS
from shared.telemetry.context import TraceContext

Observe: TypeAlias = Callable[[str, str, int, float, TraceContext | None], None]
"""Called with method, route template, status, seconds and trace (if sampled) of each request that was answered."""

UNROUTED = "unrouted"
"""In place of the route template, where no route was reached."""

_METHODS = frozenset(HTTP_METHODS)


def method_label(method: str) -> str:
    """The method as it is counted: itself, or `_OTHER`."""
    return method if method in _METHODS else "_OTHER"
