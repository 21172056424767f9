"""Locks that end with their holder, and the identity of a data directory."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.storage.lockfile import LockHeldError, directory_id, hold_node_lock, lock_directory

_HOLD = (
    "import sys; from pathlib import Path; from shared.storage.lockfile import lock_directory\n"
    "lock = lock_directory(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
)


def test_one_launcher_a_directory(tmp_path: Path) -> None:
    """The second is told who holds it; after the first it may."""
    with lock_directory(tmp_path), pytest.raises(LockHeldError) as raised:
        lock_directory(tmp_path)
    assert f"The data directory {tmp_path} is in use by process {os.getpid()}." == str(raised.value)
    lock_directory(tmp_path).close()


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    """The kernel gives the lock up with its process."""
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LockHeldError) as raised:
            lock_directory(tmp_path)
        assert raised.value.holder_pid == holder.pid
    finally:
        holder.kill()
        holder.communicate()
    lock_directory(tmp_path).close()


def test_the_lock_id_names_directory_and_file(tmp_path: Path) -> None:
    """A lock of the same name in another directory proves nothing, so its id differs."""

    async def id_in(directory: Path) -> str:
        lock, lock_id = await hold_node_lock(directory, "ratelimiter-0")
        lock.close()
        return lock_id

    here, again, there = (asyncio.run(id_in(tmp_path / name)) for name in ("a", "a", "b"))
    assert here == again == f"{directory_id(tmp_path / 'a')}:ratelimiter-0"
    assert here != there


def test_a_node_waits_for_a_dying_holder(tmp_path: Path) -> None:
    """The lock is taken as soon as it is free, and refused after the wait."""

    async def waited() -> bool:
        first, _ = await hold_node_lock(tmp_path, "n")
        with pytest.raises(LockHeldError):
            await hold_node_lock(tmp_path, "n", wait_ms=0)
        second = asyncio.create_task(hold_node_lock(tmp_path, "n", wait_ms=10_000))
        await asyncio.sleep(0)
        first.close()
        (await second)[0].close()
        return True

    assert asyncio.run(waited())


def test_the_directory_keeps_its_identity(tmp_path: Path) -> None:
    """It is random, made once, and readable ever after."""
    first = directory_id(tmp_path)
    assert len(bytes.fromhex(first)) == 16
    assert first == directory_id(tmp_path)
    assert first != directory_id(tmp_path / "other")
