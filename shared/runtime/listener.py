"""A listener: HTTP/1.1 and WebSockets for an ASGI application inside this event loop, with a way past ASGI.

What arrives whole in one read, on a path of which the application says that it can answer at once (`Prompt`), is
answered within the call that the bytes came with: no task, no queue, no other thread. Where the answer has to wait, it
is one task, and one write. Everything else goes the way of
uvicorn's protocol, on which this is built: a request whose body is still coming, one behind another that is not
answered yet, one that asks for an end of the connection, an upgrade, and whatever `Prompt.answer` leaves.
`docs/adr/0011-answers-inside-the-protocol.md` says what that is worth.

A connection on which no whole header has come for `HEADER_DEADLINE_MS` ends: at its beginning, in the middle of a
header, or after an answer. So does one whose client takes nothing of what waits to be sent for half of that. What is
no HTTP, or too much of it, gets a bare status and the end of its connection.

Sources: RFC 9112; llhttp (what the parser refuses); uvicorn 0.54 (`HttpToolsProtocol`).
"""

import asyncio
import math
from contextlib import suppress
from types import TracebackType
from typing import Self

from uvicorn import Config

from shared import bounds
from shared.http.asgi import ASGIApp, Prompt
from shared.runtime.connection import Connection, State
from shared.runtime.upgraded import Upgraded

_FLUSH_LOOKS, _FLUSH_LOOK_S = 200, 0.01  # At the end: 2 s to read what was answered.


class Listener:
    """An asynchronous context: listens within it, and at its end lets requests under way be answered."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        host: str,
        port: int,
        prompt: Prompt | None = None,
        backlog: int = 1_024,
        sockets: bool = False,
        header_deadline_ms: int = bounds.HEADER_DEADLINE_MS,
        drain_ms: int = bounds.DRAIN_REQUESTS_MS,
    ) -> None:
        self._host, self._port, self._backlog = host, port, backlog
        self._deadline_s, self._drain_s = header_deadline_ms / 1000, drain_ms / 1000
        self._prompt = prompt
        self._state = State()
        self._config = Config(
            app,
            loop="none",
            http=Connection,
            ws=Upgraded if sockets else "none",
            ws_max_size=bounds.SOCKET_MESSAGE_BYTES_MAX,
            ws_ping_interval=None,
            ws_per_message_deflate=False,
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=math.ceil(self._deadline_s),
        )
        self._config.load()
        self._unread: dict[Connection | Upgraded, int] = {}
        """How many bytes each that reads too slowly had left to read at the last look."""
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self._config, self._state, self.watch, self._prompt),
            self._host or None,
            self._port,
            backlog=self._backlog,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take no more connections, answer what is under way, give up what takes longer than the drain.

        Who has an answer still to read has two seconds for that.
        """
        self._server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        tasks = self._state.tasks
        with suppress(TimeoutError):
            async with asyncio.timeout(self._drain_s):
                while tasks:
                    await asyncio.wait(tasks)
        for task in tasks:
            task.cancel()
        for connection in list(self._state.connections):
            connection.transport.close()
        if self._timer is not None:
            self._timer.cancel()
        for _look in range(_FLUSH_LOOKS):
            if not any(connection.transport.get_write_buffer_size() for connection in self._state.connections):
                break
            await asyncio.sleep(_FLUSH_LOOK_S)
        for connection in list(self._state.connections):
            connection.transport.abort()

    def watch(self) -> None:
        """There is a connection: look for silent ones until there is none."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._deadline_s / 2, self._look)

    def _look(self) -> None:
        self._timer = None
        silent_since = asyncio.get_running_loop().time() - self._deadline_s
        for connection in list(self._state.connections):
            if isinstance(connection, Connection) and connection.silent_since <= silent_since:
                connection.transport.close()
        self._cut_off_stalled()
        if self._state.connections:
            self.watch()

    def _cut_off_stalled(self) -> None:
        """Abort where nothing was read since the last look: to close would wait for the client."""
        unread = {}
        for connection in list(self._state.connections):
            if not isinstance(connection, Connection | Upgraded):
                continue
            left = connection.transport.get_write_buffer_size()
            if not left or not (connection.write_paused or connection.transport.is_closing()):
                continue
            if self._unread.get(connection) == left:
                connection.transport.abort()
            else:
                unread[connection] = left
        self._unread = unread
