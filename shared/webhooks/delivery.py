"""The delivery object: one message to one subscriber, until it is taken or given up.

Guarantees:

- At least once, with the same `webhook-id` each time; each sending is signed anew, for its own moment.
- It is tried for some three days, at first soon and then less often, or when the other side says (`Retry-After`).
- Each is an object of its own: a subscriber that hangs holds up no other message.
- What was given up stays for thirty days, to be looked at and sent again; what was taken for three.

In no order: a subscriber goes by the timestamps.
"""

from collections.abc import Callable
from typing import ClassVar, Literal, NamedTuple, TypeAlias

import msgspec

from shared.bounds import WEBHOOK_DELIVERED_KEPT_MS, WEBHOOK_GIVEN_UP_KEPT_MS, WEBHOOK_TIMEOUT_MS
from shared.errors import ConflictError, NotFoundError
from shared.objects.errors import UnavailableError
from shared.objects.handler import Alarm, DurableObject, readonly
from shared.outbound.client import Answer, Calls, TenantBusyError
from shared.outbound.errors import BadTargetError, OutboundError
from shared.outbound.request import Request
from shared.outbound.signing import signed_headers
from shared.telemetry import logs
from shared.telemetry.context import current_traceparent
from shared.webhooks.book import Endpoint, WebhookBook
from shared.webhooks.errors import WebhookKeyGoneError

Status: TypeAlias = Literal["pending", "delivered", "given_up"]
OF_ENDPOINT, BY_STATUS = "endpoint", "status"
SEND = "send"
_GONE = 410
_KEY = "delivery"
_MINUTE_MS = 60_000
_WAITS_MS = (5_000, *(minutes * _MINUTE_MS for minutes in (5, 30, 120, 300, 600, 840, 1_200, 1_440)))
"""After each failure; those of Standard Webhooks."""
_SPREAD = 0.1
_BUSY_SPREAD_MS = 2_000
_ATTEMPTS_KEPT = 10
_log = logs.get_logger()


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What a subscriber is told: the bytes that are signed, and of what event and moment they are."""

    id: str
    event: str
    body: bytes
    at_ms: int


class Attempt(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One sending. `status` 0: there was no answer, and `error` says why."""

    at_ms: int
    status: int
    error: str = ""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands. `failures` since it was begun, or sent again by hand."""

    told: Told
    status: Status = "pending"
    failures: int = 0
    attempts: tuple[Attempt, ...] = ()
    """The last ten, newest first."""
    next_ms: int | None = None
    cause: str = ""
    """Why it was given up."""
    trace: str = ""
    """Where it was begun, as a `traceparent`; empty if that was not sampled."""


class Summary(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What a listing says."""

    event: str
    status: Status


class _Outcome(NamedTuple):
    """What came of a sending; `ask_ms`: the other side asks to wait so long."""

    attempt: Attempt
    taken: bool = False
    final: bool = False
    ask_ms: int = 0


class Hosting(msgspec.Struct, frozen=True):
    """What a delivery finds where it is hosted."""

    book: Callable[[], WebhookBook]
    calls: Callable[[], Calls]


class Delivery(DurableObject):
    """One message to one endpoint. The address's name is `<endpoint>/<message id>`."""

    kind: ClassVar[str] = "delivery"
    hosting: ClassVar[Hosting | None] = None

    def tell(self, told: Told) -> None:
        """Begin, unless it was begun before."""
        if self._kept() is None:
            self._keep(Kept(told=told, next_ms=self.clock.now_ms(), trace=current_traceparent()))

    def tell_again(self) -> None:
        """Send it once more, from now on.

        Raises:
            NotFoundError: it is not known any more.
            ConflictError: it is being sent.
        """
        kept = self._known()
        if kept.status == "pending":
            raise ConflictError("It is being sent.")
        self._keep(msgspec.structs.replace(kept, status="pending", failures=0, cause="", next_ms=self.clock.now_ms()))

    @readonly
    def look(self) -> Kept:
        """How it stands.

        Raises:
            NotFoundError: it is not known any more.
        """
        return self._known()

    async def on_alarm(self, alarm: Alarm) -> None:  # noqa: ARG002  # There is one.
        """Send it."""
        kept = self._kept()
        if kept is None or kept.status != "pending":
            return
        endpoint, tenant = self.address.name.partition("/")[0], self.address.tenant
        hosting = self.hosting
        if hosting is None:
            raise UnavailableError("Nobody carries messages yet")
        try:
            listed = hosting.book().get(tenant, endpoint)
        except NotFoundError:
            self._give_up(kept, "the webhook was deleted")
            return
        if not listed.endpoint.subscription.enabled:
            self._give_up(kept, "the webhook is disabled")
            return
        try:
            with self._activation.host.tracer.linked(f"webhook {kept.told.event}", kept.trace) as span:
                span.set("tenure.object.id", str(self.address))
                outcome = await self._send(hosting, endpoint, listed.endpoint, kept.told)
                span.set("http.response.status_code", outcome.attempt.status)
        except TenantBusyError as error:  # That was no attempt: so much is being sent that it has to wait.
            wait_ms = error.retry_after_ms + int(_BUSY_SPREAD_MS * self._activation.host.draw())
            self._keep(msgspec.structs.replace(kept, next_ms=self.clock.now_ms() + wait_ms))
            return
        if outcome.attempt.status == _GONE:
            url = listed.endpoint.subscription.url
            if await hosting.book().disable(tenant, endpoint, url=url, because="its last answer was 410"):
                _log.warning(logs.WEBHOOK_DISABLED, tenant=tenant, webhook=endpoint)
        self._settle(kept, outcome)

    async def _send(self, hosting: Hosting, name: str, endpoint: Endpoint, told: Told) -> _Outcome:
        now_ms, tenant = self.clock.now_ms(), self.address.tenant
        try:
            secrets = hosting.book().secrets(tenant, name, endpoint, now_ms=now_ms)
            request = Request(
                method="POST",
                url=endpoint.subscription.url,
                engine_headers={
                    **signed_headers(told.id, now_ms, told.body, secrets),
                    "Content-Type": "application/json",
                },
                body=told.body,
            )
            answer = await hosting.calls().send(tenant, request, timeout_ms=WEBHOOK_TIMEOUT_MS)
        except (OutboundError, WebhookKeyGoneError) as error:
            final = isinstance(error, BadTargetError)
            return _Outcome(Attempt(at_ms=now_ms, status=0, error=error.code), final=final)
        return _meaning(answer, sent_ms=now_ms, now_ms=self.clock.now_ms())

    def _settle(self, kept: Kept, outcome: _Outcome) -> None:
        """Keep what came of a sending, and say when the next one is, if there is to be one."""
        attempts = (outcome.attempt, *kept.attempts)[:_ATTEMPTS_KEPT]
        kept = msgspec.structs.replace(kept, attempts=attempts)
        metrics = self._activation.host.metrics
        if outcome.taken:
            metrics.webhook("delivered")
            self._keep(msgspec.structs.replace(kept, status="delivered", next_ms=None))
            return
        metrics.webhook("failed")
        if outcome.final or kept.failures >= len(_WAITS_MS):
            status = outcome.attempt.status
            self._give_up(kept, f"its last answer was {status}" if status else outcome.attempt.error)
            return
        spread = 1 + _SPREAD * self._activation.host.draw()
        wait_ms = max(int(_WAITS_MS[kept.failures] * spread), outcome.ask_ms)
        next_ms = self.clock.now_ms() + wait_ms
        self._keep(msgspec.structs.replace(kept, failures=kept.failures + 1, next_ms=next_ms))

    def _give_up(self, kept: Kept, cause: str) -> None:
        self._activation.host.metrics.webhook("given_up")
        _log.warning(logs.WEBHOOK_GIVEN_UP, delivery=str(self.address), error=cause)
        self._keep(msgspec.structs.replace(kept, status="given_up", cause=cause, next_ms=None))

    def _keep(self, kept: Kept) -> None:
        """Keep how it stands, have it found, and set its alarm or say when it is forgotten."""
        self.storage.put(_KEY, kept)
        summary = msgspec.msgpack.encode(Summary(event=kept.told.event, status=kept.status))
        endpoint = self.address.name.partition("/")[0]
        self.index.set(OF_ENDPOINT, endpoint, kept.told.at_ms, summary)
        self.index.set(BY_STATUS, f"{endpoint}/{kept.status}", kept.told.at_ms, summary)
        if kept.next_ms is not None:
            self.storage.expire_at(None)
            self.alarms.set(SEND, at_ms=kept.next_ms)
            return
        self.alarms.cancel(SEND)
        kept_ms = WEBHOOK_DELIVERED_KEPT_MS if kept.status == "delivered" else WEBHOOK_GIVEN_UP_KEPT_MS
        self.storage.expire_at(self.clock.now_ms() + kept_ms)

    def _kept(self) -> Kept | None:
        kept: Kept | None = self.storage.get(_KEY, Kept)
        return kept

    def _known(self) -> Kept:
        kept = self._kept()
        if kept is None:
            raise NotFoundError("such delivery")
        return kept


def _meaning(answer: Answer, *, sent_ms: int, now_ms: int) -> _Outcome:
    taken = 200 <= answer.status < 300
    attempt = Attempt(at_ms=sent_ms, status=answer.status)
    return _Outcome(attempt, taken=taken, final=answer.status == _GONE, ask_ms=answer.retry_after_ms(now_ms))


def delivered_by(hosting: Hosting) -> type[Delivery]:
    """The kind of deliveries of one installation."""

    class HostedDelivery(Delivery):
        """A delivery of this installation."""

    HostedDelivery.hosting = hosting
    return HostedDelivery
