"""Lists for people and for programs: a table of columns, or JSON."""

from collections.abc import Iterable, Sequence

import msgspec

from shared.telemetry.logs import timestamp


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, without spaces at the end of a line."""
    lines = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
    return "".join(f"{line}\n" for line in padded)


def as_json(items: Sequence[msgspec.Struct]) -> str:
    """All members of all items, indented; moments are Unix milliseconds."""
    return msgspec.json.format(msgspec.json.encode(items)).decode() + "\n"


def moment(unix_ms: int | None) -> str:
    """RFC 3339 in UTC; a dash for none."""
    return "-" if unix_ms is None else timestamp(unix_ms)
