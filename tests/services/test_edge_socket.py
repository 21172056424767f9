"""What only a server can get wrong: framing, as bytes over a socket to the server used in production.

Where the server itself answers (with no body and `connection: close`) the test pins that it does.
"""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from shared.bounds import BODY_DEADLINE_MS, HEADER_DEADLINE_MS
from tests.support.edge import Edge, Wire
from tests.support.keyring import Keys

BODY = b'{"name":"tea"}'


def on_the_wire(
    scenario: Callable[[Wire, bytes], Awaitable[None]],
    *,
    body_deadline_ms: int = BODY_DEADLINE_MS,
    header_deadline_ms: int = HEADER_DEADLINE_MS,
) -> None:
    """Run a scenario against the service on a port; it gets the header fields that every order needs."""

    async def run() -> None:
        keys = Keys()
        await keys.add_tenant("acme")
        edge = Edge(keys, await keys.add_key("acme"), body_deadline_ms=body_deadline_ms)
        fields = f"Host: h\r\nAuthorization: Bearer {edge.text}\r\nContent-Type: application/json\r\n".encode()
        async with edge.served(header_deadline_ms=header_deadline_ms) as wire:
            await scenario(wire, b"POST /v1/orders HTTP/1.1\r\n" + fields)

    asyncio.run(run())


def test_bodies_arrive_in_both_framings() -> None:
    """By length and in chunks; a client that waits to be asked for its body is asked."""

    async def scenario(wire: Wire, order: bytes) -> None:
        assert (await wire.answer(order + b"Content-Length: 14\r\n\r\n" + BODY))[0] == 200
        chunks = b"Transfer-Encoding: chunked\r\n\r\n5\r\n" + BODY[:5] + b"\r\n9\r\n" + BODY[5:] + b"\r\n0\r\n\r\n"
        assert (await wire.answer(order + chunks))[0] == 200
        assert (await wire.answer(order + b"Expect: 100-continue\r\nContent-Length: 14\r\n\r\n"))[0] == 100

    on_the_wire(scenario)


@pytest.mark.parametrize("begun", [b"", b"P", b"POST", b"POST /v1/orders HTTP/1.1\r\nHost: h\r\nX-Slow: "])
def test_a_header_that_does_not_end_is_not_waited_for(begun: bytes) -> None:
    """The server closes a connection on which no whole header came in time: none at all, a part, or no other after an answer."""

    async def scenario(wire: Wire, order: bytes) -> None:
        assert b"200" not in await wire.until_closed(begun)
        framed = b"Content-Length: 14\r\n\r\n" + BODY
        assert b"HTTP/1.1 200" in await wire.until_closed(order + framed)

    on_the_wire(scenario, header_deadline_ms=100)


def test_a_request_framed_twice_smuggles_nothing() -> None:
    """H-11: the server hides the length, reads chunks, answers once and closes, as RFC 9112 6.3 allows."""

    async def scenario(wire: Wire, order: bytes) -> None:
        smuggled = b"GET /v1/public HTTP/1.1\r\nHost: h\r\n\r\n"
        both = [
            b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
            b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        ]
        for framing in both:
            answers = await wire.until_closed(order + framing + b"\r\ne\r\n" + BODY + b"\r\n0\r\n\r\n" + smuggled)
            assert answers.count(b"HTTP/1.1 ") == 1
            assert b"sampled" not in answers

    on_the_wire(scenario)


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 1\r\nContent-Length: 2\r\n",
        b"Content-Length: +3\r\n",
        b"Content-Length: 3,3\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"X-A : 1\r\n",
        b"X-A: a\x00b\r\n",
        b"X-A: a\r\n b\r\n",
    ],
)
def test_ambiguous_framing_is_refused(fields: bytes) -> None:
    """H-11: by the server or by the guard, and the connection ends."""

    async def scenario(wire: Wire, order: bytes) -> None:
        answers = await wire.until_closed(order + fields + b"\r\n" + b"0\r\n\r\n")
        assert answers.startswith(b"HTTP/1.1 400 ")
        assert answers.count(b"HTTP/1.1 ") == 1

    on_the_wire(scenario)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (b"", 400),
        (b"Host:\r\n", 400),
        (b"Host: a\r\nHost: b\r\n", 400),
        (b"Host: a\r\nX-A: " + b"a" * 20_000 + b"\r\n", 431),
        (b"Host: a\r\n" + b"".join(b"x-%d: 1\r\n" % number for number in range(101)), 431),
    ],
    ids=["no-host", "empty-host", "two-hosts", "size", "number"],
)
def test_headers_that_servers_let_through_are_refused(fields: bytes, status: int) -> None:
    """H-10, H-12."""

    async def scenario(wire: Wire, _: bytes) -> None:
        assert (await wire.answer(b"GET /v1/public HTTP/1.1\r\n" + fields + b"\r\n"))[0] == status

    on_the_wire(scenario)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"TRACE /v1/public HTTP/1.1", 405),
        (b"CONNECT h:80 HTTP/1.1", 400),
        (b"BREW /v1/public HTTP/1.1", 400),
        (b"OPTIONS * HTTP/1.1", 404),
        (b"GET /v1/%ff HTTP/1.1", 400),
        (b"GET /v1/\xff HTTP/1.1", 400),
        (b"GET /v1/public?a=%ff HTTP/1.1", 400),
        (b"GET //v1//public/ HTTP/1.1", 200),
        (b"GET /v1/../v1/public HTTP/1.1", 404),
    ],
)
def test_request_lines_are_read_in_one_way(line: bytes, status: int) -> None:
    """H-04, H-14: unusual methods, targets and encodings."""

    async def scenario(wire: Wire, _: bytes) -> None:
        seen, head = await wire.answer(line + b"\r\nHost: h\r\n\r\n")
        assert seen == status
        assert b"server:" not in head

    on_the_wire(scenario)


def test_a_large_body_is_cut_off() -> None:
    """H-07: announced or not, the answer comes at once and the connection ends."""

    async def scenario(wire: Wire, order: bytes) -> None:
        announced = await wire.until_closed(order + b"Content-Length: 99999999\r\n\r\nxxx")
        assert announced.startswith(b"HTTP/1.1 413 ")
        chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
        chunked = await wire.until_closed(order + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 3)
        assert chunked.startswith(b"HTTP/1.1 413 ")

    on_the_wire(scenario)


def test_a_body_that_never_comes_is_given_up() -> None:
    """H-09: 408 at the deadline, and the service goes on."""

    async def scenario(wire: Wire, order: bytes) -> None:
        answers = await wire.until_closed(order + b"Content-Length: 14\r\n\r\n" + BODY[:3])
        assert answers.startswith(b"HTTP/1.1 408 ")
        assert (await wire.answer(order + b"Content-Length: 14\r\n\r\n" + BODY))[0] == 200

    on_the_wire(scenario, body_deadline_ms=100)


def test_a_client_that_leaves_hurts_nobody() -> None:
    """In the middle of its header or of its body."""

    async def scenario(wire: Wire, order: bytes) -> None:
        for part in (order, order + b"Content-Length: 14\r\n\r\n" + BODY[:3]):
            _, writer = await asyncio.open_connection("127.0.0.1", wire.port)
            writer.write(part)
            await writer.drain()
            writer.close()
        assert (await wire.answer(order + b"Content-Length: 14\r\n\r\n" + BODY))[0] == 200

    on_the_wire(scenario)


def test_head_has_the_length_of_get_and_no_body() -> None:
    """RFC 9110 9.3.2, as it is on the wire."""

    async def scenario(wire: Wire, _: bytes) -> None:
        line = b" /v1/public HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        got, head = await wire.until_closed(b"GET" + line), await wire.until_closed(b"HEAD" + line)
        (length,) = (field for field in got.split(b"\r\n") if field.lower().startswith(b"content-length: "))
        assert (True, True, b"") == (head.startswith(b"HTTP/1.1 200 "), length in head, head.partition(b"\r\n\r\n")[2])

    on_the_wire(scenario)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : h\r\n\r\n", 400),
        (b"POST /v1/orders HTTP/1.1\r\nHost: h\r\nContent-Length: many\r\n\r\n", 400),
        (b"GET /" + b"a" * 65_534 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X: a\r\n" * 150 + b"\r\n", 431),
    ],
    ids=["words", "tls", "version", "field", "length", "target", "fields"],
)
def test_what_is_no_http_is_answered_by_the_server_alone(request_bytes: bytes, status: int) -> None:
    """As docs/reference/errors.md says: a status, no document, and the end of the connection; the service goes on."""

    async def scenario(wire: Wire, order: bytes) -> None:
        head, _, body = (await wire.until_closed(request_bytes)).partition(b"\r\n\r\n")
        assert (True, b"", False) == (head.startswith(b"HTTP/1.1 %d " % status), body, b"x-request-id" in head.lower())
        longest = b"GET /" + b"a" * 65_533 + b" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        assert b"application/problem+json" in await wire.until_closed(longest)

    on_the_wire(scenario)
