"""One connection to the store, and the scripts that run over it.

Retries are ours, not the client library's: a library that repeats a script whose reply was lost
runs it twice (redis-py 8.1.0 does by default). So this speaks over the library's connection
object, one call at a time, and tells its caller which of two things happened: the command surely
did not run (`StoreAwayError`), or nobody knows (`StoreInDoubtError`).

A connection on which a call failed is closed, never reused: a late reply must not be read as the
answer to the next call. Commits, loads and renewals each have a connection of their own.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any

import hiredis
from redis import DriverInfo
from redis.asyncio import Connection
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    RedisError,
    ResponseError,
)

from shared.storage.interface import StoreAwayError, StoreDeniedError, StoreFullError, StoreInDoubtError

_CONNECT_TIMEOUT_MS = 1_000
_SHEBANG, _SHEBANG_ALLOW_OOM = b"#!lua\n", b"#!lua flags=allow-oom\n"
_SURELY_NOT_RUN = ("MISCONF", "BUSY", "NOREPLICAS")  # Other refusals have exceptions of their own in the library.


class Script:
    """A Lua script of this package and its SHA-1, by which the store knows it.

    `allow_oom` makes the variant of a script that a full store runs too.
    """

    __slots__ = ("name", "sha", "text")

    def __init__(self, name: str, *, allow_oom: bool = False) -> None:
        self.name = name
        self.text = resources.files("shared.storage.redis").joinpath("scripts", f"{name}.lua").read_bytes()
        if allow_oom:
            self.text = self.text.replace(_SHEBANG, _SHEBANG_ALLOW_OOM, 1)
        self.sha = hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode()


class Wire:
    """One connection, opened on first use and again after a failure; calls wait their turn."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = asyncio.Lock()
        self._connection: Connection | None = None

    async def command(self, *args: Any, timeout_ms: int) -> Any:
        """Send one command and return its reply.

        Raises:
            StoreAwayError: it surely did not run (StoreFullError: for want of memory in the store;
                StoreDeniedError: for want of a password or a permission).
            StoreInDoubtError: it was sent and no reply came in `timeout_ms`.
        """
        async with self._lock:
            connection = await self._connected()
            try:
                async with asyncio.timeout(timeout_ms / 1000):
                    # Packed in C: the library's own packing costs more than all else about a large command.
                    await connection.send_packed_command(hiredis.pack_command(args), check_health=False)
                    return await connection.read_response()
            except ResponseError as exc:
                raise _refusal(exc) from exc
            except (BusyLoadingError, AuthenticationError) as exc:  # Connection errors to the library, but refusals.
                await self._drop(connection)
                raise _denial(exc) or StoreAwayError(f"The store refuses: {exc}") from exc
            except (RedisError, OSError, TimeoutError) as exc:
                await self._drop(connection)
                raise StoreInDoubtError(f"No reply from the store: {str(exc) or type(exc).__name__}") from exc
            except BaseException:
                await self._drop(connection)  # Cancelled: the reply would be taken for the next one.
                raise

    async def run(self, script: Script, keys: Sequence[bytes], args: Sequence[Any], *, timeout_ms: int) -> Any:
        """Run a script by its SHA-1; load it where the store does not know it (after a restart)."""
        try:
            return await self.command(b"EVALSHA", script.sha, len(keys), *keys, *args, timeout_ms=timeout_ms)
        except StoreAwayError as exc:
            if not str(exc).startswith("NOSCRIPT"):
                raise
        return await self.command(b"EVAL", script.text, len(keys), *keys, *args, timeout_ms=timeout_ms)

    async def close(self) -> None:
        """Close the connection. A later call opens another."""
        if self._connection is not None:
            await self._drop(self._connection)

    async def _connected(self) -> Connection:
        connection = self._connection
        if connection is None:
            options: dict[str, Any] = dict(parse_url(self._url))
            options.pop("max_connections", None)
            factory: type[Connection] = options.pop("connection_class", Connection)
            options |= {
                "retry": Retry(NoBackoff(), 0),
                "protocol": 2,
                "socket_connect_timeout": _CONNECT_TIMEOUT_MS / 1000,
                "socket_timeout": None,  # Ours counts; with its own the library makes a task for every send.
                "driver_info": DriverInfo(name="tenure"),
            }
            connection = factory(**options)
        if not connection.is_connected:
            try:
                async with asyncio.timeout(_CONNECT_TIMEOUT_MS / 1000):
                    await connection.connect()  # type: ignore[no-untyped-call]  # Untyped in the library.
            except (RedisError, OSError, TimeoutError) as exc:
                await connection.disconnect(nowait=True)
                away = StoreAwayError(f"The store cannot be reached: {str(exc) or type(exc).__name__}")
                raise _denial(exc) or away from exc
        self._connection = connection
        return connection

    async def _drop(self, connection: Connection) -> None:
        self._connection = None
        await connection.disconnect(nowait=True)


def _denial(exc: BaseException) -> StoreDeniedError | None:
    """What the store says to a wrong password, to none, and to a command or key that the user may not use."""
    for error in (exc, exc.__cause__):  # On Unix sockets the library wraps it up.
        if isinstance(error, AuthenticationError):
            return StoreDeniedError(f"The store does not let us in: {error}")
        if isinstance(error, NoPermissionError):
            return StoreDeniedError(f"The store does not permit it: {error}")
    return None


def _refusal(exc: ResponseError) -> StoreAwayError | StoreInDoubtError:
    """A refusal up front, or an error from within a script, after which anything may have happened.

    The client library strips known codes off some messages (`NOSCRIPT`), so those are put back.
    """
    text = str(exc)
    name = type(exc).__name__
    if isinstance(exc, OutOfMemoryError):
        return StoreFullError(f"The store is full: {text}")
    if (denied := _denial(exc)) is not None:
        return denied
    if name == "NoScriptError":
        return StoreAwayError(f"NOSCRIPT {text}")
    if name != "ResponseError" or text.startswith(_SURELY_NOT_RUN):
        return StoreAwayError(f"{name}: {text}")
    return StoreInDoubtError(text)
