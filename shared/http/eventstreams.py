"""Server-sent events: a stream ends with the credential that opened it, and not when its client comes back."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress

from shared.bounds import SOCKET_SWEEP_MS


async def while_it_counts(parts: AsyncGenerator[bytes], counts: Callable[[], bool]) -> AsyncIterator[bytes]:
    """The parts, for as long as the credential counts: asked before each, and twice a second while none comes."""
    coming: asyncio.Task[bytes | None] | None = None
    try:
        while counts():
            coming = coming or asyncio.get_running_loop().create_task(_next(parts))
            await asyncio.wait({coming}, timeout=SOCKET_SWEEP_MS / 1_000)
            if not coming.done() or not counts():
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


async def _next(parts: AsyncGenerator[bytes]) -> bytes | None:
    return await anext(parts, None)
