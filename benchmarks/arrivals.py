"""Requests that arrive at a rate, whether or not those before are answered: how long each takes, and how many are done.

A client that waits for its answer before it asks again slows down with the server, and hides its delays. So latency is
counted here from the moment at which a request was to be sent.
"""

import asyncio
import math
import time
from typing import NamedTuple

import aiohttp

from benchmarks.sides import percentile

CONNECTIONS = 256
PATIENCE_S = 30


class Arrived(NamedTuple):
    """What became of the requests of some seconds. Times are microseconds."""

    offered: float
    done: float
    """Answered with 2xx a second, until the last answer."""
    p50_us: int
    p99_us: int
    failed: int


def arrive(url: str, key: str, body: bytes, *, rate: float, seconds: float) -> Arrived:
    """Post `body` so often a second, at even distances, for so long."""
    return asyncio.run(_arrive(url, key, body, rate, seconds))


async def _arrive(url: str, key: str, body: bytes, rate: float, seconds: float) -> Arrived:
    took_us: list[int] = []
    failed = 0
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:
        started_s = time.perf_counter() + 0.1

        async def one(number: int) -> None:
            nonlocal failed
            due_s = started_s + number / rate
            await asyncio.sleep(due_s - time.perf_counter())
            try:
                async with session.post(url, data=body) as answer:
                    await answer.read()
            except (aiohttp.ClientError, TimeoutError):
                failed += 1
                return
            if answer.ok:
                took_us.append(round((time.perf_counter() - due_s) * 1e6))
            else:
                failed += 1

        async with asyncio.TaskGroup() as group:
            for number in range(math.floor(rate * seconds)):
                group.create_task(one(number))
        spent_s = time.perf_counter() - started_s
    took_us.sort()
    assert took_us, "nothing was answered"
    return Arrived(rate, len(took_us) / spent_s, percentile(took_us, 0.5), percentile(took_us, 0.99), failed)
