"""What may wait on a node: so many calls, so many bytes, and few behind a commit in doubt.

A call over a bound is refused at once and has not started, so it is safe to send again. The
mailbox of each object has bounds of its own (`activation.Mailbox`). Callers that wait for an object to
change (`parking`) are counted apart: they may be many, and keep no call out.
"""

from shared import bounds
from shared.objects.activation import Call
from shared.objects.errors import OverloadedError
from shared.objects.ownership import Shard
from shared.telemetry.metrics import Metrics


class Admission:
    """Counts what waits on this node."""

    __slots__ = ("_calls", "_metrics", "_size_bytes", "parked")

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._calls = 0
        self._size_bytes = 0
        self.parked = 0

    def check(self, kind: str, call: Call) -> None:
        """Raises OverloadedError if the node holds as many calls or bytes as it may."""
        if self._calls >= bounds.NODE_CALLS_MAX or self._size_bytes + call.size_bytes > bounds.NODE_CALL_BYTES_MAX:
            self._metrics.queue_rejected(kind, "node")
            raise OverloadedError("The node has too many waiting calls", retry_after_ms=bounds.RETRY_AFTER_MS)

    def check_doubt(self, kind: str, shard: Shard) -> None:
        """Count a call to a shard whose commit is in doubt; raises OverloadedError after 256 of them."""
        if shard.doubt_turns >= bounds.DOUBT_TURNS_MAX:
            self._metrics.queue_rejected(kind, "doubt")
            raise OverloadedError(
                "The store has not confirmed earlier changes yet", retry_after_ms=bounds.RETRY_AFTER_MS
            )
        shard.doubt_turns += 1

    def enter(self, call: Call) -> None:
        """The call begins to wait, and may be parked already."""
        call.waits = True
        if not call.parked:
            self._count(call, 1)

    def leave(self, call: Call) -> None:
        """The call has its answer, or nobody waits for it any more."""
        call.waits = False
        if call.parked:
            self.unpark(call)
        else:
            self._count(call, -1)

    def park(self, call: Call) -> None:
        """The call waits for its object to change."""
        call.parked = True
        self.parked += 1
        if call.waits:
            self._count(call, -1)

    def unpark(self, call: Call) -> None:
        """The call waits for a turn again, or not at all. Safe to call twice."""
        if call.parked:
            call.parked = False
            self.parked -= 1
            if call.waits:
                self._count(call, 1)

    def _count(self, call: Call, calls: int) -> None:
        self._calls += calls
        self._size_bytes += calls * call.size_bytes
