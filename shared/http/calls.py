"""Calls of objects for requests: their answers say how often the object has run."""

from collections.abc import Callable
from typing import Any, TypeAlias

from litestar import Request

from shared.bounds import CALL_BYTES, HANDLER_DEADLINE_MS
from shared.errors import InvalidInputError
from shared.http.arrival import arrival_of
from shared.objects.address import Address
from shared.objects.errors import (
    CommitFailedError,
    DeadlineExceededError,
    KeyReusedError,
    NoRoomError,
    OutcomeUnknownError,
)
from shared.objects.host import Host
from shared.objects.once import KeyedRequest

AnyRequest: TypeAlias = Request[Any, Any, Any]

WRITE_PROBLEMS = (DeadlineExceededError, CommitFailedError, OutcomeUnknownError, NoRoomError)
"""What a call that changes an object can come to, beside what its own method refuses."""
KEYED_PROBLEMS = (*WRITE_PROBLEMS, KeyReusedError)
"""The same, of a call that may have an `Idempotency-Key`."""


async def call_for(
    request: AnyRequest,
    host: Host,
    address: Address,
    method: Callable[..., Any],
    *args: Any,
    once: KeyedRequest | None = None,
    patience_ms: int = HANDLER_DEADLINE_MS,
) -> Any:
    """The reply of an object. The bytes of the request count against what its node takes at once.

    Raises:
        TenureError: as `Host.call`.
    """
    arrival = arrival_of(request.scope)
    size_bytes = CALL_BYTES + len(arrival.body)
    try:
        return await host.call(address, method, *args, once=once, size_bytes=size_bytes, deadline_ms=patience_ms)
    finally:
        arrival.object_requests = host.turns_of(address)


def idempotency_key(request: AnyRequest) -> str | None:
    """The `Idempotency-Key` of the request, if it has one.

    Raises:
        InvalidInputError: it is not ASCII.
    """
    key = arrival_of(request.scope).fields.get(b"idempotency-key")
    if key is None:
        return None
    if not key.isascii():
        raise InvalidInputError("An idempotency key has ASCII characters only", "header.idempotency-key")
    return key.decode("ascii")
