"""The thread that ends a node which an object holds, after it has seen to it that the next owner refuses that object.

It must not need the event loop, for that is what does not answer: it has a clock, a connection and a loop of its own.
It records the quarantine first and ends the process only when the store has it. Without the record the next owner would
die of the same object; and while the store is away, nobody else can take over anyway.
"""

import asyncio
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from shared import bounds
from shared.clock import Clock
from shared.objects.quarantine import TERMS
from shared.objects.watchdog import RunningTurn, Sight, Verdict, Watch, frame_of, turn_in
from shared.storage.interface import StoreError
from shared.storage.quarantines import Quarantine
from shared.storage.redis.store import RedisStore
from shared.telemetry import logs
from shared.telemetry.metrics import Metrics

EXIT_STUCK: Final = 3
"""The exit code of a node that an object held. Whoever runs it starts it again."""

_log = logs.get_logger()


class Watchdog:
    """Watches the event loop that calls `watching` and runs `beat`."""

    def __init__(
        self,
        clock: Clock,
        metrics: Metrics,
        *,
        quarantine: Callable[[RunningTurn], Quarantine],
        end: Callable[[int], object] = os._exit,
    ) -> None:
        self._clock = clock
        self._metrics = metrics
        self._quarantine = quarantine
        self._end = end
        self._beat_ms = clock.monotonic_ms()
        self._done = threading.Event()

    async def beat(self) -> None:
        """Show for ever that the loop comes round."""
        while True:
            self._beat_ms = self._clock.monotonic_ms()
            await asyncio.sleep(bounds.LOOP_WATCH_MS / 1000)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the loop of this thread until the block ends."""
        self._beat_ms = self._clock.monotonic_ms()
        thread = threading.Thread(target=self._run, args=(threading.get_ident(),), name="watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()

    def _run(self, thread_id: int) -> None:
        clock = self._clock
        watch = Watch(clock.monotonic_ms())
        while True:
            began_ms, worked_ms = clock.monotonic_ms(), _processor_ms(thread_id)
            if self._done.wait(bounds.LOOP_WATCH_MS / 1000):
                return
            now_ms = clock.monotonic_ms()
            frame: FrameType | None = None

            def turn() -> RunningTurn | None:
                nonlocal frame
                frame = frame_of(thread_id)
                return turn_in(frame)

            sight = watch.look(
                now_ms,
                beat_ms=self._beat_ms,
                late_ms=now_ms - began_ms - bounds.LOOP_WATCH_MS,
                worked_ms=_processor_ms(thread_id) - worked_ms,
                turn=turn,
            )
            self._act(sight, frame)
            del frame

    def _act(self, sight: Sight, frame: FrameType | None) -> None:
        name = str(sight.turn.address) if sight.turn is not None else ""
        if sight.verdict is Verdict.BLOCKED:
            stack = "".join(traceback.format_stack(frame)).rstrip() if frame is not None else ""
            self._metrics.eventloop_blocked(sight.turn.address.kind if sight.turn is not None else "")
            _log.warning(logs.EVENTLOOP_BLOCKED, object=name, blocked_ms=sight.blocked_ms, stack=stack)
        elif sight.verdict is Verdict.STUCK and sight.turn is not None:
            try:
                record = self._quarantine(sight.turn)
            except StoreError as exc:
                _log.warning(logs.STORE_AWAY, error=str(exc))
                return
            _log.error(logs.OBJECT_QUARANTINED, object=name, count=record.count, until_ms=record.until_ms)
            self._end(EXIT_STUCK)


def quarantine_at(url: str, *, service: str) -> Callable[[RunningTurn], Quarantine]:
    """Records the quarantine of an object in the store at `url`, from any thread and over a connection of its own.

    What it returns raises StoreError where the store does not answer.
    """

    async def record(turn: RunningTurn) -> Quarantine:
        store = RedisStore(url, service=service)
        try:
            return await store.quarantine(turn.shard, turn.object_id, TERMS)
        finally:
            await store.close()

    return lambda turn: asyncio.run(record(turn))


def _processor_ms(thread_id: int) -> int:
    """Processor time that a thread of this process has used; 0 where the system does not tell."""
    clock_of = getattr(time, "pthread_getcpuclockid", None)
    return int(time.clock_gettime(clock_of(thread_id)) * 1000) if clock_of is not None else 0
