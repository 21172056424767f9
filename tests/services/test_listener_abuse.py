"""What a client may do to the listener: nothing of it is told to another request, is kept for ever, or ends the service."""

import asyncio
import gc
import os
import socket
from contextlib import suppress

import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from shared import bounds
from tests.support.echo import GET, LAST, Echo, listening, served
from tests.support.edge import Wire

WAIT = b"GET /later/wait HTTP/1.1\r\nHost: h\r\n\r\n"
CHUNKED = b"POST /later/%b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"
UPGRADE = (
    b"GET /socket HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def frame(code: int, payload: bytes = b"", *, last: bool = True) -> bytes:
    """A frame of a client, with a mask of zeros."""
    size = len(payload)
    length = (
        bytes([0x80 | size])
        if size < 126
        else b"\xfe" + size.to_bytes(2)
        if size < 65_536
        else b"\xff" + size.to_bytes(8)
    )
    return bytes([(0x80 if last else 0) | code]) + length + b"\0\0\0\0" + payload


async def sent_until_cut_off(writer: asyncio.StreamWriter, data: bytes, bytes_max: int) -> bool:
    """Whether the server ends the connection before it has taken so much."""
    taken = 0
    with suppress(ConnectionError):
        while taken < bytes_max:
            writer.write(data)
            async with asyncio.timeout(10):
                await writer.drain()
            taken += len(data)
            await asyncio.sleep(0)
        return False
    return True


async def written_until_cut_off(port: int, first: bytes, then: bytes) -> None:
    """A client that reads nothing, until the server has ended its connection."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.connect(("127.0.0.1", port))
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    with client, suppress(ConnectionError):
        async with asyncio.timeout(10):
            await loop.sock_sendall(client, first)
            while True:
                await loop.sock_sendall(client, then)
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_who_answers_hears_that_the_client_has_left_whatever_was_sent_behind(how: str) -> None:
    """A stream with a request behind it would else go on for ever."""

    async def scenario(wire: Wire, echo: Echo) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(b"GET /later/stream HTTP/1.1\r\nHost: h\r\n\r\n" + WAIT)
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.05)
        writer.close() if how == "close" else writer.transport.abort()
        async with asyncio.timeout(5):
            await echo.left.wait()
        assert 1 == echo.asked, "what was behind it is not begun"

    listening(scenario)


def test_a_body_that_is_none_behind_a_request_that_waits_does_not_answer_that_one() -> None:
    """The first gets its own answer, and then the connection ends."""

    async def scenario(wire: Wire, echo: Echo) -> None:
        asking = asyncio.create_task(wire.until_closed(WAIT + CHUNKED % b"a" + b"\r\nzz\r\n" + GET % b"b"))
        await echo.begun.wait()
        await asyncio.sleep(0.05)
        echo.gate.set()
        answers = await asking
        assert (1, True) == (answers.count(b"HTTP/1.1 "), answers.endswith(b"later GET /later/wait  ;")), answers
        assert 1 == echo.asked

    listening(scenario)


def test_a_body_that_becomes_none_is_answered_once(caplog: pytest.LogCaptureFixture) -> None:
    """Though the application answers without reading it: its own answer comes too late."""

    async def scenario(wire: Wire, _: Echo) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(CHUNKED % b"deaf" + b"\r\n")
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"zz\r\n")
        async with asyncio.timeout(5):
            assert b"HTTP/1.1" not in await reader.read()
        await asyncio.sleep(0.1)
        assert [] == caplog.records
        writer.close()

    listening(scenario)


def test_fields_behind_a_body_are_none_of_the_header() -> None:
    """RFC 9110 6.5.1: a gateway that checks headers need not look at them."""

    async def scenario(wire: Wire, _: Echo) -> None:
        told = await wire.until_closed(CHUNKED % b"fields" + b"\r\n1\r\na\r\n0\r\nX-Tenure-Key: k\r\n\r\n" + LAST)
        assert b"\r\n\r\nhost transfer-encoding;" in told

    listening(scenario)


def test_who_speaks_http_1_0_gets_one_answer() -> None:
    """RFC 9110 10.1.1: a client that does not know 100 takes it for the answer."""

    async def scenario(wire: Wire, _: Echo) -> None:
        request = b"POST /later/a HTTP/1.0\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab"
        answers = await wire.until_closed(request)
        assert (1, True) == (answers.count(b"HTTP/1.1 "), answers.startswith(b"HTTP/1.1 200 "))

    listening(scenario)


@pytest.mark.parametrize("sent", [b"a" * 60_000, b"x: y\r\n" * 10_000], ids=["one", "many"])
def test_fields_behind_a_body_end(sent: bytes) -> None:
    """As those of a header do."""

    async def scenario(wire: Wire, _: Echo) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(CHUNKED % b"a" + b"\r\n1\r\na\r\n0\r\nX: ")
        for _part in range(20):
            writer.write(sent)
            await writer.drain()
        async with asyncio.timeout(5):
            assert (await reader.read()).startswith(b"HTTP/1.1 431 ")
        writer.close()

    listening(scenario)


@pytest.mark.parametrize(
    "first",
    [LAST, b"POST /later/a HTTP/1.1\r\nHost: h\r\nContent-Type: a/b\r\nContent-Length: 4\r\n\r\nbody"],
    ids=["asked", "refused"],
)
def test_nothing_is_begun_behind_an_answer_that_ends_the_connection(first: bytes) -> None:
    """RFC 9112 9.6: whether the client asked for the end or the answer brings it."""

    async def scenario(wire: Wire, echo: Echo) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        framed = b"Host: h\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"
        writer.write(first + b"POST /later/b HTTP/1.1\r\n" + framed + b"{")
        async with asyncio.timeout(5):
            answers = await reader.read()
        asked = echo.asked
        writer.write(b"}")
        await asyncio.sleep(0.1)
        assert (1, True, asked) == (answers.count(b"HTTP/1.1 "), b"connection: close" in answers, echo.asked)
        writer.close()

    listening(scenario, guarded=True)


def test_requests_that_wait_hold_up_the_client_and_not_the_memory() -> None:
    """However many are sent behind each other, few are kept at a time; all are answered in order."""
    count = 20_000

    async def scenario(wire: Wire, echo: Echo) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)

        async def send() -> None:
            for n in range(0, count, 100):
                writer.write(b"".join(b"GET /%d HTTP/1.1\r\n\r\n" % each for each in range(n, n + 100)))
                await writer.drain()

        sending = asyncio.create_task(send())
        kept = 0
        for n in range(count):
            async with asyncio.timeout(10):
                answer = await reader.readuntil(b";")
            assert b"later GET /%d  ;" % n in answer
            if n % 2_000 == 0:
                cycles = [each for each in gc.get_objects() if isinstance(each, RequestResponseCycle)]
                kept = max(kept, sum(not each.response_complete for each in cycles))
                del cycles
        assert kept < 1_000
        await sending
        writer.close()

    listening(scenario)


def test_a_large_body_behind_requests_that_wait_arrives_whole() -> None:
    """What was read before its turn, and what comes later."""

    async def scenario(wire: Wire, echo: Echo) -> None:
        body = os.urandom(30_000).hex().encode()
        post = b"POST /now/a HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n\r\n" + body
        asking = asyncio.create_task(wire.until_closed(WAIT + post + GET % b"b" + post + LAST))
        await echo.begun.wait()
        echo.gate.set()
        answers = await asking
        assert (5, 2) == (answers.count(b"HTTP/1.1 200"), answers.count(b"POST /now/a  " + body + b";"))
        assert b"now POST /now/a  " + body in await wire.until_closed(post + LAST), "one that comes in one read"

    listening(scenario)


@pytest.mark.parametrize("path", [b"/later/deaf", b"/now/a"])
def test_who_reads_nothing_is_cut_off(path: bytes) -> None:
    """Whether or not the application has more to say."""

    async def scenario(wire: Wire, _: Echo) -> None:
        request = b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n\r\n" % path + b"a" * 60_000
        await written_until_cut_off(wire.port, request * 100, b" ")

    listening(scenario, header_deadline_ms=400)


def test_a_socket_is_not_opened_before_the_answer_to_what_was_asked_before() -> None:
    """It is not opened at all: the connection ends behind that answer."""

    async def scenario(wire: Wire, echo: Echo) -> None:
        asking = asyncio.create_task(wire.until_closed(WAIT + UPGRADE + b"\r\n"))
        await echo.begun.wait()
        await asyncio.sleep(0.05)
        echo.gate.set()
        answers = await asking
        assert (1, True) == (answers.count(b"HTTP/1.1 "), answers.endswith(b"later GET /later/wait  ;")), answers

    listening(scenario, sockets=True)


@pytest.mark.parametrize(
    ("handshake", "status"),
    [
        (UPGRADE + b"X: " + b"a" * 9_000 + b"\r\n\r\n", 431),
        (UPGRADE + b"Content-Length: 4\r\n\r\nbody", 400),
        (UPGRADE.replace(b"GET", b"POST") + b"\r\n", 405),
        (UPGRADE.replace(b"/socket", b"/" + b"a" * 9_000) + b"\r\n", 414),
        (UPGRADE.replace(b"13", b"12") + b"\r\n", 400),
        (UPGRADE.replace(b"dG", b"d") + b"\r\n", 400),
        (UPGRADE + b"X: \xff\r\nY: " + b"\r\n\r\n", 101),
    ],
    ids=["field", "body", "method", "target", "version", "key", "bytes"],
)
def test_a_handshake_that_is_none_is_answered(handshake: bytes, status: int) -> None:
    """And its connection ends."""

    async def scenario(wire: Wire, _: Echo) -> None:
        seen, _head = await wire.answer(handshake)
        assert seen == status
        if status != 101:
            assert (await wire.until_closed(handshake)).startswith(b"HTTP/1.1 %d " % status)

    listening(scenario, sockets=True)


async def opened(wire: Wire) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A socket."""
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    writer.write(UPGRADE + b"\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    return reader, writer


def test_a_message_that_is_too_large_ends_its_socket_before_it_is_whole() -> None:
    """By what its header says, or by what its parts come to: 1009."""

    async def scenario(wire: Wire, _: Echo) -> None:
        over = bounds.SOCKET_MESSAGE_BYTES_MAX + 1
        for sent in (
            frame(1, b"a" * over)[:1_000],
            frame(1, b"a" * 60_000, last=False) + frame(0, b"a" * 60_000, last=False) * 5,
        ):
            reader, writer = await opened(wire)
            writer.write(frame(1, b"hello") + sent)
            async with asyncio.timeout(5):
                told = await reader.read()
            assert b"\x03\xf1" == told.partition(b"\x88")[2][1:3], told
            writer.close()

    listening(scenario, sockets=True)


@pytest.mark.parametrize("sent", [frame(9, b"a" * 125) * 400, frame(0, last=False) * 4_000], ids=["pings", "parts"])
def test_frames_that_cost_memory_end_their_socket(sent: bytes) -> None:
    """Pings whose pongs are not read, and parts of a message without a byte."""

    async def scenario(wire: Wire, __: Echo) -> None:
        _, writer = await opened(wire)
        writer.write(frame(1, b"a", last=False))
        assert await sent_until_cut_off(writer, sent, 10**9)

    listening(scenario, sockets=True)


def test_a_socket_whose_client_reads_nothing_is_let_go() -> None:
    """What was sent to it would keep it open for ever."""

    async def scenario(wire: Wire, _: Echo) -> None:
        await written_until_cut_off(wire.port, UPGRADE + b"\r\n", frame(1, b"a" * 9) * 4_000)

    listening(scenario, header_deadline_ms=400, sockets=True)


def test_the_end_lets_answers_that_were_made_be_read() -> None:
    """A client that reads slowly has two seconds more; one that reads nothing has no more than those."""

    async def run() -> None:
        size = 8_000_000
        request = b"POST /later/a HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size + b"a" * size
        loop = asyncio.get_running_loop()
        async with served(Echo()) as wire:
            clients = [await asyncio.open_connection("127.0.0.1", wire.port, limit=1_000) for _ in range(2)]
            for reader, writer in clients:
                writer.write(request)
                await reader.readuntil(b"\r\n\r\n")
            reading = asyncio.create_task(clients[0][0].read())
            began_s = loop.time()
        assert reading.done()
        assert reading.result().endswith(b"a" * size + b";")
        assert loop.time() - began_s < 5
        with suppress(ConnectionError):
            assert len(await clients[1][0].read()) < size
        for _reader, writer in clients:
            writer.close()

    asyncio.run(run())
