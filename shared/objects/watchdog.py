"""Tells an object that holds its node from a node that is merely late.

The event loop shows that it lives by a beat. When the beat stays out, whoever watches looks at the stack of the
loop's thread: the innermost frame of the core that has an activation in hand names the object and its turn. So turns
leave no trail for this, and the fast way in pays nothing. Nobody is blamed on one look: the same turn has to be there
at every look for four seconds, and what passed while the whole process stood still does not count.

What this cannot see: code that never lets the interpreter's lock go (one endless regular expression, one huge power)
keeps the watching thread from looking; memory that runs out; and a loop held by many short turns, which is load.
"""

import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from shared import bounds
from shared.objects.activation import Activation
from shared.objects.address import Address

_CORE = str(Path(__file__).parent)


class RunningTurn(NamedTuple):
    """The turn `number` of an object, as its owner counts them."""

    address: Address
    object_id: bytes
    shard: int
    number: int


class Verdict(Enum):
    """What a look at the loop comes to."""

    CALM = 1
    BLOCKED = 2  # For a second; said once of each time that it is blocked.
    STUCK = 3  # One turn has held it for four seconds.


class Sight(NamedTuple):
    """What one look has shown."""

    verdict: Verdict
    blocked_ms: int = 0
    turn: RunningTurn | None = None


class Watch:
    """Judges a series of looks at one event loop."""

    def __init__(self, now_ms: int) -> None:
        self._counted_ms = now_ms  # The time before does not count.
        self._turn: RunningTurn | None = None
        self._turn_ms = 0  # Since when it was seen at every look.
        self._told = False

    def look(
        self, now_ms: int, *, beat_ms: int, late_ms: int, worked_ms: int, turn: Callable[[], RunningTurn | None]
    ) -> Sight:
        """One look, at `now_ms` of a monotonic clock; the loop beat last at `beat_ms`.

        The look comes `late_ms` after it was due, and the loop's thread has used `worked_ms` of a processor since the
        one before. Late without work, the process stood still as a whole: it was stopped, or its machine was.
        """
        if late_ms > bounds.LOOP_WATCH_MS and worked_ms * 2 < late_ms:
            self._counted_ms, self._turn = now_ms, None
        blocked_ms = now_ms - max(beat_ms, self._counted_ms)
        if blocked_ms < 2 * bounds.LOOP_WATCH_MS:
            self._turn, self._told = None, False
            return Sight(Verdict.CALM)
        seen = turn()
        if seen != self._turn:
            self._turn, self._turn_ms = seen, now_ms
        if seen is not None and now_ms - self._turn_ms >= bounds.LOOP_STUCK_MS:
            return Sight(Verdict.STUCK, blocked_ms, seen)
        if blocked_ms >= bounds.LOOP_BLOCKED_MS and not self._told:
            self._told = True
            return Sight(Verdict.BLOCKED, blocked_ms, seen)
        return Sight(Verdict.CALM, blocked_ms, seen)


def frame_of(thread_id: int) -> FrameType | None:
    """Where a thread is now; it goes on meanwhile, so what is found may be a moment old."""
    return sys._current_frames().get(thread_id)  # noqa: SLF001  # The documented way to see another thread.


def turn_in(frame: FrameType | None) -> RunningTurn | None:
    """The turn that runs in this frame or waits for it."""
    while frame is not None:
        if frame.f_code.co_filename.startswith(_CORE):
            activation = frame.f_locals.get("activation")
            if isinstance(activation, Activation):
                return RunningTurn(activation.address, activation.object_id, activation.shard.index, activation.turns)
        frame = frame.f_back
    return None
