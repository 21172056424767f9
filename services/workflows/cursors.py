"""Opaque texts of the API: where a page of a listing ended, which never expires, and which incident is meant."""

from base64 import urlsafe_b64decode, urlsafe_b64encode

import msgspec

from shared.bounds import MOMENT_MS_MAX
from shared.errors import InvalidInputError
from shared.http.names import check_name
from shared.objects.address import Address
from shared.objects.listings import Cursor


def written_cursor(cursor: Cursor) -> str:
    """The text of a place."""
    place = msgspec.msgpack.encode((cursor.sort_ms, cursor.address.name))
    return urlsafe_b64encode(place).decode("ascii").rstrip("=")


def read_cursor(text: str | None, kind: str, tenant: str) -> Cursor | None:
    """The place, among objects of that kind and tenant whoever wrote the text.

    Raises:
        InvalidInputError: it is none.
    """
    if text is None:
        return None
    try:
        place = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        sort_ms, name = msgspec.msgpack.decode(place, type=tuple[int, str])
    except (ValueError, msgspec.MsgspecError) as error:
        raise InvalidInputError("This is no cursor of a page", "query.cursor") from error
    if not 0 <= sort_ms <= MOMENT_MS_MAX:
        raise InvalidInputError("This is no cursor of a page", "query.cursor")
    check_name(name, "cursor", "query.cursor")
    return Cursor(sort_ms, Address(kind, tenant, name))


def incident_id(run: str, path: str, serial: int) -> str:
    """The id of an incident: the attempt of the step of the run that has stalled."""
    return urlsafe_b64encode(msgspec.msgpack.encode((run, path, serial))).decode("ascii").rstrip("=")


def read_incident(text: str) -> tuple[str, str, int]:
    """Run, path and serial of an incident, whoever wrote the text.

    Raises:
        InvalidInputError: it is none.
    """
    try:
        encoded = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        run, path, serial = msgspec.msgpack.decode(encoded, type=tuple[str, str, int])
    except (ValueError, msgspec.MsgspecError) as error:
        raise InvalidInputError("This is no id of an incident", "path.incident_id") from error
    check_name(run, "incident_id", "path.incident_id")
    if not path or serial < 1:
        raise InvalidInputError("This is no id of an incident", "path.incident_id")
    return run, path, serial
