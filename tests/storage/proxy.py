"""A proxy between the client and a real store that loses, holds back and forges replies."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum
from pathlib import Path

from shared.storage.redis.client import Wire

_CHUNK_BYTES = 65_536


class _Fault(Enum):
    SWALLOW = 1
    HOLD = 2
    CUT = 3
    FORGE = 4


class Proxy:
    """Forwards a Unix socket to another. The fault set last hits the next request that contains its trigger, once.

    `fired` counts the faults that hit, `connections` those that were made. A request is looked at
    in one piece, so it has to be small.
    """

    def __init__(self, upstream: Path, path: Path) -> None:
        self._upstream = upstream
        self._fault: _Fault | None = None
        self._trigger = self._forged = b""
        self._release = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = f"unix://{path}"
        self.fired = 0
        self.connections = 0
        self.replied = asyncio.Event()
        """Set when the store has answered the request that a fault hit."""

    def swallow_reply(self, trigger: bytes) -> None:
        """The request runs; neither its reply nor any later one comes on this connection."""
        self._fault, self._trigger = _Fault.SWALLOW, trigger

    def hold_reply(self, trigger: bytes) -> asyncio.Event:
        """The request runs; its reply comes when the returned event is set."""
        self._fault, self._trigger = _Fault.HOLD, trigger
        return self._release

    def cut_after(self, trigger: bytes) -> None:
        """The request runs; then the connection is closed instead of a reply."""
        self._fault, self._trigger = _Fault.CUT, trigger

    def forge_reply(self, trigger: bytes, reply: bytes) -> None:
        """The request does not run; the client reads `reply`."""
        self._fault, self._trigger, self._forged = _Fault.FORGE, trigger, reply

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either side closes it."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            await _Link(self, reader, writer).run(self._upstream)
        except (ConnectionError, asyncio.CancelledError):
            pass  # An end as good as any.
        finally:
            writer.close()
            self._tasks.discard(task)

    def hit(self, request: bytes) -> "_Fault | None":
        """The fault that this request meets."""
        fault = self._fault
        if fault is None or self._trigger not in request:
            return None
        self._fault = None
        self.fired += 1
        return fault

    @property
    def forged(self) -> bytes:
        """What a forged reply says."""
        return self._forged

    async def released(self) -> None:
        """Wait until held replies may go."""
        await self._release.wait()

    async def close(self) -> None:
        """End every connection."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


class _Link:
    """One connection of a client and its counterpart to the store."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._reader, self._writer = reader, writer
        self._met: _Fault | None = None

    async def run(self, upstream: Path) -> None:
        """Pass requests and replies on until a side closes, or a fault does."""
        up_reader, up_writer = await asyncio.open_unix_connection(upstream)
        requests = asyncio.create_task(self._requests(up_writer))
        try:
            await self._replies(up_reader)
        finally:
            requests.cancel()
            up_writer.close()

    async def _requests(self, up_writer: asyncio.StreamWriter) -> None:
        while request := await self._reader.read(_CHUNK_BYTES):
            fault = self._proxy.hit(request)
            if fault is _Fault.FORGE:
                self._writer.write(self._proxy.forged)
            else:
                self._met = self._met or fault
                up_writer.write(request)
        up_writer.close()

    async def _replies(self, up_reader: asyncio.StreamReader) -> None:
        while reply := await up_reader.read(_CHUNK_BYTES):
            if self._met is not None:
                self._proxy.replied.set()
            if self._met is _Fault.CUT:
                return
            if self._met is _Fault.HOLD:
                await self._proxy.released()
            if self._met is not _Fault.SWALLOW:
                self._writer.write(reply)


@asynccontextmanager
async def open_proxy(upstream: Path) -> AsyncIterator[Proxy]:
    """A proxy that listens beside the store's own socket."""
    path = upstream.with_name("proxy.sock")
    proxy = Proxy(upstream, path)
    server = await asyncio.start_unix_server(proxy.serve, path)
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
        await server.wait_closed()
        path.unlink(missing_ok=True)


@asynccontextmanager
async def open_wire(upstream: Path) -> AsyncIterator[tuple[Wire, Proxy]]:
    """A connection that goes through a proxy."""
    async with open_proxy(upstream) as proxy:
        wire = Wire(proxy.url)
        try:
            yield wire, proxy
        finally:
            await wire.close()
