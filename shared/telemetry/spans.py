"""Spans: one that is kept, and the single object that stands for all that are not.

A span starts at a moment of the wall clock and lasts for a time of the monotonic one, so a step
of the wall clock cannot give it a negative length. An exception is named (`error.type`), its
message is not recorded: messages may quote what a client sent. The full error is a log line.
"""

import time
from collections.abc import Mapping, Sequence
from contextvars import Token
from types import TracebackType
from typing import Literal, Protocol, Self, TypeAlias

import msgspec

from shared.errors import TenureError
from shared.telemetry.context import TraceContext, current_trace

SpanKind = Literal["internal", "server", "client", "consumer"]
Attribute: TypeAlias = str | int | float | bool
Attributes: TypeAlias = Mapping[str, Attribute]

ATTRIBUTE_CHARS_MAX = 1_024
"""Longer texts are cut; a path may have several KiB."""


class SpanData(msgspec.Struct, frozen=True, kw_only=True):
    """A span that has ended. Times are Unix nanoseconds."""

    name: str
    kind: SpanKind
    context: TraceContext
    parent: TraceContext | None
    start_ns: int
    end_ns: int
    attributes: dict[str, Attribute]
    links: Sequence[TraceContext]
    error: str
    """The stable name of what went wrong; empty if nothing did."""


class Started:
    """A moment at which something began: wall time says when, monotonic time will say how long it took."""

    __slots__ = ("_counter_ns", "start_ns")

    def __init__(self) -> None:
        self.start_ns = time.time_ns()  # noqa: TID251  # Span times are wall time, finer than a millisecond.
        self._counter_ns = time.perf_counter_ns()

    def end_ns(self) -> int:
        """Now, in Unix nanoseconds that no step of the wall clock since the start has moved."""
        return self.start_ns + time.perf_counter_ns() - self._counter_ns


class SpanSink(Protocol):
    """Takes ended spans and sends them away later. Never waits and never raises."""

    def emit(self, span: SpanData, /) -> None:
        """Take one."""
        ...


class NoSpan:
    """Stands for a span that nobody records. Every method does nothing; there is one object of it."""

    __slots__ = ()
    recording = False
    context: None = None

    def set(self, key: str, value: Attribute) -> None:
        """Nothing."""

    def rename(self, name: str) -> None:
        """Nothing."""

    def link(self, origin: TraceContext) -> None:
        """Nothing."""

    def fail(self, error: BaseException | str) -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


NO_SPAN = NoSpan()


class Span:
    """A span that is recorded. As a context manager it is the current one inside the block."""

    __slots__ = (
        "_attributes",
        "_error",
        "_kind",
        "_links",
        "_name",
        "_parent",
        "_sink",
        "_started",
        "_token",
        "context",
    )
    recording = True

    def __init__(
        self,
        sink: SpanSink,
        name: str,
        context: TraceContext,
        *,
        parent: TraceContext | None,
        kind: SpanKind,
        attributes: Attributes | None,
        links: Sequence[TraceContext],
    ) -> None:
        self.context = context
        self._sink: SpanSink | None = sink
        self._name = name
        self._parent = parent
        self._kind: SpanKind = kind
        self._attributes = dict(attributes) if attributes else {}
        self._links = list(links)
        self._error = ""
        self._token: Token[TraceContext | None] | None = None
        self._started = Started()

    def set(self, key: str, value: Attribute) -> None:
        """Add or replace an attribute."""
        self._attributes[key] = value

    def rename(self, name: str) -> None:
        """Replace the name, as when the route is known only later."""
        self._name = name

    def link(self, origin: TraceContext) -> None:
        """Name a span of another trace that this one goes back to."""
        self._links.append(origin)

    def fail(self, error: BaseException | str) -> None:
        """The span's work failed; the first failure counts."""
        self._error = self._error or (error if isinstance(error, str) else error_name(error))

    def finish(self) -> None:
        """End the span now and hand it on; a second time does nothing."""
        sink, self._sink = self._sink, None
        if sink is None:
            return
        sink.emit(
            SpanData(
                name=self._name,
                kind=self._kind,
                context=self.context,
                parent=self._parent,
                start_ns=self._started.start_ns,
                end_ns=self._started.end_ns(),
                attributes=clean(self._attributes),
                links=self._links,
                error=self._error,
            )
        )

    def __enter__(self) -> Self:
        self._token = current_trace.set(self.context)
        return self

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if self._token is not None:
            current_trace.reset(self._token)
            self._token = None
        if error is not None:
            self.fail(error)
        self.finish()


def error_name(error: BaseException) -> str:
    """The value of `error.type`: the stable code of our own errors, else the name of the class."""
    return error.code if isinstance(error, TenureError) else type(error).__qualname__


def clean(attributes: Attributes) -> dict[str, Attribute]:
    """Attributes that can be encoded: one bad text would cost the whole batch of spans."""
    return {key: _text(value) if isinstance(value, str) else value for key, value in attributes.items()}


def _text(value: str) -> str:
    value = value[:ATTRIBUTE_CHARS_MAX]
    return value if value.isascii() else value.encode(errors="replace").decode()
