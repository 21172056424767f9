"""Stored records: a format byte, then MessagePack.

The byte lets a later release write another form while it still reads this one. A reader that
meets a format it does not know refuses instead of guessing.
"""

from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from shared.errors import TenureError

FORMAT = 1
_PREFIX = bytes((FORMAT,))
T = TypeVar("T")
_encode = msgspec.msgpack.Encoder().encode


class UnknownFormatError(TenureError):
    """A stored record was written in a format that this release does not read."""

    code = "unknown_format"

    def __init__(self, seen: int) -> None:
        super().__init__(f"A stored record has format {seen}; this release reads {FORMAT}.")
        self.seen = seen


class Meta(msgspec.Struct, frozen=True, array_like=True):
    """What is kept about an object besides its values. `version` counts its commits."""

    version: int
    schema: int = 1
    expire_at_ms: int = 0
    alarm_serial: int = 0


class AlarmRecord(msgspec.Struct, frozen=True, array_like=True):
    """A named alarm as stored with its object. `serial` tells a new setting from an old one."""

    due_ms: int
    serial: int
    attempts: int = 0
    first_failed_ms: int = 0
    first_error: str = ""
    last_error: str = ""
    trace: str = ""
    """`traceparent` of the turn that set it, if that was sampled."""


def encode(value: object) -> bytes:
    """The stored form of a value.

    Raises:
        TypeError: the value is of a type that MessagePack cannot carry.
    """
    return _PREFIX + _encode(value)


def decode(stored: bytes, type_: type[T]) -> T:
    """The value of type `type_` that was stored.

    Raises:
        UnknownFormatError: another release wrote it.
        msgspec.ValidationError: it is of another type.
    """
    if stored[:1] != _PREFIX:
        raise UnknownFormatError(stored[0] if stored else 0)
    cached: Any = _decoder
    value: T = cached(type_).decode(memoryview(stored)[1:])
    return value


@lru_cache(maxsize=512)
def _decoder(type_: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(type_)
