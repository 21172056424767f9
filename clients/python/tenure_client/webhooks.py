"""Who is told of runs or of sessions: put a webhook, look at what it was told, send that again."""

import uuid
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias
from urllib.parse import quote

from tenure_client.transport import Client, given
from tenure_client.workflows import PAGE

DeliveryStatus: TypeAlias = Literal["pending", "delivered", "given_up"]


@dataclass(frozen=True)
class Webhook:
    """A webhook as the service shows it."""

    name: str
    url: str
    events: tuple[str, ...]
    """Of what it is told; of all if none is named."""
    enabled: bool
    description: str
    disabled_because: str | None
    """Why it was disabled by its own answer."""


@dataclass(frozen=True)
class Secret:
    """By what its messages are verified, with any library of Standard Webhooks; for a while by either."""

    secret: str = field(repr=False)
    previous: str | None = field(repr=False)
    previous_until_ms: int | None


@dataclass(frozen=True)
class DeliverySummary:
    """A message as a listing shows it."""

    id: str
    event: str
    at_ms: int
    status: DeliveryStatus


@dataclass(frozen=True)
class DeliveryPage:
    """Some messages, oldest first, and where to go on; None: there are no more."""

    deliveries: tuple[DeliverySummary, ...]
    next_cursor: str | None


@dataclass(frozen=True)
class Delivery:
    """A message, and what has come of it; `shown` is all of it, with each sending."""

    id: str
    event: str
    status: DeliveryStatus
    cause: str
    """Why it was given up."""
    body: bytes
    shown: dict[str, Any]


class Webhooks(Client):
    """Calls a workflow service or a session manager. Calls are made again while it is away, `rotate` alone is not."""

    async def put(
        self, name: str, url: str, *, events: Sequence[str] = (), enabled: bool = True, description: str = ""
    ) -> Webhook:
        """Say who is told of what, and where; one that is there keeps its secret."""
        body = {"url": url, "events": list(events), "enabled": enabled, "description": description}
        return _webhook(await self._transport.call("PUT", _path(name), body))

    async def get(self, name: str) -> Webhook:
        """The webhook as it is."""
        return _webhook(await self._transport.call("GET", _path(name)))

    async def list(self) -> tuple[Webhook, ...]:
        """All of them, by name."""
        told = await self._transport.call("GET", "/v1/webhooks")
        return tuple(_webhook(one) for one in told["webhooks"])

    async def delete(self, name: str) -> None:
        """Tell it nothing more, if it is there."""
        await self._transport.remove(_path(name))

    async def secret(self, name: str) -> Secret:
        """The secret by which its messages are verified."""
        return _secret(await self._transport.call("GET", f"{_path(name)}/secret"))

    async def rotate(self, name: str, *, keep_previous_s: int | None = None) -> Secret:
        """Make a new secret; for a while messages are signed with both. Asked once, for a repeat makes another."""
        body = given(keep_previous_s=keep_previous_s)
        return _secret(await self._transport.call("POST", f"{_path(name)}/rotate", body, patience_s=0))

    async def test(self, name: str, *, idempotency_key: str | None = None) -> str:
        """Send it a message of the type `webhook.test`; the id of that."""
        headers = {"idempotency-key": idempotency_key or str(uuid.uuid4())}
        return str((await self._transport.call("POST", f"{_path(name)}/test", headers=headers))["id"])

    async def deliveries(
        self, name: str, *, status: DeliveryStatus | None = None, cursor: str | None = None, limit: int = PAGE
    ) -> DeliveryPage:
        """A page of messages to it, oldest first; `given_up` are those that nobody will send again by himself."""
        query = "&".join(
            f"{key}={quote(str(value), safe='')}"
            for key, value in given(status=status, cursor=cursor, limit=limit).items()
        )
        told = await self._transport.call("GET", f"{_path(name)}/deliveries?{query}")
        found = tuple(
            DeliverySummary(one["id"], one["event"], one["at_ms"], one["status"]) for one in told["deliveries"]
        )
        return DeliveryPage(found, told["next_cursor"])

    async def delivery(self, name: str, message_id: str) -> Delivery:
        """A message, and what has come of each sending."""
        shown = await self._transport.call("GET", _message(name, message_id))
        return Delivery(
            id=shown["id"],
            event=shown["event"],
            status=shown["status"],
            cause=shown["cause"],
            body=b64decode(shown["body"]),
            shown=shown,
        )

    async def redeliver(self, name: str, message_id: str, *, idempotency_key: str | None = None) -> None:
        """Send a message again that was taken or given up, with the id that it has."""
        headers = {"idempotency-key": idempotency_key or str(uuid.uuid4())}
        await self._transport.call("POST", f"{_message(name, message_id)}/redeliver", headers=headers)


def _path(name: str) -> str:
    return f"/v1/webhooks/{quote(name, safe='')}"


def _message(name: str, message_id: str) -> str:
    return f"{_path(name)}/deliveries/{quote(message_id, safe='')}"


def _webhook(shown: dict[str, Any]) -> Webhook:
    return Webhook(
        name=shown["name"],
        url=shown["url"],
        events=tuple(shown["events"]),
        enabled=shown["enabled"],
        description=shown["description"],
        disabled_because=shown["disabled_because"],
    )


def _secret(shown: dict[str, Any]) -> Secret:
    return Secret(shown["secret"], shown["previous"], shown["previous_until_ms"])
