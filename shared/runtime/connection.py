"""One connection of a listener: HTTP/1.1 by uvicorn's protocol, and what is answered without ASGI before it.

What of a request is taken here, and what goes on, is told at the head of `shared.runtime.listener`.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from email.utils import formatdate
from typing import Any, NoReturn, cast
from urllib.parse import unquote

import httptools
from uvicorn import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from shared import bounds
from shared.http.asgi import Answer, Coming, Prompt

_LINGER_S = 2
_SLICE = 8 * 1024  # Of what came in one read: so much is parsed before one looks whether requests wait.
_ANSWERS_A_READ = 64  # Of requests sent one behind another; the others wait for each other, and let other clients in.


class State(ServerState):
    """What the connections of a listener share."""

    def __init__(self) -> None:
        self._second, self._date = 0, b""
        super().__init__()

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """The date, which every answer has (RFC 9110 6.6.1)."""
        return [(b"date", self.date())]

    @default_headers.setter
    def default_headers(self, _: list[tuple[bytes, bytes]]) -> None:
        """It is what it is."""

    def date(self) -> bytes:
        """This second, as a field says it."""
        second = int(time.time())
        if second != self._second:
            self._second, self._date = second, formatdate(second, usegmt=True).encode()
        return self._date


class _Coming:
    """An answer that is waited for outside ASGI, as the base sees it: what comes behind it is held back."""

    __slots__ = ("disconnected", "keep_alive", "message_event", "more_body", "response_complete", "response_started")

    def __init__(self) -> None:
        self.disconnected = self.more_body = self.response_complete = self.response_started = False
        self.keep_alive = True
        self.message_event = self

    def set(self) -> None:
        """Nobody waits for more of the request."""


class _Outgoing:
    """The transport as answers by way of ASGI have it: at their end, a client that is still sending is listened to."""

    __slots__ = ("_connection", "_transport", "is_closing", "write")

    def __init__(self, connection: "Connection", transport: asyncio.Transport) -> None:
        self._connection, self._transport = connection, transport
        self.write, self.is_closing = transport.write, transport.is_closing

    def close(self) -> None:
        """End the connection."""
        self._connection.end()


class _Flow(FlowControl):
    """As the base's, but nothing is read while requests wait for the answer to one before them."""

    def __init__(self, transport: asyncio.Transport, waiting: deque[Any]) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        """Read on, unless somebody waits."""
        if not self._waiting:
            super().resume_reading()


class _RefusedError(Exception):
    """Ends the parsing of a request that is too much; the parser tells it as an error of its own."""


class Connection(HttpToolsProtocol):
    """One connection, until it becomes a WebSocket."""

    def __init__(self, config: Config, state: State, watch: Callable[[], None], prompt: Prompt | None) -> None:
        """`watch` is called for each connection."""
        super().__init__(config, state, {}, asyncio.get_running_loop())
        self._state, self._watch = state, watch
        self._answer = None if prompt is None else prompt.answer
        self._prompt_paths = () if prompt is None else tuple(path.encode() for path in prompt.paths)
        self._held: bytes | None = None
        """The body so far of a request that may be answered at once; None: there is no such request."""
        self._answers_left = 0
        self._rest = b""
        """What was read and is parsed once no request waits."""
        self._running: RequestResponseCycle | None = None
        self._deaf = self._lingers = False
        self._in_head = self._unfinished = self._moved = False
        self._quiet_bytes = 0
        """Read since the parser has last told of a part of a request."""
        self._refusal = 400
        self.silent_since = self.loop.time()
        """Since when no header has come, with nothing under way; infinite while a request is."""

    # Of the connection.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # As in the base.
        """There is a client; one too many is turned away."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        self._outgoing = _Outgoing(self, transport)
        if len(self.connections) > bounds.CONNECTIONS_MAX:
            transport.abort()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left: who makes its answer hears of it, whatever was sent behind that request."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._forget_waiting()
        if self._running is not None and not self._running.response_complete:
            self._give_up(self._running)

    def data_received(self, data: bytes) -> None:
        """Read on, and answer what can be answered."""
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        self._answers_left = _ANSWERS_A_READ
        if self._rest or len(data) > _SLICE:
            self._rest += data
            self._read_rest()
        else:
            self._feed(data)
        if self._held is not None:
            self._hand_over()

    def on_response_complete(self) -> None:
        """An answer by way of ASGI has left."""
        super().on_response_complete()
        if self._rest and not self.pipeline:
            self._answers_left = _ANSWERS_A_READ
            self._read_rest()
            if self._held is not None:
                self._hand_over()
        if self._under_way is None:
            self.silent_since = self.loop.time()

    def _read_rest(self) -> None:
        """Until requests wait for each other, and while there is a client."""
        while self._rest and not self.pipeline and not self._deaf and not self.transport.is_closing():
            part, self._rest = self._rest[:_SLICE], self._rest[_SLICE:]
            self._feed(part)

    def _feed(self, data: bytes) -> None:
        self._moved = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._upgrade()
        except httptools.HttpParserError:
            self._refuse(self._refusal)
        else:
            if self._unfinished:
                self._quiet_bytes = 0 if self._moved else self._quiet_bytes + len(data)
                if self._quiet_bytes > bounds.HEADER_BYTES_READ:
                    self._refuse(431)

    def _upgrade(self) -> None:
        self._rest = b""  # No client may send before it has the answer.
        if not self._should_upgrade():
            return
        if self._under_way is not None:
            self._refuse(400)  # Its answer would come before that of another.
        else:
            self.handle_websocket_upgrade()

    # Of a request, called by the parser.

    def on_message_begin(self) -> None:
        """A request line begins."""
        super().on_message_begin()
        self._in_head = self._unfinished = self._moved = True

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        self.url += url
        if len(self.url) > bounds.TARGET_BYTES_MAX:
            self._stop(414)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field; those behind a body are read over (RFC 9110 6.5.1: they must not pass for fields of the header)."""
        if not self._in_head:
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue" and self.parser.get_http_version() == "1.1":
            self.expect_100_continue = True
        self.headers.append((name, value))
        if len(self.headers) > bounds.HEADER_FIELDS_READ:
            self._stop(431)

    def on_headers_complete(self) -> None:
        """The header is here: hold the request back if it may be answered at once, or begin with it."""
        self._in_head, self._moved = False, True
        self.silent_since = math.inf
        if self.parser.get_http_version() not in ("1.1", "1.0"):
            self._stop(400)
        if self.url.startswith(self._prompt_paths) and self._is_ordinary():
            self._held = b""
            return
        self._begin()
        if self.parser.should_upgrade() and not self._should_upgrade():  # To what we do not speak: it stays as it is.
            if any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers):
                self._stop(501)  # The parser leaves its body to the other protocol.
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._moved = True
        if self._held is None:
            super().on_body(body)
        else:
            self._held += body

    def on_message_complete(self) -> None:
        """The request is here whole."""
        self._unfinished = False
        if self._held is None or self._answer is None:
            super().on_message_complete()
            return
        self._read_target()
        answer = self._answer(cast("dict[str, Any]", self.scope), self._held)
        if answer is None:
            self._hand_over()
            super().on_message_complete()
            return
        self._held = None
        self._answers_left -= 1
        if isinstance(answer, tuple):
            self._write(answer)
            self.silent_since = self.loop.time()
        else:
            self._wait_for(answer)

    @property
    def write_paused(self) -> bool:
        """Whether the client has left so much unread that nothing more is written."""
        return self.flow.write_paused

    @property
    def _under_way(self) -> RequestResponseCycle | None:
        """The last request that went by way of ASGI, until it has its whole answer."""
        cycle: RequestResponseCycle | None = self.cycle  # None at first, whatever the base says of its type.
        return None if cycle is None or cycle.response_complete else cycle

    def _is_ordinary(self) -> bool:
        """Whether nothing is under way here, and the connection stays as it is."""
        parser = self.parser
        return (
            self._under_way is None
            and parser.should_keep_alive()
            and not parser.should_upgrade()
            and not self.expect_100_continue
            and not self.flow.write_paused
            and self._answers_left > 0
            and parser.get_http_version() == "1.1"
            and not self.transport.is_closing()
        )

    def _read_target(self) -> None:
        """Complete the scope, as the base does for what goes by way of ASGI."""
        target = httptools.parse_url(self.url)
        path = target.path.decode("ascii")
        scope = self.scope
        scope["method"] = self.parser.get_method().decode("ascii")
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = target.path
        scope["query_string"] = target.query or b""

    def _begin(self) -> None:
        """Let the request go by way of ASGI."""
        super().on_headers_complete()
        if not self.parser.should_upgrade() or not self._should_upgrade():
            self.cycle.transport = cast("asyncio.Transport", self._outgoing)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _hand_over(self) -> None:
        """As `_begin`, of one that was held back."""
        body, self._held = self._held, None
        self._begin()
        if body:
            super().on_body(body)

    def _wait_for(self, coming: Coming) -> None:
        cycle = _Coming()
        self.cycle = cast("RequestResponseCycle", cycle)
        self._running = self.cycle
        task = self.loop.create_task(self._write_later(cycle, coming))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _write_later(self, cycle: _Coming, coming: Coming) -> None:
        answer = await coming
        if cycle.disconnected:
            return
        cycle.response_complete = True
        try:
            self._write(answer)
        except _RefusedError:
            self._refuse(self._refusal)
            return
        if not cycle.keep_alive:
            self.end()
        self.on_response_complete()

    def _write(self, answer: Answer) -> None:
        status, headers, body = answer
        fields = b"\r\n".join(map(b": ".join, headers))
        if fields.count(b"\n") >= len(headers):
            self._stop(500)  # What a field says would begin another.
        date = self._state.date()
        self.transport.write(b"".join((STATUS_LINE[status], b"date: ", date, b"\r\n", fields, b"\r\n\r\n", body)))

    # What is no request.

    def _stop(self, status: int) -> NoReturn:
        self._refusal = status
        raise _RefusedError

    def _refuse(self, status: int) -> None:
        """Answer with the bare status and end the connection, behind the answers to what was whole before."""
        self._held, self._rest = None, b""
        last = self._under_way
        if last is not None and last.more_body and self.pipeline:  # It has not begun, and never will.
            self.pipeline.popleft()
            last = self.pipeline[0][0] if self.pipeline else cast("RequestResponseCycle", self._running)
            self.cycle = last
        if last is not None and not last.more_body:
            last.keep_alive = False
            self._deaf = True
            return
        if last is None or not last.response_started:
            self.transport.write(
                b"%bdate: %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                % (STATUS_LINE[status], self._state.date())
            )
        if last is not None:
            self._give_up(last)
        self._linger()

    def end(self) -> None:
        """Close the connection, once the client can have read its answer; nothing behind it is begun."""
        if self._deaf or self.cycle.more_body or self.pipeline:
            self._linger()
        else:
            self.transport.close()

    def _linger(self) -> None:
        """Send nothing more and let the rest come: to close over unread bytes takes the answer back (RFC 9112 9.6)."""
        if self._lingers or self.transport.is_closing():
            return
        self._deaf = self._lingers = True
        self._forget_waiting()
        self.flow.resume_reading()
        self.transport.write_eof()
        self.loop.call_later(_LINGER_S, self.transport.close)

    def _forget_waiting(self) -> None:
        self.pipeline.clear()
        self._rest = b""

    def _give_up(self, cycle: RequestResponseCycle) -> None:
        """Who makes the answer is told that nobody hears it."""
        cycle.disconnected = True
        cycle.message_event.set()
