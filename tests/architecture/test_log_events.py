"""The events of the log are those that the code writes, at the levels and with the fields that the page promises."""

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from shared.telemetry import logs
from tests.architecture.tree import ROOT, python_files

PAGE = ROOT / "docs" / "reference" / "logs.md"
LEVELS = ("debug", "info", "warning", "error")
EVENTS = {name: str(event) for name, event in vars(logs).items() if isinstance(event, logs.Event)}
BY_LIBRARIES = EVENTS["LIBRARY_LOGGED"]  # Written where records of `logging` come in, not by a logger.
HEAD = {"trace_id"}  # A field of every line; one that is given by hand is no field of the event.


class Row(NamedTuple):
    level: str
    fields: set[str]


def written() -> Iterator[tuple[str, str, set[str]]]:
    """Event, level and fields of every call of a logger with an event of ours."""
    for path in python_files():
        if not path.is_relative_to(ROOT / "shared") and not path.is_relative_to(ROOT / "services"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                continue
            event = re.fullmatch(r"logs\.([A-Z_]+)", ast.unparse(node.args[0]))
            if event and node.func.attr in LEVELS:
                names = {keyword.arg for keyword in node.keywords if keyword.arg}
                if "exc_info" in names:
                    names = names - {"exc_info"} | {"error_type", "exception"}
                yield EVENTS[event[1]], node.func.attr, names - HEAD


def promised() -> dict[str, Row]:
    """What the page says of each event."""
    rows = re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \| (\w+) \| ([^|]*)\|", PAGE.read_text(), re.MULTILINE)
    return {event: Row(level, set(re.findall(r"`(\w+)`", fields))) for event, level, fields in rows}


def test_every_event_is_written_somewhere() -> None:
    """None is declared and then forgotten."""
    assert set(EVENTS.values()) - {BY_LIBRARIES} == {event for event, _, _ in written()}


def test_events_have_the_levels_and_fields_of_the_page() -> None:
    """What programs may rely on is what the code does."""
    page = promised()
    wrong = [
        f"{event}: {level} {sorted(fields)}"
        for event, level, fields in written()
        if (level, fields) != (page[event].level, page[event].fields)
    ]
    assert not wrong, "\n".join(wrong)
