"""Objects of which an operator has to look after, for tests with real processes."""

import asyncio

from shared.objects.errors import DomainError
from shared.objects.handler import Alarm, DurableObject, public
from shared.storage.codec import AlarmRecord


class ClosedError(DomainError):
    """It takes nothing any more."""


class Troubled(DurableObject):
    """Its alarms can be given up at once, and its turns can take their time."""

    kind = "troubled"

    @public
    def keep(self, text: str) -> None:
        """Store something."""
        self.storage.put("text", text)

    @public
    def note(self, text: str) -> None:
        """Append to the journal."""
        self.journal.append(text)

    @public
    def arm(self, name: str, in_ms: int) -> int:
        """Arm an alarm."""
        at_ms = self.clock.now_ms() + in_ms
        self.alarms.set(name, at_ms=at_ms)
        return at_ms

    @public
    def give_up(self, name: str) -> None:
        """Have an alarm that has failed for a day."""
        record = AlarmRecord(due_ms=self.clock.now_ms(), serial=1, attempts=290, last_error="ValueError: no")
        self.storage.bury_alarm(name, record, self.clock.now_ms())

    @public
    def order(self, name: str) -> None:
        """Send a message to another one of this kind."""
        self.send(Troubled, self.address.tenant, name).take()

    @public
    def close(self, closed: bool) -> None:
        """Take no messages any more, or take them again."""
        self.storage.put("closed", closed)

    @public
    def take(self) -> None:
        """Take a message."""
        if self.storage.get("closed", bool, default=False):
            raise ClosedError
        self.storage.put("taken", self.storage.get("taken", int, default=0) + 1)

    @public
    async def rest(self) -> None:
        """A long turn."""
        await asyncio.sleep(6)

    def on_alarm(self, alarm: Alarm) -> None:
        """Remember which one rang."""
        self.storage.put("rung", alarm.name)
