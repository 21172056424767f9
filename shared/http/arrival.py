"""One request as the guard found it, for everything behind the guard.

The guard puts an `Arrival` into the ASGI scope (`arrival_of`). Its header fields are a plain
dictionary, made once: a name that occurs twice has its last value there, and the guard has refused
the request if that name is one where two values could mean two things.

Every response carries `SECURITY_HEADERS`. Who answers adds them: the guard to its refusals, the
Litestar application to all it says (`create_app`), a fast lane to the fields that it builds
beforehand. So nobody has to wrap `send`, and a fast lane pays nothing for them.

Sources: OWASP ASVS 5.0 V3.4 (security headers), ASGI 3.0 (header names arrive in lower case).
"""

import itertools
import secrets
from typing import Any

from shared.telemetry.context import TraceContext, parse_traceparent

_KEY = "tenure.arrival"

SECURITY_HEADERS: list[tuple[bytes, bytes]] = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]
"""On every response of a service, whatever its status."""

_id_prefix = secrets.token_hex(4)
_id_numbers = itertools.count()


class Arrival:
    """What is known of a request once its header has been let in."""

    __slots__ = ("_request_id", "body", "fields", "object_requests", "started_s", "status", "trace")

    def __init__(self, fields: dict[bytes, bytes], started_s: float) -> None:
        self.fields = fields
        """Header fields by lower-case name."""
        self.started_s = started_s
        """When the header was here, by the guard's stopwatch."""
        self.body = b""
        """The whole body, within its cap. Empty on bare paths, whose body is never read."""
        self.status = 0
        """The status that was answered; 0 until then, and on fast lanes."""
        self.trace: TraceContext | None = None
        """The span of this request, if it is sampled."""
        self.object_requests = 0
        """How often the object that answers has run; 0 where none was asked."""
        self._request_id = ""

    @property
    def request_id(self) -> str:
        """Unique among the requests of all nodes for all practical purposes; made when first asked for.

        Never taken from the client, who could make two requests look like one.
        """
        if not self._request_id:
            self._request_id = f"{_id_prefix}{next(_id_numbers):08x}"
        return self._request_id

    @property
    def trace_id(self) -> str:
        """The trace this request belongs to, sampled or not, in hexadecimal; empty if the caller named none."""
        trace = self.trace or parse_traceparent(self.fields.get(b"traceparent", b""))
        return f"{trace.trace_id:032x}" if trace else ""


def put_arrival(scope: Any, arrival: Arrival) -> None:
    """Attach `arrival` to the scope of its request."""
    scope[_KEY] = arrival


def arrival_of(scope: Any) -> Arrival:
    """The arrival of the request; one made on the spot where no guard stands in front."""
    arrival: Arrival | None = scope.get(_KEY)
    if arrival is None:
        arrival = scope[_KEY] = Arrival(dict(scope["headers"]), 0.0)
    return arrival


def response_headers(arrival: Arrival) -> list[tuple[bytes, bytes]]:
    """What an API response carries besides its own fields: the security headers and the request id."""
    return [*SECURITY_HEADERS, (b"x-request-id", arrival.request_id.encode("ascii"))]
