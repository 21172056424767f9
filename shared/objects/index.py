"""The rows of an object in the indexes of its kind: under which values it is found, in which order, with what summary.

An index has one row of an object at most. Rows are part of the turn and of its commit, so a listing shows
what was stored, and they go with the object: by `delete_all`, or when it has expired and is swept.
"""

from typing import TYPE_CHECKING

from shared import bounds
from shared.objects.changes import check_moment, check_size
from shared.storage.listings import IndexEntry

if TYPE_CHECKING:
    from shared.objects.activation import Activation
    from shared.objects.state import ObjectState


class Index:
    """The rows of the object whose turn runs."""

    __slots__ = ("_activation", "_state")

    def __init__(self, activation: "Activation", state: "ObjectState") -> None:
        if not activation.kind.indexed:
            raise TypeError(f"{activation.kind.name} is not indexed: nobody lists its objects")
        self._activation = activation
        self._state = state

    def set(self, name: str, value: str, sort_ms: int, summary: bytes = b"") -> None:
        """Be found under `value` in the index `name`, in the order of `sort_ms`; the row before is replaced.

        `summary` is shown by listings, so that they need not load the object.

        Raises:
            TooLargeError: name (64 bytes), value (512) or summary (256), or the object has 20 rows already.
            TypeError: `sort_ms` is not a whole number from 0 to 2^53 - 1.
            ValueError: the name is empty or has a "/".
        """
        stored_name = index_name(self._activation.kind.name, name, value)
        check_size("The summary", len(summary), bounds.INDEX_SUMMARY_BYTES_MAX)
        check_moment("The time of an index row", sort_ms)
        row = IndexEntry(tenant=self._activation.address.tenant, value=value, sort_ms=sort_ms, summary=summary)
        names = self._state.row_names()
        if stored_name not in names:
            check_size("The object", len(names) + 1, bounds.INDEX_ROWS_MAX, unit="index rows")
        elif self._state.row(stored_name) == row:
            return
        self._state.set_row(stored_name, row)

    def clear(self, name: str) -> bool:
        """Not be found in the index `name` any more; say whether it was."""
        stored_name = index_name(self._activation.kind.name, name)
        if self._state.row(stored_name) is None:
            return False
        self._state.set_row(stored_name, None)
        return True

    def value(self, name: str) -> str | None:
        """Under which value it is found in the index `name`, or None."""
        row = self._state.row(index_name(self._activation.kind.name, name))
        return None if row is None else row.value


def index_name(kind: str, name: str, value: str = "") -> str:
    """The stored name of an index, which says its kind.

    Raises:
        TooLargeError: over 64 bytes, or the value has over 512.
        ValueError: it is empty or has a "/", which stands between kind and name.
    """
    if not name or "/" in name:
        raise ValueError(f"An index cannot be named {name!r}")
    check_size("The name of an index", len(name.encode()), bounds.INDEX_NAME_BYTES_MAX)
    check_size("The value in an index", len(value.encode()), bounds.INDEX_VALUE_BYTES_MAX)
    return f"{kind}/{name}"
