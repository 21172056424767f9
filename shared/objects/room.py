"""Room for so much at once, in which whoever takes long is no obstacle.

A place is taken until it is given back, or for so long at most: then its holder goes on without one. So there is
never more under way than has room but for what hangs, and what hangs keeps others waiting for that long and no longer.
"""

from collections.abc import Hashable
from typing import Generic, TypeVar

H = TypeVar("H", bound=Hashable)


class Room(Generic[H]):
    """The places of one kind. Moments are milliseconds of one clock that does not go back."""

    __slots__ = ("_most", "_patience_ms", "_since_ms")

    def __init__(self, most: int, *, patience_ms: int) -> None:
        self._most = most
        self._patience_ms = patience_ms
        self._since_ms: dict[H, int] = {}  # Oldest first.

    def take(self, holder: H, now_ms: int) -> None:
        """Take a place for one that has none; the caller has seen that one is free."""
        self._since_ms[holder] = now_ms

    def give_back(self, holder: H) -> bool:
        """The holder is done; say whether it had its place until now."""
        return self._since_ms.pop(holder, None) is not None

    def held(self, now_ms: int) -> int:
        """How many places are taken, once those are taken back that have been held too long."""
        since_ms = self._since_ms
        while since_ms and now_ms - next(iter(since_ms.values())) >= self._patience_ms:
            del since_ms[next(iter(since_ms))]
        return len(since_ms)

    def free(self, now_ms: int) -> int:
        """How many places are left then."""
        return self._most - self.held(now_ms)

    def next_ms(self) -> int | None:
        """When the next place is taken back at the latest; None: none is held."""
        return next((since_ms + self._patience_ms for since_ms in self._since_ms.values()), None)
