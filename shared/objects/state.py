"""The state of one object as its author sees it: typed keys and values in memory.

Values are encoded at `put`, so a value that cannot be stored fails there, inside the turn. Values
are immutable: what a handler got or put can never change the state behind the store's back.
"""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from shared import bounds
from shared.objects.changes import check_moment, check_size
from shared.objects.keeping import Keeping
from shared.storage.codec import AlarmRecord, Meta, decode, encode

T = TypeVar("T")
_MUTABLE = (list, dict, set, bytearray)
Names = list[str]


class ObjectState(Keeping):
    """Keys and values, and when the object expires. Of what its bases have, authors use nothing."""

    __slots__ = ("_decoded",)

    def __init__(
        self, meta: Meta, values: dict[str, bytes], alarms: dict[str, AlarmRecord], *, stale: bool = False
    ) -> None:
        super().__init__(meta, values, alarms, stale=stale)
        self._decoded: dict[str, tuple[Any, Any]] | None = None  # Values by key, with the type that they were read as.

    def get(self, key: str, type_: type[T], default: Any = None) -> T | Any:
        """The value under `key`, or `default`.

        Raises:
            msgspec.ValidationError: what is stored is not a `type_`.
        """
        cached = self._decoded.get(key) if self._decoded else None
        if cached is not None and (cached[0] is None or cached[0] is type_):
            return cached[1]
        stored = self._stored(key)
        if stored is None:
            return default
        value = decode(stored, type_)
        self._remember(key, type_, value)
        return value

    def put(self, key: str, value: Any) -> None:
        """Write a frozen struct, an immutable built-in or bytes under `key` (2 KiB; value 128 KiB; turn 512 KiB).

        Raises:
            TypeError: the value is mutable or cannot be stored.
            TooLargeError: a bound was passed; nothing was written.
        """
        self._changes().put(_checked(key), stored_form("The value", value))
        self._remember(key, None, value)

    def put_many(self, values: Mapping[str, Any]) -> None:
        """Write all of `values` as `put` would, or none of them.

        Raises:
            TypeError, TooLargeError: as `put`; nothing was written.
        """
        if values:
            self._changes().put_many({_checked(key): stored_form("The value", value) for key, value in values.items()})
            for key, value in values.items():
                self._remember(key, None, value)

    def put_soft(self, key: str, value: Any) -> None:
        """Write as `put` does, but have nobody wait for it: a commit carries it within 30 s, a crash before loses it.

        It is seen at once, is dropped with its turn if that fails, and may be written in `@readonly` turns.

        Raises:
            TypeError, TooLargeError: as `put`.
        """
        self._changes(soft=True).put(_checked(key), stored_form("The value", value))
        self._remember(key, None, value)

    def delete(self, key: str) -> None:
        """Remove `key`, if it is there."""
        if self._stored(key) is not None:
            self._changes().put(key, None)
            self._forget(key)

    def delete_all(self) -> None:
        """Remove every key, alarm and part, and the expiry: the object is absent after this turn."""
        self._changes().reset(self.parts)
        self._decoded = None

    def list(
        self,
        prefix: str = "",
        *,
        start: str = "",
        end: str | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Names:
        """The keys with `prefix` in [start, end), sorted, at most `limit`."""
        keys = sorted(
            (key for key in self._keys() if key.startswith(prefix) and key >= start and (end is None or key < end)),
            reverse=reverse,
        )
        return keys if limit is None else keys[:limit]

    def expire_at(self, at_ms: int | None) -> None:
        """From `at_ms` of the store's clock on the object is absent; None means never.

        Objects with alarms, armed or given up, stay.
        """
        check_moment("An expiry", at_ms or 0)
        self._changes().expire_at_ms = at_ms or 0

    def drop_turn(self) -> None:
        """See `Layers.drop_turn`."""
        if self._overlay is not None:
            self._overlay = None
            self._decoded = None

    def dead_alarm(self, name: str) -> tuple[AlarmRecord, int] | None:
        """The alarm `name` that finished turns have given up, and when; or None."""
        return self._dead.get(name)

    def end_dead_alarm(self, name: str, record: AlarmRecord | None) -> None:
        """Forget, in the running turn, that `name` was given up; `record` is the alarm of that name from now on."""
        self.set_alarm(name, record)
        self._changes().dropped_alarms |= {name}

    def _stored(self, key: str) -> bytes | None:
        overlay = self._overlay
        if overlay is not None:
            if key in overlay.values:
                return overlay.values[key]
            if overlay.clear:
                return None
        return self._base.get(key)

    def _keys(self) -> Iterator[str]:
        overlay = self._overlay
        if overlay is None:
            yield from self._base
            return
        if not overlay.clear:
            yield from (key for key in self._base if key not in overlay.values)
        yield from (key for key, stored in overlay.values.items() if stored is not None)

    def _remember(self, key: str, type_: Any, value: Any) -> None:
        if self._decoded is None:
            self._decoded = {}
        self._decoded[key] = (type_, value)

    def _forget(self, key: str) -> None:
        if self._decoded is not None:
            self._decoded.pop(key, None)


def stored_form(what: str, value: Any) -> bytes:
    """What is stored of a value.

    Raises:
        TypeError: it is mutable or cannot be stored.
        TooLargeError: `what` has over 128 KiB.
    """
    if isinstance(value, _MUTABLE) or (isinstance(value, msgspec.Struct) and not value.__struct_config__.frozen):
        raise TypeError(f"A stored value must be immutable, not {type(value).__name__}")
    stored = encode(value)
    check_size(what, len(stored), bounds.VALUE_BYTES_MAX)
    return stored


def _checked(key: str) -> str:
    check_size("The key", len(key.encode()), bounds.KEY_BYTES_MAX)
    return key
