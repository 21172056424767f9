"""Delivers what objects have sent: at least once, in order for each pair of sender and receiver.

The outbox in the store is the only list of what is to be done. A commit that carried messages wakes the
courier, which reads the outbox of that shard on from where it was; a shard that opens is read from the
start. So a crash, a move or a lost reply costs a second delivery, which the receiver knows as such
(`once.Delivery`), and no message is lost.

A message leaves the outbox by a commit of its own, after the receiver's effect is stored. A receiver that is
away, overloaded or fails is tried again, and what its sender has sent to it later waits for that. Such a line is put
aside: memory keeps the numbers of its messages, which are read again one by one, and not even those past the share of
its receiver (`known`). So neither a receiver that fails nor one that hangs is in the way of others.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from shared import bounds
from shared.errors import TenureError
from shared.objects.address import Address
from shared.objects.errors import DomainError, UnavailableError
from shared.objects.known import Behind, Known
from shared.objects.lines import Letter, Line, LineKey, Places, Post
from shared.objects.messages import Message
from shared.objects.once import Delivery
from shared.objects.ownership import Shard
from shared.objects.tracing import begin_delivery
from shared.retry import Backoff
from shared.storage.codec import UnknownFormatError
from shared.storage.interface import ObjectWrite, Store, StoreError
from shared.storage.listings import OutboxRow
from shared.telemetry import logs
from shared.telemetry.traces import NO_SPAN, current_trace

if TYPE_CHECKING:
    from shared.objects.host import Host

_RETRIES = Backoff(base_ms=bounds.MESSAGE_RETRY_MS, cap_ms=bounds.MESSAGE_RETRY_MS_MAX)
_FETCH_ROWS = 16  # Messages of a line that are read again at once.
_log = logs.get_logger()


class Courier:
    """The courier of one host."""

    def __init__(self, host: "Host", store: Store) -> None:
        self._host = host
        self._store = store
        self._clock = host.store_clock
        self._posts: dict[Shard, Post] = {}
        self._unread: dict[Shard, None] = {}  # In the order in which they are to be read.
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._places = Places(self._start, host.store_clock)
        self._known = Known()

    @property
    def held(self) -> int:
        """Messages that are known and not settled."""
        return self._known.total

    def posted(self, shard: Shard) -> None:
        """The store has new messages of a shard."""
        if shard in self._posts:
            self._unread[shard] = None
            self._wake.set()

    def opened(self, shards: Sequence[Shard]) -> None:
        """Shards have opened: whatever of theirs is not delivered is ours to deliver."""
        for shard in shards:
            self.closed(shard)
            self._posts[shard] = Post(shard)
            self.posted(shard)

    def closed(self, shard: Shard) -> None:
        """The shard is not ours any more, for now or for good."""
        post = self._posts.pop(shard, None)
        if post is not None:
            post.closed = True
            self._known.close(post)
            self._wake.set()

    async def run(self) -> None:
        """Deliver for ever."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while (self._unread or self._known.due) and self.held < bounds.MESSAGES_KNOWN_MAX:
                    if self._unread:
                        shard = next(iter(self._unread))
                        del self._unread[shard]
                        await self._read(shard)
                    if self._known.due:
                        behind = next(iter(self._known.due))
                        del self._known.due[behind]
                        await self._read_again(behind)
        finally:
            for shard in list(self._posts):
                self.closed(shard)
            self._places.stop()
            for task in self._tasks:
                task.cancel()

    async def _read(self, shard: Shard) -> None:
        """Read a page of an outbox, behind what was read of it."""
        post = self._posts.get(shard)
        if post is None:
            return
        rows = await self._page(post, post.after)
        if post.closed:
            return
        if rows is None or len(rows) == bounds.MESSAGE_ROWS:
            self._unread[shard] = None
        for row in rows or ():
            post.after = row.sent.number
            letter = self._letter(row)
            if letter is not None and letter.message.receiver not in post.passed:
                self._take_up(post, row.object_id, letter)

    async def _read_again(self, behind: Behind) -> None:
        """Read a page of what was passed over, for one receiver that has room again."""
        post, receiver = behind
        rows = await self._page(post, post.passed[receiver] - 1)
        if post.closed:
            return
        for row in rows or ():
            if row.sent.number > post.after:
                break  # It is read for all.
            post.passed[receiver] = row.sent.number + 1
            letter = self._letter(row)
            if letter is None or letter.message.receiver != receiver:
                continue
            if not self._take_up(post, row.object_id, letter):
                return
        if rows is None or (len(rows) == bounds.MESSAGE_ROWS and post.passed[receiver] <= post.after):
            self._known.due[behind] = None
        else:
            self._known.caught_up(post, receiver)

    async def _page(self, post: Post, after: int) -> Sequence[OutboxRow] | None:
        """So many rows; None: the store did not answer."""
        try:
            (rows,) = await self._store.outbox([(post.shard.index, after)], rows=bounds.MESSAGE_ROWS)
        except StoreError as exc:
            _log.warning(logs.STORE_AWAY, error=str(exc))
            await asyncio.sleep(_RETRIES.base_ms / 1000)
            return None
        return rows

    def _take_up(self, post: Post, sender: bytes, letter: Letter) -> bool:
        """Have a message delivered in its turn; say whether there is room for it."""
        key = LineKey(sender, letter.message.receiver)
        room = self.held < bounds.MESSAGES_HELD_MAX
        if not self._known.take(post, key.receiver, letter.number):
            return False
        line = post.lines.get(key)
        is_new = line is None
        if line is None:
            line = post.lines[key] = Line(post, key)
        line.waiting.append(letter if room and not line.failures else letter.number)
        if is_new:
            self._places.ready(line)
        return True

    def _letter(self, row: OutboxRow) -> Letter | None:
        """The message of a row; None if it is dead, or another release wrote it."""
        try:
            message = Message.decode(row.sent.message)
        except (UnknownFormatError, msgspec.MsgspecError) as exc:
            _log.error(logs.MESSAGE_UNREADABLE, object=str(Address.decode(row.object_id)), error=str(exc))
            return None
        return None if message.dead_ms else Letter(row.sent.number, row.sent.message_id, message)

    def _start(self, line: Line) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(line))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, line: Line) -> None:
        """Deliver the first message of a line, which has a place for that, and see to the next."""
        post, write, wait_ms = line.post, None, 0
        try:
            if not post.closed and await self._fetch(line):
                write, wait_ms = await self._deliver(line)
        except StoreError as exc:
            _log.warning(logs.STORE_AWAY, error=str(exc))
            wait_ms = _RETRIES.base_ms
        finally:
            self._places.left(line, failed=line.failures > 0)
        if write is not None:
            del line.waiting[0]
            settled = asyncio.get_running_loop().create_future()
            self._settle(line, write, settled)
            if write.outbox_adds:
                await settled  # Were a later one heard first, the next owner would take this one for delivered.
                self._known_no_more(line, line.forget(write.outbox_removes[0]))
        if not post.closed:
            self._go_on(line, wait_ms)

    def _go_on(self, line: Line, wait_ms: int) -> None:
        if wait_ms:
            asyncio.get_running_loop().call_later(wait_ms / 1000, self._places.ready, line)
        elif line.waiting:
            self._places.ready(line)
        else:
            del line.post.lines[line.key]

    async def _fetch(self, line: Line) -> bool:
        """Have the first message in memory, and where all goes well the next ones; say whether there is one.

        Raises:
            StoreError: the store did not answer.
        """
        wanted = line.aside(1 if line.failures else _FETCH_ROWS)
        if not wanted:
            return True
        shard = line.post.shard.index
        found = await self._store.outbox([(shard, number - 1) for number in wanted], rows=1)
        rows = {row.sent.number: row for page in found for row in page}
        letters = [self._letter(rows[number]) for number in wanted if number in rows]
        read = [letter for letter in letters if letter is not None]  # The others have left, or got a newer number.
        if not read or read[0].number != wanted[0]:
            line.succeed()
        line.waiting[: len(wanted)] = read
        self._known_no_more(line, len(wanted) - len(read))
        return bool(read)

    async def _deliver(self, line: Line) -> tuple[ObjectWrite | None, int]:
        """Deliver a message, or give it up: what becomes of it in the outbox, or after which time it is tried again."""
        letter = line.waiting[0]
        assert isinstance(letter, Letter), "it has been fetched"
        message, kind = letter.message, Address.decode(line.key.receiver).kind
        settled = ObjectWrite(object_id=line.key.sender, outbox_removes=[letter.message_id])
        error = line.error
        if message.expire_at_ms > self._clock.upper_ms():
            try:
                await self._hand_over(line.key, message)
            except DomainError as exc:
                line.succeed()
                return self._bury(settled, letter, f"{type(exc).__name__}: {exc}"), 0
            except (TenureError, msgspec.ValidationError, TypeError) as exc:
                error = f"{type(exc).__name__}: {exc}"
            else:
                line.succeed()
                self._host.metrics.message(kind, "delivered")
                return settled, 0
            self._host.metrics.message(kind, "retry")
        left_ms = message.expire_at_ms - self._clock.upper_ms()
        if left_ms <= 0:
            line.succeed()
            return self._bury(settled, letter, f"expired: {error}"), 0
        line.fail(error)
        return None, max(1, min(left_ms, _RETRIES.wait_ms(line.failures - 1, self._host.draw)))

    async def _hand_over(self, line: LineKey, message: Message) -> None:
        address = Address.decode(line.receiver)
        kind = self._host.kind(address.kind)
        method = None if kind is None else getattr(kind.cls, message.method, None)
        if method is None:
            raise UnavailableError(f"This node has no {address.kind}/{message.method}")
        args, size_bytes = message.arguments(method), len(message.args)
        once = Delivery(line.sender, epoch=message.epoch, serial=message.serial, expire_at_ms=message.expire_at_ms)
        tracer = self._host.tracer
        span = begin_delivery(tracer, address, line.sender, message) if tracer.enabled else NO_SPAN
        current_trace.set(span.context)  # Of this task alone.
        try:
            await self._host.call(address, method, *args, once=once, durability="committed", size_bytes=size_bytes)
        except TenureError as exc:
            span.fail(exc)
            raise
        finally:
            span.finish()

    def _bury(self, settled: ObjectWrite, letter: Letter, error: str) -> ObjectWrite:
        message = letter.message
        sender = str(Address.decode(settled.object_id))
        receiver = Address.decode(message.receiver)
        _log.error(logs.MESSAGE_DEAD, object=sender, receiver=str(receiver), method=message.method, error=error)
        self._host.metrics.message(receiver.kind, "dead")
        dead = message.given_up(error, self._clock.now_ms())
        settled.outbox_adds = {letter.message_id: dead.encode()}
        return settled

    def _settle(self, line: Line, write: ObjectWrite, settled: "asyncio.Future[None]") -> None:
        """Have a commit carry what became of a message; until it has, the message counts as held.

        `settled` is done once that is stored, or is the business of others.
        """
        post = line.post

        def landed(stored: bool) -> None:  # noqa: FBT001  # A callback has no names.
            if stored:
                self._host.residents.settled(write.object_id, write.outbox_removes, left=not write.outbox_adds)
            if not stored and not post.closed:
                asyncio.get_running_loop().call_later(_RETRIES.base_ms / 1000, self._settle, line, write, settled)
                return
            self._known_no_more(line, 1)
            if not settled.done():  # It is where the courier has ended.
                settled.set_result(None)

        if post.closed:
            landed(False)  # noqa: FBT003  # As above.
        else:
            self._host.committer.carry(post.shard, write, landed)

    def _known_no_more(self, line: Line, messages: int) -> None:
        if messages and not line.post.closed:  # Else that has been counted.
            self._known.settled(line.post, line.key.receiver, messages)
            if self._unread or self._known.due:
                self._wake.set()
