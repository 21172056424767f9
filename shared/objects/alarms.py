"""The alarms of this node's shards, in the order they fall due.

What is stored decides; this queue only says where to look next. It holds what is due within a
minute and is filled from the store when a shard opens, every 30 s, and when a confirmed turn set
an alarm that is due soon. An entry may be stale: the alarm is looked up again at turn start.
Reading and ringing go on side by side, so that a long read makes nobody late.

Nothing is ever early: "due" is asked of the lower end of the store's clock. A commit that removes
an alarm is the only thing that ends it, so a crash rings twice, never not at all.
"""

import asyncio
import random
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from heapq import heappop, heappush
from typing import Any

import msgspec

from shared import bounds
from shared.objects.address import split_address
from shared.objects.ownership import Ownership, Shard
from shared.objects.room import Room
from shared.objects.store_clock import StoreClock
from shared.retry import Backoff, Draw
from shared.storage.codec import AlarmRecord
from shared.storage.interface import Store, StoreError
from shared.telemetry import logs

_log = logs.get_logger()
_RETRIES = Backoff(base_ms=bounds.ALARM_RETRY_MS, cap_ms=bounds.ALARM_RETRY_MS_MAX)


class AlarmQueue:
    """Due times in Unix ms of the store's clock, oldest first; one entry an alarm and due time."""

    __slots__ = ("_entries", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[int, bytes]] = []
        self._entries: set[tuple[int, bytes]] = set()

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, due_ms: int, member: bytes) -> bool:
        """Remember that `member` (encoded address and alarm name) is due; twice is once. Say whether it is news."""
        entry = (due_ms, member)
        if entry in self._entries:
            return False
        self._entries.add(entry)
        heappush(self._heap, entry)
        return True

    def next_ms(self) -> int | None:
        """When the earliest is due. May be asked in any thread."""
        first = self._heap[:1]
        return first[0][0] if first else None

    def pop_due(self, now_ms: int, count_max: int) -> list[tuple[int, bytes]]:
        """Take at most `count_max` that are due at `now_ms`, oldest first."""
        due: list[tuple[int, bytes]] = []
        while self._heap and self._heap[0][0] <= now_ms and len(due) < count_max:
            entry = heappop(self._heap)
            self._entries.discard(entry)
            due.append(entry)
        return due


class AlarmClock:
    """Rings the alarms of open shards: calls `ring(address, name)` for each that is due, which returns its answer.

    So many are under way at a time, those that take long not counted: however many are due, what others ask for is
    behind few of them. `not_before_ms` says for a member of the index how long it is put off; 0 if it is not. Alarms
    of objects whose kind is not among `kinds` are left to a node that has it.
    """

    def __init__(
        self,
        store: Store,
        ownership: Ownership,
        store_clock: StoreClock,
        ring: Callable[[bytes, str], "asyncio.Future[Any]"],
        *,
        not_before_ms: Callable[[bytes], int],
        kinds: Collection[str],
    ) -> None:
        self._store = store
        self._ownership = ownership
        self._clock = store_clock
        self._ring = ring
        self._not_before_ms = not_before_ms
        self._kinds = frozenset(kind.encode() for kind in kinds)
        self.queue = AlarmQueue()
        self._ringing: dict[bytes, int] = {}  # Rung and not settled; by the time they were due first.
        self._room = Room["asyncio.Future[Any]"](bounds.ALARMS_AT_ONCE, patience_ms=bounds.ALARM_PLACE_MS)
        self._unread: dict[Shard, int] = {}  # Shards with alarms, due then or later, that are not known here.
        self._changed = asyncio.Event()
        self._wanted = asyncio.Event()

    def armed(self, due_ms: int, member: bytes) -> None:
        """A confirmed turn has set this alarm, or nothing is known to be stored of what it came to."""
        within = due_ms <= self._clock.lower_ms() + bounds.ALARM_HORIZON_MS
        if within and self.queue.push(due_ms, member) and self.queue.next_ms() == due_ms:
            self._changed.set()

    def settled(self, member: bytes) -> None:
        """What became of this alarm is stored, or it is not due any more, or not ours."""
        self._ringing.pop(member, None)

    def overdue_ms(self) -> int:
        """How long the oldest alarm is due and not settled; 0 if none is. May be asked in any thread."""
        now_ms = self._clock.lower_ms()
        oldest_ms = min([self.queue.next_ms() or now_ms, *self._ringing.copy().values()])
        return max(0, now_ms - oldest_ms)

    def read_soon(self, shards: Iterable[Shard]) -> None:
        """What is stored of these may be news: they have opened, or the store went back in time."""
        self._unread.update(dict.fromkeys(shards, 0))
        self._wanted.set()

    async def run(self) -> None:
        """Ring for ever."""
        while True:
            self._changed.clear()
            now_ms, monotonic_ms = self._clock.lower_ms(), self._clock.monotonic_ms()
            rung = self.queue.pop_due(now_ms, self._room.free(monotonic_ms))
            for due_ms, member in rung:
                self._ringing.setdefault(member, due_ms)  # One put off keeps the time it was due first.
                address_end = split_address(member)[1]
                answer = self._ring(member[:address_end], member[address_end:].decode())
                self._room.take(answer, monotonic_ms)
                answer.add_done_callback(self._answered)
            if rung:
                await asyncio.sleep(0)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s(now_ms, monotonic_ms)):
                    await self._changed.wait()

    def _pause_s(self, now_ms: int, monotonic_ms: int) -> float | None:
        """How long nothing can be rung, unless something changes; None: for ever."""
        next_ms = self.queue.next_ms()
        if next_ms is not None and next_ms <= now_ms:  # And none of it has room.
            next_ms, now_ms = self._room.next_ms(), monotonic_ms
        return None if next_ms is None else max(1, next_ms - now_ms) / 1000

    def _answered(self, answer: "asyncio.Future[Any]") -> None:
        if not self._room.free(self._clock.monotonic_ms()):
            self._changed.set()
        self._room.give_back(answer)

    async def read(self) -> None:
        """Fill the queue for ever: of all shards every 30 s, sooner of those whose alarms are not all known."""
        all_at_ms = self._clock.monotonic_ms() + bounds.ALARM_RESCAN_MS
        while True:
            now_ms = self._clock.monotonic_ms()
            if now_ms >= all_at_ms:
                all_at_ms = now_ms + bounds.ALARM_RESCAN_MS
                self.read_soon(self._ownership.shards)
            if self._unread:
                await self._read()
                continue
            self._wanted.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout((all_at_ms - now_ms) / 1000):
                    await self._wanted.wait()

    async def _read(self) -> None:
        """Read once, and wait as long as must be between two reads; a store that is away is asked again."""
        unread = {shard: from_ms for shard, from_ms in self._unread.items() if shard.open}
        self._unread = {}
        pause_ms = bounds.ALARM_MORE_MS
        try:
            more = await self._scan(unread)
        except StoreError as exc:
            _log.warning(logs.STORE_AWAY, error=str(exc))
            more, pause_ms = unread, bounds.RETRY_AFTER_MS
        self._unread = more | self._unread
        self._changed.set()  # Also where nothing is news: the store's clock may have been set.
        await asyncio.sleep(pause_ms / 1000)

    async def _scan(self, unread: Mapping[Shard, int]) -> dict[Shard, int]:
        """Read what is due within the horizon: of each shard at least 256 alarms that are news, or all.

        What it returns is from when on some of them have more.

        Raises:
            StoreError: the store did not answer.
        """
        more: dict[Shard, int] = {}
        for chunk in _chunks(unread):
            asked, news, rows = chunk, dict.fromkeys(chunk, 0), bounds.ALARM_SCAN_ROWS
            while asked:
                last = await self._page(asked, rows, news)
                # Pages share a moment: if alarms leave meanwhile, none is passed over. One may be longer than a page.
                stuck = any(asked[shard] == last_ms for shard, last_ms in last.items())
                rows = rows * 2 if stuck else bounds.ALARM_SCAN_ROWS
                enough = [shard for shard in last if news[shard] >= bounds.ALARM_SCAN_ROWS]
                more.update((shard, last.pop(shard)) for shard in enough)
                asked = last
        return more

    async def _page(self, asked: Mapping[Shard, int], rows: int, news: dict[Shard, int]) -> dict[Shard, int]:
        """Queue a page of each shard, count what is news; of those whose page is full, when its last alarm is due."""
        until_ms = self._clock.lower_ms() + bounds.ALARM_HORIZON_MS
        places = [(shard.index, from_ms) for shard, from_ms in asked.items()]
        due = await self._store.due_alarms(places, until_ms=until_ms, rows=rows)
        last: dict[Shard, int] = {}
        for shard, page in zip(asked, due.rows, strict=True):
            news[shard] += sum(self._take(due_ms, member) for member, due_ms in page)
            if len(page) == rows:
                last[shard] = page[-1][1]
        return last

    def _take(self, due_ms: int, member: bytes) -> bool:
        """Queue an alarm of the store; say whether it is ours, and neither queued nor ringing already."""
        if member[1 : 1 + member[0]] not in self._kinds:
            return False
        ringing = member in self._ringing
        return self.queue.push(max(due_ms, self._not_before_ms(member)), member) and not ringing


def retried(record: AlarmRecord, error: str, now_ms: int, draw: Draw = random.random) -> AlarmRecord | None:
    """The alarm after a failed try: 2 s doubled each time up to 5 min, +-25 %; None once a day has passed."""
    first_ms = record.first_failed_ms or now_ms
    if now_ms - first_ms >= bounds.ALARM_GIVE_UP_MS:
        return None
    return msgspec.structs.replace(
        record,
        due_ms=now_ms + _RETRIES.wait_ms(record.attempts, draw),
        serial=0,
        attempts=record.attempts + 1,
        first_failed_ms=first_ms,
        first_error=record.first_error or error[:500],
        last_error=error[:500],
    )


def _chunks(unread: Mapping[Shard, int], size: int = bounds.ALARM_SCAN_SHARDS) -> list[dict[Shard, int]]:
    shards = list(unread.items())
    return [dict(shards[i : i + size]) for i in range(0, len(shards), size)]
