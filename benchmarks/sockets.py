"""Open sockets on one node: what each costs in memory, and how soon a message to many is with them all.

    python -m benchmarks.sockets --sockets 10000

A limiter with a board of its own takes sockets of ten objects, so that no object has more than its bound. The clients
are one process of this machine, bare TCP with hand-made frames, so that they cost little themselves.
"""

import argparse
import asyncio
import base64
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from tests.support.service import Limiter, limiter

OBJECTS = 10
ROUNDS = 30
_AT_ONCE = 50
_MASK = b"\0\0\0\0"  # Frames of clients are masked; with zeros they are what they were.


class Client:
    """One socket that is read and hardly ever written to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int, path: str, key: str) -> "Client":
        """Shake hands, and read what it is told at first."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        nonce = base64.b64encode(os.urandom(16)).decode()
        lines = (
            f"GET {path} HTTP/1.1",
            "Host: localhost",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {nonce}",
            f"Authorization: Bearer {key}",
        )
        writer.write("\r\n".join([*lines, "", ""]).encode())
        status = await reader.readuntil(b"\r\n\r\n")
        assert b" 101 " in status.split(b"\r\n")[0], status
        client = cls(reader, writer)
        await client.read()
        return client

    async def read(self) -> bytes:
        """The payload of the next frame."""
        head = await self._reader.readexactly(2)
        size = head[1] & 0x7F
        if size >= 126:
            size = int.from_bytes(await self._reader.readexactly(2 if size == 126 else 8), "big")
        return await self._reader.readexactly(size)

    def send(self, text: bytes) -> None:
        """One short frame of text."""
        self._writer.write(bytes((0x81, 0x80 | len(text))) + _MASK + text)

    def close(self) -> None:
        """Break the connection."""
        self._writer.transport.abort()


async def measure(service: Limiter, sockets: int) -> None:
    """Open them, look at the memory, and send to those of one object."""
    before = service.run.metric("process_memory_usage_bytes")
    began_s = time.perf_counter()
    groups: list[list[Client]] = [[] for _ in range(OBJECTS)]
    for start in range(0, sockets, _AT_ONCE):
        batch = range(start, min(sockets, start + _AT_ONCE))
        paths = [f"/v1/objects/board/{number % OBJECTS}/socket" for number in batch]
        opened = await asyncio.gather(*(Client.open(service.run.port, path, service.key) for path in paths))
        for number, client in zip(batch, opened, strict=True):
            groups[number % OBJECTS].append(client)
    took_s = time.perf_counter() - began_s
    assert sockets == await asyncio.to_thread(service.run.metric, "tenure_socket_open")
    after = await asyncio.to_thread(service.run.metric, "process_memory_usage_bytes")
    print(f"{sockets} sockets in {took_s:.1f} s; {(after - before) / sockets / 1024:.1f} KiB each")
    for many in sorted({1, 100, len(groups[0])}):
        await fan_out(groups[0], many)
    for client in (client for group in groups for client in group):
        client.close()


async def fan_out(clients: list[Client], many: int) -> None:
    """One of an object's clients speaks; how soon the first `many` have heard it, all of them being sent to."""
    took_ms: list[float] = []
    for number in range(ROUNDS):
        began_s = time.perf_counter()
        clients[0].send(json.dumps({"message": {"text": f"{number}"}}).encode())
        await asyncio.gather(*(client.read() for client in clients[:many]))
        took_ms.append((time.perf_counter() - began_s) * 1000)
        await asyncio.gather(*(client.read() for client in clients[many:]))
    p50, most = statistics.median(took_ms), max(took_ms)
    print(f"a message to {len(clients)} sockets is with {many} of them after {p50:.1f} ms (p50), {most:.1f} ms at most")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sockets", type=int, default=10_000)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        limiter(Path(folder) / "data", TENURE_OBJECTS="tests.support.board") as service,
    ):
        asyncio.run(measure(service, given.sockets))


if __name__ == "__main__":
    main()
