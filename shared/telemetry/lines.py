"""One log record as one line: JSON in plain ASCII, without secrets, whatever its fields hold.

Everything beyond printable ASCII is escaped. So no field can begin a second line (CR, LF, U+2028),
move a terminal's cursor (ESC, C1) or turn text around (bidirectional controls), and a line can be
written to a stream of any encoding. Source: CWE-117, CWE-150.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

TEXT_CHARS_MAX = 16 * 1024
"""Longer texts are cut in the middle: a traceback says most at its ends."""
_DEPTH_MAX = 6
_ITEMS_MAX = 100
HIDDEN = "***"

_SECRET_FIELD = re.compile(
    r"(?i)authorization|cookie|password|passwd|secret|api_?key|credential|x-tenure-key|(^|_)token$"
)
_API_KEY = re.compile(rb"tnk_[A-Za-z0-9_-]+")
_BEARER = re.compile(rb"(?i)(bearer )[A-Za-z0-9._~+/=-]{16,}")
_URL_PASSWORD = re.compile(rb"://([^/:@\s\"\\]*):[^/@\s\"]+@")

_encode = msgspec.json.Encoder(enc_hook=str).encode


def line_of(fields: Mapping[str, Any]) -> str:
    """The record's line, without its end. Never raises: what cannot be encoded becomes text."""
    shown = {name: HIDDEN if _SECRET_FIELD.search(name) else _bounded(value) for name, value in fields.items()}
    try:
        line = _encode(shown)
    except Exception:  # noqa: BLE001  # Whatever a caller put into a record, the record is written.
        line = _encode(_plain(shown, 0))
    if b"tnk_" in line or b"@" in line or b"earer " in line:
        line = without_secrets(line)
    if line.isascii() and b"\x7f" not in line:
        return line.decode()
    return json.dumps(json.loads(line), separators=(",", ":"))  # Escapes all but printable ASCII.


def without_secrets(line: bytes) -> bytes:
    """`line` with API keys, Authorization values and passwords in URLs replaced by three stars."""
    line = _API_KEY.sub(b"tnk_***", line)
    line = _BEARER.sub(rb"\1***", line)
    return _URL_PASSWORD.sub(rb"://\1:***@", line)


def _bounded(value: Any) -> Any:
    if isinstance(value, str) and len(value) > TEXT_CHARS_MAX:
        half = TEXT_CHARS_MAX // 2
        return f"{value[:half]} ... {value[-half:]}"
    return value


def _plain(value: Any, depth: int) -> Any:
    """Something like `value` that surely can be encoded."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, Mapping) and depth < _DEPTH_MAX:
        return {_text(key): _plain(item, depth + 1) for key, item in list(value.items())[:_ITEMS_MAX]}
    if isinstance(value, list | tuple | set | frozenset) and depth < _DEPTH_MAX:
        return [_plain(item, depth + 1) for item in list(value)[:_ITEMS_MAX]]
    return _text(value)


def _text(value: Any) -> str:
    try:
        text = str(value)
    except Exception as exc:  # noqa: BLE001  # A broken __str__ must not cost the line.
        text = f"<{type(value).__name__}: {type(exc).__name__}>"
    return str(_bounded(text.encode(errors="replace").decode()))
