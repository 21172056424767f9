"""Objects that have blocked their owner: not run until their term is over, so that the next owner does not die of them.

The store has the records, and a load brings the one of its object. What this node has met is kept in memory
until then, so that a refusal costs no load and an alarm of such an object is put off, not rung in vain. An object
that was in memory before another process recorded it runs on: here it does no harm so far.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from shared import bounds
from shared.objects.address import Address, shard_of, split_address
from shared.objects.errors import QuarantinedError, UnavailableError
from shared.objects.ownership import Ownership, Shard
from shared.objects.store_clock import StoreClock
from shared.storage.interface import Store
from shared.storage.quarantines import Quarantine, Terms
from shared.telemetry.metrics import Metrics

TERMS = Terms(
    first_ms=bounds.QUARANTINE_MS,
    longest_ms=bounds.QUARANTINE_MS_MAX,
    memory_ms=bounds.QUARANTINE_MEMORY_MS,
    objects_max=bounds.QUARANTINE_OBJECTS_MAX,
)
"""How long an object is refused that has blocked its owner for the first time, and after that."""


class QuarantinedObject(NamedTuple):
    """An object that is refused until `until_ms` of the store's clock; it has had so many terms, this one included."""

    address: Address
    terms: int
    until_ms: int


class Quarantines:
    """What this node does not run."""

    def __init__(self, store: Store, ownership: Ownership, store_clock: StoreClock, metrics: Metrics) -> None:
        self._store = store
        self._ownership = ownership
        self._clock = store_clock
        self._metrics = metrics
        self._until_ms: dict[Address, int] = {}
        self.on_lift: Callable[[Sequence[Shard]], None] | None = None

    def met(self) -> int:
        """How many objects in quarantine this node has met. May be asked in any thread."""
        now_ms = self._clock.lower_ms()
        return sum(until_ms > now_ms for until_ms in self._until_ms.copy().values())

    def check(self, address: Address) -> None:
        """Raises QuarantinedError if the object is known to be in quarantine."""
        if self._until_ms and (until_ms := self.until_ms(address)):
            raise self._refusal(address, until_ms)

    def loaded(self, address: Address, record: Quarantine | None) -> QuarantinedError | None:
        """Why an object that was loaded with this record must not run, if it must not."""
        if record is None or record.until_ms <= self._clock.lower_ms():
            return None
        now_ms = self._clock.lower_ms()
        self._until_ms = {known: until_ms for known, until_ms in self._until_ms.items() if until_ms > now_ms}
        self._until_ms[address] = record.until_ms
        return self._refusal(address, record.until_ms)

    def until_ms(self, address: Address) -> int:
        """When the term of the object ends, as far as this node knows; 0 if it is in none."""
        until_ms = self._until_ms.get(address, 0)
        return until_ms if until_ms > self._clock.lower_ms() else 0

    def not_before_ms(self, member: bytes) -> int:
        """When an alarm (encoded address and name) may ring at the earliest; 0 for when it is due."""
        return self.until_ms(split_address(member)[0]) if self._until_ms else 0

    async def listed(self) -> Sequence[QuarantinedObject]:
        """The objects of this node's shards that are in quarantine, those first that are for longest.

        Raises:
            StoreError: the store did not answer.
        """
        shards = [shard.index for shard in self._ownership.shards if shard.open]
        found = [
            QuarantinedObject(Address.decode(row.object_id), row.record.count, row.record.until_ms)
            for rows in await self._store.quarantines(shards)
            for row in rows
            if row.record.until_ms > self._clock.lower_ms()
        ]
        return sorted(found, key=lambda each: (-each.until_ms, each.address))

    async def lift(self, address: Address) -> bool:
        """Let the object run again, its alarms at once, and forget its terms; say whether there was anything to forget.

        Raises:
            UnavailableError: another node owns the object, and remembers what it has met.
            StoreError: the store did not answer; it may have forgotten.
        """
        object_id = address.encode()
        shard = self._ownership.shards[shard_of(object_id, len(self._ownership.shards))]
        if not shard.open:
            raise UnavailableError("This node does not own the object at the moment")
        lifted = await self._store.lift_quarantine(shard.index, object_id)
        self._until_ms.pop(address, None)
        if self.on_lift:
            self.on_lift([shard])
        return lifted

    def _refusal(self, address: Address, until_ms: int) -> QuarantinedError:
        self._metrics.quarantine_refused(address.kind)
        return QuarantinedError(address.kind, until_ms=until_ms, left_ms=until_ms - self._clock.lower_ms())
