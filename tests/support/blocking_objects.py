"""Objects for TENURE_OBJECTS whose turns can hold their node: in Python, in a sleep, in an alarm."""

import time

from shared.objects.handler import Alarm, DurableObject, public


class Blocker(DurableObject):
    """Counts calls, and stops the world on demand."""

    kind = "blocker"

    @public
    def count(self) -> int:
        """A turn like any other."""
        total = self.storage.get("total", int, default=0) + 1
        self.storage.put("total", total)
        return total

    @public
    def spin(self) -> int:
        """Never ends."""
        turns = 0
        while turns >= 0:
            turns += 1
        return turns

    @public
    async def sleep(self, seconds: float) -> float:
        """Sleeps as nobody may on an event loop."""
        time.sleep(seconds)  # noqa: ASYNC251  # It is the fault that is shown.
        return seconds

    @public
    def spin_later(self) -> None:
        """Spins in its alarm."""
        self.alarms.set("spin", at_ms=self.clock.now_ms())

    def on_alarm(self, alarm: Alarm) -> None:
        """Never ends."""
        self.spin()
