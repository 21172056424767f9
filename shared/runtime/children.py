"""Keeps child processes running: restarts what died, and ends all of it in order.

A child that dies is started again at once, so that `kill -9` costs only its start. One that dies
right after each start is started ever more slowly. One that never got as far as being ready is a
mistake in the set-up: it is given up with its own last sentence.

No threads: the kernel's SIGCHLD wakes the loop, which must run in the main thread.
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from shared.clock import Clock
from shared.errors import ConfigurationError, TenureError
from shared.retry import Backoff

EXIT_CONFIGURATION = 2
STARTS_MAX = 3
"""How often a child that was never ready is started."""
RAPID_MS = 1_500
"""A shorter life is a rapid death."""
RESTART_MS = 250
RESTART_MS_MAX = 5_000
_RAPID_FREE = 3
_RESTARTS = Backoff(base_ms=RESTART_MS, cap_ms=RESTART_MS_MAX)


class ChildFailedError(TenureError):
    """A child ended again and again before it was ready."""

    code = "child_failed"


class Reaper:
    """Tells who waits for a child that it has ended."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._ended: dict[subprocess.Popen[bytes], asyncio.Event] = {}
        loop.add_signal_handler(signal.SIGCHLD, self._look)

    async def wait(self, process: subprocess.Popen[bytes]) -> int:
        """The exit code of a child, once it has ended; negative for a signal."""
        ended = self._ended.setdefault(process, asyncio.Event())
        self._look()  # It may have ended before anybody asked.
        await ended.wait()
        self._ended.pop(process, None)
        return int(process.returncode)

    def _look(self) -> None:
        for process, ended in self._ended.items():
            if process.poll() is not None:
                ended.set()


class Child:
    """One process that is to run all the time."""

    def __init__(
        self,
        name: str,
        spawn: Callable[[], subprocess.Popen[bytes]],
        *,
        last_words: Callable[[], str],
        reaper: Reaper,
        clock: Clock,
        tell: Callable[[str], None],
    ) -> None:
        self.name = name
        self.was_ready = False
        self._spawn = spawn
        self._last_words = last_words
        self._reaper = reaper
        self._clock = clock
        self._tell = tell
        self._process: subprocess.Popen[bytes] | None = None

    async def keep_running(self) -> NoReturn:
        """Start the process, and again whenever it ends.

        Raises:
            ConfigurationError: it said that it cannot run as it is configured.
            ChildFailedError: it ended several times before it was ready.
        """
        starts = rapid_deaths = 0
        while True:
            started_ms = self._clock.monotonic_ms()
            self._process = self._spawn()
            starts += 1
            exit_code = await self._reaper.wait(self._process)
            self._give_up_if_hopeless(exit_code, starts)
            lived_ms = self._clock.monotonic_ms() - started_ms
            rapid_deaths = rapid_deaths + 1 if lived_ms < RAPID_MS else 0
            delay_ms = restart_delay_ms(rapid_deaths)
            self._tell(f"{self.name} ended ({_cause(exit_code)}); {_when(delay_ms)}.")
            await asyncio.sleep(delay_ms / 1000)

    async def stop(self, *, grace_ms: int, hurry: asyncio.Event) -> None:
        """Ask the process to end; kill it after `grace_ms`, or when `hurry` is set.

        `keep_running` must have been cancelled, or it would start the process again.
        """
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        ended = asyncio.ensure_future(self._reaper.wait(process))
        hurried = asyncio.ensure_future(hurry.wait())
        await asyncio.wait((ended, hurried), timeout=grace_ms / 1000, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if not ended.done():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        await ended

    def _give_up_if_hopeless(self, exit_code: int, starts: int) -> None:
        if self.was_ready:
            return
        if exit_code == EXIT_CONFIGURATION:
            raise ConfigurationError(self._last_words())
        if starts >= STARTS_MAX:
            raise ChildFailedError(f"{self.name} does not start ({_cause(exit_code)}): {self._last_words()}")


def restart_delay_ms(rapid_deaths: int) -> int:
    """How long to wait before the next start, after so many rapid deaths in a row."""
    if rapid_deaths <= _RAPID_FREE:
        return 0
    return _RESTARTS.nominal_ms(rapid_deaths - _RAPID_FREE - 1)


def _cause(exit_code: int) -> str:
    if exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        return signal.Signals(-exit_code).name
    except ValueError:
        return f"signal {-exit_code}"


def _when(delay_ms: int) -> str:
    return f"starting it again in {delay_ms} ms" if delay_ms else "starting it again"
