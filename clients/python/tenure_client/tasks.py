"""A task in the hands of a handler: what it is to do, how it tells of its progress, and how it hears that it is off."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any, Self

from tenure_client.errors import TaskCancelledError


class Task:
    """One task. Hand `key` to whatever has an effect: it is the same whenever this step is tried again."""

    def __init__(self, shown: Mapping[str, Any]) -> None:
        self.token: str = shown["token"]
        self.queue: str = shown["queue"]
        self.run: str = shown["run"]
        self.definition: str = shown["definition"]
        self.version: int = shown["version"]
        self.step: str = shown["step"]
        self.key: str = shown["key"]
        self.attempt: int = shown["attempt"]
        self.workers_lost: int = shown["workers_lost"]
        self.input: Any = shown["input"]
        self.due_ms: int | None = shown["due_ms"]
        """When the attempt times out, in ms since 1970."""
        self.heartbeat_ms: int | None = shown["heartbeat_ms"]
        self._told: Any = None
        self._wake: Callable[[], None] = lambda: None
        self._off = threading.Event()

    @classmethod
    def example(cls, task_input: Any, *, key: str = "run-1/step:1", queue: str = "queue") -> Self:
        """A task as a handler gets it, for a test of that handler."""
        shown = {
            "token": "tsk_example",
            "queue": queue,
            "run": "run-1",
            "definition": "example",
            "version": 1,
            "step": "step",
            "key": key,
            "attempt": 1,
            "workers_lost": 0,
            "input": task_input,
            "due_ms": None,
            "heartbeat_ms": None,
        }
        return cls(shown)

    def progress(self, value: Any) -> None:
        """Tell the run how far this is: anything of JSON, small. From any thread; the newest counts."""
        self._told = value
        self._wake()

    @property
    def cancel_requested(self) -> bool:
        """Whether nobody wants the task any more. A handler that is `async` is cancelled as well."""
        return self._off.is_set()

    def check(self) -> None:
        """Go on only if the task is wanted.

        Raises:
            TaskCancelledError: it is not.
        """
        if self.cancel_requested:
            raise TaskCancelledError(self.step)

    def begin(self, loop: asyncio.AbstractEventLoop, news: asyncio.Event) -> None:
        """The worker listens: `news` is set on its loop whenever there is progress to tell."""
        self._wake = lambda: _set_soon(loop, news)

    def take_progress(self) -> Any:
        """What is to be told, once."""
        told, self._told = self._told, None
        return told

    def call_off(self) -> None:
        """Nobody wants it any more."""
        self._off.set()


def _set_soon(loop: asyncio.AbstractEventLoop, news: asyncio.Event) -> None:
    if not loop.is_closed():  # A thread may outlive the worker.
        loop.call_soon_threadsafe(news.set)
