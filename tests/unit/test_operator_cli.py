"""What operators type and see: moments, names that cannot steer a terminal, and the picture of an object."""

import argparse
import json

import pytest

from shared.cli.main import parser
from shared.cli.objects import _lines
from shared.cli.operator import Operator, moment, object_path, printable, read_moment, table
from shared.errors import ConfigurationError, InvalidInputError

NEW_YEAR_MS = 1_893_456_000_123


def test_moments_are_told_and_read_in_utc() -> None:
    """Milliseconds or RFC 3339; past the year 9999 there is only the number."""
    assert "2030-01-01T00:00:00.123Z" == moment(NEW_YEAR_MS)
    assert f"{2**53 - 1} ms" == moment(2**53 - 1)
    for text in (str(NEW_YEAR_MS), "2030-01-01T00:00:00.123Z", "2030-01-01T01:00:00.123+01:00"):
        assert NEW_YEAR_MS == read_moment(text)
    assert read_moment(None) is None


@pytest.mark.parametrize("text", ["soon", "-1", "2030-01-01T00:00:00", ""])
def test_what_is_no_moment_is_refused(text: str) -> None:
    """Also one without a zone, which would be another one on another machine."""
    with pytest.raises(InvalidInputError):
        read_moment(text)


def test_no_name_steers_a_terminal() -> None:
    """Control characters of all sorts are written out, and no cell begins a line."""
    assert "a\\x1b[2J\\x9b\\nb\\u202e ä" == printable("a\x1b[2J\x9b\nb\u202e ä")
    assert "NAME  N\na\\tb  1" == table(["NAME", "N"], [["a\tb", "1"]])


def test_a_name_is_encoded_whole() -> None:
    """Whatever it is, it is one segment of the path."""
    arguments = argparse.Namespace(kind="k", tenant="t.u", name="../a b?%")
    assert "objects/k/t%2Eu/%2E%2E%2Fa%20b%3F%25/evict" == object_path(arguments, "evict")


def test_an_object_is_drawn_with_all_it_has() -> None:
    """What is stored, what is in memory, and what the store does not have yet."""
    alarm = {"alarm": "x", "due_ms": NEW_YEAR_MS}
    told = {
        "kind": "k",
        "tenant": "t",
        "name": "n\x1b",
        "shard": 7,
        "stored": {
            "version": 2,
            "size_bytes": 99,
            "expire_at_ms": NEW_YEAR_MS,
            "values": {"total": {"size_bytes": 2, "value": {"a": [1, None]}}},
            "alarms": [alarm],
            "dead_alarms": [{**alarm, "attempts": 3, "last_error": "no"}],
            "indexes": {"status": {"value": "open", "sort_ms": NEW_YEAR_MS}},
            "journal": {"first": 4, "last": 7, "entries": 4},
            "remembered_requests": 3,
            "remembered_senders": 1,
            "undelivered_messages": 2,
            "dead_messages": 1,
        },
        "resident": {
            "phase": "active",
            "turns": 5,
            "mailbox_depth": 3,
            "running": {"method": "add", "since_ms": NEW_YEAR_MS, "running_ms": 20},
            "dirty": True,
            "pending": False,
            "in_flight": True,
            "unconfirmed_turns": 1,
            "waiting_answers": 2,
            "parked_callers": 4,
        },
    }
    assert [
        "k/t/n\\x1b  (shard 7)",
        "stored     99 bytes, version 2, expires 2030-01-01T00:00:00.123Z",
        "  KEY    BYTES  VALUE",
        '  total  2      {"a": [1, null]}',
        "  ALARM  DUE                       TRIES  LAST ERROR",
        "  x      2030-01-01T00:00:00.123Z  0",
        "  DEAD ALARM  DUE                       TRIES  LAST ERROR",
        "  x           2030-01-01T00:00:00.123Z  3      no",
        "  INDEX   VALUE  SORTED BY",
        "  status  open   2030-01-01T00:00:00.123Z",
        "journal    4 entries, 4 to 7",
        "remembers  3 requests",
        "           1 senders",
        "has sent   2 messages that nobody has received",
        "           1 of them dead",
        "in memory  active, 5 turns, 3 calls wait",
        "  runs add for 20 ms, since 2030-01-01T00:00:00.123Z",
        "  holds 4 callers until it changes",
        "  not stored yet: dirty, in flight, 1 turns unconfirmed, 2 answers wait for the store",
    ] == list(_lines(told))


@pytest.mark.parametrize(
    ("stored", "said"),
    [(None, "has nothing to store"), ({"version": 1}, "everything is stored")],
    ids=["new", "stored"],
)
def test_an_object_that_owes_the_store_nothing_says_why(stored: object, said: str) -> None:
    """One that has never written anything is not called stored."""
    resident: dict[str, object] = dict.fromkeys(
        ("dirty", "pending", "in_flight", "unconfirmed_turns", "waiting_answers"), 0
    )
    resident |= {"phase": "active", "turns": 1, "mailbox_depth": 0, "running": None, "parked_callers": 0}
    told = {"kind": "k", "tenant": "t", "name": "n", "shard": 7, "stored": stored, "resident": resident}
    assert f"  {said}" == [*_lines(told)][-1]


def test_an_object_that_is_hardly_there_is_drawn_too() -> None:
    """Nothing stored, or not in memory, or of a release to come, or of a kind that has one native value."""
    here = {"kind": "k", "tenant": "t", "name": "n", "shard": 7}
    unreadable = {"size_bytes": 5, "unreadable": "format 2"}
    native = {"size_bytes": 5, "native": {"size_bytes": 5, "value": {"$base64": "AA=="}}}

    assert ["stored     nothing", "in memory  no"] == list(_lines({**here, "stored": None, "resident": None}))[1:]
    assert "  not readable by this release: format 2" in _lines({**here, "stored": unreadable, "resident": None})
    assert '  (native)  5      {"$base64": "AA=="}' in _lines({**here, "stored": native, "resident": None})


@pytest.mark.parametrize("url", ["https://h:1", "h:7201", "http://", "http://h:x", "http://h:1/admin"])
def test_an_address_that_cannot_be_is_refused(url: str) -> None:
    """With a sentence that says what one looks like."""
    arguments = parser().parse_args(["alarms", "dead", "--admin", url])
    with pytest.raises(ConfigurationError, match="--admin"):
        Operator(arguments, {"TENURE_ADMIN_TOKEN": "t" * 32})


def test_an_answer_as_it_is_cannot_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """`--json` is ASCII, and JSON."""
    arguments = parser().parse_args(["alarms", "dead", "--json"])
    Operator(arguments, {"TENURE_ADMIN_TOKEN": "t" * 32}).print({"name": "\x9bä"}, "")
    printed = capsys.readouterr().out

    assert printed.isascii()
    assert {"name": "\x9bä"} == json.loads(printed)
