"""What the client tells its caller when a reply is lost or late: did the command run, or may it have?"""

import asyncio
from pathlib import Path

import pytest

from shared.storage.interface import Status, StoreAwayError, StoreInDoubtError
from shared.storage.redis.client import Wire
from shared.storage.redis.store import RedisStore
from shared.testing.valkey import Valkey, start_valkey
from tests.storage.bench import LONG_MS, SERVICE, section, write
from tests.storage.lease_rules import own
from tests.storage.proxy import open_proxy, open_wire

SOON_MS = 100
"""A time-out that the test lets pass."""

LATE_MS = 5_000
"""A time-out that is not reached."""


def test_a_lost_reply_is_in_doubt_and_ran_once(empty: Valkey) -> None:
    """The command ran exactly once, and the caller learns that nobody knows; the next call gets its own reply."""

    async def run() -> None:
        async with open_wire(empty.socket_path) as (wire, proxy):
            proxy.swallow_reply(b"INCR")
            with pytest.raises(StoreInDoubtError):
                await wire.command("INCR", "n", timeout_ms=SOON_MS)
            assert b"1" == await wire.command("GET", "n", timeout_ms=LATE_MS)
            assert (1, 2) == (proxy.fired, proxy.connections)

    asyncio.run(run())


def test_a_cut_connection_is_in_doubt_and_ran_once(empty: Valkey) -> None:
    """A connection that ends without a reply is told at once, and nothing is sent again."""

    async def run() -> None:
        async with open_wire(empty.socket_path) as (wire, proxy):
            proxy.cut_after(b"INCR")
            with pytest.raises(StoreInDoubtError):
                await wire.command("INCR", "n", timeout_ms=LATE_MS)
            assert b"1" == await wire.command("GET", "n", timeout_ms=LATE_MS)
            assert 1 == proxy.fired

    asyncio.run(run())


def test_a_commit_in_doubt_is_resolved_by_its_id(empty: Valkey) -> None:
    """A commit whose reply was lost is sent again under its id: success, and applied once."""

    async def run() -> None:
        async with open_proxy(empty.socket_path) as proxy:
            store = RedisStore(proxy.url, service=SERVICE)
            fence = await own(store)
            await store.commit([section(fence, 0, b"c1")], ttl_ms=LONG_MS, timeout_ms=LATE_MS)
            flight = [section(fence, 1, b"c2", [write(a=b"1")])]
            proxy.swallow_reply(b"EVALSHA")
            with pytest.raises(StoreInDoubtError):
                await store.commit(flight, ttl_ms=LONG_MS, timeout_ms=SOON_MS)
            (reply,) = (await store.commit(flight, ttl_ms=LONG_MS, timeout_ms=LATE_MS)).replies
            assert (Status.OK, 2) == (reply.status, reply.seq)
            assert 1 == proxy.fired
            await store.close()

    asyncio.run(run())


def test_a_late_reply_is_not_taken_for_the_next(empty: Valkey) -> None:
    """After a time-out the connection is closed: a reply that comes later reaches nobody."""

    async def run() -> None:
        async with open_wire(empty.socket_path) as (wire, proxy):
            release = proxy.hold_reply(b"held")
            with pytest.raises(StoreInDoubtError):
                await wire.command("ECHO", "held", timeout_ms=SOON_MS)
            release.set()
            assert b"own" == await wire.command("ECHO", "own", timeout_ms=LATE_MS)
            assert (1, 2) == (proxy.fired, proxy.connections)

    asyncio.run(run())


def test_a_cancelled_call_leaves_no_reply_behind(empty: Valkey) -> None:
    """Cancelling a caller closes the connection too; who waits in line gets the own reply."""

    async def run() -> None:
        async with open_wire(empty.socket_path) as (wire, proxy):
            release = proxy.hold_reply(b"held")
            first = asyncio.create_task(wire.command("ECHO", "held", timeout_ms=LATE_MS))
            second = asyncio.create_task(wire.command("ECHO", "own", timeout_ms=LATE_MS))
            await proxy.replied.wait()
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            release.set()
            assert b"own" == await second
            assert (1, 2) == (proxy.fired, proxy.connections)

    asyncio.run(run())


def test_nobody_listening_is_away(empty: Valkey) -> None:
    """Where no connection can be made the command surely did not run."""

    async def run() -> None:
        wire = Wire(f"unix://{empty.socket_path.with_name('nobody.sock')}")
        with pytest.raises(StoreAwayError):
            await wire.command("PING", timeout_ms=LATE_MS)

    asyncio.run(run())


def test_a_refused_port_is_away() -> None:
    """The same over TCP."""

    async def run() -> None:
        listener = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        listener.close()
        await listener.wait_closed()
        with pytest.raises(StoreAwayError):
            await Wire(f"redis://127.0.0.1:{port}").command("PING", timeout_ms=LATE_MS)

    asyncio.run(run())


def test_a_server_that_never_greets_is_away(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A connection that is accepted and then ignored is given up before anything was sent on it."""
    path = tmp_path_factory.mktemp("silent") / "silent.sock"

    async def run() -> None:
        ended = asyncio.Event()

        async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()  # Until the client gives up.
            writer.close()
            ended.set()

        async with await asyncio.start_unix_server(ignore, path):
            with pytest.raises(StoreAwayError):
                await Wire(f"unix://{path}").command("PING", timeout_ms=LATE_MS)
            await ended.wait()

    asyncio.run(run())


def test_cancelled_while_connecting_closes_the_connection(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A caller that is cancelled during the greeting is done at once and leaves no open socket."""
    path = tmp_path_factory.mktemp("silent") / "silent.sock"

    async def run() -> None:
        greeted, ended = asyncio.Event(), asyncio.Event()

        async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            greeted.set()
            await reader.read()
            writer.close()
            ended.set()

        async with await asyncio.start_unix_server(ignore, path):
            wire = Wire(f"unix://{path}")
            call = asyncio.create_task(wire.command("PING", timeout_ms=LATE_MS))
            await greeted.wait()
            async with asyncio.timeout(0.5):  # Half the time-out for connecting.
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                await ended.wait()

    asyncio.run(run())


def test_a_crashed_store_is_away_and_comes_back(tmp_path: Path) -> None:
    """While the store is down calls are away; after its restart the same client works."""
    with start_valkey(tmp_path, durable=True) as server:

        async def run() -> None:
            wire = Wire(server.url)
            assert 1 == await wire.command("INCR", "n", timeout_ms=LATE_MS)
            server.kill()
            with pytest.raises(StoreInDoubtError):  # Sent on the old connection: nobody knows.
                await wire.command("INCR", "n", timeout_ms=LATE_MS)
            with pytest.raises(StoreAwayError):
                await wire.command("INCR", "n", timeout_ms=LATE_MS)
            server.start()
            assert 2 == await wire.command("INCR", "n", timeout_ms=LATE_MS)
            await wire.close()

        asyncio.run(run())
