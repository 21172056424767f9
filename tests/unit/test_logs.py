"""Every log record is one line of JSON from a known list, in its trace, without secrets."""

import io
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.telemetry import logs
from shared.telemetry.context import TraceContext, current_trace
from shared.telemetry.lines import TEXT_CHARS_MAX, line_of
from tests.support.log_lines import logged

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "logs.md"
TRACE = TraceContext(trace_id=0xAF7651916CD43DD8448EB211C80319C, span_id=0xB7AD6B7169203331, sampled=True)
KEY = "tnk_" + "Ab3-_" * 9
HOSTILE = {
    "lf": "\n",
    "crlf": "\r\n",
    "a forged line": '"}\n{"level":"info","event":"node.stopped"}',
    "nul": "\x00",
    "escape": "\x1b[2J\x1b]0;title\x07",
    "delete": "\x7f",
    "c1 next line": "\x85",
    "c1 control sequence": "\x9b31m",
    "line separator": "\u2028",
    "paragraph separator": "\u2029",
    "right to left override": "\u202e",
    "byte order mark": "\ufeff",
    "beyond the first plane": "\U0001f680",
}


class FixedClock:
    """A clock that stands still."""

    def now_ms(self) -> int:
        return 1_700_000_000_007

    def monotonic_ms(self) -> int:
        return 0


Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Logging goes to this text; afterwards it is as it was."""
    with logged(service="ratelimiter", clock=FixedClock()) as stream:
        yield stream


@pytest.fixture
def lines(stream: io.StringIO) -> Lines:
    """What was written so far; every line must be one object of its own, in ASCII."""

    def read() -> list[dict[str, Any]]:
        text = stream.getvalue()
        assert text.isascii()
        assert text.endswith("\n")
        assert all(" " <= character <= "~" for line in text.split("\n") for character in line)
        return [json.loads(line) for line in text.splitlines()]

    return read


def test_the_page_lists_every_event() -> None:
    """docs/reference/logs.md has one row an event, in the order of the code."""
    events = [event for event in vars(logs).values() if isinstance(event, logs.Event)]
    assert events == re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \|", PAGE.read_text(), re.MULTILINE)
    assert len(events) == len(set(events))


def test_a_line_has_time_level_event_place_and_fields(lines: Lines) -> None:
    """The head is the same in every line, then come the fields in their order."""
    logs.get_logger().warning(logs.LEASES_LOST, shard=7)
    (line,) = lines()
    expected = {
        "timestamp": "2023-11-14T22:13:20.007Z",
        "level": "warning",
        "event": "leases.lost",
        "service": "ratelimiter",
        "node": "n1",
        "shard": 7,
    }
    assert list(expected.items()) == list(line.items())


def test_a_line_of_a_sampled_request_carries_its_trace(lines: Lines) -> None:
    """Names and forms are those of the OpenTelemetry specification."""
    token = current_trace.set(TRACE)
    try:
        logs.get_logger().info(logs.NODE_STARTED)
        logging.getLogger("library").warning("inside")
    finally:
        current_trace.reset(token)
    logs.get_logger().info(logs.NODE_STOPPED)
    *inside, outside = lines()
    ids = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "01")
    assert [ids, ids] == [(line["trace_id"], line["span_id"], line["trace_flags"]) for line in inside]
    assert "trace_id" not in outside


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_no_text_can_begin_a_second_line_or_steer_a_terminal(lines: Lines, text: str) -> None:
    """As a field, inside one, as a name, in a library's message, in an exception: one line, and nothing is lost."""
    logger = logs.get_logger()
    logger.error(logs.TURN_FAILED, subject=text, nested={"list": [text], text: 1}, exc_info=ValueError(text))
    logger.error(logs.TURN_FAILED, **{f"name{text}": 1})
    logging.getLogger(f"library{text}").error("said %s", text)
    first, second, third = lines()
    assert (text, [text], 1) == (first["subject"], first["nested"]["list"], first["nested"][text])
    assert first["exception"].endswith(f"ValueError: {text}".rstrip())
    assert second[f"name{text}"] == 1
    assert (f"library{text}", f"said {text}") == (third["logger"], third["message"])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("\ud800", "?"),
        (2**70, str(2**70)),
        ({1, "\ud800"}, None),
        (float("nan"), None),
        (b"\xff\x00", "/wA="),
        (object, "<class 'object'>"),
        ({("a", 1): "\udfff"}, {"('a', 1)": "?"}),
    ],
)
def test_what_cannot_be_encoded_becomes_text(lines: Lines, value: object, expected: object) -> None:
    """A strange field costs its form, never the line or the caller."""
    logs.get_logger().info(logs.NODE_STARTED, value=value)
    (line,) = lines()
    assert (expected is None) or str(expected) in (str(line["value"]), line["value"])


def test_a_value_that_cannot_be_shown_still_gives_a_line(lines: Lines) -> None:
    """An object whose text raises, and one that contains itself."""

    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

    ring: list[object] = []
    ring.append(ring)
    logs.get_logger().info(logs.NODE_STARTED, broken=Broken(), ring=ring)
    (line,) = lines()
    assert line["broken"] == "<Broken: RuntimeError>"
    assert "[" in json.dumps(line["ring"])


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"authorization": "anything"}, "anything"),
        ({"Cookie": "anything"}, "anything"),
        ({"db_password": "anything"}, "anything"),
        ({"client_secret": "anything"}, "anything"),
        ({"access_token": "anything"}, "anything"),
        ({"x-tenure-key": "anything"}, "anything"),
        ({"detail": f"key {KEY} was refused"}, KEY),
        ({"nested": {"headers": [["x", KEY]]}}, KEY),
        ({"detail": "Authorization: Bearer abcdefghijklmnop.qrst"}, "abcdefghijklmnop"),
        ({"error": "no answer from rediss://tenure:hunter2@store:6379/0"}, "hunter2"),
        ({"error": "no answer from redis://:hunter2@store:6379/0"}, "hunter2"),
    ],
)
def test_a_secret_is_not_written(lines: Lines, fields: dict[str, object], shown: str) -> None:
    """Neither under a telling name nor inside a text; the rest of the text stays."""
    logs.get_logger().info(logs.NODE_STARTED, **fields)
    if shown != "anything":
        logging.getLogger("library").warning("fields: %s", fields)
        logs.get_logger().error(logs.TURN_FAILED, exc_info=ValueError(fields))
    text = json.dumps(lines())
    assert shown not in text
    assert "***" in text


def test_an_exception_is_its_type_and_its_traceback(lines: Lines) -> None:
    """`exc_info` takes the exception itself, with its cause."""

    def fail() -> None:
        raise KeyError("inner")

    try:
        try:
            fail()
        except KeyError as exc:
            raise ValueError("outer") from exc
    except ValueError as exc:
        logs.get_logger().error(logs.TURN_FAILED, exc_info=exc)
    (line,) = lines()
    assert line["error_type"] == "ValueError"
    assert "KeyError: 'inner'" in line["exception"]
    assert line["exception"].endswith("ValueError: outer")
    assert "exc_info" not in line


def test_records_of_libraries_are_lines_of_the_same_form(lines: Lines) -> None:
    """`logging` records from warning on, and Python's own warnings."""
    library = logging.getLogger("some.library")
    library.info("chatter")
    library.warning("%d of %d", 1, 2)
    try:
        raise OSError("gone")
    except OSError:
        library.exception("failed")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", UserWarning, stacklevel=1)
    said, failed, _ = lines()
    assert ("library.logged", "warning", "some.library", "1 of 2") == (
        said["event"],
        said["level"],
        said["logger"],
        said["message"],
    )
    assert ("OSError", True) == (failed["error_type"], failed["exception"].endswith("OSError: gone"))


def test_a_library_message_whose_arguments_do_not_fit_is_shown_raw(lines: Lines) -> None:
    """A mistake in a library's log call does not cost the record."""
    handler = next(handler for handler in logging.getLogger().handlers if isinstance(handler, logs._Libraries))
    handler.handle(logging.LogRecord("library", logging.ERROR, __file__, 1, "%d", ("no number",), None))
    (line,) = lines()
    assert line["message"] == "%d"


def test_lines_below_the_level_are_not_written(stream: io.StringIO) -> None:
    """And a library's information is heard only at "debug"."""
    logs.get_logger().debug(logs.NODE_STARTED)
    logging.getLogger("library").info("chatter")
    assert stream.getvalue() == ""
    logs.configure_logging(service="ratelimiter", node="n1", level="debug", stream=stream)
    logs.get_logger().debug(logs.NODE_STARTED)
    logging.getLogger("library").info("chatter")
    assert len(stream.getvalue().splitlines()) == 2


def test_the_latest_configuration_counts(stream: io.StringIO) -> None:
    """A logger that was made earlier follows, and a library's record is written once."""
    logger = logs.get_logger()
    logger.info(logs.NODE_STARTED)
    other = io.StringIO()
    logs.configure_logging(service="ratelimiter", node="n2", stream=other)
    logger.info(logs.NODE_STOPPED)
    logging.getLogger("library").warning("once")
    assert (1, 2) == (len(stream.getvalue().splitlines()), len(other.getvalue().splitlines()))


def test_a_reader_that_has_gone_away_is_no_reason_to_fail(stream: io.StringIO) -> None:
    """Writing to a closed stream loses the line and nothing else."""
    stream.close()
    logs.get_logger().info(logs.NODE_STARTED)
    logging.getLogger("library").warning("lost")


def test_a_field_cannot_replace_the_head(lines: Lines) -> None:
    """Level, time, service and node are ours, whatever a caller passes."""
    logs.get_logger().info(logs.NODE_STARTED, level="error", timestamp="never", service="other", reason="x")
    (line,) = lines()
    assert ("info", "ratelimiter", "x") == (line["level"], line["service"], line["reason"])
    assert line["timestamp"].startswith("2023")


def test_a_bound_logger_repeats_its_fields(lines: Lines) -> None:
    """What was bound is in every line."""
    logger = logs.get_logger().bind(shard=3)
    logger.info(logs.LEASES_ACQUIRED)
    logger.info(logs.LEASES_LOST, shard=4)
    assert [3, 4] == [line["shard"] for line in lines()]


def test_a_long_text_is_cut_in_the_middle() -> None:
    """Its ends stay: a traceback begins and ends with what matters."""
    line = json.loads(line_of({"exception": "a" * 50_000 + "b" * 50_000}))
    assert line["exception"].startswith("aaa")
    assert line["exception"].endswith("bbb")
    assert len(line["exception"]) <= TEXT_CHARS_MAX + 5


def test_milliseconds_are_exact() -> None:
    """No float stands between a moment and its text."""
    assert "1970-01-01T00:00:00.000Z" == logs.timestamp(0)
    assert "2026-11-24T06:41:34.009Z" == logs.timestamp(1_795_502_494_009)
