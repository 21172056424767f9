"""What a checkpoint is due for: objects that have changed, gathered until they go to the store together."""

from collections import deque

from shared.objects.activation import Activation
from shared.objects.ownership import Shard


class Wave:
    """Objects that became dirty at `since_ms` or later, and whose checkpoint is due together.

    They are kept by shard: the more objects of one shard a flight carries, the less each costs.
    """

    __slots__ = ("objects", "since_ms")

    def __init__(self, since_ms: int) -> None:
        self.since_ms = since_ms
        self.objects: dict[Shard, deque[Activation]] = {}

    def add(self, activation: Activation) -> None:
        """Take in an object that is in no wave."""
        queue = self.objects.get(activation.shard)
        if queue is None:
            queue = self.objects[activation.shard] = deque()
        queue.append(activation)
