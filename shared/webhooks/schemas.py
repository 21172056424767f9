"""What goes over the wire of webhooks. Moments are Unix milliseconds of the store's clock."""

from base64 import b64encode
from typing import Annotated

import msgspec
from msgspec import Meta

from shared.bounds import WEBHOOK_ROTATION_S, WEBHOOK_ROTATION_S_MAX
from shared.webhooks.book import Listed, Subscription
from shared.webhooks.delivery import Kept, Status


class WebhookView(Subscription, frozen=True, kw_only=True):
    """A webhook as it is; its secret is told elsewhere."""

    name: str
    disabled_because: str | None
    """Why it was disabled by its own answer; null if it was not."""
    changed_ms: int

    @classmethod
    def of(cls, listed: Listed) -> "WebhookView":
        """As the book has it."""
        subscription = listed.endpoint.subscription
        return cls(
            name=listed.name,
            url=subscription.url,
            events=subscription.events,
            enabled=subscription.enabled,
            description=subscription.description,
            disabled_because=listed.endpoint.disabled_because or None,
            changed_ms=listed.changed_ms,
        )


class WebhookList(msgspec.Struct, frozen=True, kw_only=True):
    """All webhooks of the tenant, by name."""

    webhooks: list[WebhookView]


class WebhookSecret(msgspec.Struct, frozen=True, kw_only=True):
    """By what messages can be verified, with any library of Standard Webhooks."""

    secret: str
    previous: str | None
    """The one before; messages are signed with it too until `previous_until_ms`."""
    previous_until_ms: int | None


class RotateSecret(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long the old secret still signs."""

    keep_previous_s: Annotated[int, Meta(ge=0, le=WEBHOOK_ROTATION_S_MAX)] = WEBHOOK_ROTATION_S


class Sending(msgspec.Struct, frozen=True, kw_only=True):
    """It is being sent."""

    id: str
    """Of the message, as its `webhook-id` says."""


class AttemptView(msgspec.Struct, frozen=True, kw_only=True):
    """One sending of a message."""

    at_ms: int
    status: int
    """0: there was no answer."""
    error: str


class DeliveryView(msgspec.Struct, frozen=True, kw_only=True):
    """A message to a webhook, and what has come of it."""

    id: str
    event: str
    at_ms: int
    status: Status
    next_ms: int | None
    """When it is sent next."""
    cause: str
    """Why it was given up."""
    attempts: list[AttemptView]
    """The last ten, newest first."""
    body: str
    """What is sent, in base64."""

    @classmethod
    def of(cls, kept: Kept) -> "DeliveryView":
        """As the delivery has it."""
        return cls(
            id=kept.told.id,
            event=kept.told.event,
            at_ms=kept.told.at_ms,
            status=kept.status,
            next_ms=kept.next_ms,
            cause=kept.cause,
            attempts=[AttemptView(at_ms=one.at_ms, status=one.status, error=one.error) for one in kept.attempts],
            body=b64encode(kept.told.body).decode("ascii"),
        )


class DeliverySummary(msgspec.Struct, frozen=True, kw_only=True):
    """A message to a webhook as a listing shows it."""

    id: str
    event: str
    at_ms: int
    status: Status


class DeliveryList(msgspec.Struct, frozen=True, kw_only=True):
    """Messages to a webhook, oldest first."""

    deliveries: list[DeliverySummary]
    next_cursor: str | None
