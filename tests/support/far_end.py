"""The client's end of a WebSocket through real ASGI, in virtual time: what it sends, what it gets, how it ended."""

import asyncio
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from shared.http.asgi import ASGIApp, Message

PROTOCOLS = ("tenure.v1",)


class FarEnd:
    """One handshake and what came of it."""

    def __init__(self, app: ASGIApp, scope: dict[str, Any]) -> None:
        self.accepted: str | None = None
        """The subprotocol, once it was accepted; empty if none was spoken."""
        self.status = 0
        """Of the refusal."""
        self.refusal: dict[str, Any] = {}
        self.closed: tuple[int, str] | None = None
        self.stalled = asyncio.Event()
        self.stalled.set()
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._to_app.put_nowait({"type": "websocket.connect"})
        self._frames: asyncio.Queue[str | None] = asyncio.Queue()
        self._answered = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(self._run(app, scope))

    async def answered(self) -> "FarEnd":
        """Wait until it was accepted or refused."""
        await self._answered.wait()
        return self

    async def send(self, message: Any) -> None:
        """Send a message as a frame."""
        await self.send_text(msgspec.json.encode({"message": message}).decode())

    async def send_text(self, text: str) -> None:
        """Send a frame as it is."""
        await self._to_app.put({"type": "websocket.receive", "text": text})

    async def send_bytes(self, data: bytes) -> None:
        """Send a binary frame."""
        await self._to_app.put({"type": "websocket.receive", "bytes": data})

    async def frame(self) -> Any:
        """The next frame."""
        async with asyncio.timeout(20):
            text = await self._frames.get()
        assert text is not None, f"the socket has ended: {self.closed}"
        return msgspec.json.decode(text)

    async def end(self) -> tuple[int, str] | None:
        """Wait until the application has closed it."""
        async with asyncio.timeout(120):
            await asyncio.wait({self.task})
        return self.closed

    async def leave(self, code: int = 1001) -> None:
        """Close it from this side."""
        await self._to_app.put({"type": "websocket.disconnect", "code": code})
        await asyncio.wait({self.task})

    async def _run(self, app: ASGIApp, scope: dict[str, Any]) -> None:
        try:
            await app(scope, self._to_app.get, self._take)
        finally:
            self._answered.set()
            self._frames.put_nowait(None)

    async def _take(self, message: Message) -> None:
        await self.stalled.wait()
        match message["type"]:
            case "websocket.accept":
                self.accepted = message.get("subprotocol") or ""
                self._answered.set()
            case "websocket.send":
                self._frames.put_nowait(message["text"])
            case "websocket.close":
                self.closed = (message["code"], message.get("reason") or "")
                self._answered.set()
            case "websocket.http.response.start":
                self.status = message["status"]
            case "websocket.http.response.body":
                self.refusal = msgspec.json.decode(message["body"])


async def knock(
    app: ASGIApp,
    path: str,
    *,
    key: str | None = None,
    ticket: str | None = None,
    protocols: Sequence[str] = PROTOCOLS,
    headers: Sequence[tuple[str, str]] = (),
    query: bytes = b"",
    extensions: bool = True,
) -> FarEnd:
    """Ask for a socket, and wait for the answer."""
    sent = [(b"host", b"localhost"), *((name.encode(), value.encode("latin-1")) for name, value in headers)]
    if key is not None:
        sent.append((b"authorization", b"Bearer " + key.encode()))
    offered = [*protocols, *([f"tenure.ticket.{ticket}"] if ticket is not None else [])]
    scope = {
        "type": "websocket",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": path,
        "raw_path": quote(path).encode(),
        "root_path": "",
        "query_string": query,
        "headers": sent,
        "subprotocols": offered,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "extensions": {"websocket.http.response": {}} if extensions else {},
    }
    return await FarEnd(app, scope).answered()


async def pinged_s(far: FarEnd, count: int) -> float:
    """How many seconds it takes until so many pings, sent at once, are answered: each, and in order."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    for number in range(count):
        await far.send_text(f'{{"ping":{number}}}')
    assert list(range(count)) == [(await far.frame())["pong"] for _ in range(count)]
    return loop.time() - began_s
