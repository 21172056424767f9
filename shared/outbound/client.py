"""Calls addresses outside. Where it may connect is decided by the numeric address, at the moment it is dialled.

Guarantees:

- No connection leads to an address that `Networks` does not permit: all answers of the resolver are checked, and then,
  on the socket itself, the one address that it connects to. A name that resolves differently the next time is judged
  anew, and nothing is sent to the forbidden address, not even a probe.
- Certificates are verified. No proxy, no cookie and no `.netrc` is taken from anywhere; no redirect is followed.
- An answer is bounded in time, in size and in its header. It is not decompressed: whoever sends it encoded, unasked,
  is refused.
- One tenant cannot take all connections: beyond its share a call is refused at once, and may be made again.

Addresses, header fields and bodies are in no log line: the host is, for whoever runs this.
"""

import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Protocol, TypeAlias

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from shared.bounds import (
    OUTBOUND_ANSWER_BYTES_MAX,
    OUTBOUND_ANSWER_FIELDS_MAX,
    OUTBOUND_AT_ONCE,
    OUTBOUND_CONNECT_MS,
    OUTBOUND_FIELD_BYTES_MAX,
    OUTBOUND_HOST_AT_ONCE,
    OUTBOUND_RETRY_AFTER_MS_MAX,
    OUTBOUND_TENANT_AT_ONCE,
    RETRY_AFTER_MS,
)
from shared.clock import Clock
from shared.errors import RefusedError
from shared.outbound.errors import BadAnswerError, NoAnswerError, OutboundError, UnreachableError
from shared.outbound.networks import Networks
from shared.outbound.request import Request, check_request
from shared.telemetry import logs
from shared.telemetry.metrics import Metrics

_log = logs.get_logger()
_AddressInfo: TypeAlias = tuple[int, int, int, str, tuple[object, ...]]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came back. Names of header fields are in lower case; of a repeated one the last counts."""

    status: int
    headers: dict[str, str]
    body: bytes

    def retry_after_ms(self, now_ms: int) -> int:
        """How long the other side asks to wait, an hour at most; 0 where it does not ask, or in no form of RFC 9110."""
        text = self.headers.get("retry-after", "").strip()
        if text.isascii() and text.isdecimal():
            return min(int(text[:9]) * 1_000, OUTBOUND_RETRY_AFTER_MS_MAX)
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return 0
        until_ms = int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1_000)
        return max(0, min(until_ms - now_ms, OUTBOUND_RETRY_AFTER_MS_MAX))


class Calls(Protocol):
    """What makes calls: an `OutboundClient`."""

    async def send(self, tenant: str, request: Request, *, timeout_ms: int) -> Answer:
        """As `OutboundClient.send`."""
        ...


class TenantBusyError(RefusedError):
    """The tenant has as many calls under way as it may."""

    code = "outbound.busy"


class _ForbiddenError(OSError):
    """The address may not be dialled. An OSError, as it takes the way of a connection that is refused."""


class OutboundClient:
    """Made by `open_client`."""

    def __init__(
        self, secure: aiohttp.ClientSession, plain: aiohttp.ClientSession, clock: Clock, metrics: Metrics
    ) -> None:
        self._secure, self._plain = secure, plain
        self._clock, self._metrics = clock, metrics
        self._under_way: Counter[str] = Counter()

    async def send(self, tenant: str, request: Request, *, timeout_ms: int) -> Answer:
        """Make the call and return its answer, whatever its status.

        Raises:
            BadTargetError: it can never be made.
            UnreachableError: nothing was sent.
            NoAnswerError: it was sent, and what became of it is unknown.
            BadAnswerError: the answer is not taken.
            TenantBusyError: the tenant has too many calls under way.
        """
        url = check_request(request)
        started_ms = self._clock.monotonic_ms()
        with self._place(tenant):
            status, failure = 0, ""
            try:
                answer = await self._exchange(url, request, timeout_ms)
                status = answer.status
                return answer
            except OutboundError as error:
                failure = type(error).__name__.removesuffix("Error")
                cause = error.__cause__
                _log.info(logs.OUTBOUND_FAILED, host=url.host, failure=failure, cause=type(cause).__name__)
                raise
            finally:
                seconds = (self._clock.monotonic_ms() - started_ms) / 1000
                self._metrics.outbound_request(request.method, status, failure, seconds)

    @contextmanager
    def _place(self, tenant: str) -> Iterator[None]:
        if self._under_way[tenant] >= OUTBOUND_TENANT_AT_ONCE:
            raise TenantBusyError("The tenant has too many calls under way.", retry_after_ms=RETRY_AFTER_MS)
        self._under_way[tenant] += 1
        try:
            yield
        finally:
            self._under_way[tenant] -= 1
            if not self._under_way[tenant]:
                del self._under_way[tenant]

    async def _exchange(self, url: URL, request: Request, timeout_ms: int) -> Answer:
        session = self._secure if url.scheme == "https" else self._plain
        timeout = aiohttp.ClientTimeout(total=timeout_ms / 1000, sock_connect=OUTBOUND_CONNECT_MS / 1000)
        headers = {**request.headers, **request.engine_headers, "Accept-Encoding": "identity"}
        try:
            async with session.request(
                request.method, url, headers=headers, data=request.body, timeout=timeout, allow_redirects=False
            ) as response:
                return await _taken(response)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            raise UnreachableError from error
        except (aiohttp.ClientResponseError, aiohttp.ClientPayloadError) as error:
            raise BadAnswerError("it is no HTTP message") from error
        except (aiohttp.ClientError, OSError) as error:  # A TimeoutError is an OSError.
            raise NoAnswerError from error


@asynccontextmanager
async def open_client(
    networks: Networks,
    clock: Clock,
    metrics: Metrics,
    *,
    resolver: AbstractResolver | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[OutboundClient]:
    """A client, until the block ends. `tls` says which authorities are trusted; None: those of the machine."""
    async with AsyncExitStack() as stack:
        names = resolver or aiohttp.ThreadedResolver()
        stack.push_async_callback(names.close)
        secure = await stack.enter_async_context(_session(networks, names, tls or ssl.create_default_context()))
        plain = await stack.enter_async_context(_session(networks, names, None))
        yield OutboundClient(secure, plain, clock, metrics)


def _session(networks: Networks, names: AbstractResolver, tls: ssl.SSLContext | None) -> aiohttp.ClientSession:
    dialling = _Dialling(networks, tls=tls is not None)
    connector = aiohttp.TCPConnector(
        resolver=_CheckedResolver(names, dialling),
        socket_factory=dialling.socket,
        ssl=tls or True,
        use_dns_cache=False,
        limit=OUTBOUND_AT_ONCE,
        limit_per_host=OUTBOUND_HOST_AT_ONCE,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        requote_redirect_url=False,
        skip_auto_headers=("User-Agent", "Content-Type", "Accept"),
        headers={"User-Agent": "tenure"},
        max_line_size=OUTBOUND_FIELD_BYTES_MAX,
        max_field_size=OUTBOUND_FIELD_BYTES_MAX,
        max_headers=OUTBOUND_ANSWER_FIELDS_MAX,
    )


class _Dialling:
    """Makes the sockets, each only for an address that may be dialled."""

    def __init__(self, networks: Networks, *, tls: bool) -> None:
        self._networks, self._tls = networks, tls

    def check(self, address: str, port: int) -> None:
        if not self._networks.permit(address, port, tls=self._tls):
            _log.warning(logs.OUTBOUND_BLOCKED, address=address, port=port, tls=self._tls)
            raise _ForbiddenError("This address may not be dialled.")

    def socket(self, info: _AddressInfo) -> socket.socket:
        family, type_, protocol, _, (address, port, *_) = info
        assert isinstance(address, str), "sockets of the internet only"
        assert isinstance(port, int), "sockets of the internet only"
        self.check(address, port)
        return socket.socket(family, type_, protocol)


class _CheckedResolver(AbstractResolver):
    """Refuses a name of whose addresses one may not be dialled: a mixed answer is an attempt, or a mistake."""

    def __init__(self, names: AbstractResolver, dialling: _Dialling) -> None:
        self._names, self._dialling = names, dialling

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._names.resolve(host, port, family)
        for result in found:
            self._dialling.check(result["host"], port)
        return found

    async def close(self) -> None:
        """Nothing: whoever made the other one closes it."""


async def _taken(response: aiohttp.ClientResponse) -> Answer:
    if response.headers.get("Content-Encoding", "identity").strip().lower() not in {"", "identity"}:
        raise BadAnswerError("it is encoded")
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > OUTBOUND_ANSWER_BYTES_MAX:
            raise BadAnswerError(f"it has more than {OUTBOUND_ANSWER_BYTES_MAX} bytes")
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(status=response.status, headers=headers, body=bytes(body))
