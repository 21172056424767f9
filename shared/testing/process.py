"""A process that stops and goes on, as under SIGSTOP and SIGCONT, inside one event loop.

Whatever is started in a `Process`, and whatever that starts in turn, belongs to it: tasks, callbacks,
timers. While it is stopped none of that runs, though time passes; when it goes on, all that came due
meanwhile runs at once, in the order in which it came due. Others on the loop notice nothing but silence.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

T = TypeVar("T")
_current: "ContextVar[Process | None]" = ContextVar("process", default=None)


class Process:
    """Runs what is spawned in it, except while it is stopped. Works on a `VirtualTimeLoop` only."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stopped = False
        self._held: list[Step] = []

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Start a task that belongs to this process."""
        context = copy_context()
        context.run(_current.set, self)
        return asyncio.get_running_loop().create_task(coroutine, context=context)

    def stop(self) -> None:
        """Run nothing from now on."""
        self.stopped = True

    def resume(self) -> None:
        """Go on; what came due meanwhile runs first."""
        self.stopped = False
        held, self._held = self._held, []
        loop = asyncio.get_running_loop()
        for step in held:
            loop.call_soon(step.run, context=Context())

    def hold(self, step: "Step") -> None:
        """Keep a step for when the process goes on."""
        self._held.append(step)


class Step:
    """One callback of a process. A handle that is cancelled while the step is held still counts as cancelled."""

    __slots__ = ("_arguments", "_callback", "_context", "_process", "handle")

    handle: asyncio.Handle

    def __init__(
        self, process: Process, callback: Callable[..., Any], arguments: tuple[Any, ...], context: Context
    ) -> None:
        self._process = process
        self._callback = callback
        self._arguments = arguments
        self._context = context

    def run(self) -> None:
        """Run the callback now, or when its process goes on."""
        if self.handle.cancelled():
            return
        if self._process.stopped:
            self._process.hold(self)
        else:
            self._context.run(self._callback, *self._arguments)


def process_of(context: Context) -> Process | None:
    """The process to which what runs in `context` belongs."""
    return context.get(_current)
