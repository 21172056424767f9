"""A whole node inside the benchmark's process, on a real store of its own: for what HTTP would only blur."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop

from shared.objects.handler import DurableObject
from shared.runtime.node import Node, open_node
from shared.settings import NodeSettings
from shared.telemetry import logs
from shared.testing.valkey import start_valkey

TENANT = "bench"


@asynccontextmanager
async def bench_node(folder: Path, kinds: Sequence[type[DurableObject]]) -> AsyncIterator[Node]:
    """A node with `kinds`; each write to its store is synced to the disk that `folder` is on."""
    with start_valkey(folder, durable=True) as valkey:
        async with node_on(valkey.url, folder, kinds) as node:
            yield node


@asynccontextmanager
async def node_on(url: str, folder: Path, kinds: Sequence[type[DurableObject]]) -> AsyncIterator[Node]:
    """A node with `kinds` on the store at `url`."""
    settings = NodeSettings(redis_url=url, data_dir=str(folder))
    async with open_node(settings, service="bench", prefix="bench", kinds=kinds) as node:
        yield node


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run `main` as a service runs: uvloop, a collector that seldom looks, and no logs but warnings."""
    logs.configure_logging(service="bench", node="bench", level="warning")
    gc.set_threshold(50_000, 20, 50)
    uvloop.run(main)


async def until(predicate: Callable[[], bool], *, within_s: float, every_s: float) -> None:
    """Wait for `predicate`.

    Raises:
        TimeoutError: it was not true `within_s`.
    """
    deadline_s = time.monotonic() + within_s
    while not predicate():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"not within {within_s} s")
        await asyncio.sleep(every_s)
