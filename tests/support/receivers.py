"""Stand-ins for the world that is called: they keep the calls and answer in turn, without sockets."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec

from services.workflows.callbacks import Callbacks
from services.workflows.keys import KeySet
from shared.outbound.client import Answer
from shared.outbound.request import Request, check_request


class Made(NamedTuple):
    """A call as it was made."""

    tenant: str
    request: Request
    timeout_ms: int

    @property
    def key(self) -> str:
        return self.request.engine_headers["Idempotency-Key"]


class Receivers:
    """Answers, or errors, in turn; the last one for ever. `before` is awaited while a call is under way."""

    def __init__(self, *replies: Answer | Exception, before: Callable[[Made], Awaitable[None]] | None = None) -> None:
        self.made: list[Made] = []
        self.replies = list(replies)
        self.before = before

    async def send(self, tenant: str, request: Request, *, timeout_ms: int) -> Answer:
        check_request(request)
        made = Made(tenant, request, timeout_ms)
        self.made.append(made)
        reply = self.replies[0] if len(self.replies) == 1 else self.replies.pop(0)
        if self.before is not None:
            await self.before(made)
        if isinstance(reply, Exception):
            raise reply
        return reply


def replied(status: int, value: Any = None, **headers: str) -> Answer:
    """An answer with a value as JSON."""
    fields = {"content-type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
    return Answer(status=status, headers=fields, body=b"" if value is None else msgspec.json.encode(value))


def fixed_callbacks() -> Callbacks:
    """Callbacks of an installation with one key."""
    return Callbacks(KeySet({1: b"k" * 32}))
