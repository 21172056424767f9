"""One small HTTP request to a service on this machine.

For the launcher and `tenure doctor`, which ask a handful of questions at start: one request, one
connection, no threads, nothing to install. It is not a client library.
"""

import asyncio
import io
import ipaddress
from collections.abc import Mapping
from email.message import Message
from http.client import HTTPException, HTTPResponse

import msgspec

ANSWER_BYTES_MAX = 1024 * 1024


class Answer(msgspec.Struct, frozen=True):
    """What came back."""

    status: int
    headers: Message
    body: bytes


class NoAnswerError(Exception):
    """Nothing that is HTTP came back in time."""


class Endpoint(msgspec.Struct, frozen=True):
    """Where a service listens."""

    host: str
    port: int

    @property
    def reachable_host(self) -> str:
        """The host to connect to: a service that listens everywhere is asked on the loopback address."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)  # noqa: S104 - compared, not bound

    @property
    def url(self) -> str:
        """The address for people and programs, without a path."""
        host = self.reachable_host
        return f"http://{f'[{host}]' if _is_ipv6(host) else host}:{self.port}"

    async def call(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        timeout_ms: int,
        answer_bytes_max: int = ANSWER_BYTES_MAX,
    ) -> Answer:
        """Send one request and read the whole answer.

        Raises:
            NoAnswerError: nobody listens, it took longer than `timeout_ms`, it was not HTTP or too large.
        """
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: {self.url.removeprefix('http://')}",
            "Connection: close",
            *(f"{name}: {value}" for name, value in (headers or {}).items()),
        ]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        request = "\r\n".join([*lines, "", ""]).encode() + body
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                return _parse(await self._exchange(request, answer_bytes_max), method)
        except ConnectionRefusedError as exc:
            raise NoAnswerError(f"nobody listens at {self.url}") from exc
        except (OSError, TimeoutError, HTTPException) as exc:
            raise NoAnswerError(f"{self.url} does not answer: {str(exc) or type(exc).__name__}") from exc

    async def _exchange(self, request: bytes, bytes_max: int) -> bytes:
        reader, writer = await asyncio.open_connection(self.reachable_host, self.port)
        try:
            writer.write(request)
            received = bytearray()
            while len(received) < bytes_max and (chunk := await reader.read(65_536)):
                received += chunk
            return bytes(received)
        finally:
            writer.close()


class _Received:
    """As much of a socket as `HTTPResponse` needs."""

    def __init__(self, received: bytes) -> None:
        self._received = received

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._received)


def _parse(received: bytes, method: str) -> Answer:
    response = HTTPResponse(_Received(received), method=method)  # type: ignore[arg-type] # Only makefile() is called.
    response.begin()
    return Answer(response.status, response.headers, response.read())


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False
