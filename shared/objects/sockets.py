"""The live connections of an object, as its owner sees them: whom there is, and what a turn says to them.

A socket ends at its *ingress*, which is the record of it; the owner has a mirror: id, tags, attachment. So an object
leaves memory and comes back, here or elsewhere, and its sockets stay open. What a turn sends is an output like its
reply: it leaves in order, after the commit that covers all that the turn could have seen, or not at all. If it may
be missing, because a commit failed or its outcome is not known, the ingress hears that, and tells the client.

    class Board(DurableObject):
        def on_socket_message(self, socket: Socket, message: Move) -> None:
            self.storage.put(message.piece, message.square)
            self.sockets.send(message)

Owner and ingress speak through `Outlet` and plain values, so that they need not be one process.
"""

import inspect
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import msgspec

from shared import bounds
from shared.objects.address import Address
from shared.objects.changes import check_size

if TYPE_CHECKING:
    from shared.objects.handler import DurableObject
    from shared.objects.mirror import Mirror

_HOOKS = "shared.objects.handler"  # Where the hooks stand that do nothing.
Sender: TypeAlias = tuple[int, int]
"""Which activation speaks: the epoch of its shard and its number on its node. A later owner's is greater."""


class Say(NamedTuple):
    """A message to the client, as JSON."""

    text: str
    size_bytes: int


class Close(NamedTuple):
    """The end of the socket, after what was sent before. The codes are on the page of sockets."""

    code: int
    reason: str = ""


class Attach(NamedTuple):
    """What the socket remembers from now on, as JSON."""

    attachment: bytes


Output: TypeAlias = Say | Close | Attach


class Outlet(Protocol):
    """An ingress, as the owner knows it."""

    def deliver(self, socket_id: str, sender: Sender, number: int, output: Output) -> None:
        """The next output of `sender` for the socket; `number` counts them from 1, without gaps."""
        ...

    def lost(self, socket_id: str) -> None:
        """What was sent through the socket may be missing; a confirmed change may not have been told."""
        ...

    def attachment(self, socket_id: str) -> bytes:
        """What the socket remembers, as recorded."""
        ...


class Attached:
    """One socket in the mirror of its owner."""

    __slots__ = ("address", "attachment", "id", "joined", "number", "outlet", "sender", "tags")

    def __init__(
        self, socket_id: str, address: Address, outlet: Outlet, *, tags: tuple[str, ...], attachment: bytes
    ) -> None:
        self.id = socket_id
        self.address = address
        self.outlet = outlet
        self.tags = tags
        self.attachment = attachment
        self.joined = False  # Its opening has had its turn: from there on it is one of all.
        self.sender: Sender = (0, 0)
        self.number = 0

    def hand(self, sender: Sender, output: Output) -> None:
        """Hand an output that may leave to the ingress."""
        if sender != self.sender:
            self.sender, self.number = sender, 0
        self.number += 1
        self.outlet.deliver(self.id, sender, self.number, output)


class Outgoing:
    """What the running turn says to sockets; dropped with the turn if that fails."""

    __slots__ = ("outputs", "size_bytes")

    def __init__(self) -> None:
        self.outputs: list[tuple[Attached, Output]] = []
        self.size_bytes = 0

    def add(self, entry: Attached, output: Output) -> None:
        """Raises TooLargeError: a turn has said more than it may."""
        check_size("What the turn says to sockets", len(self.outputs) + 1, bounds.SOCKET_TURN_OUTPUTS_MAX)
        self.outputs.append((entry, output))

    def attachment(self, entry: Attached) -> bytes | None:
        """What the turn has attached to the socket, if it has."""
        said = (output for other, output in reversed(self.outputs) if other is entry)
        return next((output.attachment for output in said if isinstance(output, Attach)), None)


class Socket:
    """One connection, in the hands of a turn of its object. Sending to one that has left does nothing."""

    __slots__ = ("_entry", "_mirror")

    def __init__(self, mirror: "Mirror", entry: Attached) -> None:
        self._mirror, self._entry = mirror, entry

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Socket) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def id(self) -> str:
        """Unique among all sockets there ever are; it says nothing of the client."""
        return self._entry.id

    @property
    def tags(self) -> tuple[str, ...]:
        """By which `Sockets.all` finds it; given when it was opened."""
        return self._entry.tags

    def attachment(self, type_: Any = Any) -> Any:
        """What the socket remembers, as a `type_`; at first what whoever made its ticket has attached, or null.

        Raises:
            msgspec.ValidationError: it is not one.
        """
        said = self._mirror.said(self._entry.address)
        new = None if said is None else said.attachment(self._entry)
        return msgspec.json.decode(self._entry.attachment if new is None else new, type=type_)

    def attach(self, value: Any) -> None:
        """Have the socket remember `value`, in place of what it did, for as long as it is open.

        Raises:
            TooLargeError: over 16 KiB as JSON.
        """
        encoded = msgspec.json.encode(value)
        check_size("The attachment", len(encoded), bounds.SOCKET_ATTACHMENT_BYTES_MAX)
        self._say(Attach(encoded))

    def send(self, message: Any) -> None:
        """Send a message after the commit of this turn; see `Sockets.send`."""
        self._say(said(message))

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close it after the commit of this turn, and after what was sent before.

        `code` is 1000, or one of your own from 4000 to 4399 or from 4500 to 4999; `reason` has 123 bytes at most.
        """
        assert code == 1000 or 4000 <= code < 4400 or 4500 <= code < 5000, "other codes are the core's"
        check_size("The reason", len(reason.encode()), bounds.SOCKET_REASON_BYTES_MAX)
        self._say(Close(code, reason))

    def join(self) -> None:
        """It is one of all from now on. The host's own: every socket has joined before its object sees it."""
        self._entry.joined = True

    def _say(self, output: Output) -> None:
        self._mirror.outgoing(self._entry.address).add(self._entry, output)


class Sockets:
    """All connections of the object whose turn runs."""

    __slots__ = ("_address", "_mirror")

    def __init__(self, mirror: "Mirror", address: Address) -> None:
        self._mirror, self._address = mirror, address

    def all(self, tag: str = "") -> list[Socket]:
        """Those that are open, in the order in which they came; with `tag` those that have it."""
        return [Socket(self._mirror, entry) for entry in self._joined(tag)]

    def send(self, message: Any, *, tag: str = "", but: Socket | None = None) -> None:
        """Send `message`, as JSON, to all (with `tag`: to those that have it) but one.

        Raises:
            TooLargeError: it has over 320 KiB, or the turn has said 10,000 things.
        """
        output, outgoing = said(message), self._mirror.outgoing(self._address)
        for entry in self._joined(tag):
            if but is None or entry.id != but.id:
                outgoing.add(entry, output)

    def _joined(self, tag: str) -> Iterator[Attached]:
        entries = self._mirror.of(self._address).values()
        return (entry for entry in entries if entry.joined and (not tag or tag in entry.tags))


class SocketTurns(NamedTuple):
    """The turns of a kind that has sockets. The name of each has a colon, so that it is no method of an author."""

    open: Callable[..., Any]
    """(socket id): it has come, and may be refused by a DomainError."""
    message: Callable[..., Any]
    """(socket id, message)."""
    close: Callable[..., Any]
    """(the socket as it was, code): it has left."""
    hears_open: bool
    hears_close: bool


def socket_turns(cls: type["DurableObject"]) -> SocketTurns | None:
    """The turns of sockets of a kind; None: it takes none, as it has no `on_socket_message`."""
    on_message: Callable[..., Any] | None = getattr(cls, "on_socket_message", None)
    if on_message is None:
        return None
    on_open, on_close = cls.on_socket_open, cls.on_socket_close
    return SocketTurns(
        open=_turn("open", on_open, _joined),
        message=_turn("message", on_message, _known),
        close=_turn("close", on_close, _left),
        hears_open=on_open.__module__ != _HOOKS,
        hears_close=on_close.__module__ != _HOOKS,
    )


def said(message: Any) -> Say:
    """A message, encoded once for all who get it.

    Raises:
        TooLargeError: it has over 320 KiB.
    """
    encoded = msgspec.json.encode(message)
    check_size("The message", len(encoded), bounds.SOCKET_MESSAGE_BYTES_MAX)
    return Say(encoded.decode(), len(encoded))


@lru_cache(maxsize=4_096)  # Every host of a kind runs the same turns.
def _turn(name: str, hook: Callable[..., Any], find: "Callable[[DurableObject, Any], Socket]") -> Callable[..., Any]:
    """A turn that finds the socket and calls the author's hook; it can wait if the hook can."""

    async def waiting(instance: "DurableObject", which: Any, *rest: Any) -> Any:
        return await hook(instance, find(instance, which), *rest)

    def plain(instance: "DurableObject", which: Any, *rest: Any) -> Any:
        return hook(instance, find(instance, which), *rest)

    turn = waiting if inspect.iscoroutinefunction(hook) else plain
    turn.__name__ = f"socket:{name}"
    return turn


def _known(instance: "DurableObject", socket_id: str) -> Socket:
    mirror = _mirror(instance)
    return Socket(mirror, mirror.entry(instance.address, socket_id))


def _joined(instance: "DurableObject", socket_id: str) -> Socket:
    socket = _known(instance, socket_id)
    socket.join()
    return socket


def _left(instance: "DurableObject", entry: Attached) -> Socket:
    return Socket(_mirror(instance), entry)


def _mirror(instance: "DurableObject") -> "Mirror":
    return instance._activation.host.sockets  # noqa: SLF001 - these turns are the host's own.
