"""Which trace the code that runs now belongs to, and how that travels in a header.

Source: W3C Trace Context (https://www.w3.org/TR/trace-context-2/), field `traceparent`. A value
that is not exactly right is as good as none: the trace begins here. `tracestate` is not read, as
Tenure hands no request on to anybody.
"""

import re
from contextvars import ContextVar

import msgspec

TRACEPARENT_BYTES = 55
_SAMPLED = 0x01
_ODD = b"13579bdf"  # The last digit of a traceparent whose sampled flag is set.
_match = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL).fullmatch


class TraceContext(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A span somewhere: what a child of it, or a link to it, has to know."""

    trace_id: int
    """128 bits, never 0."""
    span_id: int
    """64 bits, never 0."""
    sampled: bool
    """Whether the trace is recorded."""


current_trace: ContextVar[TraceContext | None] = ContextVar("current_trace", default=None)
"""The span that the running code belongs to; set only while a sampled request is served, or a sampled alarm."""


def parse_traceparent(value: bytes) -> TraceContext | None:
    """What one `traceparent` header says, or None if it is not well formed.

    A version after 00 is read as far as 00 goes, as the source demands. If a request carries the
    header twice it carries none: the caller decides that.
    """
    match = _match(value)
    if match is None:
        return None
    version, trace, span, flags, rest = match.groups()
    if version == b"ff" or (version == b"00" and rest is not None):
        return None
    trace_id, span_id = int(trace, 16), int(span, 16)
    if not trace_id or not span_id:
        return None
    return TraceContext(trace_id=trace_id, span_id=span_id, sampled=bool(int(flags, 16) & _SAMPLED))


def may_be_sampled(value: bytes) -> bool:
    """Whether a `traceparent`, should it be well formed, says that its trace is recorded. Costs one comparison."""
    return value[54:55] in _ODD


def current_traceparent() -> str:
    """The running code's span as a `traceparent`, to be stored and linked to later; empty if it is not sampled."""
    trace = current_trace.get()
    return "" if trace is None else format_traceparent(trace).decode()


def format_traceparent(context: TraceContext) -> bytes:
    """The header's value for `context`: 55 bytes, version 00."""
    return b"00-%032x-%016x-%02x" % (context.trace_id, context.span_id, context.sampled)
