"""A TCP address in front of a real store, for nodes that are processes of their own; it does to their connections what networks do.

It runs in a thread, so that a test can go on meanwhile. A fault lasts until it is lifted, and what it has hit is
counted as it happens. A connection that has lost a byte stays lost: neither the answer nor any later one comes on it, as TCP
has it. Nothing is heard of it afterwards either, so whoever waits has to give up by itself.
"""

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from itertools import count
from pathlib import Path

DELAY_S = 0.3
ONE_IN = 20
"""Of all requests, how many a fault that hits some of them hits."""
_CHUNK_BYTES = 65_536
_PATIENCE_S = 10


class Fault(Enum):
    """What is done to connections."""

    DELAY = "answers come 300 ms late"
    DROP = "one request in twenty ends its connection, before or after it runs"
    LOSE_SOME = "one request in twenty runs and is not answered"
    LOSE_ALL = "requests run and are not answered"
    HALF_OPEN = "connections are accepted, requests do not run, nothing is answered"
    AWAY = "nobody listens, and all connections are reset"


class StoreProxy:
    """Passes everything on to the socket `upstream`, less what the fault of the moment keeps."""

    def __init__(self, upstream: Path) -> None:
        self.fired: Counter[Fault] = Counter()
        self.fault: Fault | None = None
        self.port = 0
        self._upstream = upstream
        self._requests = count(1)
        self._links: dict[_Link, asyncio.Task[None]] = {}
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    @property
    def url(self) -> str:
        """The address for a node."""
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(_PATIENCE_S)

    def stop(self) -> None:
        """End every connection, and the thread."""
        asyncio.run_coroutine_threadsafe(self._leave(), self._loop).result(_PATIENCE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @contextmanager
    def trouble(self, fault: Fault) -> Iterator[None]:
        """The fault is there as long as the block runs."""
        asyncio.run_coroutine_threadsafe(self._begin(fault), self._loop).result(_PATIENCE_S)
        try:
            yield
        finally:
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(_PATIENCE_S)

    def listens(self) -> bool:
        """Whether a connection can be made."""
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def hit(self) -> Fault | None:
        """What a request meets that comes now."""
        number = next(self._requests)
        if self.fault in (Fault.DROP, Fault.LOSE_SOME) and number % ONE_IN:
            return None
        return self.fault

    async def _begin(self, fault: Fault) -> None:
        self.fault = fault
        if fault is Fault.AWAY:
            self.fired[fault] += await self._leave()

    async def _end(self) -> None:
        if self.fault is Fault.AWAY:
            await self._listen()
        self.fault = None

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _leave(self) -> int:
        """Stop listening and reset every connection; how many there were."""
        if self._server is not None:
            self._server.close()
        links = dict(self._links)
        for link in links:
            link.reset()
        if links:
            await asyncio.wait(links.values())
        return len(links)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link, task = _Link(self, reader, writer), asyncio.current_task()
        assert task is not None
        self._links[link] = task
        try:
            await link.run(self._upstream)
        except OSError:
            pass  # Either side has gone, which the other one learns now.
        finally:
            link.reset()
            del self._links[link]


class _Link:
    """One connection of a node, and its counterpart to the store."""

    def __init__(self, proxy: StoreProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._reader, self._writer = reader, writer
        self._met: Fault | None = None
        self._upstream: asyncio.StreamWriter | None = None

    def reset(self) -> None:
        """End it at once, on both sides."""
        for writer in (self._writer, self._upstream):
            if writer is not None:
                writer.transport.abort()

    async def run(self, upstream: Path) -> None:
        """Pass on what comes, until a side closes it or a fault does."""
        reader, self._upstream = await asyncio.open_unix_connection(upstream)
        answers = asyncio.create_task(self._answers(reader))
        try:
            await self._requests(self._upstream)
        finally:
            self.reset()
            await asyncio.gather(answers, return_exceptions=True)

    async def _requests(self, store: asyncio.StreamWriter) -> None:
        while request := await self._reader.read(_CHUNK_BYTES):
            if self._met is Fault.HALF_OPEN:
                continue
            fault = self._proxy.hit()
            if fault in (Fault.HALF_OPEN, Fault.DROP):
                self._note(fault)
            if fault is Fault.DROP and self._proxy.fired[fault] % 2:
                return
            self._met = self._met or fault
            if fault is not Fault.HALF_OPEN:
                store.write(request)

    async def _answers(self, store: asyncio.StreamReader) -> None:
        while answer := await store.read(_CHUNK_BYTES):
            if self._met is Fault.DROP:
                self.reset()
            elif self._met in (Fault.LOSE_SOME, Fault.LOSE_ALL):
                self._note(self._met)
            elif self._met is not Fault.HALF_OPEN:
                if self._met is Fault.DELAY:
                    self._met = None
                    self._note(Fault.DELAY)
                    await asyncio.sleep(DELAY_S)
                self._writer.write(answer)
        self._writer.close()

    def _note(self, fault: Fault) -> None:
        self._proxy.fired[fault] += 1


@contextmanager
def store_proxy(upstream: Path) -> Iterator[StoreProxy]:
    """A proxy that listens; it is gone in the end."""
    proxy = StoreProxy(upstream)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
