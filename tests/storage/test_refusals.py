"""What the store refuses surely did not run; what fails half-way may have. The client tells the two apart."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from shared.retry import may_retry
from shared.storage.interface import LoadOrder, Status, StoreAwayError, StoreDeniedError, StoreInDoubtError
from shared.storage.redis.client import Script
from shared.storage.redis.store import RedisStore
from shared.testing.valkey import Valkey
from tests.storage.bench import LONG_MS, SERVICE, section, write
from tests.storage.lease_rules import own
from tests.storage.proxy import open_wire
from tests.support.launching import free_ports

LATE_MS = 5_000
"""A time-out that is not reached."""


@pytest.mark.parametrize(
    "reply",
    [
        "LOADING server is loading the dataset in memory",
        "BUSY server is busy running a script.",
        "MISCONF Errors writing to the AOF file",
        "READONLY You can't write against a read only replica.",
        "OOM command not allowed when used memory > 'maxmemory'.",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "NOREPLICAS Not enough good replicas to write.",
        "NOAUTH Authentication required.",
        "NOPERM User default has no permissions to run the 'evalsha' command",
        "CLUSTERDOWN The cluster is down",
    ],
    ids=lambda reply: reply.partition(" ")[0],
)
def test_a_refusal_is_away(reply: str, empty: Valkey) -> None:
    """What the server refuses up front surely did not run, and the next call is answered."""

    async def run() -> None:
        async with open_wire(empty.socket_path) as (wire, proxy):
            proxy.forge_reply(b"INCR", f"-{reply}\r\n".encode())
            with pytest.raises(StoreAwayError):
                await wire.command("INCR", "n", timeout_ms=LATE_MS)
            assert 1 == await wire.command("INCR", "n", timeout_ms=LATE_MS)
            assert 1 == proxy.fired

    asyncio.run(run())


USER, PASSWORD = "visitor", "right"


@pytest.mark.parametrize("transport", ["unix", "tcp"])
@pytest.mark.parametrize(
    ("user", "password", "said"),
    [
        (USER, "wrong", "The store does not let us in: "),
        ("nobody", PASSWORD, "The store does not let us in: "),
        (USER, PASSWORD, "The store does not permit it: "),
    ],
    ids=["password", "user", "permission"],
)
def test_a_user_whom_the_store_does_not_know_is_denied(
    transport: str, user: str, password: str, said: str, empty: Valkey
) -> None:
    """Neither is an outage: nothing ran, and asking again would not help. Both transports of the library tell it."""
    port = free_ports(1)[0]
    url = f"redis://{user}:{password}@127.0.0.1:{port}"
    if transport == "unix":
        url = f"unix://{user}:{password}@{empty.socket_path}"

    async def run() -> None:
        store = RedisStore(url, service=SERVICE)
        try:
            with pytest.raises(StoreDeniedError) as raised:
                await store.command(b"INFO")
        finally:
            await store.close()
        assert str(raised.value).startswith(said)
        assert not may_retry(raised.value, idempotent=True)

    empty.configure("port", str(port))
    assert b"+OK\r\n" == empty.command("ACL", "SETUSER", USER, "on", f">{PASSWORD}", "+ping", "~*")
    try:
        asyncio.run(run())
    finally:
        empty.command("ACL", "DELUSER", USER)
        empty.configure("port", "0")


def test_a_missing_password_is_a_denial(empty: Valkey) -> None:
    """NOAUTH: the address names no password where the store wants one."""

    async def run() -> None:
        store = RedisStore(empty.url, service=SERVICE)
        try:
            with pytest.raises(StoreDeniedError, match="does not let us in: Authentication required"):
                await store.command(b"INFO")
        finally:
            await store.close()

    assert b"+OK\r\n" == empty.command("ACL", "SETUSER", "default", f">{PASSWORD}", "resetpass", f">{PASSWORD}")
    try:
        asyncio.run(run())
    finally:
        empty.restart()


def test_an_error_inside_a_script_is_in_doubt(empty: Valkey) -> None:
    """A script that fails half-way has written: that is not a refusal, whatever its error is called."""

    async def run() -> None:
        async with open_wire(empty.socket_path) as (wire, _):
            for failing in ("redis.call('HGET', 'n', 'f')", "redis.call('PUBLISH', 'x', 'y')", "error('BUSY')"):
                text = f"#!lua\nredis.call('SET', 'n', '1') {failing}"
                with pytest.raises(StoreInDoubtError):
                    await wire.command("EVAL", text, 0, timeout_ms=LATE_MS)

    empty.command("ACL", "SETUSER", "default", "-publish")
    try:
        asyncio.run(run())
    finally:
        empty.command("ACL", "SETUSER", "default", "+publish")


@pytest.mark.parametrize(
    ("refuse", "accept"),
    [
        pytest.param(["REPLICAOF", "127.0.0.1", "1"], ["REPLICAOF", "NO", "ONE"], id="replica"),
        pytest.param(
            ["CONFIG", "SET", "min-replicas-to-write", "1"],
            ["CONFIG", "SET", "min-replicas-to-write", "0"],
            id="too_few_replicas",
        ),
    ],
)
def test_a_store_that_takes_no_writes_is_away(refuse: list[str], accept: list[str], empty: Valkey) -> None:
    """A replica, one without its replicas: every write is refused up front, and works afterwards."""

    async def run() -> None:
        store = RedisStore(empty.url, service=SERVICE)
        fence = await own(store)
        first = [section(fence, 0, b"c1", [write(a=b"1")])]
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: store.commit(first, ttl_ms=LONG_MS, timeout_ms=LATE_MS),
            lambda: own(store, shard=1),
            lambda: store.document_put("rl", b"d", b"1", expected=0),
            lambda: store.renew([(0, fence)], ttl_ms=LONG_MS),
        ]
        assert b"+OK\r\n" == empty.command(*refuse)
        try:
            for call in calls:
                with pytest.raises(StoreAwayError):
                    await call()
        finally:
            assert b"+OK\r\n" == empty.command(*accept)
        (reply,) = (await store.commit(first, ttl_ms=LONG_MS, timeout_ms=LATE_MS)).replies
        assert (Status.OK, 1) == (reply.status, reply.seq)
        await store.close()

    asyncio.run(run())


def test_forgotten_scripts_are_loaded_again(empty: Valkey) -> None:
    """A store that lost its scripts (a restart, SCRIPT FLUSH) is sent the text, and knows it from then on."""

    async def run() -> None:
        async with open_wire(empty.socket_path) as (wire, proxy):
            script = Script("due")
            for _ in range(2):
                assert b"+OK\r\n" == empty.command("SCRIPT", "FLUSH")
                assert 1 == len(await wire.run(script, [], ["", 1], timeout_ms=LATE_MS))
            proxy.forge_reply(b"EVAL\r\n", b"-ERR the text was sent again\r\n")
            assert 1 == len(await wire.run(script, [], ["", 1], timeout_ms=LATE_MS))
            assert 0 == proxy.fired

    asyncio.run(run())


def test_a_replica_answers_no_reads(empty: Valkey) -> None:
    """What a demoted primary holds may be old: loads and look-ups are refused there as writes are."""

    async def run() -> None:
        store = RedisStore(empty.url, service=SERVICE)
        fence = await own(store)
        reads: list[Callable[[], Awaitable[object]]] = [
            lambda: store.load([LoadOrder(0, fence, b"o")]),
            lambda: store.due_alarms([(0, 0)], until_ms=1, rows=1),
            lambda: store.documents_since("rl", 0),
            lambda: store.journal(0, fence, b"o", after=0, rows=1),
            lambda: store.find([0], tenant="t", index="i", value="v", after=None, rows=1),
            lambda: store.count([0], tenant="t", index="i", value="v"),
            lambda: store.objects([0], kind="k", tenant="t", prefix="", after=b"", rows=1),
            lambda: store.outbox([(0, 0)], rows=1),
            lambda: store.dead_alarms([0], after=None, rows=1),
            lambda: store.armed_alarms([0], after=None, rows=1),
            lambda: store.fields([(0, b"o", b"#")]),
        ]
        assert b"+OK\r\n" == empty.command("REPLICAOF", "127.0.0.1", "1")
        try:
            for read in reads:
                with pytest.raises(StoreAwayError):
                    await read()
        finally:
            assert b"+OK\r\n" == empty.command("REPLICAOF", "NO", "ONE")
        await store.close()

    asyncio.run(run())
