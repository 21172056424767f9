"""Of what subscribers can be told."""

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from shared.webhooks.book import Subscription

Event: TypeAlias = Literal[
    "run.succeeded",
    "run.failed",
    "run.cancelled",
    "run.terminated",
    "incident.opened",
    "incident.closed",
    "step.escalated",
]


class RunSubscription(Subscription, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a subscriber wants to be told of runs, and where."""

    events: Annotated[tuple[Event, ...], Meta(max_length=16)] = ()
    """Which; all if none is named."""
