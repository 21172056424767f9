"""The listener itself: what is answered within the read, what goes by way of ASGI, in which order, and how both end."""

import asyncio
from email.utils import parsedate_to_datetime

import pytest

from shared import bounds
from tests.support.echo import GET, LAST, Echo, listening, served
from tests.support.edge import Wire


@pytest.mark.parametrize(
    ("request_bytes", "told"),
    [
        (GET % b"a?b=c", b"now GET /now/a b=c ;"),
        (GET % b"%61", b"now GET /now/a  ;"),
        (b"POST /now/a HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody", b"now POST /now/a  body;"),
        (GET % b"leave", b"later GET /now/leave  ;"),
        (b"POST /now/leave HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody", b"later POST /now/leave  body;"),
        (b"GET /now/a HTTP/1.0\r\nHost: h\r\n\r\n", b"later GET /now/a  ;"),
        (b"GET /now/a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", b"later GET /now/a  ;"),
        (b"GET /now/a HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", b"later GET /now/a  ;"),
        (b"GET /elsewhere HTTP/1.1\r\nHost: h\r\n\r\n", b"later GET /elsewhere  ;"),
        (b"GET http://h/now/a HTTP/1.1\r\nHost: h\r\n\r\n", b"later GET /now/a  ;"),
    ],
)
def test_what_is_here_whole_and_ordinary_is_answered_at_once(request_bytes: bytes, told: bytes) -> None:
    """And whatever is not goes by way of ASGI, with its body."""

    async def scenario(wire: Wire, __: Echo) -> None:
        answers = await wire.until_closed(request_bytes + LAST)
        head, _, content = answers.partition(b"\r\n\r\n")
        assert (True, True) == (head.startswith(b"HTTP/1.1 200 OK\r\n"), content.startswith(told)), answers
        (date,) = (line[6:] for line in head.split(b"\r\n") if line.lower().startswith(b"date: "))
        assert parsedate_to_datetime(date.decode()).tzinfo is not None

    listening(scenario)


def test_answers_come_in_the_order_of_their_requests() -> None:
    """One that waits holds up those behind it that need not wait; all were sent at once."""

    async def scenario(wire: Wire, echo: Echo) -> None:
        wait = b"GET /later/wait HTTP/1.1\r\nHost: h\r\n\r\n"
        asking = asyncio.create_task(wire.until_closed(GET % b"a" + wait + GET % b"b" + wait + GET % b"c" + LAST))
        await echo.begun.wait()
        echo.gate.set()
        told = [part.rpartition(b"\r\n\r\n")[2] for part in (await asking).split(b";")[:-1]]
        ways = [b"now GET /now/a", b"later GET /later/wait", b"later GET /now/b", b"later GET /later/wait"]
        assert [*ways, b"later GET /now/c", b"later GET /later/last"] == [part.strip() for part in told]

    listening(scenario)


def test_an_answer_that_has_to_wait_keeps_its_place() -> None:
    """Outside ASGI too: what was sent behind it waits for it, and goes on."""

    async def scenario(wire: Wire, echo: Echo) -> None:
        soon = b"POST /now/soon HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody"
        asking = asyncio.create_task(wire.until_closed(GET % b"a" + soon + GET % b"b" + soon + LAST))
        await echo.begun.wait()
        echo.gate.set()
        told = [part.rpartition(b"\r\n\r\n")[2].split()[0] for part in (await asking).split(b";")[:-1]]
        assert [b"now", b"soon", b"later", b"later", b"later"] == told, "ASGI has those that waited"
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        for _turn in range(3):  # One after the other, on one connection.
            writer.write(soon)
            assert (await reader.readuntil(b";")).endswith(b"soon POST /now/soon  body;")
        writer.close()

    listening(scenario)


def test_a_client_that_leaves_while_its_answer_is_waited_for_hurts_nobody() -> None:
    """The answer is made, and told to nobody; what is no request behind it ends the connection behind it."""

    async def scenario(wire: Wire, echo: Echo) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(GET % b"soon")
        await echo.begun.wait()
        writer.close()
        await writer.wait_closed()
        asking = asyncio.create_task(wire.until_closed(GET % b"soon" + b"no http\r\n\r\n"))
        await asyncio.sleep(0.05)
        echo.gate.set()
        answers = await asking
        assert (1, True) == (answers.count(b"HTTP/1.1 "), answers.endswith(b"soon GET /now/soon  ;"))

    listening(scenario)


def test_many_requests_in_one_read_let_others_in_between() -> None:
    """The first 64 are answered at once, and all in order."""

    async def scenario(wire: Wire, _: Echo) -> None:
        answers = await wire.until_closed(b"".join(GET % b"%d" % n for n in range(100)) + LAST)
        told = [part.rpartition(b"\r\n\r\n")[2].split() for part in answers.split(b";")[:-2]]
        assert [b"/now/%d" % n for n in range(100)] == [part[2] for part in told]
        assert [b"now"] * 64 + [b"later"] * 36 == [part[0] for part in told]

    listening(scenario)


def test_a_request_in_two_reads_goes_by_way_of_asgi_only_if_its_body_is_late() -> None:
    """A header that came in two parts is whole when it ends; a body that is not there yet is waited for by the guard."""

    async def scenario(wire: Wire, _: Echo) -> None:
        post = b"POST /now/a HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n"
        for first, second, way in ((post, b"\r\nbody", b"now"), (post + b"\r\nbo", b"dy", b"later")):
            reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
            for part in (first, second):
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0.05)  # Two reads of the server, as far as that can be made so.
            answer = await reader.readuntil(b";")
            assert answer.endswith(way + b" POST /now/a  body;"), answer
            writer.close()

    listening(scenario)


def test_head_chunks_and_an_asked_for_body_go_the_ordinary_way() -> None:
    """The guard lets the application answer at once only what it would have let through as it is."""

    async def scenario(wire: Wire, _: Echo) -> None:
        framed = b"Host: h\r\nContent-Type: application/json\r\n"
        head = await wire.until_closed(b"HEAD /now/a HTTP/1.1\r\nHost: h\r\n\r\n" + LAST)
        assert head.count(b"HTTP/1.1 200") == 2
        assert b"now" not in head
        chunks = b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"
        assert b"later POST /now/a  body" in await wire.until_closed(
            b"POST /now/a HTTP/1.1\r\n" + framed + chunks + LAST
        )
        announced = b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\nbody"
        asked = await wire.until_closed(b"POST /now/a HTTP/1.1\r\n" + framed + announced + LAST)
        assert asked.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200")
        assert b"now POST /now/a  body" in await wire.until_closed(
            b"POST /now/a HTTP/1.1\r\n" + framed + b"Content-Length: 4\r\n\r\nbody" + LAST
        )

    listening(scenario, guarded=True)


def test_what_the_guard_refuses_is_not_answered_at_once() -> None:
    """Two hosts, a body that is no JSON: the problem document, by way of ASGI."""

    async def scenario(wire: Wire, _: Echo) -> None:
        two = await wire.until_closed(b"GET /now/a HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n" + LAST)
        assert (True, True) == (two.startswith(b"HTTP/1.1 400 "), b'"header.host"' in two)
        text = b"POST /now/a HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nbody"
        assert (await wire.until_closed(text)).startswith(b"HTTP/1.1 415 ")

    listening(scenario, guarded=True)


def test_a_fault_of_an_answer_is_a_500_that_says_nothing() -> None:
    """As by way of ASGI; a header field that would make two is not sent."""

    async def scenario(wire: Wire, echo: Echo) -> None:
        answer = await wire.until_closed(GET % b"fault" + LAST)
        assert (True, False) == (answer.startswith(b"HTTP/1.1 500 "), b"hunter2" in answer)
        assert answer.count(b"HTTP/1.1 ") == 2, "the connection goes on"
        split = await wire.until_closed(GET % b"split")
        assert (True, False) == (split.startswith(b"HTTP/1.1 500 "), b"x-b" in split)
        echo.gate.set()
        soon = await wire.until_closed(GET % b"soon-fault" + LAST)
        assert (True, False) == (soon.startswith(b"HTTP/1.1 500 "), b"hunter2" in soon)
        split = await wire.until_closed(GET % b"soon-split")
        assert (True, False) == (split.startswith(b"HTTP/1.1 500 "), b"x-b" in split)

    listening(scenario, guarded=True)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (GET % b"a" + b"no http\r\n\r\n", 400),
        (b"POST /now/a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST /a HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 4\r\n\r\nbody", 501),
        (b"GET /now/a HTTP/1.1\r\nX: " + b"a" * bounds.HEADER_BYTES_READ * 3, 431),
    ],
    ids=["behind", "chunk", "upgrade", "endless"],
)
def test_what_is_no_request_ends_its_connection(request_bytes: bytes, status: int) -> None:
    """With the bare status, behind the answers to what came before it; the service goes on."""

    async def scenario(wire: Wire, _: Echo) -> None:
        answers = await wire.until_closed(request_bytes)
        last = b"HTTP/1.1 " + answers.rpartition(b"HTTP/1.1 ")[2]
        assert (True, True) == (last.startswith(b"HTTP/1.1 %d " % status), b"connection: close" in last), answers
        assert answers.count(b"HTTP/1.1 ") == 1 + request_bytes.count(GET % b"a")
        assert b"now GET" in await wire.until_closed(GET % b"b" + LAST)

    listening(scenario)


def test_who_is_still_sending_hears_the_answer() -> None:
    """A refusal ends the connection, but not over what the client has under way: that would take the answer back."""

    async def scenario(wire: Wire, _: Echo) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(b"POST /later HTTP/1.1\r\nHost: h\r\nContent-Type: a/b\r\nContent-Length: 900000\r\n\r\n")
        for _part in range(9):
            writer.write(b" " * 100_000)
            await asyncio.sleep(0.01)
        async with asyncio.timeout(5):
            answer = await reader.read()
        assert (True, True) == (answer.startswith(b"HTTP/1.1 413 "), b"connection: close" in answer)
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(b"POST /later HTTP/1.1\r\nHost: h\r\nContent-Type: a/b\r\nContent-Length: 900000\r\n\r\n")
        async with asyncio.timeout(5):
            assert (await reader.read()).startswith(b"HTTP/1.1 413 ")
        with pytest.raises(ConnectionError):  # Two seconds later nobody listens any more.
            await _keep_sending(writer, within_s=5)
        writer.close()

    listening(scenario, guarded=True)


async def _keep_sending(writer: asyncio.StreamWriter, *, within_s: float) -> None:
    for _part in range(int(within_s / 0.05)):
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)


def test_garbage_behind_a_request_that_waits_does_not_cut_off_its_answer() -> None:
    """What was whole is answered, and then the connection ends."""

    async def scenario(wire: Wire, echo: Echo) -> None:
        waiting = b"GET /later/wait HTTP/1.1\r\nHost: h\r\n\r\n"
        asking = asyncio.create_task(wire.until_closed(waiting + b"no http\r\n\r\n"))
        await echo.begun.wait()
        echo.gate.set()
        answers = await asking
        assert (1, True) == (answers.count(b"HTTP/1.1 "), answers.endswith(b"later GET /later/wait  ;"))

    listening(scenario)


def test_a_connection_that_is_used_lives_longer_than_the_deadline_of_a_header() -> None:
    """Each answer begins it anew; silence ends it."""

    async def scenario(wire: Wire, _: Echo) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        while loop.time() - began_s < 1:
            writer.write(GET % b"a")
            await reader.readuntil(b";")
            await asyncio.sleep(0.05)
        async with asyncio.timeout(5):
            assert b"" == await reader.read()
        writer.close()

    listening(scenario, header_deadline_ms=400)


def test_one_connection_too_many_is_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are served, and a place that is free is given away again."""
    monkeypatch.setattr(bounds, "CONNECTIONS_MAX", 2)

    async def scenario(wire: Wire, _: Echo) -> None:
        held = [await asyncio.open_connection("127.0.0.1", wire.port) for _ in range(2)]
        for reader, writer in held:
            writer.write(GET % b"a")
            await reader.readuntil(b";")
        with pytest.raises((ConnectionError, AssertionError)):
            assert await wire.until_closed(GET % b"a")
        held[0][1].close()
        await held[0][1].wait_closed()
        for _attempt in range(500):
            if await _answered(wire):
                break
            await asyncio.sleep(0.01)
        else:
            pytest.fail("the place is not free")
        held[1][1].close()

    listening(scenario)


async def _answered(wire: Wire) -> bool:
    try:
        return b"later GET /later/last" in await wire.until_closed(LAST)
    except ConnectionError:
        return False


def test_the_end_answers_what_is_under_way_and_takes_nothing_new() -> None:
    """Idle connections end at once, the port is closed, and a request that takes too long is given up."""

    async def run() -> None:
        echo = Echo()
        async with served(echo) as wire:
            idle, idle_writer = await asyncio.open_connection("127.0.0.1", wire.port)
            idle_writer.write(GET % b"a")
            await idle.readuntil(b";")
            asking = asyncio.create_task(wire.until_closed(b"GET /later/wait HTTP/1.1\r\nHost: h\r\n\r\n"))
            await echo.begun.wait()
            asyncio.get_running_loop().call_later(0.1, echo.gate.set)
        assert b"" == await idle.read()
        idle_writer.close()
        assert (await asking).endswith(b"later GET /later/wait  ;")
        assert not echo.cancelled
        with pytest.raises(OSError, match="Connect call failed"):
            await wire.until_closed(LAST)

    asyncio.run(run())


@pytest.mark.parametrize("path", [b"/later/wait", b"/now/soon"])
def test_the_end_does_not_wait_for_ever(path: bytes) -> None:
    """Past the drain, who still waits for an answer gets none."""

    async def run() -> None:
        echo = Echo()
        async with served(echo, drain_ms=100) as wire:
            asking = asyncio.create_task(wire.until_closed(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path))
            await echo.begun.wait()
        assert b"HTTP" not in await asking
        assert echo.cancelled

    asyncio.run(run())
