"""A counter that goes back to 0 by itself: state, a declared error and an alarm."""

from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from shared.objects.errors import DomainError
from shared.objects.handler import Alarm, DurableObject, public, readonly

TOTAL_MAX = 100
Amount = Annotated[int, Meta(ge=1, le=TOTAL_MAX)]
Wait = Annotated[int, Meta(ge=1_000, le=86_400_000)]


class CounterFullError(DomainError):
    """The total would pass 100. Nothing was added."""

    code: ClassVar[str] = "counter_full"


class Reading(Struct, frozen=True):
    """What a counter shows; `resets_at_ms` is in Unix milliseconds, or null while nothing is counted."""

    total: int
    resets_at_ms: int | None


class Counter(DurableObject):
    """One counter. Its name says whose."""

    kind = "counter"

    @public
    def add(self, amount: Amount, reset_after_ms: Wait = 60_000) -> Reading:
        """Add to the total. The first addition sets when it goes back to 0."""
        total = self.storage.get("total", int, default=0) + amount
        if total > TOTAL_MAX:
            raise CounterFullError(f"{total} would be more than {TOTAL_MAX}.")
        self.storage.put("total", total)
        self.alarms.set_if_absent("reset", at_ms=self.clock.now_ms() + reset_after_ms)
        return self.read()

    @public
    @readonly
    def read(self) -> Reading:
        """The total now, and when it goes back to 0."""
        total = self.storage.get("total", int, default=0)
        return Reading(total=total, resets_at_ms=self.alarms.due_ms("reset"))

    def on_alarm(self, alarm: Alarm) -> None:
        """Go back to 0. The alarm that rang is gone after this turn."""
        self.storage.delete("total")
