"""One open socket at its ingress: what it was told, what waits to be sent, and how it will end.

Frames to the client are JSON, one object each:

    {"seq": 7, "message": ...}                        the seventh message of this socket; the numbers have no gaps
    {"resync": {"after": 7, "received": 3}}           after message 7 something may be missing: ask for the state anew;
                                                      what became of your frames after the third is not known
    {"refused": {"frame": 4, "code": ..., ...}}       your fourth frame surely had no effect
    {"pong": 1}                                       the answer to {"ping": 1}

The queue is bounded: a client that does not read is cut off, and costs nobody else anything.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeVar

import msgspec

from shared import bounds
from shared.errors import RefusedError, TenureError
from shared.objects.address import Address
from shared.objects.handler import Kind
from shared.objects.sockets import Close, Say, Sender

T = TypeVar("T")
CloseReason = Literal["peer", "author", "slow", "idle", "revoked", "malformed", "too_large", "stopping", "fault"]
"""Why a socket has ended, as it is counted."""


class Frame(msgspec.Struct, frozen=True):
    """What waits to be sent: its JSON, and what it counts for."""

    text: str
    size_bytes: int


class Load:
    """Bytes that wait in all queues of an ingress, and its sockets by tenant and, but for streams, by object."""

    __slots__ = ("by_address", "by_tenant", "queued_bytes", "sockets")

    def __init__(self) -> None:
        self.queued_bytes = 0
        self.sockets = 0
        self.by_address: Counter[Address] = Counter()
        self.by_tenant: Counter[str] = Counter()

    def has_room(self, address: Address) -> bool:
        """Whether one more socket of the object may be opened."""
        return self.has_room_for(address.tenant) and self.by_address[address] < bounds.SOCKETS_PER_OBJECT_MAX

    def has_room_for(self, tenant: str) -> bool:
        """Whether one more socket of the tenant may be opened."""
        return self.sockets < bounds.SOCKETS_MAX and self.by_tenant[tenant] < bounds.SOCKETS_PER_TENANT_MAX

    def count(self, address: Address, change: int) -> None:
        """A socket of the object has come (1) or left (-1)."""
        _add(self.by_address, address, change)
        self.count_for(address.tenant, change)

    def count_for(self, tenant: str, change: int) -> None:
        """A socket of the tenant has come (1) or left (-1)."""
        self.sockets += change
        _add(self.by_tenant, tenant, change)


class Record(NamedTuple):
    """What a socket is: whose, and what it remembers."""

    id: str
    kind: Kind
    address: Address
    tags: tuple[str, ...]
    attachment: bytes
    valid: Callable[[], bool]
    """Whether the credential that opened it still counts."""


class Wire:
    """An open socket. The ingress alone changes it; the transport takes from it what is to be sent."""

    __slots__ = (
        "_load",
        "_queue",
        "_queued_bytes",
        "_resync",
        "_waiter",
        "address",
        "attachment",
        "end",
        "ended_by",
        "frames",
        "heard_ms",
        "id",
        "kind",
        "number",
        "opened",
        "sender",
        "seq",
        "settled",
        "tags",
        "valid",
    )

    def __init__(self, record: Record, load: Load, *, now_ms: int) -> None:
        self.id = record.id
        self.kind = record.kind
        self.address = record.address
        self.tags = record.tags
        self.attachment = record.attachment
        self.valid = record.valid
        self.heard_ms = now_ms
        self.opened = False
        self.seq = 0  # Messages that were sent.
        self.frames = 0  # Frames that were received,
        self.settled = 0  # and up to which of them it is known whether they count.
        self.sender: Sender = (0, 0)
        self.number = 0
        self.end: asyncio.Future[Close] = asyncio.get_running_loop().create_future()
        """How it ends; done when it does, though something may still wait to be sent."""
        self.ended_by: CloseReason = "peer"
        self._load = load
        self._queue: deque[Frame] = deque()
        self._queued_bytes = 0
        self._resync: Frame | None = None
        self._waiter: asyncio.Future[None] | None = None

    def follows(self, sender: Sender, number: int) -> bool | None:
        """Whether an output is the next; False: something before it is missing; None: its sender has a successor."""
        if sender < self.sender:
            return None
        expected = self.number + 1 if sender == self.sender else 1
        self.sender, self.number = sender, number
        return number == expected

    def say(self, message: Say) -> bool:
        """Queue a message; False: there is no room for it."""
        seq = self.seq + 1
        if not self._put(Frame(f'{{"seq":{seq},"message":{message.text}}}', message.size_bytes)):
            return False
        self.seq = seq
        return True

    @property
    def resync_waits(self) -> bool:
        """Whether the last that waits to be sent is a resync: it says all that another one would."""
        return bool(self._queue) and self._queue[-1] is self._resync

    def resync(self) -> bool:
        """Tell that something may be missing; False: there is no room."""
        self._resync = _frame({"resync": {"after": self.seq, "received": self.settled}})
        return self._put(self._resync)

    def refuse(self, frame: int, error: TenureError) -> bool:
        """Tell that a frame had no effect, and why."""
        told = {"frame": frame, "code": error.code, "detail": str(getattr(error, "detail", "") or error)}
        if isinstance(error, RefusedError):
            told["retry_after_ms"] = error.retry_after_ms
        return self._put(_frame({"refused": told}))

    def pong(self, number: int) -> bool:
        """Answer a ping."""
        return self._put(_frame({"pong": number}))

    def finish(self, close: Close, why: CloseReason, *, at_once: bool) -> int:
        """End it after what waits, or `at_once`; how many frames are not sent for it. The first end counts."""
        if self.end.done():
            return 0
        dropped = len(self._queue) if at_once else 0
        if at_once:
            self._clear()
        self.ended_by = why
        self.end.set_result(close)
        self._wake()
        return dropped

    async def next(self) -> str | None:
        """The next frame to send, once there is one; None: nothing comes any more."""
        while not self._queue:
            if self.end.done():
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        frame = self._queue.popleft()
        self._count(-frame.size_bytes)
        return frame.text

    def discard(self) -> int:
        """It has left: forget what waits; how many frames that were."""
        dropped = len(self._queue)
        self._clear()
        return dropped

    def _put(self, frame: Frame) -> bool:
        if self.end.done():
            return True  # Nobody will miss it.
        if (
            len(self._queue) >= bounds.SOCKET_QUEUE_FRAMES_MAX
            or self._queued_bytes + frame.size_bytes > bounds.SOCKET_QUEUE_BYTES_MAX
            or self._load.queued_bytes + frame.size_bytes > bounds.SOCKETS_QUEUED_BYTES_MAX
        ):
            return False
        self._queue.append(frame)
        self._count(frame.size_bytes)
        self._wake()
        return True

    def _clear(self) -> None:
        self._queue.clear()
        self._count(-self._queued_bytes)

    def _count(self, size_bytes: int) -> None:
        self._queued_bytes += size_bytes
        self._load.queued_bytes += size_bytes

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _frame(told: dict[str, object]) -> Frame:
    text = msgspec.json.encode(told).decode()
    return Frame(text, len(text))


def _add(counter: Counter[T], key: T, change: int) -> None:
    counter[key] += change
    if not counter[key]:
        del counter[key]
