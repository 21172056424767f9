"""Traces: what one request did, as spans that are made only when the request is sampled.

The decision falls where a trace enters the process, before any object exists; from there on a
parent of None means "not recorded", and costs a comparison. A commit is recorded after the fact
(`Tracer.record`), once for every turn that it carries.

Span names: `{METHOD} {route}`, `turn {Kind}/{method}`, `commit {Kind}`, `activate {Kind}`,
`alarm {Kind}` and `deliver {Kind}` (traces of their own, linked to the turn that set the alarm or sent the message).
What goes on for months has no one trace: `run {event}` and `step {definition}/{step}` are traces of their own, linked
to the start of the run, and `webhook {event}` to the turn that told it; each is recorded if what it is linked to is.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from shared.telemetry.context import (
    TraceContext,
    current_trace,
    format_traceparent,
    parse_traceparent,
)
from shared.telemetry.export import Export, open_export
from shared.telemetry.metrics import Metrics
from shared.telemetry.sampling import Sampler, new_span_id
from shared.telemetry.spans import (
    NO_SPAN,
    Attributes,
    NoSpan,
    Span,
    SpanData,
    SpanKind,
    SpanSink,
    Started,
    clean,
    error_name,
)

__all__ = [
    "NO_SPAN",
    "STORE_CALL",
    "NoSpan",
    "Span",
    "SpanData",
    "SpanKind",
    "Started",
    "TraceContext",
    "Tracer",
    "current_trace",
    "format_traceparent",
    "parse_traceparent",
]

STORE_CALL: Final = {
    "db.system.name": "redis",
    "db.operation.name": "EVALSHA",
    "db.stored_procedure.name": "commit",
}
"""What the conventions for Redis clients call a commit; Valkey has no word of its own there."""

_OFF = Sampler(ratio=0.0)


class Tracer:
    """Makes spans. Without a sink nothing is ever recorded."""

    __slots__ = ("_export", "_sampler", "_sink")

    def __init__(self, sampler: Sampler = _OFF, sink: SpanSink | None = None, export: Export | None = None) -> None:
        self._sampler = sampler
        self._sink = sink
        self._export = export

    @classmethod
    def from_environment(cls, *, service: str, node: str, metrics: Metrics) -> "Tracer":
        """A tracer as the standard OTEL_* variables describe it; without an endpoint it records nothing.

        Starts the export of `metrics` as well, so `shutdown` sends the last of both. `service` is
        the `service.name`, `node` the `service.instance.id`, unless the variables name others.

        Raises:
            ConfigurationError: a variable cannot be right.
        """
        export = open_export(service=service, node=node, metrics=metrics)
        return cls(export.sampler, export.spans, export)

    @property
    def enabled(self) -> bool:
        """Whether any span can be recorded; if not, a `traceparent` need not even be parsed."""
        return self._sink is not None

    def span(
        self,
        name: str,
        *,
        parent: TraceContext | None = None,
        kind: SpanKind = "internal",
        attributes: Attributes | None = None,
        links: Sequence[TraceContext] = (),
    ) -> Span | NoSpan:
        """A span that starts now: a context manager, or to be ended by `finish`.

        Kinds "server" and "consumer" are where work enters: there the sampler decides, and a
        parent of None begins a new trace. Any other kind is recorded if its parent is sampled.
        The one object for all unrecorded spans has `recording` False and `context` None.
        """
        sink = self._sink
        if sink is None:
            return NO_SPAN
        if kind == "server" or kind == "consumer":  # noqa: PLR1714  # A set would cost a hash.
            context = self._sampler.begin(parent)
            if context is None:
                return NO_SPAN
        elif parent is not None and parent.sampled:
            context = TraceContext(trace_id=parent.trace_id, span_id=new_span_id(), sampled=True)
        else:
            return NO_SPAN
        return Span(sink, name, context, parent=parent, kind=kind, attributes=attributes, links=links)

    start = span

    def linked(self, name: str, origin: str, attributes: Attributes | None = None) -> Span | NoSpan:
        """A span that starts now, in a trace of its own: linked to that of a `traceparent`, and recorded if that is."""
        sink, link = self._sink, _recorded(origin)
        if sink is None or link is None:
            return NO_SPAN
        return Span(sink, name, _own_root(), parent=None, kind="consumer", attributes=attributes, links=[link])

    def record_linked(
        self,
        name: str,
        origin: str,
        start_ns: int,
        end_ns: int,
        attributes: Attributes,
        *,
        error: str = "",
        within: TraceContext | None = None,
    ) -> None:
        """As `linked`, of what is over; times are Unix nanoseconds.

        Where it ended `within` the trace of the `traceparent`, it is a part of that; else it is linked to both.
        """
        sink, link = self._sink, _recorded(origin)
        if sink is None or link is None:
            return
        root, inside = _own_root(), within is not None and within.trace_id == link.trace_id
        sink.emit(
            SpanData(
                name=name,
                kind="internal",
                context=msgspec.structs.replace(root, trace_id=link.trace_id) if inside else root,
                parent=link if inside else None,
                start_ns=start_ns,
                end_ns=max(start_ns, end_ns),
                attributes=clean(attributes),
                links=[] if inside else [link, *([within] if within is not None else [])],
                error=error,
            )
        )

    def record(
        self,
        name: str,
        parent: TraceContext | None,
        start_ns: int,
        end_ns: int,
        attributes: Attributes | None = None,
        *,
        kind: SpanKind = "internal",
        error: BaseException | str | None = None,
        links: Sequence[TraceContext] = (),
    ) -> TraceContext | None:
        """Record a span that is over, if `parent` is sampled; times are Unix nanoseconds.

        Returns its context, for children that are recorded later.
        """
        sink = self._sink
        if sink is None or parent is None or not parent.sampled:
            return None
        context = TraceContext(trace_id=parent.trace_id, span_id=new_span_id(), sampled=True)
        sink.emit(
            SpanData(
                name=name,
                kind=kind,
                context=context,
                parent=parent,
                start_ns=start_ns,
                end_ns=max(start_ns, end_ns),
                attributes=clean(attributes) if attributes else {},
                links=links,
                error=error_name(error) if isinstance(error, BaseException) else error or "",
            )
        )
        return context

    def shutdown(self) -> None:
        """Send what is left, for at most 5 s, and stop. Blocks. Nothing is recorded afterwards."""
        self._sink = None
        export, self._export = self._export, None
        if export is not None:
            export.shutdown()


def _recorded(origin: str) -> TraceContext | None:
    """The span that a `traceparent` names, if it is recorded."""
    context = parse_traceparent(origin.encode()) if origin else None
    return context if context is not None and context.sampled else None


def _own_root() -> TraceContext:
    return TraceContext(trace_id=new_span_id() << 64 | new_span_id(), span_id=new_span_id(), sampled=True)
