"""A worker as a real process, for tests: it writes what happens to it into a file, and does as the input of a task says.

python worker_process.py URL KEY NAME FILE [LEASE_S]
"""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

from tenure_client import Task, TaskFailedError, Worker

URL, KEY, NAME, FILE, *MORE = sys.argv[1:]
worker = Worker(
    URL,
    KEY,
    name=NAME,
    concurrency=4,
    lease_s=int(MORE[0]) if MORE else 60,
    poll_s=2,
    grace_s=float(MORE[1]) if MORE[1:] else 1,
)


def tell(event: str, task: Task) -> None:
    """One line in the file."""
    with Path(FILE).open("a") as file:
        file.write(f"{NAME} {event} {task.key} {task.attempt}\n")


@worker.task("waiting")
async def wait(task: Task) -> Any:
    """Wait so long, telling how far it is, and return the input."""
    tell("begin", task)
    try:
        for nth in range(int(task.input["s"] * 10)):
            task.progress({"tenths": nth})
            await asyncio.sleep(0.1)
    except asyncio.CancelledError:
        tell("cancelled", task)
        raise
    tell("end", task)
    return task.input


@worker.task("blocking")
def block(task: Task) -> Any:
    """The same in a thread, which looks whether it is wanted."""
    tell("begin", task)
    for _ in range(int(task.input["s"] * 10)):
        time.sleep(0.1)
        if task.cancel_requested:
            tell("cancelled", task)
        task.check()
    tell("end", task)
    return task.input


@worker.task("failing")
async def fail(task: Task) -> Any:
    """Fail as the input says."""
    tell("begin", task)
    if task.input["how"] == "bug":
        raise ValueError("a bug")
    if task.input["how"] == "large":
        return "x" * 100_000
    raise TaskFailedError(task.input["how"], {"seen": 1}, retry=task.input["retry"])


worker.run()
