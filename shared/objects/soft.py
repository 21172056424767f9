"""Soft writes: seen at once, waited for by nobody, stored with the next commit of their object or within 30 s.

A crash loses what no commit has carried. They are for what is nice to know, such as when somebody was last seen:
a read that notes it must not cost a commit of its own.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from shared import bounds

if TYPE_CHECKING:
    from shared.objects.activation import Activation
    from shared.objects.store_clock import StoreClock


class SoftWrites:
    """The objects of one host that have some, by when the oldest of it was written."""

    def __init__(self, push: Callable[["Activation"], None], clock: "StoreClock") -> None:
        self._push = push
        self._clock = clock
        self._since_ms: dict[Activation, int] = {}  # Oldest first.
        self._timer: asyncio.TimerHandle | None = None

    def mark(self, activation: "Activation") -> None:
        """The object has soft writes that no commit carries yet."""
        if activation not in self._since_ms:
            self._since_ms[activation] = self._clock.monotonic_ms()
            if self._timer is None:
                self._wait(bounds.SOFT_MS)

    def flush(self) -> None:
        """Have the next flights carry all of them."""
        self._send(list(self._since_ms))

    def _wait(self, ms: int) -> None:
        self._timer = asyncio.get_running_loop().call_later(ms / 1000, self._due)

    def _due(self) -> None:
        """Send what has waited long enough, a few at a time: answers that wait for a flight come first."""
        self._timer = None
        now_ms = self._clock.monotonic_ms()
        due = [activation for activation, since_ms in self._since_ms.items() if now_ms >= since_ms + bounds.SOFT_MS]
        self._send(due[: bounds.SOFT_OBJECTS])
        if self._since_ms:
            oldest_ms = next(iter(self._since_ms.values()))
            self._wait(max(bounds.SOFT_PAUSE_MS, oldest_ms + bounds.SOFT_MS - now_ms))

    def _send(self, activations: "list[Activation]") -> None:
        for activation in activations:
            del self._since_ms[activation]
            if activation.state.soft and not activation.closed:
                self._push(activation)
