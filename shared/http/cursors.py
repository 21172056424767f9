"""Pages of a listing: how many rows, and an opaque text for where the page before ended, which never expires."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated

import msgspec
from litestar.params import QueryParameter

from shared.bounds import LISTING_ROWS_MAX, MOMENT_MS_MAX
from shared.errors import InvalidInputError
from shared.http.names import check_name
from shared.objects.address import Address
from shared.objects.listings import Cursor

PageLimit = Annotated[int, QueryParameter(ge=1, le=LISTING_ROWS_MAX, description="At most so many.")]
PageCursor = Annotated[str | None, QueryParameter(description="`next_cursor` of the page before.")]


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
