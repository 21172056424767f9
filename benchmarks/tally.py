"""The object of the benchmarks: one number that grows, written and confirmed at every turn.

The counter of the tutorial is full at 100, and a benchmark adds more than that; otherwise they are alike.
"""

from typing import Annotated

from msgspec import Meta

from shared.objects.handler import DurableObject, public

Amount = Annotated[int, Meta(ge=1, le=100)]


class Tally(DurableObject):
    """One tally: `committed`, so an answer leaves after the store has confirmed it."""

    kind = "tally"

    @public
    def add(self, amount: Amount) -> int:
        """Add to the total, and answer it."""
        total = self.storage.get("total", int, default=0) + amount
        self.storage.put("total", total)
        return total
