"""WebSockets that a service drives itself: what it is given of the client, and where it is found."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeAlias

from shared import bounds
from shared.errors import InvalidInputError
from shared.http.asgi import Message, Receive, Send
from shared.objects.sockets import Close


class Line:
    """The client of a socket that is open."""

    def __init__(self, receive: Receive, send: Send, counts: Callable[[], bool]) -> None:
        self._receive, self._send = receive, send
        self.counts = counts
        """Whether the credential that opened it still does."""

    async def receive(self) -> str | None:
        """The next frame; None: the client has left.

        Raises:
            InvalidInputError: it is no text frame of at most 64 KiB.
        """
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            return None
        text: str | None = message.get("text")
        if text is None or len(text.encode("utf-8", "surrogatepass")) > bounds.SOCKET_FRAME_BYTES_MAX:
            raise InvalidInputError("A frame is text of at most 64 KiB", "$")
        return text

    async def send(self, text: str) -> None:
        """Send a frame; waits while the client does not read."""
        await self.hand({"type": "websocket.send", "text": text})

    async def hand(self, message: Message) -> None:
        """Hand a message of ASGI to the server."""
        await self._send(message)


class StreamRoute(NamedTuple):
    """What a path opens that is no socket of an object: `serve` sees it through, and says how it ends."""

    scope: str
    """What an API key needs to open it. There are no tickets for it."""
    serve: Callable[[str, Line], Awaitable[Close]]
    """(tenant, line)."""


FindStream: TypeAlias = Callable[[bytes], StreamRoute | None]
"""The route of a path as it was sent.

Raises:
    InvalidInputError: it is one, with a name that cannot be.
"""
