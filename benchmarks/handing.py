"""From the completion of a task to the next one: what a worker waits between two steps of a run.

Each line is a run whose steps are tasks of a queue of its own, and a worker that has asked for the next task before it
completes the one it has. So what is timed is all that lies between: the answer is stored with the run, the run goes on
to its next step, the task of that is put into the queue, leased, stored and handed to the worker who waits.
"""

import asyncio
import time
from typing import Any, NamedTuple

import aiohttp

from benchmarks.sides import percentile

TASKS = 100
"""In a run: the longest wait is of one of them, not of a start."""
_WAIT_MS = 20_000


class Handed(NamedTuple):
    """Waits of all workers, in microseconds."""

    tasks_per_s: float
    p50_us: int
    p99_us: int


def chain(queue: str) -> dict[str, Any]:
    """A definition of so many tasks in a row, each with what the one before gave."""
    steps: dict[str, Any] = {
        f"step{number}": {
            "task": queue,
            **({"next": f"step{number + 1}"} if number < TASKS - 1 else {"end": True}),
        }
        for number in range(TASKS)
    }
    return {"workflow": queue, "start": "step0", "steps": steps}


def hand_over(url: str, key: str, queues: list[str]) -> Handed:
    """Work off one run of the definition of each queue, all at once."""
    return asyncio.run(_hand_over(url, key, queues))


async def _hand_over(url: str, key: str, queues: list[str]) -> Handed:
    headers = {"Authorization": f"Bearer {key}"}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector, headers=headers) as session:
        began_s = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            lines = [group.create_task(_line(session, queue)) for queue in queues]
        spent_s = time.perf_counter() - began_s
    waits_us = sorted(wait_us for line in lines for wait_us in line.result())
    return Handed(
        tasks_per_s=TASKS * len(queues) / spent_s,
        p50_us=percentile(waits_us, 0.5),
        p99_us=percentile(waits_us, 0.99),
    )


async def _line(session: aiohttp.ClientSession, queue: str) -> list[int]:
    """The waits of one worker."""
    waits_us = []
    await _ask(session, "/v1/runs", {"definition": queue})
    task, _ = await _polled(session, queue)
    for _ in range(TASKS - 1):
        async with asyncio.TaskGroup() as group:
            polling = group.create_task(_polled(session, queue))
            await asyncio.sleep(0)  # It is on its way first.
            began_s = time.perf_counter()
            group.create_task(_ask(session, f"/v1/tasks/{task}/complete", {}))
            task, received_s = await polling
        waits_us.append(round((received_s - began_s) * 1e6))
    await _ask(session, f"/v1/tasks/{task}/complete", {})
    return waits_us


async def _polled(session: aiohttp.ClientSession, queue: str) -> tuple[str, float]:
    """The token of the next task, and when it came."""
    answer = await _ask(session, f"/v1/queues/{queue}/poll", {"worker": "w", "wait_ms": _WAIT_MS})
    return answer["tasks"][0]["token"], time.perf_counter()


async def _ask(session: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> Any:
    async with session.post(path, json=body) as answer:
        assert answer.ok, await answer.text()
        return await answer.json()
