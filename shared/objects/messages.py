"""What one object sends to another without waiting: stored in the commit of the turn that sent it.

    self.send(Account, tenant, "42").debit(5)

The message is delivered at least once after that commit, and takes effect once, in the order in which this
sender sent to this receiver. One that its receiver refuses by a declared error, or that nobody could deliver
until it expired, is kept as a dead letter until an operator sends it again or drops it.
"""

import secrets
from collections.abc import Callable, Sequence
from functools import lru_cache
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, get_type_hints

import msgspec

from shared import bounds
from shared.objects.address import Address
from shared.objects.changes import check_size
from shared.storage.codec import UnknownFormatError, decode, encode
from shared.storage.listings import MESSAGE_ID_BYTES
from shared.telemetry.context import current_traceparent

if TYPE_CHECKING:
    from shared.objects.handler import DurableObject


class Message(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """A message as stored. (epoch, serial) is its place among all messages of its sender (`once.Delivery`)."""

    receiver: bytes
    """The encoded address."""
    method: str
    args: msgspec.Raw
    epoch: int
    serial: int
    expire_at_ms: int
    trace: str = ""
    """`traceparent` of the turn that sent it, if that was sampled."""
    dead_ms: int = 0
    """When it was given up; 0: it was not."""
    error: str = ""
    """Why."""
    sent_ms: int = 0
    """When it was sent; 0: an earlier release has sent it."""

    def encode(self) -> bytes:
        """The stored form."""
        return encode(self)

    @classmethod
    def decode(cls, stored: bytes) -> "Message":
        """The message whose stored form `stored` is.

        Raises:
            UnknownFormatError, msgspec.ValidationError: another release wrote it.
        """
        return decode(stored, Message)

    @classmethod
    def readable(cls, stored: bytes) -> "Message | None":
        """The message; None if another release wrote it."""
        try:
            return cls.decode(stored)
        except (UnknownFormatError, msgspec.MsgspecError):
            return None

    def arguments(self, method: Callable[..., Any]) -> list[Any]:
        """The arguments, as the receiver's method annotates them.

        Raises:
            msgspec.ValidationError: they do not fit any more.
        """
        given = msgspec.msgpack.decode(self.args, type=list[msgspec.Raw])
        types = _parameter_types(method)
        if len(given) > len(types):
            raise msgspec.ValidationError(f"{method.__name__} takes {len(types)} arguments, not {len(given)}")
        return [msgspec.msgpack.decode(raw, type=type_) for raw, type_ in zip(given, types, strict=False)]

    def given_up(self, error: str, at_ms: int) -> "Message":
        """The dead letter that becomes of it."""
        return msgspec.structs.replace(self, dead_ms=at_ms, error=error[:500])

    def anew(self, *, epoch: int, serial: int, now_ms: int, upper_ms: int) -> "Message":
        """The same said once more: a message of its own, behind all that its sender has sent, for a day from now on."""
        return Message(
            receiver=self.receiver,
            method=self.method,
            args=self.args,
            epoch=epoch,
            serial=serial,
            expire_at_ms=upper_ms + bounds.MESSAGE_TTL_MS,
            trace=current_traceparent(),
            sent_ms=now_ms,
        )


class Envelope:
    """What `DurableObject.send` returns: the receiver's handlers as functions that send and return nothing."""

    __slots__ = ("_kind", "_receiver", "_sender", "_ttl_ms")

    def __init__(self, sender: "DurableObject", kind: "type[DurableObject]", receiver: Address, ttl_ms: int) -> None:
        self._sender, self._kind, self._receiver, self._ttl_ms = sender, kind, receiver, ttl_ms

    def __getattr__(self, name: str) -> Callable[..., None]:
        method = getattr(self._kind, name)
        if self._kind.native:
            raise TypeError(f"{self._kind.kind} is a native kind: it cannot remember what it has received")

        def send(*args: Any) -> None:
            activation = self._sender._activation  # noqa: SLF001  # Part of the same surface.
            host = activation.host
            signature(method).bind(self._sender, *args)
            message = Message(
                receiver=self._receiver.encode(),
                method=method.__name__,
                args=msgspec.Raw(msgspec.msgpack.encode(args)),
                epoch=activation.shard.fence.epoch,
                serial=next(host.message_serials),
                expire_at_ms=host.store_clock.upper_ms() + self._ttl_ms,
                trace=current_traceparent(),
                sent_ms=host.store_clock.now_ms(),
            ).encode()
            check_size("The message", len(message), bounds.MESSAGE_BYTES_MAX)
            self._sender.storage.post(new_message_id(), message)

        return send


def new_message_id() -> bytes:
    """Of a message that is sent."""
    return secrets.token_bytes(MESSAGE_ID_BYTES)


@lru_cache(maxsize=1_024)
def _parameter_types(method: Callable[..., Any]) -> Sequence[Any]:
    """The type of each parameter behind `self`; anything where none is given that can be read."""
    try:
        hints = get_type_hints(method)
    except (NameError, TypeError):
        hints = {}
    parameters = list(signature(method).parameters.values())[1:]
    return [
        hints.get(parameter.name, Any)
        for parameter in parameters
        if parameter.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    ]
