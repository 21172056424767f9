"""The activations of this node: find, load, run their turns, let their answers out, forget them.

Two ways in. `try_now` runs a plain handler at once where nothing has to wait: no task, no future,
no queue. `call` is the ordinary path: mailbox, activation, output gate. Both promise the same:
turns of one object never overlap, and nothing leaves before the store has confirmed what it
depends on (for checkpointed kinds: while the last checkpoint is younger than 1 s).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from shared import bounds
from shared.objects.activation import Activation, Call, Mailbox, Phase
from shared.objects.address import Address, shard_of
from shared.objects.admission import Admission
from shared.objects.alarms import AlarmClock
from shared.objects.calls import ObjectCalls, current_chain
from shared.objects.committer import Committer
from shared.objects.errors import (
    CallCycleError,
    CommitFailedError,
    DeadlineExceededError,
    HandlerError,
    OutcomeUnknownError,
    OverloadedError,
    UnavailableError,
)
from shared.objects.handler import DurableObject, Kind
from shared.objects.loader import Loader
from shared.objects.native import NativeState
from shared.objects.ownership import Ownership, Shard
from shared.objects.state import ObjectState
from shared.objects.store_clock import StoreClock
from shared.objects.turns import Turns
from shared.storage.interface import Store
from shared.telemetry import logs
from shared.telemetry.metrics import Metrics
from shared.telemetry.traces import Tracer, current_trace

_log = logs.get_logger()


class NotNow:
    """The type of NOT_NOW."""


NOT_NOW = NotNow()
"""The answer of `try_now` when the call has to wait for something: take the ordinary path."""


class Host:
    """All objects of one service on one node and one store primary."""

    def __init__(
        self,
        kinds: Sequence[type[DurableObject]],
        store: Store,
        ownership: Ownership,
        store_clock: StoreClock,
        *,
        metrics: Metrics,
        tracer: Tracer,
    ) -> None:
        self.store_clock = store_clock
        self.metrics = metrics
        self.tracer = tracer
        self.calls = ObjectCalls(self)
        self.committer = Committer(self, store, ownership, store_clock, metrics)
        self.alarms = AlarmClock(store, ownership, store_clock, self._ring)
        self._kinds = {cls.kind: Kind(cls) for cls in kinds}
        self._shards = ownership.shards
        self._ownership = ownership
        self._activations: dict[Address, Activation] = {}
        self._leaving: dict[Address, Activation] = {}  # Closed, and a commit of theirs is on its way.
        self._hand: deque[Activation] = deque()  # The clock hand of passivation goes round here.
        self._admission = Admission(metrics)
        self._draining = False
        self._turns = Turns(self)
        self._loader = Loader(self, store, ownership)
        self._monotonic_ms = store_clock.monotonic_ms
        ownership.on_open = self._opened
        ownership.on_lost = self._lost
        ownership.on_rollback = self.rolled_back

    # The two ways in.

    def try_now(self, address: Address, method: Callable[..., Any], *args: Any) -> Any:
        """Run a plain handler of a checkpointed object at once, or return NOT_NOW.

        Cost: two dictionary look-ups, a clock read and a comparison over the handler's own; guarded by
        `benchmarks/check.py`.

        Raises:
            HandlerError: the handler failed.
        """
        activation = self._activations.get(address)
        if activation is None or not activation.idle or activation.kind.durable:
            return NOT_NOW
        now_ms = self._monotonic_ms()
        if now_ms >= activation.shard.valid_until_ms or now_ms > self.committer.fast_until_ms or self._draining:
            return NOT_NOW
        if 0 < activation.state.expire_at_ms <= self.store_clock.upper_at_ms(now_ms) and self._expired(activation):
            return NOT_NOW
        activation.touched = True
        return self._turns.run_plain(activation, method, args)

    async def call(
        self,
        address: Address,
        method: Callable[..., Any],
        *args: Any,
        deadline_ms: int | None = None,
        durability: str | None = None,
        size_bytes: int = bounds.CALL_BYTES,
    ) -> Any:
        """Run a turn and return its reply, once what it depends on is stored.

        `deadline_ms` is the caller's patience from now; `durability="committed"` makes a
        checkpointed kind wait for the store; `size_bytes` is what the arguments take in memory while
        the call waits.

        Raises:
            OverloadedError, UnavailableError: the call did not start.
            DeadlineExceededError: time ran out; `started` says whether the turn had begun.
            CommitFailedError, OutcomeUnknownError: the turn ran, its writes did not (or may not) count.
            HandlerError, DomainError: what the handler raised.
        """
        loop = asyncio.get_running_loop()
        call = Call(
            method,
            args,
            future=loop.create_future(),
            arrived_ms=self._monotonic_ms(),
            chain=current_chain.get(),
            durable=durability == "committed",
            trace=current_trace.get(),
            size_bytes=size_bytes,
        )
        self._deliver(address, call)
        if call.future.done():
            return call.future.result()
        patience_ms = bounds.HANDLER_DEADLINE_MS if deadline_ms is None else deadline_ms
        timer = loop.call_later(patience_ms / 1000, self._expire, call)
        self._admission.enter(call)
        try:
            return await call.future
        finally:
            self._admission.leave(call)
            timer.cancel()

    async def call_from_turn(self, address: Address, method: Callable[..., Any], *args: Any) -> Any:
        """A call that a handler makes: earlier turns of the caller are stored first, and cycles end here.

        Raises:
            CallCycleError: the target waits for this call already.
        """
        chain = current_chain.get()
        if address in chain or len(chain) >= bounds.CALL_CHAIN_MAX:
            raise CallCycleError([str(link) for link in (*chain, address)])
        caller = self._activations.get(chain[-1]) if chain else None
        if caller is not None and caller.written > caller.confirmed:
            await self._confirmation(caller)
        return await self.call(address, method, *args)

    async def commit_within_turn(self, activation: Activation) -> None:
        """See `DurableObject.commit`."""
        if activation.state.end_turn():
            activation.written += 1
        if activation.written > activation.confirmed:
            await self._confirmation(activation)

    def resident(self, object_id: bytes) -> bool:
        """Whether the object is in memory."""
        return Address.decode(object_id) in self._activations

    def turns_of(self, address: Address) -> int:
        """How many turns the object has begun since it came into memory; 0 if it is not there."""
        activation = self._activations.get(address)
        return 0 if activation is None else activation.turns

    @property
    def objects_resident(self) -> int:
        """How many objects are in memory."""
        return len(self._activations)

    # Life-cycle of the host.

    async def drain(self) -> None:
        """Start nothing new, let running turns end (5 s at most), store everything."""
        self._draining = True
        for activation in list(self._activations.values()):
            if activation.mailbox:
                activation.mailbox.fail(UnavailableError("The node is stopping"))
        await self._turns.wait_idle(timeout_ms=bounds.DRAIN_TURNS_MS)
        with suppress(TimeoutError):
            async with asyncio.timeout(bounds.DRAIN_FLUSH_MS / 1000):
                await self.committer.flush()

    async def run_committer(self) -> None:
        """Carry commits for ever."""
        await self.committer.run()

    async def run_loader(self) -> None:
        """Load objects for ever."""
        await self._loader.run()

    def passivate_idle(self) -> None:
        """Let objects leave memory that were not touched for their idle time; look at 20,000 at most."""
        now_ms = self._monotonic_ms()
        for _ in range(min(len(self._hand), bounds.PASSIVATION_SCAN_OBJECTS)):
            activation = self._hand.popleft()
            if activation.phase is Phase.CLOSED:
                continue
            if activation.touched:
                activation.touched, activation.idle_since_ms = False, now_ms
            elif now_ms - activation.idle_since_ms >= activation.kind.idle_ms and activation.clean:
                self._passivate(activation)
                continue
            self._hand.append(activation)

    # Deliveries.

    def _deliver(self, address: Address, call: Call) -> None:
        if self._draining:
            raise UnavailableError("The node is stopping")
        self._admission.check(address.kind, call)
        activation = self._activations.get(address) or self._activate(address)
        shard = activation.shard
        if call.arrived_ms >= shard.valid_until_ms:
            raise UnavailableError("This node does not own the object at the moment")
        if shard.in_doubt:
            self._admission.check_doubt(address.kind, shard)
        if activation.phase is Phase.ACTIVE and self._expired(activation):
            self._begin_anew(activation)
        activation.touched = True
        if activation.mailbox is None:
            activation.mailbox = Mailbox()
        try:
            activation.mailbox.push(call, address=address)
        except OverloadedError:
            self.metrics.queue_rejected(address.kind, "mailbox")
            raise
        activation.idle = False
        self._turns.pump(activation)

    def _ring(self, object_id: bytes, name: str) -> None:
        address = Address.decode(object_id)
        kind = self._kinds.get(address.kind)
        if kind is None:
            return
        future = asyncio.get_running_loop().create_future()
        future.add_done_callback(_swallow)
        call = Call(kind.cls.on_alarm, (), future=future, arrived_ms=self._monotonic_ms(), durable=True, alarm=name)
        try:
            self._deliver(address, call)
        except (OverloadedError, UnavailableError):
            self.alarms.armed(self.store_clock.lower_ms() + bounds.RETRY_AFTER_MS, object_id + name.encode())

    def _activate(self, address: Address) -> Activation:
        kind = self._kinds[address.kind]
        object_id = address.encode()
        shard = self._shards[shard_of(object_id, len(self._shards))]
        if not shard.open:
            raise UnavailableError("This node does not own the object at the moment")
        activation = Activation(self, kind, address, object_id, shard)
        self._activations[address] = activation
        self._hand.append(activation)
        if address not in self._leaving:  # Else it is loaded once the store has decided.
            self._loader.load(activation)
        return activation

    def loaded(self, activation: Activation, state: ObjectState | NativeState) -> None:
        """The loader has the object's state: open it. One whose own `on_activate` fails leaves memory again."""
        activation.state = state
        activation.phase = Phase.ACTIVE
        self.metrics.activations(activation.kind.name)
        try:
            self._instantiate(activation)
        except HandlerError:
            return
        self._turns.pump(activation)

    def _instantiate(self, activation: Activation) -> None:
        try:
            self._turns.instantiate(activation)
        except Exception as exc:
            method = DurableObject.on_activate.__name__
            _log.error(logs.TURN_FAILED, object_kind=activation.kind.name, method=method, exc_info=exc)
            error = HandlerError(activation.kind.name, method)
            self.unloadable(activation, error)
            raise error from exc

    def unloadable(self, activation: Activation, error: Exception) -> None:
        """The object cannot be loaded: whoever waits for it is told why."""
        if activation.mailbox:
            activation.mailbox.fail(error)
        self.close(activation, error)

    def _expired(self, activation: Activation) -> bool:
        """Whether a load would find the object absent by now, and nothing newer of it is in memory."""
        state = activation.state
        passed = 0 < state.expire_at_ms <= self.store_clock.upper_ms()
        return passed and activation.clean and not state.stays

    def _begin_anew(self, activation: Activation) -> None:
        """The expiry has passed: what a load would find is known without one."""
        activation.instance.on_passivate()
        activation.state = activation.state.expired()
        self._instantiate(activation)

    def _expire(self, call: Call) -> None:
        call.fail(DeadlineExceededError(started=call.started))

    async def _confirmation(self, activation: Activation) -> None:
        future = asyncio.get_running_loop().create_future()
        waiter = Call(DurableObject.on_activate, (), future=future, arrived_ms=self._monotonic_ms())
        activation.gate(waiter, None, None)
        self.committer.push(activation)
        await future

    # What becomes of commits.

    def checkpoint(self, activation: Activation) -> bool:
        """Have a dirty object put its native state, so that the commit under way carries it; False: it has failed."""
        self._turns.checkpoint(activation)
        return not activation.closed

    def confirmed(self, activation: Activation, started_ms: int) -> None:
        """The store has what of the object was in flight since `started_ms`."""
        released = activation.confirm()
        if activation.phase is Phase.CLOSED:
            self._settled(activation)
        else:
            self._turns.announce_alarms(activation)
        now_ns = time.time_ns() if any(call.trace for call in released) else 0  # noqa: TID251  # Span times are wall time.
        for call in released:
            if call.trace is not None:
                started_ns = now_ns - (self._monotonic_ms() - started_ms) * 1_000_000
                self.tracer.record(f"commit {activation.kind.name}", call.trace, started_ns, now_ns, {})

    def commit_failed(self, activation: Activation, error: CommitFailedError | OutcomeUnknownError) -> None:
        """The store did not take the object's changes: forget them, or for checkpointed kinds keep the newer memory."""
        activation.in_flight = 0
        activation.fail_gated(error)
        if activation.phase is Phase.CLOSED:
            self._settled(activation)
        elif activation.kind.durable:
            self.close(activation, error)
        else:
            self._keep_memory(activation)

    def _settled(self, activation: Activation) -> None:
        """The flight that a closed activation was in has ended: its successor may read the store."""
        if self._leaving.get(activation.address) is activation:
            del self._leaving[activation.address]
            successor = self._activations.get(activation.address)
            if successor is not None and successor.phase is Phase.LOADING:
                self._loader.load(successor)

    def rolled_back(self, shard: Shard) -> None:
        """The store went back in time under our own token: memory that was only committed is not the truth any more."""
        self.metrics.rollback_detected()
        _log.error(logs.ROLLBACK_DETECTED, shard=shard.index)
        for activation in [a for a in self._activations.values() if a.shard is shard]:
            if activation.phase is Phase.LOADING:
                continue
            if activation.kind.durable:
                self.close(activation, CommitFailedError("the store went back in time"))
            else:
                self._keep_memory(activation)

    def close(self, activation: Activation, error: Exception) -> None:
        """Forget an activation. What waits for a flight is answered by that flight, all else by an error."""
        self._forget(activation)
        self.metrics.evictions(activation.kind.name, "failed")
        activation.fail_gated(error)
        if activation.mailbox:
            activation.mailbox.fail(UnavailableError("The object left memory"))

    def evict(self, activation: Activation) -> None:
        """Forget an activation whose memory is not to be trusted; calls that have not started go on to the next one."""
        self._forget(activation)
        self.metrics.evictions(activation.kind.name, "failed")
        activation.fail_gated(CommitFailedError("a later turn of the object failed"))
        if not activation.mailbox:
            return
        if activation.shard.open:
            self._activate(activation.address).mailbox = activation.mailbox
        else:
            activation.mailbox.fail(UnavailableError("The object left memory"))

    def _forget(self, activation: Activation) -> None:
        activation.phase = Phase.CLOSED
        activation.idle = False
        if self._activations.get(activation.address) is activation:
            del self._activations[activation.address]
        if activation.in_flight:
            self._leaving[activation.address] = activation
        self._turns.forget(activation)
        activation.part()

    def _keep_memory(self, activation: Activation) -> None:
        activation.state.rewrite()
        activation.written += 1
        self.committer.mark_dirty(activation)

    def _passivate(self, activation: Activation) -> None:
        activation.instance.on_passivate()
        self._forget(activation)
        self.metrics.evictions(activation.kind.name, "idle")

    def _lost(self, shard: Shard) -> None:
        for activation in [a for a in self._activations.values() if a.shard is shard]:
            self.close(activation, CommitFailedError("the object has another owner now"))

    async def _opened(self, shards: Sequence[Shard]) -> None:
        await self.alarms.scan(shards)
        self.committer.wake()


def _swallow(future: "asyncio.Future[Any]") -> None:
    """Nobody waits for an alarm's answer; its error has been dealt with."""
    if not future.cancelled():
        future.exception()
