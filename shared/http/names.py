"""Names in paths, exactly as they were sent: any text can be one, whatever slashes and dots it has.

Routers tidy paths, and clients and proxies do too. So a name is read from the path as it was sent, and
the framework is shown one that it has nothing to tidy in. Whoever percent-encodes every byte that is
not a letter or a digit (a dot as `%2E`, a slash as `%2F`) names what is meant, whatever stands in
between.
"""

import re
from typing import Any
from urllib.parse import unquote_to_bytes

from shared.bounds import NAME_BYTES_MAX
from shared.errors import InvalidInputError

_BROKEN = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def sent_path(scope: Any) -> bytes:
    """The path on the wire, without the query."""
    raw: bytes = scope["raw_path"]
    return raw.partition(b"?")[0]


def undivided_path(scope: Any) -> str:
    """The path for a router to see; as it was sent, where decoding would make more segments of it than there are."""
    sent = sent_path(scope)
    path: str = scope["path"]
    return path if sent.count(b"/") == path.count("/") else sent.decode("latin-1")


def decoded_segment(segment: bytes) -> str:
    """What one segment of a path says.

    Raises:
        InvalidInputError: a percent sign that encodes nothing, or bytes that are not UTF-8.
    """
    if _BROKEN.search(segment):
        raise InvalidInputError("A percent sign here must begin an encoded byte, as in %2F", "path")
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError as exc:
        raise InvalidInputError("This is not UTF-8", "path") from exc


def check_name(name: str, what: str, where: str) -> None:
    """Refuse what cannot be the name of an object, and say where in the request it stands.

    Raises:
        InvalidInputError: `what` is empty, or has more than 512 bytes in UTF-8.
    """
    size = len(name.encode(errors="surrogatepass"))
    if not 1 <= size <= NAME_BYTES_MAX:
        raise InvalidInputError(f"The {what} has {size} bytes; 1 to {NAME_BYTES_MAX} are allowed", where)


def check_text(text: str, bytes_max: int, what: str, where: str) -> None:
    """Refuse a text that is too long, and say where in the request it stands.

    Raises:
        InvalidInputError: `what` has more than `bytes_max` bytes in UTF-8.
    """
    size = len(text.encode(errors="surrogatepass"))
    if size > bytes_max:
        raise InvalidInputError(f"The {what} has {size} bytes; {bytes_max} are allowed", where)
