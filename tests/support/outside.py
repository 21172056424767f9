"""A server on loopback that stands for the world outside: it keeps what it was sent and answers as it is told."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import msgspec
import trustme
from aiohttp.abc import AbstractResolver, ResolveResult

from shared.clock import SystemClock
from shared.outbound.client import OutboundClient, open_client
from shared.outbound.networks import Networks, read_networks
from shared.telemetry.metrics import Metrics

LOOPBACK = Networks(allowed=read_networks("127.0.0.1"))
NAME = "receiver.test"


class Received(msgspec.Struct, frozen=True):
    """One request, as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Outside:
    """What came in; `answers` are raw and used in turn, the last one for ever.

    None: nothing is answered. Empty: the connection is closed.
    """

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.connections = 0
        self.answers: list[bytes | None] = [answer(200)]
        self.port = 0

    def url(self, path: str = "/", *, scheme: str = "http", host: str = "127.0.0.1") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                self.requests.append(await _read(reader))
                reply = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
                if reply is None:
                    await reader.read()
                    break
                if not reply:
                    break
                writer.write(reply)
                await writer.drain()
        writer.close()


class Names(AbstractResolver):
    """A resolver that answers in turn what it was given; the last answer for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = [*answers]
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        found = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        return [_result(host, address, port) for address in found]

    async def close(self) -> None:
        return


@asynccontextmanager
async def outside(*, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[Outside]:
    """The server, until the block ends."""
    world = Outside()
    server = await asyncio.start_server(world.serve, host, 0, ssl=tls)
    world.port = server.sockets[0].getsockname()[1]
    try:
        yield world
    finally:
        server.close()


@asynccontextmanager
async def calling(
    *, networks: Networks = LOOPBACK, names: AbstractResolver | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[OutboundClient]:
    """A client that may call loopback."""
    async with open_client(networks, SystemClock(), Metrics(), resolver=names or Names(["127.0.0.1"]), tls=tls) as made:
        yield made


def answer(status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """A whole answer."""
    fields = {"Content-Length": str(len(body)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Reason\r\n{head}\r\n".encode() + body


def server_tls(authority: trustme.CA, name: str = NAME) -> ssl.SSLContext:
    """How a server of this name proves itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    """Trust in this authority alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    return context


def _result(host: str, address: str, port: int) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return {"hostname": host, "host": address, "port": port, "family": family, "proto": 0, "flags": 0}


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Received(method, path, headers, body)
