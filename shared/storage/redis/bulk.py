"""Many commands at once, for copying: sent together, answered together.

For programs that have a store to themselves or only read. A failure in the middle is an error of the whole:
which of the commands ran is not known.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import hiredis
from redis.exceptions import RedisError

from shared.storage.interface import StoreError, StoreInDoubtError
from shared.storage.redis.client import Wire

_TIMEOUT_MS = 30_000
_SCAN_ROWS = 1_000
_SNAPSHOT_MS = 3_600_000  # A large store takes its time to write one.


class Bulk(Wire):
    """One connection for bulk work."""

    _snapshot: asyncio.StreamReader

    async def all(self, commands: Sequence[Sequence[Any]], *, timeout_ms: int = _TIMEOUT_MS) -> list[Any]:
        """The replies to `commands`, in order.

        Raises:
            StoreError: one of them was refused, or not answered.
        """
        if not commands:
            return []
        async with self._lock:
            connection = await self._connected()
            try:
                async with asyncio.timeout(timeout_ms / 1000):
                    packed = b"".join(hiredis.pack_command(tuple(command)) for command in commands)
                    await connection.send_packed_command(packed, check_health=False)
                    return [await connection.read_response() for _ in commands]
            except (RedisError, OSError, TimeoutError) as exc:
                await self._drop(connection)
                raise StoreInDoubtError(f"The store does not go on: {str(exc) or type(exc).__name__}") from exc
            except BaseException:
                await self._drop(connection)
                raise

    async def one(self, *command: Any) -> Any:
        """The reply to one command."""
        (reply,) = await self.all([command])
        return reply

    async def keys(self, pattern: bytes) -> AsyncIterator[list[bytes]]:
        """All keys that match, in pieces; one that comes or goes meanwhile may be left out, and one may come twice."""
        cursor = b"0"
        while True:
            cursor, found = await self.one(b"SCAN", cursor, b"MATCH", pattern, b"COUNT", _SCAN_ROWS)
            if found:
                yield found
            if cursor == b"0":
                return

    async def snapshot_size(self) -> int:
        """Ask for a snapshot as a replica does; how many bytes of it `snapshot_chunk` will give.

        It is of one moment: the server forks, and goes on serving.

        Raises:
            StoreError: the server does not give one.
        """
        connection = await self._connected()
        reader = connection._reader  # noqa: SLF001 - the library reads replies, not the file that SYNC is answered with.
        assert reader is not None
        try:
            async with asyncio.timeout(_SNAPSHOT_MS / 1000):
                await connection.send_packed_command(hiredis.pack_command((b"SYNC",)), check_health=False)
                line = b""
                while not (line := (await reader.readline()).strip()):  # Empty ones keep the connection alive.
                    if reader.at_eof():
                        break
        except (RedisError, OSError, TimeoutError) as exc:
            raise StoreError(f"The store gives no snapshot: {str(exc) or type(exc).__name__}.") from exc
        if not line.startswith(b"$") or not line[1:].isdigit():
            said = line.decode(errors="replace") or "it closed the connection"
            raise StoreError(f"The store gives no snapshot (SYNC): {said}.")
        self._snapshot = reader
        return int(line[1:])

    async def snapshot_chunk(self, size: int) -> bytes:
        """The next bytes of the snapshot, at most `size`.

        Raises:
            StoreError: the server has gone.
        """
        try:
            async with asyncio.timeout(_TIMEOUT_MS / 1000):
                chunk = await self._snapshot.read(size)
        except (OSError, TimeoutError) as exc:
            raise StoreError(f"The snapshot ends too soon: {str(exc) or type(exc).__name__}.") from exc
        if not chunk:
            raise StoreError("The snapshot ends too soon: the store has closed the connection.")
        return chunk
