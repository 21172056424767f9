"""A due alarm becomes a call of its object, which nobody waits for: the store knows what became of it."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from shared import bounds
from shared.errors import RefusedError
from shared.objects.activation import Call
from shared.objects.address import Address, shard_of
from shared.objects.errors import CommitFailedError, HandlerError, OutcomeUnknownError
from shared.objects.ownership import Shard
from shared.objects.tracing import begin_alarm
from shared.telemetry.traces import NO_SPAN

if TYPE_CHECKING:
    from shared.objects.host import Host

_NOT_STORED = (CommitFailedError, OutcomeUnknownError)


class Ringer:
    """Rings the alarms of one host; `deliver` is its way to a mailbox."""

    def __init__(self, host: "Host", shards: Sequence[Shard], deliver: Callable[[Address, Call], None]) -> None:
        self._host = host
        self._shards = shards
        self._deliver = deliver

    def ring(self, object_id: bytes, name: str) -> "asyncio.Future[Any]":
        """Have the object answer its alarm `name`; one that cannot now is rung again, and none is lost."""
        host, address = self._host, Address.decode(object_id)
        kind = host.kind(address.kind)
        assert kind is not None, "the alarms of other kinds are left alone"
        shard = self._shards[shard_of(object_id, len(self._shards))]
        span = begin_alarm(host.tracer, address, name) if host.tracer.enabled else NO_SPAN
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        arrived_ms = host.store_clock.monotonic_ms()
        call = Call(kind.cls.on_alarm, (), future=future, arrived_ms=arrived_ms, durable=True, alarm=name)
        call.span, call.trace = span, span.context

        def answered(future: "asyncio.Future[Any]") -> None:  # Nobody waits for it.
            error = None if future.cancelled() else future.exception()
            if error is not None:
                span.fail(error)
            span.finish()
            self._answered(shard, call, object_id + name.encode(), error)

        future.add_done_callback(answered)
        try:
            self._deliver(address, call)
        except (RefusedError, HandlerError) as exc:
            call.fail(exc)
        return future

    def _answered(self, shard: Shard, call: Call, member: bytes, error: BaseException | None) -> None:
        """Its call is over; unless it went well, the alarm may be stored as it was, and is looked up again."""
        still_set = error is not None and (not call.started or isinstance(error, _NOT_STORED))
        if not (still_set and shard.open):
            self._host.alarms.settled(member)
        if error is not None and shard.open:  # If not, it is read anew when the shard opens.
            again_ms = error.retry_after_ms if isinstance(error, RefusedError) else bounds.RETRY_AFTER_MS
            self._host.alarms.armed(self._host.store_clock.lower_ms() + again_ms, member)
