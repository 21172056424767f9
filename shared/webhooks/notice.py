"""What a subscriber is told: the body of a message, and its id, which follows from what it is about."""

from hashlib import blake2b
from typing import Any

import msgspec

from shared.clock import rfc3339
from shared.objects.address import Address
from shared.webhooks.delivery import Delivery, Told

_ID_BYTES = 16


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a message, in the form that Standard Webhooks proposes."""

    type: str
    timestamp: str
    data: dict[str, Any]


def told_of(event: str, what: tuple[Any, ...], data: dict[str, Any], *, at_ms: int) -> Told:
    """A message. Its id is that of `what` it is about, so telling it again tells nobody twice."""
    digest = blake2b(msgspec.msgpack.encode(what), digest_size=_ID_BYTES).hexdigest()
    body = msgspec.json.encode(Notice(type=event, timestamp=rfc3339(at_ms), data=data))
    return Told(id=f"msg_{digest}", event=event, body=body, at_ms=at_ms)


def delivery_address(tenant: str, endpoint: str, message_id: str) -> Address:
    """Of the delivery of a message to an endpoint."""
    return Address(Delivery.kind, tenant, f"{endpoint}/{message_id}")
