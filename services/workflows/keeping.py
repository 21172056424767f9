"""How a run is stored: its state in pieces, of which a turn writes those that changed, and its history in entries.

All of a run may change in one turn, so its largest state and the history of that turn fit into one commit together
(RUN_BYTES_MAX). What is told in the history is shortened to a bound of its own; what it is about stands in the state.
"""

from collections.abc import Iterable, Iterator

import msgspec

from services.workflows.bounds import HISTORY_DATA_BYTES_MAX, HISTORY_ENTRY_BYTES, HISTORY_TURN_BYTES_MAX, PIECE_BYTES
from services.workflows.intents import Intent, Record
from services.workflows.program import Json
from services.workflows.state import Run, decode, encode
from shared.objects.errors import TooLargeError
from shared.objects.journal import Journal, JournalEntry
from shared.objects.state import ObjectState

_PIECE = "run:"
_LINE_OVERHEAD_BYTES = 16


class Line(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One thing that happened. `data` is JSON, empty where there is nothing to tell."""

    event: str
    path: str = ""
    data: bytes = b""

    @property
    def size_bytes(self) -> int:
        """What it takes, or a little more."""
        return len(self.event.encode()) + len(self.path.encode()) + len(self.data) + _LINE_OVERHEAD_BYTES


class Happened(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """An entry of the journal: what happened in one turn, or in a part of one that has much to tell."""

    at_ms: int
    lines: tuple[Line, ...]


def load(storage: ObjectState) -> Run | None:
    """The run as it is stored; None if there is none.

    Raises:
        msgspec.ValidationError: another release wrote it.
    """
    count = len(list(storage.list(_PIECE)))
    if not count:
        return None
    return decode(b"".join(storage.get(_key(number), bytes, default=b"") for number in range(count)))


def store(storage: ObjectState, run: Run) -> None:
    """Write the pieces that are not as they were.

    Raises:
        TooLargeError: the turn writes too much.
    """
    stored = encode(run)
    pieces = [stored[begin : begin + PIECE_BYTES] for begin in range(0, len(stored), PIECE_BYTES)]
    before = len(list(storage.list(_PIECE)))
    for number, piece in enumerate(pieces):
        if storage.get(_key(number), bytes) != piece:
            storage.put(_key(number), piece)
    for number in range(len(pieces), before):
        storage.delete(_key(number))


def tell(journal: Journal, effects: Iterable[Intent], *, at_ms: int) -> None:
    """Write what happened. Where the journal is full, the older half of it goes.

    Raises:
        TooLargeError: the turn writes too much.
    """
    lines = _fitting([_line(effect) for effect in effects if isinstance(effect, Record)])
    for entry in _entries(lines):
        _append(journal, Happened(at_ms=at_ms, lines=entry))


async def read_back(journal: Journal, before: int, limit: int) -> list[JournalEntry]:
    """Entries before a position (0: all), newest first, so many at most; none only where there are none."""
    end = before or journal.last + 1
    while end > journal.first:
        begin = max(journal.first, end - limit)
        found = await journal.read(begin - 1, end - begin, type_=Happened)
        if found := [entry for entry in found if entry.position < end]:
            return found[::-1]
        end = begin
    return []


def shortened(data: Json, bytes_max: int) -> bytes:
    """The data as JSON, or its size where it is longer than that; empty where there is none."""
    if data is None:
        return b""
    encoded = msgspec.json.encode(data)
    return encoded if len(encoded) <= bytes_max else msgspec.json.encode({"left_out_bytes": len(encoded)})


def _fitting(lines: list[Line]) -> list[Line]:
    """The lines of a turn, within its bound: without what they tell if that is too long, else without the last ones."""
    if _size(lines) > HISTORY_TURN_BYTES_MAX:
        lines = [msgspec.structs.replace(line, data=b"") for line in lines]
    fitting = lines
    while _size(fitting) > HISTORY_TURN_BYTES_MAX:
        fitting = fitting[: len(fitting) * 3 // 4]
    if len(fitting) == len(lines):
        return lines
    return [*fitting, Line(event="history.left_out", data=msgspec.json.encode({"lines": len(lines) - len(fitting)}))]


def _size(lines: Iterable[Line]) -> int:
    return sum(line.size_bytes for line in lines)


def _append(journal: Journal, entry: Happened) -> None:
    while True:
        try:
            journal.append(entry)
        except TooLargeError:
            if not len(journal):
                raise
            journal.trim(keep=len(journal) // 2)
        else:
            return


def _entries(lines: Iterable[Line]) -> Iterator[tuple[Line, ...]]:
    entry: list[Line] = []
    size = 0
    for line in lines:
        if entry and size + line.size_bytes > HISTORY_ENTRY_BYTES:
            yield tuple(entry)
            entry, size = [], 0
        entry.append(line)
        size += line.size_bytes
    if entry:
        yield tuple(entry)


def _line(record: Record) -> Line:
    return Line(event=record.event, path=record.path, data=shortened(record.data, HISTORY_DATA_BYTES_MAX))


def _key(number: int) -> str:
    return f"{_PIECE}{number}"
