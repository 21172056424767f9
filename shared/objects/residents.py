"""The objects in memory: what a commit means for each, and how each leaves.

An object is in memory once. While a commit of one that has left is on its way, it is not read
again: the store decides first, and answers that wait for that commit get its verdict. All that
waits otherwise gets an error, or goes on to the successor. Whatever leaves is counted once, by its
reason: idle, failed, lost to another node, drained with this one, or sent away by an operator.
"""

import asyncio
from collections import deque
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from shared import bounds
from shared.objects.activation import Activation, Phase
from shared.objects.address import Address
from shared.objects.errors import CommitFailedError, NoRoomError, OutcomeUnknownError, UnavailableError
from shared.objects.handler import DurableObject, Kind
from shared.objects.ownership import Shard
from shared.objects.state import ObjectState
from shared.objects.tracing import observe_turn, record_commit
from shared.telemetry import logs
from shared.telemetry.context import TraceContext
from shared.telemetry.metrics import EvictionReason

if TYPE_CHECKING:
    from shared.objects.flights import Flight
    from shared.objects.host import Host
    from shared.objects.loader import Loader
    from shared.objects.turns import Turns

_NAMED = 8  # Shards that a line of the log names.
_log = logs.get_logger()


class Residents:
    """The activations of one host. `by_address` is for looking only."""

    def __init__(self, host: "Host", turns: "Turns", loader: "Loader", *, room: int) -> None:
        self._host = host
        self._turns = turns
        self._loader = loader
        self._metrics = host.metrics
        self._room = room  # With no more objects than these, those worth it are kept beyond their idle time.
        self.by_address: dict[Address, Activation] = {}
        self._leaving: dict[Address, Activation] = {}  # Closed, and a commit of theirs is on its way.
        self._left: dict[Activation, list[bytes]] = {}  # Messages that have left while their sender was loading.
        self._hand: deque[Activation] = deque()  # The clock hand of passivation goes round here.

    def add(self, activation: Activation, trace: TraceContext | None) -> None:
        """Take in an object and have it loaded, on behalf of the sampled call whose span is `trace`."""
        self.by_address[activation.address] = activation
        self._hand.append(activation)
        if activation.address not in self._leaving:  # Else it is loaded once the store has decided.
            self._loader.load(activation, trace)

    # What becomes of commits.

    def confirmed(self, activation: Activation, flight: "Flight") -> None:
        """The store has what of the object was in `flight`."""
        released = activation.confirm()
        if activation.phase is Phase.CLOSED:
            self._settled(activation)
        else:
            self._turns.announce_alarms(activation)
        for call in released:
            if call.trace is not None and call.wrote:
                flight.trace = record_commit(self._host.tracer, activation, call, flight)

    def commit_failed(
        self, activation: Activation, flight: "Flight", error: CommitFailedError | OutcomeUnknownError
    ) -> None:
        """The store did not take the object's changes: forget them, or for checkpointed kinds keep the newer memory."""
        covers, activation.in_flight = activation.in_flight, 0
        for written, call, _, _ in activation.gated or ():
            if call.trace is not None and call.wrote and written <= covers:
                flight.trace = record_commit(self._host.tracer, activation, call, flight, error)
        waits = activation.gated is not None and activation.gated[0][0] <= covers
        if activation.phase is Phase.CLOSED:
            activation.fail_gated(error)
            self._settled(activation)
        elif isinstance(error, NoRoomError) and not waits and activation.state.take_back():
            self._keep_soft(activation)
        elif activation.kind.durable:
            self.close(activation, error, "failed")
        else:
            activation.fail_gated(_kept(error))
            self._keep_memory(activation)

    def rolled_back(self, shards: Sequence[Shard]) -> None:
        """The store went back in time, and nobody has written since: what was only committed is not the truth any more.

        Checkpointed kinds keep their memory, and write it back.
        """
        self._metrics.rollback_detected(len(shards))
        _log.error(logs.ROLLBACK_DETECTED, shards=len(shards), first=[shard.index for shard in shards[:_NAMED]])
        still_open = [shard for shard in shards if shard.open]
        self._host.courier.opened(still_open)
        self._host.alarms.read_soon(still_open)
        for activation in self._of(shards):
            if activation.phase is Phase.LOADING:
                continue
            if activation.kind.durable:
                self.close(activation, CommitFailedError("the store went back in time"), "failed")
            else:
                self._keep_memory(activation)

    def unencodable(self, activation: Activation, error: Exception) -> None:
        """No commit can carry what the object has left to it: forget that, and the object."""
        method = DurableObject.on_checkpoint.__name__
        _log.error(logs.TURN_FAILED, object_kind=activation.kind.name, method=method, exc_info=error)
        self.close(activation, CommitFailedError("the object cannot be encoded"), "failed")

    # The ways out.

    async def passivate_idle(self) -> None:
        """Let objects leave memory that were not touched for their idle time; look at 20,000 at most.

        Others have their turns in between.
        """
        left = min(len(self._hand), bounds.PASSIVATION_SCAN_OBJECTS)
        while left > 0:
            self.passivate_some(self._host.store_clock.monotonic_ms(), min(left, bounds.PASSIVATION_SLICE_OBJECTS))
            left -= bounds.PASSIVATION_SLICE_OBJECTS
            await asyncio.sleep(0)

    def passivate_some(self, now_ms: int, looks: int) -> None:
        """Look at so many objects, and let those leave that have been idle."""
        for _ in range(min(len(self._hand), looks)):
            activation = self._hand.popleft()
            if activation.phase is Phase.CLOSED:
                continue
            if not activation.idle_since_ms:
                activation.idle_since_ms = now_ms
            elif self._rested(activation, now_ms) and self._stored(activation):
                self._passivate(activation)
                continue
            self._hand.append(activation)

    def passivate(self, address: Address) -> bool:
        """Let an object leave now if the store has everything of it; say whether it is not there any more."""
        activation = self.by_address.get(address)
        if activation is not None and self._stored(activation):
            self._passivate(activation)
        return address not in self.by_address

    def close(self, activation: Activation, error: Exception, reason: EvictionReason) -> None:
        """Forget an activation. What waits for a flight is answered by that flight, all else by an error."""
        activation.fail_gated(error)
        self._forget(activation, reason)
        self._unpark(activation)
        if activation.mailbox:
            activation.mailbox.fail(UnavailableError("The object left memory"))

    def evict(self, activation: Activation) -> None:
        """Forget an activation whose memory is not to be trusted; calls that have not started go on to the next one."""
        activation.fail_gated(CommitFailedError("a later turn of the object failed"))
        self._forget(activation, "failed")
        self._unpark(activation)
        self._hand_on(activation)

    def dismiss(self, activation: Activation) -> None:
        """Let an object leave in a turn of its own, which ends with it; the store has everything of it.

        Calls that wait go on to the next one.
        """
        call = activation.running
        assert call is not None, "nobody is dismissed but by a turn of its own"
        observe_turn(self._metrics, activation, call, None)
        call.span = None
        call.reply(None)
        self._forget(activation, "operator" if self._turns.passivate(activation) else "failed")
        self._unpark(activation)
        self._hand_on(activation)

    def _hand_on(self, activation: Activation) -> None:
        mailbox = activation.mailbox
        if not mailbox:
            return
        if activation.shard.open:
            successor = Activation(self._host, activation.kind, activation.address, activation.shard)
            successor.mailbox = mailbox
            self.add(successor, mailbox.trace)
        else:
            mailbox.fail(UnavailableError("The object left memory"))

    def lost(self, shards: Sequence[Shard]) -> None:
        """Another node has claimed the shards: forget their objects, and leave their messages to it."""
        for shard in shards:
            self._host.courier.closed(shard)
        for activation in self._of(shards):
            self.close(activation, CommitFailedError("the object has another owner now"), "lost")

    def drained(self) -> None:
        """The node stops, and its commits with it: whatever was not confirmed by now never will be."""
        unknown = OutcomeUnknownError()
        for activation in list(self.by_address.values()):
            self.close(activation, unknown, "drained")
        for activation in self._leaving.values():
            for _, call, _, _ in activation.gated or ():
                call.fail(unknown)

    def settled(self, object_id: bytes, message_ids: Collection[bytes], *, left: bool) -> None:
        """The store has what became of messages of an object: they have `left` it, or are dead."""
        activation = self.by_address.get(Address.decode(object_id))
        if activation is None:
            return
        if activation.phase is Phase.LOADING:
            if left:  # What it is loaded with may be of before.
                self._left.setdefault(activation, []).extend(message_ids)
        elif isinstance(activation.state, ObjectState):
            activation.state.settled(message_ids, left=left)

    def loaded(self, activation: Activation) -> None:
        """The object has its state."""
        message_ids = self._left.pop(activation, None)
        if message_ids and isinstance(activation.state, ObjectState):
            activation.state.settled(message_ids, left=True)

    def _unpark(self, activation: Activation) -> None:
        if activation.parked:
            self._turns.parking.queue(activation, activation.parked.let_go())

    def _patience_ms(self, kind: Kind) -> int:
        """How long an object of the kind may be idle at the moment."""
        return kind.keep_ms if len(self.by_address) <= self._room else kind.idle_ms

    def _rested(self, activation: Activation, now_ms: int) -> bool:
        return now_ms - activation.idle_since_ms >= self._patience_ms(activation.kind)

    def _keep_soft(self, activation: Activation) -> None:
        """Its soft writes found no room: they are tried again, but an object that nobody needs goes without them."""
        now_ms = self._host.store_clock.monotonic_ms()
        if activation.clean and activation.idle_since_ms and not activation.parked and self._rested(activation, now_ms):
            self._passivate(activation)
        else:
            self._host.committer.soft.mark(activation)

    def _stored(self, activation: Activation) -> bool:
        """Whether it may leave: nobody is held, and nothing would be lost with it; soft writes are sent first."""
        if activation.parked or not activation.clean:
            return False
        if activation.state.soft:
            self._host.committer.push(activation)
            return False
        return True

    def _of(self, shards: Sequence[Shard]) -> list[Activation]:
        wanted = frozenset(shards)
        return [activation for activation in self.by_address.values() if activation.shard in wanted]

    def _forget(self, activation: Activation, reason: EvictionReason) -> None:
        activation.phase = Phase.CLOSED
        activation.idle = False
        self._left.pop(activation, None)
        if self.by_address.get(activation.address) is activation:
            del self.by_address[activation.address]
        if activation.in_flight:
            self._leaving[activation.address] = activation
            self._turns.announce_alarms(activation)  # The store may come to have them: they are looked up.
        self._turns.forget(activation)
        activation.part()
        if reason in ("failed", "lost"):
            self._host.sockets.unclean(activation.address)
        self._metrics.evictions(activation.kind.name, reason)

    def _passivate(self, activation: Activation) -> None:
        self._forget(activation, "idle" if self._turns.passivate(activation) else "failed")

    def _settled(self, activation: Activation) -> None:
        """The flight that a closed activation was in has ended: its successor may read the store."""
        if self._leaving.get(activation.address) is activation:
            del self._leaving[activation.address]
            successor = self.by_address.get(activation.address)
            if successor is not None and successor.phase is Phase.LOADING:
                self._loader.load(successor, successor.mailbox.trace if successor.mailbox else None)

    def _keep_memory(self, activation: Activation) -> None:
        activation.state.rewrite()
        activation.written += 1
        self._host.committer.mark_dirty(activation)


def _kept(error: CommitFailedError | OutcomeUnknownError) -> OutcomeUnknownError:
    """What the callers hear whose turns stay in memory: the store does not have them, but a later checkpoint may."""
    unknown = OutcomeUnknownError()
    unknown.__cause__ = error
    return unknown
