"""Which incident is meant: an opaque text of the API."""

from base64 import urlsafe_b64decode, urlsafe_b64encode

import msgspec

from shared.errors import InvalidInputError
from shared.http.names import check_name


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
