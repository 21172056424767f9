"""Server-sent events: how many streams there may be, and when one ends though its client stays.

They are bounded as sockets are, and with them: a stream costs its node a connection, and its object a call that waits.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import TypeAlias

from litestar.di import NamedDependency
from litestar.response import Stream

from shared.bounds import SOCKET_SWEEP_MS
from shared.http.auth import Admission
from shared.objects.ingress import Ingress


class EventStreams:
    """Those of one node."""

    def __init__(self, ingress: Ingress) -> None:
        self._ingress = ingress

    async def open(self, admission: Admission, parts: AsyncGenerator[bytes]) -> Stream:
        """An answer that goes on for as long as there are parts, its credential counts and the node does not stop.

        Raises:
            TooManySocketsError: as many are open as may be, or the node stops.
        """
        stream = self._counted(admission, parts)
        await anext(stream)  # It is counted from here on. Begun, it is closed even where nobody reads it.
        return Stream(stream, media_type="text/event-stream")

    async def _counted(self, admission: Admission, parts: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        with self._ingress.streaming(admission.tenant) as end:
            yield b""
            coming: asyncio.Task[bytes | None] | None = None
            try:
                while admission.counts() and not end.done():
                    coming = coming or asyncio.get_running_loop().create_task(_next(parts))
                    waited: set[asyncio.Future[object]] = {coming, end}  # type: ignore[arg-type]  # It only waits.
                    timeout_s = SOCKET_SWEEP_MS / 1_000
                    await asyncio.wait(waited, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
                    if not coming.done() or not admission.counts():
                        continue
                    part, coming = coming.result(), None
                    if part is None:
                        return
                    yield part
            finally:
                if coming is not None:
                    coming.cancel()
                    with suppress(asyncio.CancelledError):
                        await coming
                await parts.aclose()


TheStreams: TypeAlias = NamedDependency[EventStreams]
"""The annotation of a handler's parameter `streams`."""


async def _next(parts: AsyncGenerator[bytes]) -> bytes | None:
    return await anext(parts, None)
