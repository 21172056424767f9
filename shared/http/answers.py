"""What an answer tells about itself in header fields, by what its route says of itself.

`durable=True` on a route: it succeeds only after a commit, and `X-Tenure-Durability` says how safe
that is: the level that was really found when the node started. `of_object=True`: it is answered by
one object, and `X-Object-Requests` and `X-Response-Time-Ms` say how often that object has run and
how long this answer took. Routes that gateways call say neither: gateways copy fields to clients.
"""

from collections.abc import Mapping
from typing import Any

from shared.http.arrival import Arrival

DURABLE = "durable"
"""Option of a route handler: its success is that of a committed write."""
OF_OBJECT = "of_object"
"""Option of a route handler: one object answers, and the handler has put `Arrival.object_requests`."""

FIELDS: Mapping[str, Mapping[str, dict[str, Any]]] = {
    DURABLE: {
        "X-Tenure-Durability": {
            "description": "How safe the write is: 0 executed by the store, 1 on its disk.",
            "schema": {"type": "integer", "minimum": 0, "maximum": 3},
        }
    },
    OF_OBJECT: {
        "X-Object-Requests": {
            "description": "Turns of the object since it came into memory, this one included.",
            "schema": {"type": "integer", "minimum": 1},
        },
        "X-Response-Time-Ms": {
            "description": "From the arrival of the header to the beginning of the answer.",
            "schema": {"type": "number", "minimum": 0},
        },
    },
}
"""The fields of each option, as OpenAPI describes them."""


def telling_fields(
    options: Mapping[str, Any], arrival: Arrival, *, seconds: float, durability: int | None
) -> list[tuple[bytes, bytes]]:
    """The fields of an answer, whose status is in `arrival`, by the options of its route."""
    fields = []
    if options.get(DURABLE) and arrival.status < 300 and durability is not None:
        fields.append((b"x-tenure-durability", b"%d" % durability))
    if options.get(OF_OBJECT) and arrival.object_requests:
        fields.append((b"x-object-requests", b"%d" % arrival.object_requests))
        fields.append((b"x-response-time-ms", b"%.3f" % (seconds * 1000)))
    return fields
