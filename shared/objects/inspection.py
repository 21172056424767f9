"""What an operator can see of objects and do to them, whoever's they are.

Looking changes nothing: the store is asked directly, fenced where one object is read, and memory is looked at as
it is. Doing is a turn of the object (`shared.objects.operations`) in its owner's mailbox, and its answer comes
after the commit. Listings go over all shards in one order, page by page.
"""

from collections.abc import Sequence

from shared.errors import ConflictError, InvalidInputError, NotFoundError
from shared.objects import operations
from shared.objects.activation import Activation
from shared.objects.address import Address, split_address
from shared.objects.errors import CommitFailedError, OutcomeUnknownError
from shared.objects.host import Host
from shared.objects.inspecting import Inspecting, check_owned
from shared.objects.kind_reports import KindReport, kind_report
from shared.objects.letters import Letters
from shared.objects.merging import merged
from shared.objects.ownership import Ownership, Shard
from shared.objects.quarantine import QuarantinedObject
from shared.objects.reports import (
    AlarmRow,
    InMemory,
    JournalEntry,
    JournalReport,
    ObjectReport,
    Running,
    alarm_row,
    shown,
    stored_report,
)
from shared.storage.interface import JournalPage, Store
from shared.storage.listings import Place

Found = list[Address]
PlacedAlarms = list[tuple[Place, AlarmRow]]


class Inspection(Inspecting):
    """The objects of one service, as this node sees them."""

    def __init__(self, host: Host, store: Store, ownership: Ownership) -> None:
        super().__init__(host, store, ownership)
        self.letters = Letters(host, store, ownership)

    # Looking.

    def kinds(self) -> list[KindReport]:
        """The kinds that are hosted here, by name."""
        return [kind_report(kind) for _, kind in sorted(self._host.kinds.items())]

    async def objects(self, kind: str, tenant: str, *, prefix: str, after: bytes, limit: int) -> Found:
        """Objects with state whose name begins with `prefix`: shorter names first, then by bytes.

        `after` is an encoded address of the same kind and tenant; b"" is the start.

        Raises:
            NotFoundError: there is no such kind.
            InvalidInputError: no list is kept of it.
        """
        if not self._kind_of(kind).indexed:
            raise InvalidInputError(f"No list is kept of objects of the kind {kind!r}", "query.kind")

        async def fetch(shards: Sequence[int], last: bytes | None, rows: int) -> Sequence[Sequence[bytes]]:
            return await self._store.objects(
                shards, kind=kind, tenant=tenant, prefix=prefix, after=last or b"", rows=rows
            )

        found = await merged(fetch, self._numbers, after=after or None, limit=limit)
        return [Address.decode(object_id) for _, object_id in found]

    async def show(self, address: Address) -> ObjectReport:
        """All of one object.

        Raises:
            NotFoundError: nothing is stored of it, and it is not in memory; or there is no such kind.
            UnavailableError: this node does not own it.
        """
        kind = self._kind(address)
        shard = self._shard(address)
        stored = stored_report(await self._load(address, kind, shard), await self._journal_report(address, shard))
        activation = self._host.residents.by_address.get(address)
        if stored is None and activation is None:
            raise _no_such(address)
        return ObjectReport(
            kind=address.kind,
            tenant=address.tenant,
            name=address.name,
            shard=shard.index,
            stored=stored,
            resident=None if activation is None else self._in_memory(activation),
        )

    async def journal(self, address: Address, *, after: int, limit: int, reverse: bool) -> list[JournalEntry]:
        """Entries of an object's journal after (`reverse`: before, newest first) a number; 0 is the start.

        Raises:
            NotFoundError, UnavailableError: as `show`.
        """
        kind, shard = self._kind(address), self._shard(address)
        if stored_report(await self._load(address, kind, shard), await self._journal_report(address, shard)) is None:
            raise _no_such(address)
        page = await self._journal(address, shard, after=after, rows=limit, reverse=reverse)
        values = [(number, shown(entry)) for number, entry in page.entries]
        return [JournalEntry(number, value.size_bytes, value.value) for number, value in values]

    async def alarms(self, *, due_before_ms: int | None, after: Place | None, limit: int) -> PlacedAlarms:
        """Armed alarms of all objects by the time they are due, with their places in that order."""

        async def fetch(shards: Sequence[int], last: Place | None, rows: int) -> Sequence[Sequence[Place]]:
            return await self._store.armed_alarms(shards, after=last, rows=rows)

        found = await merged(fetch, self._numbers, after=after, limit=limit)
        return await self._rows([row for row in found if due_before_ms is None or row[1].at_ms < due_before_ms], b"a")

    async def dead_alarms(self, *, after: Place | None, limit: int) -> PlacedAlarms:
        """Alarms of all objects that were given up, by the time of it, with their places in that order."""

        async def fetch(shards: Sequence[int], last: Place | None, rows: int) -> Sequence[Sequence[Place]]:
            return await self._store.dead_alarms(shards, after=last, rows=rows)

        return await self._rows(await merged(fetch, self._numbers, after=after, limit=limit), b"d")

    async def quarantined(self) -> Sequence[QuarantinedObject]:
        """The objects of this node's shards that are refused, those first that are for longest."""
        return await self._host.quarantined()

    # Doing.

    async def lift_quarantine(self, address: Address) -> bool:
        """Let an object run again, its alarms at once, and forget its terms; say whether there was anything to forget.

        No turn of the object, which may not run.

        Raises:
            NotFoundError: there is no such kind.
            UnavailableError: this node does not own the object.
        """
        self._kind(address)
        return await self._host.lift_quarantine(address)

    async def evict(self, address: Address) -> bool:
        """Let an object leave memory once the store has everything of it; say whether it was there.

        Raises:
            NotFoundError: there is no such kind.
            CommitFailedError, OutcomeUnknownError: the store did not take what was not stored yet; it has not left.
        """
        self._kind(address)
        if address not in self._host.residents.by_address:
            return False
        failed = await self._run(address, operations.evict)
        if isinstance(failed, (CommitFailedError, OutcomeUnknownError)):
            raise failed
        return True

    async def cancel_alarm(self, address: Address, alarm: str) -> None:
        """Disarm an alarm.

        Raises:
            NotFoundError: it is not armed, or there is no such kind.
        """
        self._kind(address)
        if not await self._run(address, operations.cancel_alarm, alarm):
            raise NotFoundError(f"armed alarm {alarm!r} of {address}")

    async def rearm_alarm(self, address: Address, alarm: str, *, due_ms: int | None) -> int:
        """Arm a dead letter anew, for `due_ms` of the store's clock or for now; returns when it is due.

        Raises:
            NotFoundError: there is no such dead letter, or no such kind.
            ConflictError: an alarm of its name is armed.
        """
        self._kind(address)
        at_ms = self._host.store_clock.now_ms() if due_ms is None else due_ms
        outcome = await self._run(address, operations.rearm_alarm, alarm, at_ms)
        if outcome == "armed":
            raise ConflictError(f"An alarm {alarm!r} of {address} is armed; the dead one can be dropped.")
        if outcome == "absent":
            raise _no_dead(address, alarm)
        return at_ms

    async def drop_alarm(self, address: Address, alarm: str) -> None:
        """Forget a dead letter.

        Raises:
            NotFoundError: there is none of that name, or no such kind.
        """
        self._kind(address)
        if not await self._run(address, operations.drop_alarm, alarm):
            raise _no_dead(address, alarm)

    async def _journal_report(self, address: Address, shard: Shard) -> JournalReport:
        last = await self._journal(address, shard, after=0, rows=1, reverse=True)
        first = await self._journal(address, shard, after=0, rows=1)  # Last, as all that was there before may be gone.
        if not (first.entries and last.entries):
            return JournalReport(first=0, last=0, entries=0)
        low = first.entries[0][0]
        high = max(low, last.entries[0][0])
        return JournalReport(first=low, last=high, entries=high - low + 1)

    async def _journal(
        self, address: Address, shard: Shard, *, after: int, rows: int, reverse: bool = False
    ) -> JournalPage:
        page = await self._store.journal(
            shard.index, shard.fence, address.encode(), after=after, rows=rows, reverse=reverse
        )
        check_owned(page.seq)
        return page

    async def _rows(self, found: Sequence[tuple[int, Place]], mark: bytes) -> PlacedAlarms:
        split = [(shard, place, *_split(place.member)) for shard, place in found]
        records = await self._store.fields(
            [(shard, address.encode(), mark + alarm.encode()) for shard, _, address, alarm in split]
        )
        return [
            (place, alarm_row(address, alarm, place.at_ms, record, dead_ms=place.at_ms if mark == b"d" else 0))
            for (_, place, address, alarm), record in zip(split, records, strict=True)
        ]

    def _in_memory(self, activation: Activation) -> InMemory:
        call = activation.running
        running = None
        if call is not None:
            clock = self._host.store_clock
            running_ms = clock.monotonic_ms() - call.started_ms
            running = Running(
                method=call.method.__name__,
                alarm=call.alarm,
                since_ms=clock.now_ms() - running_ms,
                running_ms=running_ms,
            )
        return InMemory(
            phase=activation.phase.name.lower(),
            turns=activation.turns,
            mailbox_depth=len(activation.mailbox or ()),
            running=running,
            dirty=activation.dirty,
            pending=hasattr(activation, "state") and bool(activation.state.pending or activation.state.soft),
            in_flight=activation.in_flight > 0,
            unconfirmed_turns=activation.written - activation.confirmed,
            waiting_answers=len(activation.gated or ()),
            parked_callers=len(activation.parked or ()),
        )


def _split(member: bytes) -> tuple[Address, str]:
    address, end = split_address(member)
    return address, member[end:].decode()


def _no_such(address: Address) -> NotFoundError:
    return NotFoundError(f"object {address}")


def _no_dead(address: Address, alarm: str) -> NotFoundError:
    return NotFoundError(f"dead alarm {alarm!r} of {address}")
