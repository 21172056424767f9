"""Calls that take effect once, however often they are made: requests with a key, and messages.

What was answered is remembered with the object, in the same commit as the effect: so either both are
stored or neither, and who asks again gets the same answer. Only a success is remembered. A table that is
full refuses; it never forgets, but for what has expired.

A *request* is known by its key for a day. The same key with another method or other arguments is an
error of the caller. While the first is under way the second waits in the mailbox, and finds the answer.

A *message* is known by its place. All messages of one sender carry (epoch, serial), which rises in the
order of sending over every crash, move and rollback: an epoch belongs to one process, and in it the serial
only counts up. They arrive in that order, so a receiver remembers one place a sender: what is not beyond it has
been here before.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol, get_type_hints

import msgspec

from shared import bounds
from shared.errors import InvalidInputError, TenureError
from shared.objects.changes import check_size
from shared.objects.errors import HandlerError, KeyReusedError, OverloadedError, UnavailableError
from shared.objects.handler import DurableObject
from shared.objects.parking import reply_type
from shared.objects.store_clock import StoreClock
from shared.storage.codec import decode, encode
from shared.storage.interface import Entry
from shared.telemetry import logs

_log = logs.get_logger()
REQUEST_MARK, SENDER_MARK = b"r", b"s"
"""What the field of an entry begins with."""


class Answer(NamedTuple):
    """What an earlier call was answered."""

    reply: Any


class Once(Protocol):
    """How a call is known again."""

    def answered(self, object_: DurableObject, clock: StoreClock) -> Answer | None:
        """The answer of before; None: the call has to run.

        Raises:
            KeyReusedError: the key stands for another request.
            OverloadedError: the call would have to run, and its answer could not be remembered.
        """
        ...

    def remember(self, object_: DurableObject, reply: Any, clock: StoreClock) -> None:
        """Have the running turn keep the answer.

        Raises:
            TooLargeError: the answer takes over 4 KiB.
            TypeError: it cannot be stored.
        """
        ...


def answered(once: Once, object_: DurableObject, method: str, clock: StoreClock) -> Answer | None:
    """See `Once.answered`.

    Raises:
        HandlerError: what was kept cannot be read, or the author's `recall_reply` has raised.
        TenureError: as `Once.answered`.
    """
    try:
        return once.answered(object_, clock)
    except TenureError:
        raise
    except Exception as exc:
        _log.error(logs.TURN_FAILED, object_kind=object_.kind, method=method, exc_info=exc)
        raise HandlerError(object_.kind, method) from exc


class _Answered(msgspec.Struct, frozen=True, array_like=True):
    """A request as remembered."""

    digest: bytes
    reply: bytes


class KeyedRequest:
    """A request that its caller may make again under the same key."""

    __slots__ = ("_digest", "_field", "_method")

    def __init__(self, key: str, method: Callable[..., Any], args: Sequence[Any]) -> None:
        """Raises InvalidInputError: the key is no text of 1 to 255 bytes."""
        encoded = key.encode(errors="surrogatepass")
        if not 1 <= len(encoded) <= bounds.REQUEST_KEY_BYTES_MAX:
            raise InvalidInputError(
                f"An idempotency key has 1 to {bounds.REQUEST_KEY_BYTES_MAX} bytes, not {len(encoded)}",
                "header.idempotency-key",
            )
        asked = method.__name__.encode() + b"\0" + msgspec.msgpack.encode(args)
        self._field = REQUEST_MARK + encoded
        self._digest = blake2b(asked, digest_size=16).digest()
        self._method = method

    def answered(self, object_: DurableObject, clock: StoreClock) -> Answer | None:
        """See `Once.answered`."""
        entry = _known(object_, self._field, clock)
        if entry is None:
            _make_room(object_, clock)
            return None
        stored = decode(entry.value, _Answered)
        if stored.digest != self._digest:
            raise KeyReusedError
        kept = msgspec.msgpack.decode(stored.reply, type=_reply_type(self._method))
        return Answer(object_.recall_reply(self._method.__name__, kept))

    def remember(self, object_: DurableObject, reply: Any, clock: StoreClock) -> None:
        """See `Once.remember`."""
        kept = msgspec.msgpack.encode(object_.keep_reply(self._method.__name__, reply))
        check_size("The reply to be remembered", len(kept), bounds.REPLY_BYTES_MAX)
        expire_at_ms = clock.upper_ms() + bounds.REQUEST_KEEP_MS
        answered = encode(_Answered(self._digest, kept))
        object_.storage.remember(self._field, Entry(answered, expire_at_ms), clock.lower_ms())


class _Place(msgspec.Struct, frozen=True, array_like=True, order=True):
    """How far a sender has been heard."""

    epoch: int
    serial: int


class Delivery:
    """A message of `sender` (an encoded address), which must not take effect after its expiry."""

    __slots__ = ("_expire_at_ms", "_field", "_place")

    def __init__(self, sender: bytes, *, epoch: int, serial: int, expire_at_ms: int) -> None:
        self._field = SENDER_MARK + sender
        self._place = _Place(epoch, serial)
        self._expire_at_ms = expire_at_ms

    def answered(self, object_: DurableObject, clock: StoreClock) -> Answer | None:
        """See `Once.answered`.

        Raises:
            UnavailableError: it has not been heard, and has expired: nothing may come of it.
        """
        entry = _known(object_, self._field, clock)
        if entry is not None and self._place <= decode(entry.value, _Place):
            return Answer(None)
        if self._expire_at_ms <= clock.upper_ms():
            raise UnavailableError("The message has expired")
        if entry is None:
            _make_room(object_, clock)
        return None

    def remember(self, object_: DurableObject, reply: Any, clock: StoreClock) -> None:  # noqa: ARG002  # Of a message nobody asks for the reply.
        """See `Once.remember`."""
        before = _known(object_, self._field, clock)
        expire_at_ms = self._expire_at_ms if before is None else max(self._expire_at_ms, before.expire_at_ms)
        object_.storage.remember(self._field, Entry(encode(self._place), expire_at_ms), clock.lower_ms())


def _known(object_: DurableObject, field: bytes, clock: StoreClock) -> Entry | None:
    entry = object_.storage.remembered(field)
    return entry if entry is not None and entry.expire_at_ms > clock.lower_ms() else None


def _make_room(object_: DurableObject, clock: StoreClock) -> None:
    """Raises OverloadedError: the object remembers as much as it may, and nothing of it has expired."""
    if not object_.storage.has_room_to_remember(clock.lower_ms()):
        raise OverloadedError(
            f"{object_.kind} remembers {bounds.ENTRIES_MAX} requests and senders already",
            retry_after_ms=bounds.RETRY_AFTER_MS,
        )


@lru_cache(maxsize=1_024)
def _reply_type(method: Callable[..., Any]) -> Any:
    """What a method says that it returns; anything where it says nothing that can be read."""
    try:
        return reply_type(get_type_hints(method).get("return", Any))
    except (NameError, TypeError):
        return Any
