"""Where sockets end: the record of each, what their clients say as turns of their objects, and what these say back.

A frame is a turn of the object, and the next frame of that socket is read when the turn is stored; so frames take
effect in their order, once each at most. A frame that no owner takes for 10 s is refused, and says so; one whose turn
may or may not count ends in a `resync`. The socket stays open through all of it: its object may leave memory, fail,
or have another owner. Sockets are lost with their ingress alone.

The ingress speaks to owners through `Owners`, and they to it through `Outlet`: on one node both are calls.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

from shared import bounds
from shared.clock import Clock
from shared.errors import RefusedError, TenureError
from shared.objects.address import Address
from shared.objects.errors import DeadlineExceededError, OutcomeUnknownError
from shared.objects.handler import Kind
from shared.objects.sockets import Attach, Attached, Close, Output, Say, Sender
from shared.objects.wire import CloseReason, Load, Record, Wire
from shared.retry import Backoff, retrying
from shared.telemetry import logs
from shared.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from shared.objects.host import Host

_PAUSES = Backoff(base_ms=20, cap_ms=1_000)
SLOW = Close(1013, "Read faster, or less")
IDLE = Close(4408, "Say ping within 90 s")
REVOKED = Close(4401, "The credential has ended")
STOPPING = Close(1012, "The node stops: connect again")
_log = logs.get_logger()


class Owners(Protocol):
    """The owners of objects, wherever they are."""

    async def call(self, address: Address, turn: Callable[..., Any], *args: Any, size_bytes: int) -> Any:
        """Run a turn of an object, as `Host.call`."""
        ...

    def attach(self, entry: Attached) -> None:
        """Tell the owner of a socket."""
        ...

    def detach(self, address: Address, socket_id: str) -> None:
        """Tell the owner that a socket has left."""
        ...


class TooManySocketsError(RefusedError):
    """The object, the tenant or the node has as many sockets and streams as it may. None was opened."""

    code = "too_many_sockets"

    def __init__(self) -> None:
        super().__init__("As many sockets and streams are open as may be", retry_after_ms=bounds.RETRY_AFTER_MS)


class Ingress:
    """The sockets that end at this node."""

    def __init__(self, owners: Owners, clock: Clock, metrics: Metrics) -> None:
        self._owners = owners
        self._clock = clock
        self._metrics = metrics
        self._wires: dict[str, Wire] = {}
        self._streams: set[asyncio.Future[Close]] = set()
        self._load = Load()
        self._stopping = False
        self._some = asyncio.Event()
        self._all_left: asyncio.Event | None = None

    @property
    def open_sockets(self) -> int:
        """How many there are, with streams."""
        return self._load.sockets

    @property
    def queued_bytes(self) -> int:
        """What waits to be sent, in all."""
        return self._load.queued_bytes

    # What clients do.

    async def open(
        self,
        kind: Kind,
        address: Address,
        *,
        tags: tuple[str, ...] = (),
        attachment: bytes = b"null",
        valid: Callable[[], bool] = lambda: True,
    ) -> Wire:
        """Open a socket of an object, once its `on_socket_open` is stored.

        Raises:
            TooManySocketsError: a bound is reached, or the node stops.
            TenureError: as `Host.call`; a DomainError is the object's own refusal.
        """
        if self._stopping or not self._load.has_room(address):
            raise TooManySocketsError
        turns = kind.sockets
        assert turns is not None, f"{kind.name} takes no sockets"
        now_ms = self._clock.monotonic_ms()
        record = Record(secrets.token_urlsafe(12), kind, address, tags=tags, attachment=attachment, valid=valid)
        wire = Wire(record, self._load, now_ms=now_ms)
        self._wires[wire.id] = wire
        self._some.set()
        self._load.count(address, 1)
        wire.opened = not turns.hears_open
        self._attach(wire)
        if turns.hears_open:
            try:
                await self._told(wire, turns.open, wire.id)
            except BaseException as exc:
                await self._not_opened(wire, exc)
                raise
        wire.opened = True
        return wire

    @contextmanager
    def streaming(self, tenant: str) -> Iterator[asyncio.Future[Close]]:
        """Count a socket or stream that a service drives itself for as long as it is open; when and how it has to end.

        Raises:
            TooManySocketsError: a bound is reached, or the node stops.
        """
        if self._stopping or not self._load.has_room_for(tenant):
            raise TooManySocketsError
        self._load.count_for(tenant, 1)
        end: asyncio.Future[Close] = asyncio.get_running_loop().create_future()
        self._streams.add(end)
        try:
            yield end
        finally:
            self._load.count_for(tenant, -1)
            self._streams.discard(end)
            self._has_left()

    async def receive(self, wire: Wire, message: Any, size_bytes: int) -> None:
        """A frame has come; returns when it is stored, or the client was told what became of it."""
        wire.frames += 1
        turns = wire.kind.sockets
        assert turns is not None
        self._metrics.socket_message(wire.kind.name, "in")
        try:
            await self._told(wire, turns.message, wire.id, message, size_bytes=size_bytes)
        except TenureError as exc:
            if _undecided(exc):
                self.lost(wire.id)
            else:
                self._check(wire, wire.refuse(wire.frames, exc))
        wire.settled = wire.frames

    def ping(self, wire: Wire, number: int) -> None:
        """The client wants to know that the wire stands; its object sleeps on."""
        self._check(wire, wire.pong(number))

    async def leave(self, wire: Wire, code: int) -> None:
        """The socket is no more; its object hears of it, if it wants to and within 30 s."""
        if not self._forget(wire):
            return
        self._metrics.socket_closed(wire.kind.name, wire.ended_by)
        turns = wire.kind.sockets
        assert turns is not None
        if turns.hears_close:
            await self._tell_close(wire, code)

    # What owners do: `Outlet`.

    def deliver(self, socket_id: str, sender: Sender, number: int, output: Output) -> None:
        """An owner says something to a socket; it may have left."""
        wire = self._wires.get(socket_id)
        if wire is None or (follows := wire.follows(sender, number)) is None:
            return
        if not follows:
            self.lost(socket_id)
        match output:
            case Say():
                self._metrics.socket_message(wire.kind.name, "out")
                self._check(wire, wire.say(output))
            case Close():
                self.end(wire, output, "author")
            case Attach():
                wire.attachment = output.attachment

    def lost(self, socket_id: str) -> None:
        """Something for the socket may be missing: the client is told, and asks for the state anew."""
        wire = self._wires.get(socket_id)
        if wire is None or wire.resync_waits:
            return
        self._metrics.socket_resync(wire.kind.name)
        self._check(wire, wire.resync())

    def attachment(self, socket_id: str) -> bytes:
        """What the socket remembers; of one that has left, nothing."""
        wire = self._wires.get(socket_id)
        return b"null" if wire is None else wire.attachment

    # How sockets end.

    def end(self, wire: Wire, close: Close, why: CloseReason, *, at_once: bool = False) -> None:
        """Have the transport close a socket after what waits to be sent, or `at_once`."""
        self._dropped(wire, wire.finish(close, why, at_once=at_once))

    def sweep(self) -> None:
        """End the sockets that are idle, and those whose credential has ended."""
        idle_since_ms = self._clock.monotonic_ms() - bounds.SOCKET_IDLE_MS
        for wire in list(self._wires.values()):
            if not wire.valid():
                self.end(wire, REVOKED, "revoked", at_once=True)
            elif wire.heard_ms <= idle_since_ms:
                self.end(wire, IDLE, "idle", at_once=True)

    async def run(self) -> None:
        """Sweep for as long as there are sockets, for ever."""
        while True:
            await self._some.wait()
            await asyncio.sleep(bounds.SOCKET_SWEEP_MS / 1000)
            self.sweep()

    async def stop(self) -> None:
        """The node stops: take no more, send what waits, and see the clients off, 5 s at most."""
        self._stopping = True
        for wire in list(self._wires.values()):
            self.end(wire, STOPPING, "stopping")
        for end in self._streams:
            end.set_result(STOPPING)
        if self._wires or self._streams:
            self._all_left = asyncio.Event()
            with suppress(TimeoutError):
                async with asyncio.timeout(bounds.SOCKET_STOP_MS / 1000):
                    await self._all_left.wait()

    def reattach(self, *, clean: bool) -> None:
        """Objects have a new owner: tell it of the sockets; unless the change was clean, tell the clients too."""
        for wire in list(self._wires.values()):
            self._attach(wire)
            if not clean:
                self.lost(wire.id)

    def _attach(self, wire: Wire) -> None:
        entry = self._entry(wire)
        entry.joined = wire.opened
        self._owners.attach(entry)

    def _entry(self, wire: Wire) -> Attached:
        return Attached(wire.id, wire.address, self, tags=wire.tags, attachment=wire.attachment)

    async def _told(
        self, wire: Wire, turn: Callable[..., Any], *args: Any, size_bytes: int = bounds.CALL_BYTES
    ) -> None:
        await retrying(
            lambda: self._owners.call(wire.address, turn, *args, size_bytes=size_bytes),
            backoff=_PAUSES,
            budget_ms=bounds.SOCKET_RETRY_MS,
            clock=self._clock,
        )

    async def _not_opened(self, wire: Wire, error: BaseException) -> None:
        """The opening was refused; or nobody knows whether it counts, and then the object hears that it has left."""
        self._forget(wire)
        turns = wire.kind.sockets
        if turns is not None and turns.hears_close and (not isinstance(error, TenureError) or _undecided(error)):
            await self._tell_close(wire, 1006)

    async def _tell_close(self, wire: Wire, code: int) -> None:
        turns = wire.kind.sockets
        assert turns is not None
        try:
            await self._told(wire, turns.close, self._entry(wire), code)
        except TenureError as exc:
            _log.warning(logs.SOCKET_UNTOLD, object=str(wire.address), error=str(exc))

    def _forget(self, wire: Wire) -> bool:
        if self._wires.pop(wire.id, None) is None:
            return False
        self._load.count(wire.address, -1)
        if not self._wires:
            self._some.clear()
        self._dropped(wire, wire.discard())
        self._owners.detach(wire.address, wire.id)
        self._has_left()
        return True

    def _has_left(self) -> None:
        if self._all_left is not None and not self._wires and not self._streams:
            self._all_left.set()

    def _check(self, wire: Wire, queued: bool) -> None:  # noqa: FBT001 - what `Wire` has said.
        """Cut off a client whose queue is full."""
        if not queued:
            self._dropped(wire, 1)
            self.end(wire, SLOW, "slow", at_once=True)

    def _dropped(self, wire: Wire, frames: int) -> None:
        if frames:
            self._metrics.socket_dropped(wire.kind.name, frames)


def _undecided(error: TenureError) -> bool:
    """Whether the turn may have counted, or may yet."""
    return isinstance(error, OutcomeUnknownError) or (isinstance(error, DeadlineExceededError) and error.started)


class LocalOwners:
    """The owners of objects that are on this node, which is all of them."""

    def __init__(self, host: "Host") -> None:
        self._host = host

    async def call(self, address: Address, turn: Callable[..., Any], *args: Any, size_bytes: int) -> Any:
        """Run a turn here."""
        return await self._host.call(address, turn, *args, size_bytes=size_bytes)

    def attach(self, entry: Attached) -> None:
        """The mirror is here too."""
        self._host.sockets.attach(entry)

    def detach(self, address: Address, socket_id: str) -> None:
        """As above."""
        self._host.sockets.detach(address, socket_id)
