"""Queries of the operator's API, taken at their word: an unknown or repeated parameter is refused, none is guessed.

Cursors are opaque to callers: the place in the order of the listing at which the page ended.
"""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from urllib.parse import parse_qsl

from shared.bounds import MOMENT_MS_MAX, QUERY_FIELDS_MAX
from shared.errors import InvalidInputError
from shared.http.asgi import Scope
from shared.objects.address import Address, split_address
from shared.objects.letters import Spot
from shared.storage.listings import Place

LIMIT = 100
LIMIT_MAX = 1_000


class Query:
    """The parameters of one request, of which `known` are all that there may be.

    Raises:
        InvalidInputError: another one, a repeated one, or what is not UTF-8.
    """

    def __init__(self, scope: Scope, *known: str) -> None:
        try:
            raw = scope["query_string"].decode("ascii")
            pairs = parse_qsl(raw, keep_blank_values=True, errors="strict", max_num_fields=QUERY_FIELDS_MAX)
        except ValueError as exc:  # Also of Unicode.
            raise InvalidInputError("This is not a query of UTF-8", "query") from exc
        self._values: dict[str, str] = {}
        for name, value in pairs:
            if name not in known or name in self._values:
                raise InvalidInputError("This parameter is not known, or repeated", f"query.{name}")
            self._values[name] = value

    def text(self, name: str) -> str:
        """A parameter that must be there; raises InvalidInputError if it is not."""
        value = self._values.get(name, "")
        if not value:
            raise InvalidInputError("This parameter is required", f"query.{name}")
        return value

    def optional(self, name: str) -> str:
        """A parameter, or an empty text."""
        return self._values.get(name, "")

    def number(self, name: str) -> int | None:
        """A whole number from 0 on, or None; raises InvalidInputError for anything else."""
        value = self._values.get(name)
        if value is None:
            return None
        if not (value.isascii() and value.isdigit() and len(value) < 17 and int(value) <= MOMENT_MS_MAX):
            raise InvalidInputError("This is not a whole number from 0 on", f"query.{name}")
        return int(value)

    def limit(self) -> int:
        """How many rows are asked for: 1 to 1,000, else 100."""
        value = self.number("limit")
        if value is None:
            return LIMIT
        if not 1 <= value <= LIMIT_MAX:
            raise InvalidInputError(f"A page has 1 to {LIMIT_MAX} rows", "query.limit")
        return value

    def flag(self, name: str) -> bool:
        """`true` or `false`; false if it is not there."""
        value = self._values.get(name, "false")
        if value not in ("true", "false"):
            raise InvalidInputError("This must be true or false", f"query.{name}")
        return value == "true"


def object_cursor(address: Address) -> str:
    """Where a listing of objects goes on after `address`."""
    return urlsafe_b64encode(address.encode()).decode()


def read_object_cursor(cursor: str, *, kind: str, tenant: str) -> bytes:
    """The encoded address at which a listing of a kind and a tenant goes on; b"" for an empty cursor.

    Raises:
        InvalidInputError: it is none of that listing.
    """
    if not cursor:
        return b""
    encoded = _decoded(cursor)
    address, _ = _split(encoded)
    if address[:2] != (kind, tenant) or encoded != address.encode():
        raise _not_a_cursor()
    return encoded


def alarm_cursor(place: Place) -> str:
    """Where a listing of alarms goes on after `place`."""
    return urlsafe_b64encode(b"%d:%b" % (place.at_ms, place.member)).decode()


def read_alarm_cursor(cursor: str) -> Place | None:
    """The place of a cursor; None for an empty one.

    Raises:
        InvalidInputError: it is none.
    """
    if not cursor:
        return None
    at_ms, separator, member = _decoded(cursor).partition(b":")
    if not separator or not at_ms.isdigit() or len(at_ms) > 16:
        raise _not_a_cursor()
    _split(member)
    return Place(int(at_ms), member)


def letter_cursor(spot: Spot) -> str:
    """Where a listing of messages goes on after `spot`."""
    return urlsafe_b64encode(b"%d:%d" % spot).decode()


def read_letter_cursor(cursor: str) -> Spot | None:
    """The spot of a cursor; None for an empty one.

    Raises:
        InvalidInputError: it is none.
    """
    if not cursor:
        return None
    shard, _, number = _decoded(cursor).partition(b":")
    if not all(part.isdigit() and len(part) <= 16 for part in (shard, number)):
        raise _not_a_cursor()
    return Spot(int(shard), int(number))


def _decoded(cursor: str) -> bytes:
    try:
        return urlsafe_b64decode(cursor.encode("ascii"))
    except (binascii.Error, UnicodeEncodeError) as exc:
        raise _not_a_cursor() from exc


def _split(encoded: bytes) -> tuple[Address, int]:
    try:
        address, end = split_address(encoded)
    except (IndexError, UnicodeDecodeError) as exc:
        raise _not_a_cursor() from exc
    if end > len(encoded):
        raise _not_a_cursor()
    return address, end


def _not_a_cursor() -> InvalidInputError:
    return InvalidInputError("This is not a cursor of this listing", "query.after")
