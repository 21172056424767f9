"""The store that comes along: one server a directory, durable, private, and never left behind."""

import asyncio
import os
import select
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.clock import SystemClock
from shared.errors import ConfigurationError
from shared.storage.embedded import EmbeddedStore
from shared.storage.leftover import StoreStartError, stop_leftover
from shared.storage.redis.client import Wire
from shared.storage.redis.inspect import fix_configuration, inspect, problems, read_configuration
from shared.storage.redis.store import RedisStore

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    """A running store."""
    running = EmbeddedStore(tmp_path / "data")
    running.start()
    yield running
    running.stop()


def _command(store: EmbeddedStore, *args: object) -> object:
    async def send() -> object:
        wire = Wire(store.url)
        try:
            return await wire.command(*args, timeout_ms=5_000)
        finally:
            await wire.close()

    return asyncio.run(send())


def test_an_acknowledged_write_survives_kill(store: EmbeddedStore) -> None:
    """Every write is on the disk before it is answered."""
    _command(store, b"SET", b"k", b"v")
    store.kill()
    store.start()
    assert _command(store, b"GET", b"k") == b"v"


def test_only_this_user_can_reach_it(store: EmbeddedStore) -> None:
    """Directories are 0700, the socket 0600, and there is no TCP port."""
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (store.data_dir, store.directory, store.socket_path)]
    assert [0o700, 0o700, 0o600] == modes
    assert _command(store, b"CONFIG", b"GET", b"port") == [b"port", b"0"]


def test_it_passes_the_inspection(store: EmbeddedStore) -> None:
    """The embedded store is itself a store that a node starts on."""

    async def found() -> list[object]:
        redis = RedisStore(store.url, service="rl")
        try:
            return list(problems(await inspect(redis.command, SystemClock()), strict=True))
        finally:
            await redis.close()

    assert [] == asyncio.run(found())


def test_the_layout_is_fixed_by_the_first_node(store: EmbeddedStore) -> None:
    """The first shard count stays; a later one does not replace it."""

    async def shards() -> list[int]:
        redis = RedisStore(store.url, service="rl")
        try:
            before = await read_configuration(redis.command, "rl")
            first = await fix_configuration(redis.command, "rl", shards=256)
            second = await fix_configuration(redis.command, "rl", shards=64)
            return [before.shards, first.shards, second.shards]
        finally:
            await redis.close()

    assert [0, 256, 256] == asyncio.run(shards())


def test_a_long_path_gets_a_short_socket(tmp_path: Path) -> None:
    """A socket path has 108 bytes at most; beyond that a private directory is used, and removed."""
    store = EmbeddedStore(tmp_path / ("d" * 100))
    store.start()
    try:
        socket_path = store.socket_path
        assert socket_path.is_relative_to(tempfile.gettempdir())
        assert stat.S_IMODE(socket_path.parent.stat().st_mode) == 0o700
        assert _command(store, b"PING") == b"PONG"
    finally:
        store.stop()
    assert not socket_path.parent.exists()


def test_a_socket_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """Whoever can write there could stand in for the store."""
    store = EmbeddedStore(tmp_path / ("d" * 100))
    parent = store.socket_path.parent
    parent.mkdir(mode=0o700)
    parent.chmod(0o777)
    try:
        with pytest.raises(ConfigurationError, match="must belong to this user alone"):
            store.start()
    finally:
        parent.rmdir()


def test_a_leftover_store_is_stopped_first(tmp_path: Path) -> None:
    """A server that outlived its launcher is found by its pid file; its writes are kept."""
    leftover, successor = EmbeddedStore(tmp_path), EmbeddedStore(tmp_path)
    leftover.start()
    try:
        _command(leftover, b"SET", b"k", b"v")
        successor.start()
        assert leftover.process is not None
        assert leftover.process.wait(5) == 0
        assert _command(successor, b"GET", b"k") == b"v"
    finally:
        successor.stop()
        leftover.stop()


def test_a_foreign_process_is_left_alone(tmp_path: Path) -> None:
    """A stale pid file may name a process that is not our server."""
    foreign = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        (tmp_path / "valkey.pid").write_text(f"{foreign.pid}\n")
        assert stop_leftover(tmp_path) is False
        assert foreign.poll() is None
    finally:
        foreign.communicate()


def test_a_failed_start_says_why(tmp_path: Path) -> None:
    """The error carries the server's own last words."""
    store = EmbeddedStore(tmp_path)
    (tmp_path / "store").mkdir(mode=0o700)
    (tmp_path / "store" / "appendonlydir").write_text("in the way")
    with pytest.raises(StoreStartError, match="appendonlydir"):
        store.start()
    assert store.process is None


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG")
def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    """However that process ends, the kernel ends the store."""
    program = (
        "import os, sys; from pathlib import Path; from shared.storage.embedded import EmbeddedStore\n"
        "s = EmbeddedStore(Path(sys.argv[1])); s.start(); print(s.process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    starter = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        check=False,
        timeout=30,
    )
    try:
        fd = os.pidfd_open(int(starter.stdout))
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], 10)[0], "the store outlived its starter"
    finally:
        os.close(fd)
        stop_leftover(tmp_path / "store")
