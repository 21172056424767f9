"""The way of changes to the store: one flight at a time, a section for each shard.

Whatever becomes ready while a flight is under way is the next flight; no timer holds a commit
back. Gated objects go first, then those whose checkpoint is due (a wave every 250 ms), then what
became of messages, then deletions of expired objects. Each of the latter has a share of every flight,
however many objects are gated, and a wave that is late has a larger one: a checkpoint has its second.

A lost reply leaves a flight *in doubt*: its gates stay shut and the same commit ids are sent again
on a fresh connection; then the shards are fenced anew, after which the stored id of the last
commit is the truth. With no answer there either, the outcome is unknown, and says so.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from shared import bounds
from shared.objects.activation import Activation
from shared.objects.errors import CommitFailedError, NoRoomError, OutcomeUnknownError
from shared.objects.flights import Carried, Flight, Part
from shared.objects.ownership import Ownership, Shard
from shared.objects.soft import SoftWrites
from shared.objects.store_clock import StoreClock
from shared.objects.waves import Wave
from shared.storage.interface import (
    Claimed,
    ObjectWrite,
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
        self._urgent: deque[Activation] = deque()
        self._waves: deque[Wave] = deque()  # Oldest first; one leaves when the store has all of it.
        self._lazy: Wave | None = None  # The wave that is gathering.
        self.soft = SoftWrites(self.push, store_clock)
        self._sweeps: list[tuple[Shard, bytes, int]] = []
        self._carried: list[Carried] = []
        self._wave_timer: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.fast_until_ms = _NEVER
        """Until when (monotonic) checkpointed kinds may answer ahead of the store."""

    def push(self, activation: Activation) -> None:
        """The object has pending changes that an answer waits for."""
        if not activation.urgent:
            activation.urgent = True
            self._urgent.append(activation)
        self._wake.set()

    def mark_dirty(self, activation: Activation) -> None:
        """The object has changed and a checkpoint must carry it: 250 ms from the first one on."""
        activation.dirty = True
        if activation.lazy:
            return
        activation.lazy = True
        if self._lazy is None:
            self._lazy = Wave(self._clock.monotonic_ms())
            self._set_fast()
            loop = asyncio.get_running_loop()
            self._wave_timer = loop.call_later(bounds.CHECKPOINT_MS / 1000, self._start_wave)
        self._lazy.add(activation)

    def sweep(self, shard: Shard, object_id: bytes, until_ms: int) -> None:
        """Delete an object that is not in memory, if its stored expiry is not after `until_ms`."""
        self._sweeps.append((shard, object_id, until_ms))
        self._wake.set()

    def carry(self, shard: Shard, write: ObjectWrite, landed: Callable[[bool], object]) -> None:
        """Take a write that changes no state; `landed` hears whether the store has it.

        It flies while the shard is held as it is now: what another owner has made of it meanwhile is not undone.
        """
        self._carried.append(Carried(shard, shard.fence, write, landed))
        self._wake.set()

    def wake(self) -> None:
        """Shards have opened: what waited for them can fly."""
        self._wake.set()

    async def flush(self) -> None:
        """Wait until the store has what is in memory now, or has failed it; closed shards are left out."""
        self.soft.flush()
        self._start_wave()
        while not self._idle.is_set() or self._lazy or any(activation.shard.open for activation in self._queued()):
            self._start_wave()  # What a failed flight carried is to go again.
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
                    self._end_waves()
                self._end_waves()
            finally:
                self._idle.set()

    def _queued(self) -> Iterator[Activation]:
        yield from self._urgent
        for wave in self._waves:
            for queue in wave.objects.values():
                yield from queue

    def _start_wave(self) -> None:
        if self._lazy is not None:
            assert self._wave_timer is not None
            self._wave_timer.cancel()
            self._waves.append(self._lazy)
            self._lazy = self._wave_timer = None
            self._wake.set()

    def _end_waves(self) -> None:
        """Forget the waves of which the store has everything."""
        self._waves = deque(wave for wave in self._waves if wave.objects)
        self._set_fast()

    def _set_fast(self) -> None:
        waves = self._waves if self._lazy is None else [*self._waves, self._lazy]
        oldest_ms = min((wave.since_ms for wave in waves), default=_NEVER)
        self.fast_until_ms = oldest_ms + bounds.CHECKPOINT_STALE_MS

    # Gathering.

    def _gather(self) -> Flight:
        flight = Flight(self._clock.monotonic_ms())
        self._gather_urgent(flight)
        if self._waves:
            late = flight.started_ms - self._waves[0].since_ms >= bounds.CHECKPOINT_LATE_MS
            flight.make_room(bounds.FLIGHT_LATE_PART if late else bounds.FLIGHT_PART)
            for wave in self._waves:
                self._gather_wave(flight, wave)
        if self._carried:
            flight.make_room(bounds.FLIGHT_PART)
            self._gather_carried(flight)
        if self._sweeps:
            flight.make_room(bounds.FLIGHT_PART)
            self._gather_sweeps(flight)
        flight.sections = [part.seal() for part in flight.parts.values()]
        return flight

    def _gather_urgent(self, flight: Flight) -> None:
        waiting: list[Activation] = []
        while self._urgent and not flight.full:
            activation = self._urgent.popleft()
            if activation.shard.open or activation.closed:
                activation.urgent = False
                self._add(flight, activation, flight.started_ms)
            else:
                waiting.append(activation)
        self._urgent.extendleft(reversed(waiting))

    def _gather_wave(self, flight: Flight, wave: Wave) -> None:
        for shard, queue in list(wave.objects.items()):
            if not shard.open:
                wave.objects[shard] = waiting = deque(activation for activation in queue if not activation.closed)
                if not waiting:
                    del wave.objects[shard]
                continue
            while queue and not flight.full:
                activation = queue.popleft()
                activation.lazy = False
                self._add(flight, activation, wave.since_ms)
            if queue:
                return
            del wave.objects[shard]

    def _add(self, flight: Flight, activation: Activation, since_ms: int) -> None:
        if activation.closed:
            return
        if activation.dirty and activation.running is not None:
            self.mark_dirty(activation)  # By a turn that is not over, and so not answered; the next wave comes again.
            if activation.unstorable:
                self._keep_age(since_ms)  # Answers have left ahead of what a failed flight has left to that wave.
                return
        elif activation.dirty and not self._host.checkpoint(activation):
            return
        try:
            write = activation.state.take(activation.object_id, indexed=activation.kind.indexed)
        except Exception as exc:  # noqa: BLE001  # What one author has handed in must not end the commits of all.
            self._host.residents.unencodable(activation, exc)
            return
        if write is None and activation.written == activation.confirmed:
            return
        part = flight.part(activation.shard)
        part.posted = part.posted or (write is not None and bool(write.outbox_adds))
        if not activation.in_flight:
            part.covered.append(activation)
        activation.in_flight = activation.written
        if write is not None:
            part.writes.append(write)
            flight.size_bytes += write.size_bytes
        flight.objects += 1

    def _gather_carried(self, flight: Flight) -> None:
        waiting, self._carried = self._carried, []
        for carried in waiting:
            if not carried.shard.open or carried.shard.fence is not carried.fence:
                carried.landed(False)  # noqa: FBT003  # A callback has no names.
                continue
            if flight.full:
                self._carried.append(carried)
                continue
            part = flight.part(carried.shard)
            part.writes.append(carried.write)
            part.carried.append(carried)
            flight.objects += 1
            flight.size_bytes += carried.write.size_bytes

    def _gather_sweeps(self, flight: Flight) -> None:
        while self._sweeps and not flight.full:
            shard, object_id, until_ms = self._sweeps.pop()
            if shard.open and not self._host.resident(object_id):
                sweep = ObjectWrite(object_id=object_id, sweep=True, expire_at_ms=until_ms)
                flight.part(shard).writes.append(sweep)
                flight.objects += 1

    # Flying.

    async def _fly(self, flight: Flight) -> None:
        doubtful = False
        for resend_at_ms in _RESEND_AT_MS:
            sent_ms = self._clock.monotonic_ms()
            left_ms = max(50, flight.started_ms + resend_at_ms - sent_ms)
            try:
                committed = await self._store.commit(flight.sections, ttl_ms=self._ownership.ttl_ms, timeout_ms=left_ms)
            except StoreError as exc:
                doubtful = doubtful or isinstance(exc, StoreInDoubtError)
                for shard in flight.parts:
                    shard.in_doubt = True
                _log.warning(logs.COMMIT_IN_DOUBT, error=str(exc))
                await asyncio.sleep(max(0, flight.started_ms + resend_at_ms - self._clock.monotonic_ms()) / 1000)
                continue
            self._clock.observe(committed.now_ms, sent_ms=sent_ms, received_ms=self._clock.monotonic_ms())
            await self._landed(flight, committed.replies, sent_ms=sent_ms, doubtful=doubtful)
            break
        else:
            flight.came_to("away")
            await self._resolve(flight, list(flight.parts.values()), doubtful=doubtful)
        seconds = (self._clock.monotonic_ms() - flight.started_ms) / 1000
        self._metrics.commit(
            "in_doubt" if doubtful else flight.worst,
            seconds,
            flight.objects,
            len(flight.sections),
            size_bytes=flight.size_bytes,
            trace=flight.trace,
        )

    async def _landed(self, flight: Flight, replies: Sequence[SectionReply], *, sent_ms: int, doubtful: bool) -> None:
        conflicts, fenced = [], []
        for part, reply in zip(flight.parts.values(), replies, strict=True):
            shard = part.shard
            if reply.status is Status.OK:
                if shard.fence is part.section.fence:  # Else it was claimed again meanwhile, and knows better.
                    shard.seq = reply.seq
                    self._ownership.extend(shard, sent_ms)
                self._confirm(flight, part)
            elif reply.status is Status.FENCED:
                self._metrics.fenced()
                flight.came_to("fenced")
                if reply.previous_commit_id == part.section.commit_id:
                    self._confirm(flight, part)
                elif doubtful and reply.previous_token != part.section.fence.token:
                    self._fail(flight, part, OutcomeUnknownError())
                else:
                    self._fail(flight, part, CommitFailedError("the shard is not ours any more"))
                if shard.fence is part.section.fence:  # Else it was claimed again meanwhile.
                    fenced.append(shard)
            elif reply.status is Status.FULL and not doubtful:
                flight.came_to("full")
                self._fail(flight, part, NoRoomError())
            else:  # Also where the store is full and an earlier copy of the flight may still arrive.
                conflicts.append(part)
        self._ownership.suspend(fenced)
        if conflicts:
            flight.came_to("conflict")
            await self._resolve(flight, conflicts, doubtful=doubtful)

    async def _resolve(self, flight: Flight, parts: Sequence[Part], *, doubtful: bool) -> None:
        """Fence the shards anew; then the id of the last commit under the old token is the truth.

        Where that cannot be had, a section that surely never arrived has failed, and any other is unknown.
        """
        verdict = OutcomeUnknownError if doubtful else _not_stored
        for part in [part for part in parts if part.shard.fence is not part.section.fence]:
            self._fail(flight, part, verdict())  # Lost and claimed again: that id is not to be had any more.
        parts = [part for part in parts if part.shard.fence is part.section.fence]
        held = [(part.shard, part.section.fence) for part in parts]
        while any(self._clock.monotonic_ms() < shard.valid_until_ms for shard, _ in held):
            try:
                claimed = await self._ownership.refence(held)
            except StoreError:
                await asyncio.sleep(_FENCE_RETRY_MS / 1000)
                continue
            refused = [shard for (shard, _), lease in zip(held, claimed, strict=True) if not lease.granted]
            self._ownership.suspend(refused)
            for part, lease in zip(parts, claimed, strict=True):
                self._settle(flight, part, lease)
            return
        self._ownership.suspend(shard for shard, _ in held)
        for part in parts:
            self._fail(flight, part, verdict())

    def _settle(self, flight: Flight, part: Part, lease: Claimed) -> None:
        if lease.granted and lease.previous_commit_id == part.section.commit_id:
            self._confirm(flight, part)
        elif lease.granted and self._ownership.is_own(lease.previous_token):
            self._fail(flight, part, _not_stored())
        else:  # Others came in between, or the store does not know us.
            self._fail(flight, part, OutcomeUnknownError())

    def _confirm(self, flight: Flight, part: Part) -> None:
        part.shard.landed()
        if part.posted:
            self._host.courier.posted(part.shard)
        for carried in part.carried:
            carried.landed(True)  # noqa: FBT003  # A callback has no names.
        confirmed = self._host.residents.confirmed
        for activation in part.covered:
            confirmed(activation, flight)

    def _fail(self, flight: Flight, part: Part, error: CommitFailedError | OutcomeUnknownError) -> None:
        part.shard.landed()
        for carried in part.carried:
            carried.landed(False)  # noqa: FBT003  # As above.
        for activation in part.covered:
            self._host.residents.commit_failed(activation, flight, error)
        if self._waves:
            self._keep_age(min(wave.since_ms for wave in self._waves))

    def _keep_age(self, since_ms: int) -> None:
        """What is marked dirty anew was so since `since_ms`, and answers have left ahead of it."""
        if self._lazy is not None:
            self._lazy.since_ms = min(self._lazy.since_ms, since_ms)


def _not_stored() -> CommitFailedError:
    return CommitFailedError("the store did not take it")
