"""The state of an object whose kind keeps it natively: nothing but what the next commit has to carry.

The instance has the state, in whatever form its handlers work on fastest. A checkpoint is the whole of
it, encoded by the kind when a commit takes it and then forgotten, so an object that rests costs no
second copy. The store drops it by itself when it has expired. In exchange such a kind has no keys, no
alarms and no index entries.
"""

import struct
from collections.abc import Mapping
from typing import ClassVar

import msgspec

from shared import bounds
from shared.objects.changes import check_moment, check_size
from shared.storage.codec import FORMAT, AlarmRecord, UnknownFormatError
from shared.storage.interface import NATIVE_FIELD, ObjectWrite

_HEADER = struct.Struct("<BHQ")  # Format, schema, expiry in ms (0: never).
_SCHEMA = 1


class NativeState(msgspec.Struct, gc=False, eq=False):
    """What the host asks of a state, for kinds that are `native`. See `ObjectState`."""

    _stored: bytes = b""  # Until `on_activate` has seen it.
    expire_at_ms: int = 0
    """When the object becomes absent, 0 for never."""
    _pending: bytes | None = None
    _existed: bool = False

    alarm_records: ClassVar[Mapping[str, AlarmRecord]] = {}
    alarm_serial: ClassVar[int] = 0
    parts: ClassVar[None] = None
    soft: ClassVar[None] = None
    kept: ClassVar[None] = None
    overlay_used: ClassVar[bool] = False
    overlay_gates: ClassVar[bool] = False
    stays: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self._existed = bool(self._stored)

    @classmethod
    def load(cls, fields: Mapping[bytes, bytes], *, now_ms: int) -> "NativeState":
        """The state as loaded; absent or expired at `now_ms` (upper end) means empty.

        Raises:
            UnknownFormatError: another release wrote it.
            ValueError: it is cut short.
        """
        stored = fields.get(NATIVE_FIELD)
        if stored is None:
            return cls()
        if stored[:1] != bytes((FORMAT,)):
            raise UnknownFormatError(stored[0] if stored else 0)
        if len(stored) < _HEADER.size:
            raise ValueError("a native state is cut short")
        _, _, expire_at_ms = _HEADER.unpack_from(stored)
        if 0 < expire_at_ms <= now_ms:
            return cls()
        return cls(stored[_HEADER.size :], expire_at_ms)

    def expired(self) -> "NativeState":
        """The state of an object whose expiry has passed: empty, and the store may not have dropped it yet."""
        state = NativeState()
        state.rewrite()
        return state

    @property
    def stored(self) -> bytes:
        """What was loaded; empty once the object is active."""
        return self._stored

    @property
    def pending(self) -> bool:
        """Whether a checkpoint waits for a commit."""
        return self._pending is not None

    def forget_stored(self) -> None:
        """The instance has taken in what was loaded."""
        self._stored = b""

    def checkpoint(self, state: bytes, expire_at_ms: int) -> None:
        """Have the next commit carry `state`; empty: the object is gone.

        Raises:
            TooLargeError: over 512 KiB; nothing has changed.
            TypeError: the expiry is no moment.
        """
        check_size("The checkpoint", len(state), bounds.TURN_BYTES_MAX)
        check_moment("An expiry", expire_at_ms)
        self._pending, self.expire_at_ms = state, expire_at_ms

    def take(self, object_id: bytes, *, indexed: bool) -> ObjectWrite | None:
        """Turn what is pending into a write; None where nothing needs to be stored."""
        assert not indexed
        state, self._pending = self._pending, None
        if state is None:
            return None
        existed, self._existed = self._existed, bool(state)
        if state:
            header = _HEADER.pack(FORMAT, _SCHEMA, self.expire_at_ms)
            return ObjectWrite(object_id=object_id, native=header + state, expire_at_ms=self.expire_at_ms)
        return ObjectWrite(object_id=object_id, native=b"", gone=True, expire_at_ms=0) if existed else None

    def take_back(self) -> bool:
        """There are no soft writes."""
        return False

    def rewrite(self) -> None:
        """The store went back in time: what it has is not known any more. The next checkpoint is whole anyway."""
        self._existed = True

    def end_turn(self) -> bool:
        """A turn writes nothing but what a checkpoint takes."""
        return False

    def touched_keys(self) -> tuple[()]:
        """There are none."""
        return ()

    def drop_turn(self) -> None:
        """There is nothing to drop."""

    def alarm(self, _: str) -> AlarmRecord | None:
        """There are none."""
        return None

    def set_alarm(self, name: str, _: AlarmRecord | None) -> None:
        """Raises TypeError."""
        raise TypeError(f"A native kind has no alarms such as {name!r}")

    def bury_alarm(self, name: str, _: AlarmRecord, __: int) -> None:
        """Raises TypeError."""
        self.set_alarm(name, None)
