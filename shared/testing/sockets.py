"""Clients of sockets for tests: they stand where browsers do, on the clock of the test.

    client = await kit.connect(board)
    await client.send({"piece": "rook", "square": "a4"})
    assert await client.message() == {"piece": "rook", "square": "a4"}

The sockets end at an ingress beside the nodes, the one that is shipped. So they can outlive the node that runs their
object (`Kit.kill_owner`), as they do where ingress and owner are two nodes, or die with it (`Kit.kill`).
"""

import asyncio
from collections.abc import Callable
from typing import Any, get_type_hints

import msgspec

from shared.objects.address import Address
from shared.objects.errors import OutcomeUnknownError
from shared.objects.handler import Kind
from shared.objects.ingress import Ingress
from shared.objects.mirror import Mirror
from shared.objects.sockets import Attached, Close
from shared.objects.wire import Wire
from shared.testing.cluster import Node, NodeDiedError

_PING_S = 30
GONE = Close(1006)
"""How a socket ends whose other end has died."""


class NodeOwners:
    """The owners of objects, as an ingress beside the nodes reaches them: through the node that runs now."""

    def __init__(self, node: Callable[[], Node]) -> None:
        self._node = node

    async def call(self, address: Address, turn: Callable[..., Any], *args: Any, size_bytes: int) -> Any:
        """Run a turn; whether one counts that a node took with it is not known."""
        try:
            return await self._node().call(address, turn, *args, size_bytes=size_bytes)
        except NodeDiedError as exc:
            raise OutcomeUnknownError from exc

    def attach(self, entry: Attached) -> None:
        """Tell the node of a socket."""
        self._mirror.attach(entry)

    def detach(self, address: Address, socket_id: str) -> None:
        """Tell the node that a socket has left."""
        self._mirror.detach(address, socket_id)

    @property
    def _mirror(self) -> Mirror:
        return self._node().host.sockets


class Client:
    """The far end of a socket. It reads all the time and says `ping` in time, unless `reading` or `pings` is False."""

    def __init__(self, ingress: Ingress, wire: Wire, message_type: Any) -> None:
        self.closed: Close | None = None
        """How it has ended."""
        self.pings = True
        self._ingress = ingress
        self._wire = wire
        self._type = message_type
        self._sent: asyncio.Queue[Any] = asyncio.Queue()
        self._received: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._reads = asyncio.Event()
        self._reads.set()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(run) for run in (self._pull(), self._push(), self._ping())]

    @property
    def id(self) -> str:
        """By which its object knows it."""
        return self._wire.id

    @property
    def reading(self) -> bool:
        """Whether it takes what is sent to it."""
        return self._reads.is_set()

    @reading.setter
    def reading(self, reads: bool) -> None:
        (self._reads.set if reads else self._reads.clear)()

    async def send(self, message: Any) -> None:
        """Send a frame. It is decoded as the object's `on_socket_message` annotates it.

        Raises:
            msgspec.ValidationError: it does not fit; a real client would be closed with 4400.
        """
        await self._sent.put(msgspec.convert(message, self._type, strict=True))

    async def frame(self, *, within_ms: int = 30_000) -> dict[str, Any]:
        """The next frame that came: `message`, `resync`, `refused`.

        Raises:
            TimeoutError: none came.
            ConnectionError: the socket has ended, and none is left.
        """
        async with asyncio.timeout(within_ms / 1000):
            frame = await self._received.get()
        if frame is None:
            self._received.put_nowait(None)
            raise ConnectionError(f"The socket has ended: {self.closed}")
        return frame

    async def message(self, *, within_ms: int = 30_000) -> Any:
        """The message of the next frame; any other frame fails the test."""
        frame = await self.frame(within_ms=within_ms)
        assert "message" in frame, f"this is no message: {frame}"
        return frame["message"]

    def waiting(self) -> int:
        """How many frames have come and were not asked for."""
        return self._received.qsize()

    async def close(self, code: int = 1000) -> None:
        """Leave, and wait until the object has heard of it."""
        await self._end(Close(code))
        await self._ingress.leave(self._wire, code)

    async def cut(self, close: Close) -> None:
        """End without a word to the object: its node has died."""
        await self._end(close)

    async def _end(self, close: Close) -> None:
        if self.closed is None:
            self.closed = close
            self._received.put_nowait(None)
        current = asyncio.current_task()
        others = [task for task in self._tasks if task is not current]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _pull(self) -> None:
        while True:
            await self._reads.wait()
            text = await self._wire.next()
            if text is None:
                break
            self._received.put_nowait(msgspec.json.decode(text))
        await self._end(self._wire.end.result())
        await self._ingress.leave(self._wire, self._wire.end.result().code)

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(_PING_S)
            if self.pings:
                self._heard()

    def _heard(self) -> None:
        self._wire.heard_ms = int(asyncio.get_running_loop().time() * 1000)

    async def _push(self) -> None:
        while True:
            message = await self._sent.get()
            self._heard()
            await self._ingress.receive(self._wire, message, 0)


def message_type(kind: Kind) -> Any:
    """What the kind takes as the message of a frame."""
    hints = get_type_hints(getattr(kind.cls, "on_socket_message", None))
    hints.pop("return", None)
    return list(hints.values())[-1] if hints else Any
