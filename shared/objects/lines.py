"""Who is next when messages are delivered: a receiver that hangs or fails takes up no more than its share.

A *line* is what one object has sent to another, in order. A line that is ready waits at its receiver for a place.
There are so many places in all and fewer at one receiver: one alone, unless its last delivery went well and in time.
Each kind of a tenant may have as many places as it leaves free, and its receivers take turns; so there are always some
for the next. A delivery that takes long goes on without a place.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from shared import bounds
from shared.objects.messages import Message
from shared.objects.ownership import Shard
from shared.objects.room import Room
from shared.objects.store_clock import StoreClock


class LineKey(NamedTuple):
    """Who sends to whom: two encoded addresses."""

    sender: bytes
    receiver: bytes


class Letter(NamedTuple):
    """A message, read from the store."""

    number: int
    message_id: bytes
    message: Message


class Post:
    """What of one shard's outbox was read since it opened last."""

    __slots__ = ("after", "closed", "held", "lines", "passed", "shard")

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.held: dict[bytes, int] = {}  # Messages that are known and not settled, by receiver.
        self.passed: dict[bytes, int] = {}  # The number from which on messages to a receiver were passed over.
        self.after = 0  # The number of the newest message that was read.
        self.lines: dict[LineKey, Line] = {}
        self.closed = False  # The shard was opened anew, or lost: others see to it.


class Line:
    """What one object has sent to another and is not settled, oldest first: messages, or but their numbers."""

    __slots__ = ("error", "failures", "key", "post", "waiting")

    def __init__(self, post: Post, key: LineKey) -> None:
        self.post = post
        self.key = key
        self.failures = 0  # Of the first message,
        self.error = "it was never tried"  # and the last one.
        self.waiting: list[Letter | int] = []

    def aside(self, most: int) -> list[int]:
        """The numbers of the first messages, `most` at most, that are not in memory; none if the first one is."""
        numbers: list[int] = []
        for each in self.waiting[:most]:
            if not isinstance(each, int):
                break
            numbers.append(each)
        return numbers

    def forget(self, message_id: bytes) -> int:
        """Drop what is here once more of a message that has been given up; say how much that was."""
        kept = [each for each in self.waiting if isinstance(each, int) or each.message_id != message_id]
        dropped, self.waiting = len(self.waiting) - len(kept), kept
        return dropped

    def succeed(self) -> None:
        """The first message has been received, or given up."""
        self.failures, self.error = 0, "it was never tried"

    def fail(self, error: str) -> None:
        """Put the line aside: forget the messages but for their numbers, they are read again when it is their turn."""
        self.failures += 1
        self.error = error
        self.waiting = [each if isinstance(each, int) else each.number for each in self.waiting]


class _Receiver:
    """The lines of one receiver that wait for a place, and the places that it has."""

    __slots__ = ("group", "queued", "ready", "under_way", "well")

    def __init__(self, key: bytes) -> None:
        tenant_end = 1 + key[0]
        self.group = key[: tenant_end + 1 + key[tenant_end]]  # Its kind and tenant.
        self.ready: deque[Line] = deque()
        self.under_way = 0
        self.well = False  # The last delivery that has ended went well, and in time.
        self.queued = False  # It waits for its turn.

    @property
    def full(self) -> bool:
        return self.under_way >= (bounds.RECEIVER_DELIVERIES_MAX if self.well else 1)


class Places:
    """The places of one host. `serve` is called with a line that has got one; `left` gives it back."""

    def __init__(self, serve: Callable[[Line], object], clock: StoreClock) -> None:
        self._serve = serve
        self._clock = clock
        self._room = _room()
        self._rooms: dict[bytes, Room[Line]] = {}  # What of it each group has.
        self._receivers: dict[bytes, _Receiver] = {}
        self._turns: dict[bytes, deque[_Receiver]] = {}  # By group, which take turns in that order.
        self._timer: asyncio.TimerHandle | None = None

    def ready(self, line: Line) -> None:
        """The first message of a line can be delivered."""
        receiver = self._receivers.get(line.key.receiver)
        if receiver is None:
            receiver = self._receivers[line.key.receiver] = _Receiver(line.key.receiver)
        receiver.ready.append(line)
        self._queue(receiver)
        self._admit()

    def left(self, line: Line, *, failed: bool) -> None:
        """A delivery has ended."""
        receiver = self._receivers[line.key.receiver]
        receiver.well = self._give_back(line, receiver.group) and not failed
        receiver.under_way -= 1
        self._go_round(line, receiver)
        self._admit()

    def stop(self) -> None:
        """Nobody is served any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _go_round(self, line: Line, receiver: _Receiver) -> None:
        """A line of the receiver has had its turn, or its delivery has ended."""
        self._queue(receiver)
        if not receiver.ready and not receiver.under_way:
            del self._receivers[line.key.receiver]

    def _queue(self, receiver: _Receiver) -> None:
        if receiver.ready and not receiver.queued and not receiver.full:
            receiver.queued = True
            self._turns.setdefault(receiver.group, deque()).append(receiver)

    def _next(self, now_ms: int) -> _Receiver | None:
        """Whose turn it is, if it can have a place."""
        free = self._room.free(now_ms)
        for group in self._turns:
            room = self._rooms.get(group)
            if (room.held(now_ms) if room else 0) < free:
                break
        else:
            return None
        receivers = self._turns.pop(group)
        receiver = receivers.popleft()
        receiver.queued = False
        if receivers:
            self._turns[group] = receivers  # Behind the others.
        return receiver

    def _admit(self) -> None:
        now_ms = self._clock.monotonic_ms()
        while (receiver := self._next(now_ms)) is not None:
            if receiver.full:
                continue  # It comes again when one of its deliveries has ended.
            line = receiver.ready.popleft()
            if line.post.closed:
                self._go_round(line, receiver)
                continue
            receiver.under_way += 1
            self._room.take(line, now_ms)
            self._rooms.setdefault(receiver.group, _room()).take(line, now_ms)
            self._go_round(line, receiver)
            self._serve(line)
        if self._turns and self._timer is None:
            wait_ms = (self._room.next_ms() or now_ms) - now_ms
            self._timer = asyncio.get_running_loop().call_later(max(1, wait_ms) / 1000, self._admit_late)

    def _admit_late(self) -> None:
        self._timer = None
        self._admit()

    def _give_back(self, line: Line, group: bytes) -> bool:
        """A delivery has ended; say whether it had its place until then."""
        room = self._rooms.get(group)
        if room is not None:
            room.give_back(line)
            if not room.held(self._clock.monotonic_ms()):
                del self._rooms[group]
        return self._room.give_back(line)


def _room() -> Room[Line]:
    return Room(bounds.DELIVERIES_MAX, patience_ms=bounds.DELIVERY_PLACE_MS)
