"""Delivers what objects have sent: at least once, in order for each pair of sender and receiver.

The outbox in the store is the only list of what is to be done. A commit that carried messages wakes the
courier, which reads the outbox of that shard on from where it was; a shard that opens is read from the
start. So a crash, a move or a lost reply costs a second delivery, which the receiver knows as such
(`once.Delivery`), and no message is lost.

A message leaves the outbox by a commit of its own, after the receiver's effect is stored. A receiver that is
away, overloaded or fails is tried again, and what is behind that message waits for it.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from shared import bounds
from shared.errors import TenureError
from shared.objects.address import Address
from shared.objects.errors import DomainError, UnavailableError
from shared.objects.messages import Message
from shared.objects.once import Delivery
from shared.objects.ownership import Shard
from shared.retry import Backoff
from shared.storage.codec import UnknownFormatError
from shared.storage.interface import ObjectWrite, Store, StoreError
from shared.storage.listings import OutboxRow
from shared.telemetry import logs

if TYPE_CHECKING:
    from shared.objects.host import Host

_RETRIES = Backoff(base_ms=bounds.MESSAGE_RETRY_MS, cap_ms=bounds.MESSAGE_RETRY_MS_MAX)
_log = logs.get_logger()


class _Line(NamedTuple):
    """Who sends to whom."""

    sender: bytes
    receiver: bytes


class _Post:
    """What of one shard's outbox was read since it opened last."""

    __slots__ = ("after", "closed", "held", "lines", "shard")

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.held = 0  # Messages that were read and are not settled.
        self.after = 0  # The number of the newest message that was read.
        self.lines: dict[_Line, deque[tuple[OutboxRow, Message]]] = {}
        self.closed = False  # The shard was opened anew, or lost: others see to it.


class Courier:
    """The courier of one host."""

    def __init__(self, host: "Host", store: Store) -> None:
        self._host = host
        self._store = store
        self._clock = host.store_clock
        self._posts: dict[Shard, _Post] = {}
        self._unread: dict[Shard, None] = {}  # In the order in which they are to be read.
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(bounds.DELIVERIES_MAX)
        self.held = 0
        """Messages that were read and are not settled."""

    def posted(self, shard: Shard) -> None:
        """The store has new messages of a shard."""
        if shard in self._posts:
            self._unread[shard] = None
            self._wake.set()

    def opened(self, shards: Sequence[Shard]) -> None:
        """Shards have opened: whatever of theirs is not delivered is ours to deliver."""
        for shard in shards:
            self.closed(shard)
            self._posts[shard] = _Post(shard)
            self.posted(shard)

    def closed(self, shard: Shard) -> None:
        """The shard is not ours any more, for now or for good."""
        post = self._posts.pop(shard, None)
        if post is not None:
            post.closed = True
            self._release(post.held)

    async def run(self) -> None:
        """Deliver for ever."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._unread and self.held < bounds.MESSAGES_HELD_MAX:
                    shard = next(iter(self._unread))
                    del self._unread[shard]
                    await self._read(shard)
        finally:
            for task in self._tasks:
                task.cancel()

    async def _read(self, shard: Shard) -> None:
        post = self._posts.get(shard)
        if post is None:
            return
        try:
            (rows,) = await self._store.outbox([(shard.index, post.after)], rows=bounds.MESSAGE_ROWS)
        except StoreError as exc:
            _log.warning(logs.STORE_AWAY, error=str(exc))
            self._unread[shard] = None
            await asyncio.sleep(_RETRIES.base_ms / 1000)
            return
        if post.closed:
            return
        if len(rows) == bounds.MESSAGE_ROWS:
            self._unread[shard] = None
        for row in rows:
            post.after = row.sent.number
            self._take_up(post, row)

    def _take_up(self, post: _Post, row: OutboxRow) -> None:
        try:
            message = Message.decode(row.sent.message)
        except (UnknownFormatError, msgspec.MsgspecError) as exc:
            _log.error(logs.MESSAGE_UNREADABLE, object=str(Address.decode(row.object_id)), error=str(exc))
            return
        if message.dead_ms:
            return
        self.held += 1
        post.held += 1
        line = _Line(row.object_id, message.receiver)
        waiting = post.lines.get(line)
        if waiting is not None:
            waiting.append((row, message))
            return
        post.lines[line] = deque([(row, message)])
        task = asyncio.get_running_loop().create_task(self._serve(post, line))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, post: _Post, line: _Line) -> None:
        waiting = post.lines[line]
        while waiting:
            write = await self._deliver(post, line, *waiting[0])
            if write is None:
                return
            waiting.popleft()
            settled = asyncio.get_running_loop().create_future()
            self._settle(post, write, settled)
            if write.outbox_adds:
                await settled  # Were a later one heard first, the next owner would take this one for delivered.
        del post.lines[line]

    async def _deliver(self, post: _Post, line: _Line, row: OutboxRow, message: Message) -> ObjectWrite | None:
        """Deliver a message, or give it up; say what becomes of it in the outbox. None: others see to that."""
        settled = ObjectWrite(object_id=line.sender, outbox_removes=[row.sent.message_id])
        kind = Address.decode(line.receiver).kind
        failures, error = 0, "it was never tried"
        while not post.closed:
            if message.expire_at_ms <= self._clock.upper_ms():
                return self._bury(settled, message, row, f"expired: {error}")
            try:
                async with self._slots:
                    await self._hand_over(line, message)
            except DomainError as exc:
                return self._bury(settled, message, row, f"{type(exc).__name__}: {exc}")
            except (TenureError, msgspec.ValidationError, TypeError) as exc:
                error = f"{type(exc).__name__}: {exc}"
            else:
                self._host.metrics.message(kind, "delivered")
                return settled
            self._host.metrics.message(kind, "retry")
            left_ms = max(0, message.expire_at_ms - self._clock.upper_ms())
            await asyncio.sleep(min(left_ms, _RETRIES.wait_ms(failures, self._host.draw)) / 1000)
            failures += 1
        return None

    async def _hand_over(self, line: _Line, message: Message) -> None:
        address = Address.decode(line.receiver)
        kind = self._host.kind(address.kind)
        method = None if kind is None else getattr(kind.cls, message.method, None)
        if method is None:
            raise UnavailableError(f"This node has no {address.kind}/{message.method}")
        once = Delivery(line.sender, epoch=message.epoch, serial=message.serial, expire_at_ms=message.expire_at_ms)
        await self._host.call(
            address, method, *message.arguments(method), once=once, durability="committed", size_bytes=len(message.args)
        )

    def _bury(self, settled: ObjectWrite, message: Message, row: OutboxRow, error: str) -> ObjectWrite:
        sender = str(Address.decode(settled.object_id))
        receiver = Address.decode(message.receiver)
        _log.error(logs.MESSAGE_DEAD, object=sender, receiver=str(receiver), method=message.method, error=error)
        self._host.metrics.message(receiver.kind, "dead")
        dead = message.given_up(error, self._clock.now_ms())
        settled.outbox_adds = {row.sent.message_id: dead.encode()}
        return settled

    def _settle(self, post: _Post, write: ObjectWrite, settled: "asyncio.Future[None]") -> None:
        """Have a commit carry what became of a message; until it has, the message counts as held.

        `settled` is done once that is stored, or is the business of others.
        """

        def landed(stored: bool) -> None:  # noqa: FBT001  # A callback has no names.
            if stored and not write.outbox_adds:
                self._host.residents.delivered(write.object_id, write.outbox_removes)
            if not stored and not post.closed:
                asyncio.get_running_loop().call_later(_RETRIES.base_ms / 1000, self._settle, post, write, settled)
                return
            if not post.closed:
                post.held -= 1
                self._release(1)
            if not settled.done():  # It is where the courier has ended.
                settled.set_result(None)

        if post.closed:
            landed(False)  # noqa: FBT003  # As above.
        else:
            self._host.committer.carry(post.shard, write, landed)

    def _release(self, messages: int) -> None:
        self.held -= messages
        if self._unread:
            self._wake.set()
