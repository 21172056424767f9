"""WebSockets that a service drives itself: what it is given of the client, and where it is found."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, TypeAlias

from shared import bounds
from shared.clock import Clock
from shared.errors import InvalidInputError
from shared.http.asgi import Message, Receive, Send
from shared.objects.sockets import Close


class StalledError(Exception):
    """The client reads nothing."""


class BadFrameError(InvalidInputError):
    """A frame of a client is `too_large`, or no text."""

    def __init__(self, *, too_large: bool) -> None:
        super().__init__("A frame is text of at most 64 KiB", "$")
        self.too_large = too_large


class Pace:
    """How fast the frames of a client are taken: 200 at once, 100 a second."""

    __slots__ = ("_allowance", "_at_ms", "_clock")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._at_ms = clock.monotonic_ms()
        self._allowance: float = bounds.SOCKET_BURST_FRAMES

    async def keep(self) -> None:
        """Wait until the client may have sent one more."""
        now_ms, per_ms = self._clock.monotonic_ms(), bounds.SOCKET_FRAMES_PER_S / 1000
        earned = (now_ms - self._at_ms) * per_ms
        self._allowance, self._at_ms = min(bounds.SOCKET_BURST_FRAMES, self._allowance + earned) - 1, now_ms
        if self._allowance < 0:
            await asyncio.sleep(-self._allowance / per_ms / 1000)


class Line:
    """The client of a socket that is open."""

    def __init__(self, receive: Receive, send: Send, counts: Callable[[], bool], clock: Clock) -> None:
        self._receive, self._send = receive, send
        self._pace = Pace(clock)
        self.counts = counts
        """Whether the credential that opened it still does."""

    async def receive(self) -> str | None:
        """The next frame, when its time has come; None: the client has left.

        Raises:
            BadFrameError: it is no text frame of at most 64 KiB.
        """
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            return None
        await self._pace.keep()
        text: str | None = message.get("text")
        if text is None or len(text.encode("utf-8", "surrogatepass")) > bounds.SOCKET_FRAME_BYTES_MAX:
            raise BadFrameError(too_large=text is not None)
        return text

    async def send(self, text: str) -> None:
        """Send a frame; waits while the client does not read.

        Raises:
            StalledError: for two seconds.
        """
        try:
            async with asyncio.timeout(bounds.SOCKET_GRACE_MS / 1000):
                await self.hand({"type": "websocket.send", "text": text})
        except TimeoutError as exc:
            raise StalledError from exc

    async def hand(self, message: Message) -> None:
        """Hand a message of ASGI to the server."""
        await self._send(message)


class StreamRoute(NamedTuple):
    """What a path opens that is no socket of an object: `serve` sees it through, and says how it ends."""

    scope: str
    """What an API key needs to open it. There are no tickets for it."""
    serve: Callable[[str, Line], Coroutine[Any, Any, Close]]
    """(tenant, line)."""


FindStream: TypeAlias = Callable[[bytes], StreamRoute | None]
"""The route of a path as it was sent.

Raises:
    InvalidInputError: it is one, with a name that cannot be.
"""
