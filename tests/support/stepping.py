"""Runs coroutines that wait for nothing, without an event loop: the store in memory is one of these when it has no latency."""

from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def at_once(step: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing but its turn."""
    while True:
        try:
            step.send(None)
        except StopIteration as end:
            result: T = end.value
            return result
