"""Locks that end with their holder, and the identity of a data directory.

A node that holds `<data>/locks/<service>-<n>` for life gives its successor a proof: whoever gets
the lock knows from the kernel that the former holder is dead, and may take its leases before they
expire. The lease records the lock's id, which names the directory too, so a lock of the same name
elsewhere proves nothing. A copied directory has a copied identity, therefore this is used only
where the store itself lives in the directory.

Lock files are never deleted: a lock on a deleted file would exclude nobody.

Source: flock(2). The lock belongs to the open file; Python marks that close-on-exec, so children
do not keep it.
"""

import asyncio
import fcntl
import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import Self

from shared.errors import ConfigurationError

_RETRY_MS = 20
_DIRECTORY_MODE = 0o700
_FILE_MODE = 0o600


class LockHeldError(ConfigurationError):
    """Another process holds the lock. `holder_pid` is what it wrote there, 0 if nothing."""

    def __init__(self, what: str, *, holder_pid: int) -> None:
        by = f"process {holder_pid}" if holder_pid else "another process"
        super().__init__(f"{what} is in use by {by}.")
        self.what = what
        self.holder_pid = holder_pid


class FileLock:
    """An exclusive lock, held until `close` or the end of the process."""

    __slots__ = ("_fd", "path")

    def __init__(self, path: Path, *, what: str) -> None:
        """Take the lock on `path` and write our process id there.

        Raises:
            LockHeldError: it is held; the message calls it `what`.
            ConfigurationError: the file cannot be opened.
        """
        self.path = path
        self._fd = _open(path)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            holder = os.pread(self._fd, 32, 0)
            self.close()
            raise LockHeldError(what, holder_pid=int(holder) if holder.strip().isdigit() else 0) from exc
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)

    def close(self) -> None:
        """Give up the lock. More than once is harmless."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def lock_directory(data_dir: Path) -> FileLock:
    """Be the one launcher on `data_dir`; makes the directory.

    Raises:
        LockHeldError: another launcher runs there.
        ConfigurationError: the directory cannot be used.
    """
    make_private(data_dir)
    return FileLock(data_dir / "lock", what=f"The data directory {data_dir}")


async def hold_node_lock(data_dir: Path, name: str, *, wait_ms: int = 2_000) -> tuple[FileLock, str]:
    """The lock of node `name`, and its id for leases: the directory's id, a colon, the file's name.

    A holder that is just being killed may need a moment to be gone, hence `wait_ms`.

    Raises:
        LockHeldError: a node of that name runs on this directory.
        ConfigurationError: the directory cannot be used.
    """
    make_private(data_dir)
    make_private(data_dir / "locks")
    path = data_dir / "locks" / name
    tries_left = wait_ms // _RETRY_MS
    while True:
        try:
            lock = FileLock(path, what=f"The node lock {path}")
        except LockHeldError:
            if tries_left <= 0:
                raise
        else:
            return lock, f"{directory_id(data_dir)}:{name}"
        tries_left -= 1
        await asyncio.sleep(_RETRY_MS / 1000)


def directory_id(data_dir: Path) -> str:
    """The random id of a data directory (32 hex digits), made on first use and never changed.

    Raises:
        ConfigurationError: it can be neither read nor written.
    """
    path = data_dir / "id"
    draft = data_dir / f"id.{os.getpid()}.{secrets.token_hex(4)}"
    try:
        if not path.exists():
            make_private(data_dir)
            draft.write_text(secrets.token_hex(16) + "\n")
            try:
                os.link(draft, path)  # Whole or not at all, and only one of several wins.
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        return path.read_text().strip()
    except OSError as exc:
        raise ConfigurationError(f"The data directory {data_dir} cannot be used: {exc.strerror}.") from exc


def make_private(directory: Path) -> None:
    """Make a directory, with its parents, that only this user can enter.

    Raises:
        ConfigurationError: it cannot be made.
    """
    try:
        directory.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigurationError(f"The directory {directory} cannot be made: {exc.strerror}.") from exc


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
    except OSError as exc:
        raise ConfigurationError(f"The lock file {path} cannot be opened: {exc.strerror}.") from exc
