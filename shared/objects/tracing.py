"""What the core tells of its work. Spans are made for sampled calls only; all others pay a comparison with None.

    request -> turn -> commit     what a call did, and the write that its answer waited for
    request -> activate           the load that a call caused
    alarm -> turn -> commit       a trace of its own, linked to the turn that set the alarm
    deliver -> turn -> commit     a trace of its own, linked to the turn that sent the message

A commit span belongs to the turns whose writes it carries and whose answers waited for it. A
checkpoint that nobody waits for carries the writes of many turns, and is part of no trace.

Names of attributes: OpenTelemetry's for databases where they fit, else `tenure.*`.
"""

import time
from typing import TYPE_CHECKING

from shared.objects.activation import Activation, Call
from shared.objects.address import Address
from shared.objects.errors import DomainError
from shared.objects.messages import Message
from shared.storage.codec import AlarmRecord
from shared.telemetry.context import TraceContext, parse_traceparent
from shared.telemetry.metrics import Metrics, TurnOutcome
from shared.telemetry.spans import Attribute
from shared.telemetry.traces import STORE_CALL, NoSpan, Span, Tracer

if TYPE_CHECKING:
    from shared.objects.flights import Flight


def begin_turn(tracer: Tracer, activation: Activation, call: Call, *, waited_ms: int) -> None:
    """The turn of a sampled call starts: what it causes from here on is part of its span."""
    kind = activation.kind.name
    span = tracer.span(f"turn {kind}/{call.method.__name__}", parent=call.trace)
    span.set("tenure.object.kind", kind)
    span.set("tenure.object.id", str(activation.address))
    span.set("tenure.object.epoch", activation.shard.fence.epoch)
    span.set("tenure.queue.wait_ms", waited_ms)
    span.set("tenure.cold", call.cold)
    call.span, call.trace = span, span.context


def observe_turn(metrics: Metrics, activation: Activation, call: Call, error: BaseException | None) -> None:
    """A turn is over: count and time it, and end its span."""
    seconds = (time.perf_counter_ns() - call.started_ns) / 1e9
    outcome: TurnOutcome = "ok" if error is None else "refused" if isinstance(error, DomainError) else "error"
    metrics.turn(activation.kind.name, call.method.__name__, outcome, seconds, call.trace)
    end_turn(call, outcome, error)


def end_turn(call: Call, outcome: str, error: BaseException | None) -> None:
    """The turn of a sampled call is over; an error that its author declared is no failure."""
    span = call.span
    if span is None:
        return
    span.set("tenure.outcome", outcome)
    if error is not None and outcome == "error":
        span.fail(error)
    span.finish()


def begin_activation(tracer: Tracer, address: Address, trace: TraceContext | None) -> Span | NoSpan | None:
    """The span of a load that a sampled call has caused, or None."""
    if trace is None:
        return None
    attributes = {"tenure.object.kind": address.kind, "tenure.object.id": str(address)}
    return tracer.span(f"activate {address.kind}", parent=trace, attributes=attributes)


def end_activation(span: Span | NoSpan | None, error: BaseException | str | None = None) -> None:
    """The object is in memory, or `error` says why not."""
    if span is None:
        return
    if error is not None:
        span.fail(error)
    span.finish()


def begin_alarm(tracer: Tracer, address: Address, name: str) -> Span | NoSpan:
    """An alarm rings: the root of a trace, if the sampler wants it."""
    span = tracer.span(f"alarm {address.kind}", kind="consumer")
    if span.recording:
        span.set("tenure.object.kind", address.kind)
        span.set("tenure.object.id", str(address))
        span.set("tenure.alarm.name", name)
    return span


def describe_alarm(span: Span | NoSpan | None, record: AlarmRecord, *, now_ms: int) -> None:
    """The alarm is due indeed: say how late, and link it to the turn that set it."""
    if span is None or not span.recording:
        return
    span.set("tenure.alarm.due_unix_ms", record.due_ms)
    span.set("tenure.alarm.lag_ms", now_ms - record.due_ms)
    span.set("tenure.alarm.attempt", record.attempts + 1)
    origin = parse_traceparent(record.trace.encode())
    if origin is not None:
        span.link(origin)


def begin_delivery(tracer: Tracer, receiver: Address, sender: bytes, message: Message) -> Span | NoSpan:
    """A message is handed over: the root of a trace, if the sampler wants it."""
    span = tracer.span(f"deliver {receiver.kind}", kind="consumer")
    if span.recording:
        span.set("tenure.object.kind", receiver.kind)
        span.set("tenure.object.id", str(receiver))
        span.set("tenure.message.sender", str(Address.decode(sender)))
        origin = parse_traceparent(message.trace.encode())
        if origin is not None:
            span.link(origin)
    return span


def record_commit(
    tracer: Tracer, activation: Activation, call: Call, flight: "Flight", error: BaseException | None = None
) -> TraceContext | None:
    """The write that a sampled turn waited for has ended, well or with `error`. Returns its span's context."""
    attributes: dict[str, Attribute] = {
        **STORE_CALL,
        "db.operation.batch.size": flight.objects,
        "tenure.object.kind": activation.kind.name,
        "tenure.commit.bytes": flight.size_bytes,
        "tenure.fenced": error is not None and flight.outcome == "fenced",
    }
    return tracer.record(
        f"commit {activation.kind.name}",
        call.trace,
        flight.began.start_ns,
        flight.began.end_ns(),
        attributes,
        kind="client",
        error=error,
    )
