"""Log lines: what happened, as one JSON object a line, from a fixed list of events.

An event is a constant, dotted, in the past tense; everything else is a field. There is no line for
a call that went well. Every line written while a sampled request is served carries its trace.
Records of libraries (the HTTP server, the scheduler, asyncio, the exporters) take the same way, as
event `library.logged`. `docs/reference/logs.md` is held to the list below by a test.

Field names of the trace: https://opentelemetry.io/docs/specs/otel/compatibility/logging_trace_context/
"""

import logging
import sys
import traceback
from collections.abc import MutableMapping
from contextlib import suppress
from datetime import UTC, datetime
from threading import Lock
from typing import Any, Final, Literal, Protocol, TextIO, cast

import structlog

from shared.clock import Clock, SystemClock
from shared.telemetry.context import current_trace
from shared.telemetry.lines import line_of

LogLevel = Literal["debug", "info", "warning", "error"]


class Event(str):
    """The name of something that happened. All there are stand here."""

    __slots__ = ()


NODE_STARTED: Final = Event("node.started")
NODE_STOPPED: Final = Event("node.stopped")
LEASES_ACQUIRED: Final = Event("leases.acquired")
LEASES_LOST: Final = Event("leases.lost")
STORE_WARNING: Final = Event("store.questioned")
STORE_AWAY: Final = Event("store.unreached")
ROLLBACK_DETECTED: Final = Event("store.rolled_back")
COMMIT_IN_DOUBT: Final = Event("commit.doubted")
OBJECT_UNREADABLE: Final = Event("object.misread")
OBJECT_NEWER: Final = Event("object.refused")
MIGRATION_FAILED: Final = Event("migration.failed")
TURN_FAILED: Final = Event("turn.failed")
EVENTLOOP_BLOCKED: Final = Event("eventloop.blocked")
OBJECT_QUARANTINED: Final = Event("object.quarantined")
ALARM_DEAD: Final = Event("alarm.abandoned")
MESSAGE_DEAD: Final = Event("message.abandoned")
MESSAGE_UNREADABLE: Final = Event("message.misread")
RUN_REPAIRED: Final = Event("run.repaired")
SCHEDULE_DELAYED: Final = Event("schedule.delayed")
SCHEDULE_MISSED: Final = Event("schedule.missed")
SCHEDULE_FAILED: Final = Event("schedule.failed")
TOKEN_REUSED: Final = Event("token.reused")
WEBHOOK_DISABLED: Final = Event("webhook.disabled")
WEBHOOK_GIVEN_UP: Final = Event("webhook.abandoned")
SOCKET_UNTOLD: Final = Event("socket.untold")
ERRAND_DELAYED: Final = Event("errand.delayed")
ERRAND_FAILED: Final = Event("errand.failed")
OPERATOR_ACTED: Final = Event("operator.intervened")
REQUEST_FAILED: Final = Event("request.failed")
DOCUMENT_UNREADABLE: Final = Event("document.misread")
DOCUMENT_NAMELESS: Final = Event("document.nameless")
OUTBOUND_BLOCKED: Final = Event("outbound.blocked")
OUTBOUND_FAILED: Final = Event("outbound.failed")
GAUGE_FAILED: Final = Event("gauge.failed")
TELEMETRY_ABANDONED: Final = Event("telemetry.abandoned")
LIBRARY_LOGGED: Final = Event("library.logged")


class Logger(Protocol):
    """Writes lines. `exc_info` takes an exception and becomes `error_type` and `exception`."""

    def debug(self, event: Event, /, **fields: object) -> None:
        """For people who look for a fault."""
        ...

    def info(self, event: Event, /, **fields: object) -> None:
        """A step in the life of the process."""
        ...

    def warning(self, event: Event, /, **fields: object) -> None:
        """Something was put up with; look if it stays."""
        ...

    def error(self, event: Event, /, **fields: object) -> None:
        """Something was lost or refused; look now."""
        ...

    def bind(self, **fields: object) -> "Logger":
        """A logger whose every line has these fields."""
        ...


def get_logger() -> Logger:
    """A logger; good to be made at import, as it looks up the configuration with each line."""
    return cast("Logger", structlog.get_logger())


def configure_logging(
    *,
    service: str,
    node: str,
    level: LogLevel = "info",
    stream: TextIO | None = None,
    clock: Clock | None = None,
) -> None:
    """Send every line of this process, and every record of `logging`, to `stream` (default: stdout).

    Libraries are heard from "warning" on, from "info" on if `level` is "debug". May be called
    again: the latest call counts.
    """
    lines = _Lines(stream or sys.stdout)
    head = _Head(service=service, node=node, clock=clock or SystemClock())
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[head],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Libraries)]:
        root.removeHandler(handler)
    heard = max(number, logging.WARNING) if number > logging.DEBUG else logging.INFO
    root.addHandler(_Libraries(head, lines, heard))  # A library may lower its own level, but not this one.
    root.setLevel(heard)
    logging.captureWarnings(capture=True)


class _Lines:
    """The end of the way: a lock and a stream. A reader that has gone away is no reason to fail."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = Lock()

    def write(self, line: str) -> None:
        with self._lock, suppress(OSError, ValueError):  # ValueError: the stream is closed.
            self._stream.write(line + "\n")
            self._stream.flush()

    debug = info = warning = error = critical = write


class _Head:
    """Makes the line of a record; the first fields are the same in every one, and ours alone."""

    def __init__(self, *, service: str, node: str, clock: Clock) -> None:
        self._service = service
        self._node = node
        self._clock = clock

    def __call__(self, _logger: object, level: str, fields: MutableMapping[str, Any]) -> str:
        record = {
            "timestamp": timestamp(self._clock.now_ms()),
            "level": level,
            "event": str(fields.pop("event", "")),
        }
        trace = current_trace.get()
        if trace is not None:
            record["trace_id"] = f"{trace.trace_id:032x}"
            record["span_id"] = f"{trace.span_id:016x}"
            record["trace_flags"] = "01" if trace.sampled else "00"
        record["service"] = self._service
        record["node"] = self._node
        error = fields.pop("exc_info", None)
        if isinstance(error, BaseException):
            fields.setdefault("error_type", type(error).__qualname__)
            fields.setdefault("exception", "".join(traceback.format_exception(error)).rstrip())
        return line_of({**fields, **record} if record.keys() & fields.keys() else {**record, **fields})


class _Libraries(logging.Handler):
    """Turns records of `logging` into lines of ours."""

    def __init__(self, head: _Head, lines: _Lines, level: int) -> None:
        super().__init__(level)
        self._head = head
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001  # Arguments that do not fit: show what there is.
            message = str(record.msg)
        fields: dict[str, Any] = {"event": LIBRARY_LOGGED, "logger": record.name, "message": message}
        if record.exc_info:
            fields["exc_info"] = record.exc_info[1]
        self._lines.write(self._head(None, record.levelname.lower(), fields))


def timestamp(unix_ms: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    seconds, ms = divmod(unix_ms, 1_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03d}Z"
