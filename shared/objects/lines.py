"""Who is next when messages are delivered: a receiver that hangs or fails takes up no more than its share.

A *line* is what one object has sent to another, in order. A line that is ready waits at its receiver for a place.
There are so many places in all and fewer at one receiver, one alone while it fails. Receivers take turns.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from shared import bounds
from shared.objects.messages import Message
from shared.objects.ownership import Shard


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

    __slots__ = ("after", "closed", "held", "lines", "shard")

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.held = 0  # Messages that are known and not settled.
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

    __slots__ = ("failing", "queued", "ready", "under_way")

    def __init__(self) -> None:
        self.ready: deque[Line] = deque()
        self.under_way = 0
        self.failing = False  # So was the last delivery that has ended.
        self.queued = False  # It waits for its turn.

    @property
    def full(self) -> bool:
        return self.under_way >= (1 if self.failing else bounds.RECEIVER_DELIVERIES_MAX)


class Places:
    """The places of one host. `serve` is called with a line that has got one; `left` gives it back."""

    def __init__(self, serve: Callable[[Line], object]) -> None:
        self._serve = serve
        self._under_way = 0
        self._receivers: dict[bytes, _Receiver] = {}
        self._turns: deque[_Receiver] = deque()

    def ready(self, line: Line) -> None:
        """The first message of a line can be delivered."""
        receiver = self._receivers.get(line.key.receiver)
        if receiver is None:
            receiver = self._receivers[line.key.receiver] = _Receiver()
        receiver.ready.append(line)
        self._queue(receiver)
        self._admit()

    def left(self, line: Line, *, failed: bool) -> None:
        """A delivery has ended."""
        receiver = self._receivers[line.key.receiver]
        receiver.failing = failed
        receiver.under_way -= 1
        self._under_way -= 1
        self._go_round(line, receiver)
        self._admit()

    def _go_round(self, line: Line, receiver: _Receiver) -> None:
        """A line of the receiver has had its turn, or its delivery has ended."""
        self._queue(receiver)
        if not receiver.ready and not receiver.under_way:
            del self._receivers[line.key.receiver]

    def _queue(self, receiver: _Receiver) -> None:
        if receiver.ready and not receiver.queued and not receiver.full:
            receiver.queued = True
            self._turns.append(receiver)

    def _admit(self) -> None:
        while self._turns and self._under_way < bounds.DELIVERIES_MAX:
            receiver = self._turns.popleft()
            receiver.queued = False
            if receiver.full:
                continue  # It comes again when one of its deliveries has ended.
            line = receiver.ready.popleft()
            receiver.under_way += not line.post.closed
            self._under_way += not line.post.closed
            self._go_round(line, receiver)
            if not line.post.closed:
                self._serve(line)
