"""Of what subscribers are told, and how a principal tells them.

What has happened is in the journal of the principal, and what is still to be told of it is one number beside it,
written in the same commit: so nothing that was answered goes untold, and however many sessions end at once, the turn
that ends them does not grow. An alarm takes so many events at a time and sends each to one delivery for each
subscriber. The name of a delivery follows from the event, so telling it again tells nobody twice.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from services.sessions.records import Event, EventKind
from shared.objects.address import Address
from shared.webhooks.book import Subscription
from shared.webhooks.delivery import Told
from shared.webhooks.notice import told_of


class SessionSubscription(Subscription, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a subscriber wants to be told of principals and their sessions, and where."""

    events: Annotated[tuple[EventKind, ...], Meta(max_length=16)] = ()
    """Which; all if none is named."""


class Untold(msgspec.Struct, frozen=True, array_like=True):
    """Subscribers are still to be told of the events behind that number, of the principal of that name."""

    after: int
    principal: str


def told(address: Address, principal: str, seq: int, event: Event) -> Told:
    """The message about an event of a principal at that address."""
    data: dict[str, Any] = {"principal": principal, "seq": seq}
    if event.session:
        data["session"] = event.session
    if event.reason:
        data["reason"] = event.reason
    if event.actor is not None:
        data["actor"] = msgspec.to_builtins(event.actor)
    what = (address, seq, event.at_ms, event.kind)
    return told_of(event.kind, what, data, at_ms=event.at_ms)
