"""An application that says which way a request went, on a listener of its own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from shared.http.asgi import Answer, Coming, Prompt, Receive, Scope, Send
from shared.http.guard import Guard
from shared.runtime.listener import Listener
from tests.support.edge import Wire
from tests.support.launching import free_ports

GET = b"GET /now/%b HTTP/1.1\r\nHost: h\r\n\r\n"
LAST = b"GET /later/last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


class Echo:
    """An application that answers below `/now/` at once and everything by ASGI, and says which way it went."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.begun = asyncio.Event()
        self.cancelled = False
        self.left = asyncio.Event()
        self.asked = 0
        """How many requests came by way of ASGI."""
        self.prompt = Prompt(("/now/",), self.answer_now)

    def answer_now(self, scope: Scope, body: bytes) -> Answer | Coming | None:
        """An answer, unless the path says otherwise."""
        path = scope["path"]
        if path.startswith("/now/soon"):
            return self._soon(scope, body)
        if path.endswith("/fault"):
            raise ValueError("secret=hunter2")
        if path.endswith("/leave"):
            return None
        if path.endswith("/split"):
            return 200, [(b"content-length", b"0"), (b"x-a", b"1\r\nx-b: 2")], b""
        return _told("now", scope, body)

    async def _soon(self, scope: Scope, body: bytes) -> Answer:
        self.begun.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if scope["path"].endswith("fault"):
            raise ValueError("secret=hunter2")
        if scope["path"].endswith("split"):
            return 200, [(b"content-length", b"0"), (b"x-a", b"1\r\nx-b: 2")], b""
        return _told("soon", scope, body)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The same, later; `/wait` until the gate is open, `/stream` until the client leaves, `/deaf` without asking.

        A WebSocket says how long each text is that it gets.
        """
        self.asked += 1
        if scope["type"] == "websocket":
            await _lengths(receive, send)
            return
        if scope["path"].endswith(("/stream", "/deaf")):
            await self._stream(scope, receive, send)
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.begun.set()
        try:
            if scope["path"].endswith("/wait"):
                await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        status, headers, content = _told("later", scope, body)
        if scope["path"].endswith("/fields"):
            content = b" ".join(name for name, _ in scope["headers"]) + b";"
            headers = [(b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Bytes without end, for as long as there is a client."""
        self.begun.set()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        sending = asyncio.create_task(_send_for_ever(send))
        if scope["path"].endswith("/deaf"):
            await sending
        while (await receive())["type"] != "http.disconnect":
            pass
        self.left.set()
        sending.cancel()


async def _send_for_ever(send: Send) -> None:
    while True:
        await send({"type": "http.response.body", "body": b" " * 1_000, "more_body": True})
        await asyncio.sleep(0.001)


async def _lengths(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": f"{len(message['text'])} {message['text'][:9]}"})


def _told(way: str, scope: Scope, body: bytes) -> Answer:
    text = f"{way} {scope['method']} {scope['path']} {scope['query_string'].decode()} {body.decode()};".encode()
    return 200, [(b"content-length", b"%d" % len(text))], text


def listening(
    scenario: Callable[[Wire, Echo], Awaitable[None]],
    *,
    guarded: bool = False,
    header_deadline_ms: int = 30_000,
    sockets: bool = False,
) -> None:
    """Run a scenario against the application on a port."""

    async def run() -> None:
        echo = Echo()
        async with served(echo, guarded=guarded, header_deadline_ms=header_deadline_ms, sockets=sockets) as wire:
            await scenario(wire, echo)

    asyncio.run(run())


@asynccontextmanager
async def served(
    echo: Echo,
    *,
    guarded: bool = False,
    header_deadline_ms: int = 30_000,
    drain_ms: int = 5_000,
    sockets: bool = False,
) -> AsyncIterator[Wire]:
    """The application on a port of this machine."""
    (port,) = free_ports(1)
    app = Guard(echo, prompts=[echo.prompt]) if guarded else echo
    async with Listener(
        app,
        host="127.0.0.1",
        port=port,
        prompt=app.prompt,
        header_deadline_ms=header_deadline_ms,
        drain_ms=drain_ms,
        sockets=sockets,
    ):
        yield Wire(port)
