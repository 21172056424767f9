"""The way of changes to the store: one flight at a time, a section for each shard.

Whatever becomes ready while a flight is under way is the next flight; no timer holds a commit
back. Gated objects go first, then those whose checkpoint is due (a wave every 250 ms), then
deletions of expired objects.

A lost reply leaves a flight *in doubt*: its gates stay shut and the same commit ids are sent again
on a fresh connection; then the shards are fenced anew, after which the stored id of the last
commit is the truth. With no answer there either, the outcome is unknown, and says so.
"""

import asyncio
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING

from shared import bounds
from shared.objects.activation import Activation, Phase
from shared.objects.errors import CommitFailedError, NoRoomError, OutcomeUnknownError
from shared.objects.ownership import Ownership, Shard
from shared.objects.store_clock import StoreClock
from shared.storage.interface import (
    Claimed,
    ObjectWrite,
    Section,
    SectionReply,
    Status,
    Store,
    StoreError,
    StoreInDoubtError,
)
from shared.telemetry import logs
from shared.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from shared.objects.host import Host

_RESEND_AT_MS = (300, 1_000, 2_000)  # When a flight is sent again, and at the last, when it is resolved by a fence.
_FENCE_RETRY_MS = 200
_NEVER = 1 << 62
_log = logs.get_logger()


class _Flight:
    """What is on its way: for each shard its section and the objects it covers."""

    __slots__ = ("covers", "objects", "sections", "shards", "size_bytes", "started_ms")

    def __init__(self, started_ms: int) -> None:
        self.shards: list[Shard] = []
        self.sections: list[Section] = []
        self.covers: list[list[tuple[Activation, int]]] = []
        self.objects = 0
        self.size_bytes = 0
        self.started_ms = started_ms


class Committer:
    """Carries the changes of one store primary."""

    def __init__(
        self, host: "Host", store: Store, ownership: Ownership, store_clock: StoreClock, metrics: Metrics
    ) -> None:
        self._host = host
        self._store = store
        self._ownership = ownership
        self._clock = store_clock
        self._metrics = metrics
        self._urgent: dict[Activation, None] = {}
        self._lazy: dict[Activation, None] = {}  # Dirty since the last wave.
        self._wave: dict[Activation, None] = {}  # Dirty, and due now.
        self._sweeps: list[tuple[Shard, bytes, int]] = []
        self._lazy_since_ms = self._wave_since_ms = _NEVER
        self._wave_timer: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def fast_until_ms(self) -> int:
        """Until when (monotonic) checkpointed kinds may answer ahead of the store."""
        return min(self._lazy_since_ms, self._wave_since_ms) + bounds.CHECKPOINT_STALE_MS

    def push(self, activation: Activation) -> None:
        """The object has pending changes that an answer waits for."""
        self._urgent[activation] = None
        self._wake.set()

    def mark_dirty(self, activation: Activation) -> None:
        """The object has changed and a checkpoint must carry it: 250 ms from the first one on."""
        activation.dirty = True
        if not self._lazy:
            self._lazy_since_ms = self._clock.monotonic_ms()
            if self._wave_timer is None:
                loop = asyncio.get_running_loop()
                self._wave_timer = loop.call_later(bounds.CHECKPOINT_MS / 1000, self._start_wave)
        self._lazy[activation] = None

    def sweep(self, shard: Shard, object_id: bytes, until_ms: int) -> None:
        """Delete an object that is not in memory, if its stored expiry is not after `until_ms`."""
        self._sweeps.append((shard, object_id, until_ms))
        self._wake.set()

    def wake(self) -> None:
        """Shards have opened: what waited for them can fly."""
        self._wake.set()

    async def flush(self) -> None:
        """Wait until the store has what is in memory now, or has failed it; closed shards are left out."""
        self._start_wave()
        while not self._idle.is_set() or any(act.shard.open for act in (*self._urgent, *self._wave)):
            self._wake.set()
            await asyncio.sleep(0)
            await self._idle.wait()

    async def run(self) -> None:
        """Fly for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._idle.clear()
            try:
                while (flight := self._gather()).sections:
                    await self._fly(flight)
                    if not self._wave:
                        self._wave_since_ms = _NEVER
                if not self._wave:
                    self._wave_since_ms = _NEVER
            finally:
                self._idle.set()

    def _start_wave(self) -> None:
        if self._wave_timer is not None:
            self._wave_timer.cancel()
            self._wave_timer = None
        if self._lazy:
            self._wave.update(self._lazy)
            self._lazy.clear()
            self._wave_since_ms = min(self._wave_since_ms, self._lazy_since_ms)
            self._lazy_since_ms = _NEVER
            self._wake.set()

    # Gathering.

    def _gather(self) -> _Flight:
        flight = _Flight(self._clock.monotonic_ms())
        writes: dict[Shard, list[ObjectWrite]] = {}
        covers: dict[Shard, list[tuple[Activation, int]]] = {}
        for queue in (self._urgent, self._wave):
            waiting: list[Activation] = []
            while queue and flight.objects < bounds.FLIGHT_OBJECTS_MAX and flight.size_bytes < bounds.FLIGHT_BYTES_MAX:
                activation = next(iter(queue))
                del queue[activation]
                if activation.phase is Phase.CLOSED:
                    continue
                if not activation.shard.open:
                    waiting.append(activation)
                    continue
                write = self._take(activation)
                covers.setdefault(activation.shard, []).append((activation, activation.written))
                section = writes.setdefault(activation.shard, [])
                if write is not None:
                    section.append(write)
                    flight.size_bytes += sum(map(len, write.puts.values()))
                flight.objects += 1
            queue.update(dict.fromkeys(waiting))
        self._gather_sweeps(flight, writes)
        for shard, section in writes.items():
            flight.shards.append(shard)
            flight.covers.append(covers.get(shard, []))
            flight.sections.append(
                Section(
                    shard=shard.index,
                    fence=shard.fence,
                    seq=shard.seq,
                    commit_id=secrets.token_bytes(16),
                    writes=section,
                )
            )
            shard.flying = True
        return flight

    def _take(self, activation: Activation) -> ObjectWrite | None:
        if activation.dirty and activation.running is None:
            self._host.checkpoint(activation)
        kind = activation.kind
        return activation.state.take(activation.object_id, indexed=kind.indexed)

    def _gather_sweeps(self, flight: _Flight, writes: dict[Shard, list[ObjectWrite]]) -> None:
        while self._sweeps and flight.objects < bounds.FLIGHT_OBJECTS_MAX:
            shard, object_id, until_ms = self._sweeps.pop()
            if shard.open and not self._host.resident(object_id):
                writes.setdefault(shard, []).append(ObjectWrite(object_id=object_id, sweep=True, expire_at_ms=until_ms))
                flight.objects += 1

    # Flying.

    async def _fly(self, flight: _Flight) -> None:
        doubtful = False
        for resend_at_ms in _RESEND_AT_MS:
            sent_ms = self._clock.monotonic_ms()
            left_ms = max(50, flight.started_ms + resend_at_ms - sent_ms)
            try:
                committed = await self._store.commit(flight.sections, ttl_ms=self._ownership.ttl_ms, timeout_ms=left_ms)
            except StoreError as exc:
                doubtful = doubtful or isinstance(exc, StoreInDoubtError)
                _log.warning(logs.COMMIT_IN_DOUBT, error=str(exc))
                await asyncio.sleep(max(0, flight.started_ms + resend_at_ms - self._clock.monotonic_ms()) / 1000)
                continue
            self._clock.observe(committed.now_ms, sent_ms=sent_ms, received_ms=self._clock.monotonic_ms())
            await self._landed(flight, committed.replies, sent_ms=sent_ms, doubtful=doubtful)
            break
        else:
            await self._resolve(flight, list(range(len(flight.sections))))
        seconds = (self._clock.monotonic_ms() - flight.started_ms) / 1000
        self._metrics.commit(
            "in_doubt" if doubtful else "ok",
            seconds,
            flight.objects,
            len(flight.sections),
            size_bytes=flight.size_bytes,
        )

    async def _landed(self, flight: _Flight, replies: Sequence[SectionReply], *, sent_ms: int, doubtful: bool) -> None:
        conflicts = []
        for i, reply in enumerate(replies):
            shard = flight.shards[i]
            if reply.status is Status.OK:
                shard.seq = reply.seq
                self._ownership.extend(shard, sent_ms)
                self._confirm(flight, i)
            elif reply.status is Status.FENCED:
                self._metrics.fenced()
                mine = reply.previous_token == flight.sections[i].fence.token
                if mine and reply.previous_commit_id == flight.sections[i].commit_id:
                    self._confirm(flight, i)
                elif doubtful and not mine:
                    self._fail(flight, i, OutcomeUnknownError())
                else:
                    self._fail(flight, i, CommitFailedError("another process owns the object now"))
                self._ownership.lose(shard)
            elif reply.status is Status.FULL and not doubtful:
                self._fail(flight, i, NoRoomError())
            else:  # Also where the store is full and an earlier copy of the flight may still arrive.
                conflicts.append(i)
        if conflicts:
            await self._resolve(flight, conflicts)

    async def _resolve(self, flight: _Flight, which: Sequence[int]) -> None:
        """Fence the shards anew; then the id of the last commit under the old token is the truth."""
        shards = [flight.shards[i] for i in which]
        while any(self._clock.monotonic_ms() < shard.valid_until_ms for shard in shards):
            try:
                claimed = await self._ownership.refence(shards)
            except StoreError:
                await asyncio.sleep(_FENCE_RETRY_MS / 1000)
                continue
            for i, lease in zip(which, claimed, strict=True):
                self._settle(flight, i, lease)
            return
        for i in which:
            self._ownership.suspend(flight.shards[i])
            self._fail(flight, i, OutcomeUnknownError())

    def _settle(self, flight: _Flight, i: int, lease: Claimed) -> None:
        shard, section = flight.shards[i], flight.sections[i]
        if not lease.granted:
            self._ownership.lose(shard)
            self._fail(flight, i, OutcomeUnknownError())
        elif lease.previous_commit_id == section.commit_id:
            self._confirm(flight, i)
        else:
            if lease.seq != section.seq:
                self._host.rolled_back(shard)
            self._fail(flight, i, CommitFailedError("the store did not take it"))

    def _confirm(self, flight: _Flight, i: int) -> None:
        flight.shards[i].flying = False
        for activation, covers in flight.covers[i]:
            self._host.confirmed(activation, covers, flight.started_ms)

    def _fail(self, flight: _Flight, i: int, error: CommitFailedError | OutcomeUnknownError) -> None:
        flight.shards[i].flying = False
        for activation, _ in flight.covers[i]:
            self._host.commit_failed(activation, error)
        if self._lazy:  # What a failed wave carried is as old as before: answers must not run ahead of it anew.
            self._lazy_since_ms = min(self._lazy_since_ms, self._wave_since_ms)
