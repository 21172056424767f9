"""Time that tests move: a clock set by hand, and an event loop on which nobody ever waits.

On `VirtualTimeLoop` a sleep of a day takes no time: when no callback is ready the loop jumps to
its next timer. So timed behaviour is tested exactly, at once, and the same way every run. A wait
that can never end is an error that names who waits, not a test that hangs.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor
from contextvars import Context, copy_context
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple, Unpack

from shared.testing.process import Step, process_of

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

START_MS = 1_700_000_000_000
"""Wall time at which virtual time starts, in Unix ms (November 2023)."""

LIMIT_MS = 3_600_000
"""Virtual time that a run may take. A node has tickers, so it always has a next timer: only this ends its run."""

_CLEANUP_US = 60_000_000
_RESOLUTION_S = 1e-6
_ASYNCIO = str(Path(asyncio.__file__).parent)


class NeverEndingWaitError(AssertionError):
    """Nothing can happen any more, or not in the time allowed. Names every task and where it waits."""


class ManualClock:
    """A `Clock` that moves only when told to."""

    __slots__ = ("_monotonic_ms", "_now_ms")

    def __init__(self, now_ms: int = START_MS, monotonic_ms: int = 0) -> None:
        self._now_ms = now_ms
        self._monotonic_ms = monotonic_ms

    def now_ms(self) -> int:
        """Wall time in Unix milliseconds."""
        return self._now_ms

    def monotonic_ms(self) -> int:
        """Milliseconds since an arbitrary moment; never goes back."""
        return self._monotonic_ms

    def advance(self, ms: int) -> None:
        """Let `ms` pass on both clocks."""
        assert ms >= 0, "time does not go back; use step_wall"
        self._now_ms += ms
        self._monotonic_ms += ms

    def step_wall(self, ms: int) -> None:
        """Correct the wall clock by `ms`, forward or back, while no time passes."""
        self._now_ms += ms


class LoopClock:
    """A `Clock` that reads the time of a loop; on a `VirtualTimeLoop`, virtual time."""

    __slots__ = ("_loop", "_start_wall_ms")

    def __init__(self, loop: asyncio.AbstractEventLoop, start_wall_ms: int = START_MS) -> None:
        self._loop = loop
        self._start_wall_ms = start_wall_ms

    def now_ms(self) -> int:
        """Wall time in Unix milliseconds: `start_wall_ms` when the loop's time was 0."""
        return self._start_wall_ms + self.monotonic_ms()

    def monotonic_ms(self) -> int:
        """The loop's time in milliseconds."""
        return int(self._loop.time() * 1000 + 1e-4)  # 1.001 * 1000 is a little less than 1001.


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only by jumps to the next timer. It starts at 0.

    While a socket is open or a thread works for the loop, there is something real to wait for, and
    time runs at its real pace. Child processes are not for this loop: it may not know of them.

    Raises NeverEndingWaitError out of the run when nothing is ready and there is no timer, or
    when the next timer is past `limit_ms`.
    """

    def __init__(self, *, limit_ms: int = LIMIT_MS) -> None:
        self._virtual_us = 0
        self._limit_us = limit_ms * 1000
        self._threads = 0
        selector = _JumpingSelector(self._wait)
        super().__init__(selector)
        self._own_descriptors = len(selector.get_map())  # The pipe by which threads and signals wake it.
        self._clock_resolution = _RESOLUTION_S

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual_us / 1e6

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """As in asyncio, but for a process that is stopped (`shared.testing.process`): then when it goes on."""
        context = copy_context() if context is None else context
        process = process_of(context)
        if process is None:
            return super().call_soon(callback, *args, context=context)
        step = Step(process, callback, args, context)
        step.handle = super().call_soon(step.run, context=Context())
        return step.handle

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As in asyncio, but for a process that is stopped: then no sooner than it goes on."""
        context = copy_context() if context is None else context
        process = process_of(context)
        if process is None:
            return super().call_at(when, callback, *args, context=context)
        step = Step(process, callback, args, context)
        timer = super().call_at(when, step.run, context=Context())
        step.handle = timer
        return timer

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> "asyncio.Future[T]":
        """As in asyncio. Time runs at its real pace until the thread is done."""
        self._threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._thread_done)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """As in asyncio; waits for its threads without a limit."""
        self._threads += 1
        try:
            await super().shutdown_default_executor()
        finally:
            self._threads -= 1

    def _thread_done(self, _: "asyncio.Future[Any]") -> None:
        self._threads -= 1

    def _wait(self, selector: "_JumpingSelector", timeout_s: float | None) -> "_Events":
        """What the selector does when no callback is ready: wait for something real, or jump."""
        if self._threads or len(selector.get_map()) > self._own_descriptors:
            began = super().time()
            events = selector.wait(timeout_s)
            waited = super().time() - began if events or timeout_s is None else timeout_s
            self._virtual_us += round(waited * 1e6)
            return events
        if timeout_s is None:
            raise self._stalled("Nothing is ready and no timer is set")
        self._virtual_us += max(1, round(timeout_s * 1e6))
        if self._virtual_us > self._limit_us:
            raise self._stalled(f"{self._limit_us // 1000} ms of virtual time have passed")
        return []

    def _stalled(self, why: str) -> NeverEndingWaitError:
        self._limit_us = self._virtual_us + _CLEANUP_US  # So that cancelled tasks may still tidy up.
        waiting = sorted(_describe(task) for task in asyncio.all_tasks(self))
        return NeverEndingWaitError("\n  ".join([f"{why}; waiting:", *waiting]))


def run_virtual(main: Callable[[], Coroutine[Any, Any, T]], *, limit_ms: int = LIMIT_MS) -> T:
    """Run `main()` on a new `VirtualTimeLoop` and return its result; remaining tasks are cancelled.

    Raises:
        NeverEndingWaitError: it cannot end, or not within `limit_ms` of virtual time.
    """
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(limit_ms=limit_ms)) as runner:
        return runner.run(main())


_Events = list[tuple[selectors.SelectorKey, int]]


class _JumpingSelector(selectors.BaseSelector):
    """A selector that asks before it waits."""

    def __init__(self, wait: "Callable[[_JumpingSelector, float | None], _Events]") -> None:
        self._real = selectors.DefaultSelector()
        self._wait = wait

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def select(self, timeout: float | None = None) -> _Events:
        events = self._real.select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        return self._wait(self, timeout)

    def wait(self, timeout: float | None) -> _Events:
        """Wait for a descriptor in real time."""
        return self._real.select(timeout)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


def _describe(task: "asyncio.Task[Any]") -> str:
    """Name, coroutine, and the line where it waits, on this side of asyncio."""
    coroutine: Any = task.get_coro()
    name, where = getattr(coroutine, "__qualname__", "?"), ""
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        if not frame.f_code.co_filename.startswith(_ASYNCIO):
            where = f" at {frame.f_code.co_filename}:{frame.f_lineno}"
        coroutine = coroutine.cr_await
    return f"{task.get_name()} ({name}){where}"
