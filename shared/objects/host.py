"""The activations of this node: find, load, run their turns, let their answers out, forget them.

Two ways in. `try_now` runs a plain handler at once where nothing has to wait: no task, no future,
no queue. `call` is the ordinary path: mailbox, activation, output gate. Both promise the same:
turns of one object never overlap, and nothing leaves before the store has confirmed what it
depends on (for checkpointed kinds: while the last checkpoint is younger than 1 s).
"""

import asyncio
import itertools
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from shared import bounds
from shared.errors import InvalidInputError
from shared.objects.activation import Activation, Backlog, Call, Mailbox, Phase
from shared.objects.address import Address, shard_of
from shared.objects.admission import Admission
from shared.objects.alarms import AlarmClock
from shared.objects.calls import ObjectCalls, current_chain
from shared.objects.committer import Committer
from shared.objects.courier import Courier
from shared.objects.errors import (
    CallCycleError,
    CommitFailedError,
    DeadlineExceededError,
    HandlerError,
    OverloadedError,
    UnavailableError,
)
from shared.objects.handler import DurableObject, Kind
from shared.objects.listings import Listings
from shared.objects.loader import Loader
from shared.objects.mirror import Mirror
from shared.objects.native import NativeState
from shared.objects.once import Once
from shared.objects.ownership import Ownership, Shard
from shared.objects.quarantine import Quarantines
from shared.objects.reads import TurnReads
from shared.objects.residents import Residents
from shared.objects.ringing import Ringer
from shared.objects.state import ObjectState
from shared.objects.store_clock import StoreClock
from shared.objects.transactions import Transactions, with_coordinator
from shared.objects.turns import Turns
from shared.retry import Draw
from shared.storage.interface import Store
from shared.telemetry.metrics import Metrics
from shared.telemetry.traces import Tracer, current_trace


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
        draw: Draw = random.random,
        resident_objects: int = bounds.RESIDENT_OBJECTS,
    ) -> None:
        self.store_clock = store_clock
        self.draw = draw
        self.metrics = metrics
        self.tracer = tracer
        self.calls = ObjectCalls(self)
        self.committer = Committer(self, store, ownership, store_clock, metrics)
        self.quarantines = Quarantines(store, ownership, store_clock, metrics)
        self._ringer = Ringer(self, ownership.shards, self._deliver)
        self._kinds = {cls.kind: Kind(cls) for cls in with_coordinator(kinds)}
        self.alarms = AlarmClock(
            store,
            ownership,
            store_clock,
            self._ringer.ring,
            not_before_ms=self.quarantines.not_before_ms,
            kinds=self._kinds,
        )
        self.quarantines.on_lift = self.alarms.read_soon
        self.quarantined, self.lift_quarantine = self.quarantines.listed, self.quarantines.lift
        self.transactions = partial(Transactions, self)
        self._shards = ownership.shards
        self._ownership = ownership
        self.backlog = Backlog()
        self.admission = Admission(metrics)
        self._draining = False
        self.sockets = Mirror(self)
        self._turns = Turns(self)
        self.stop_parking = self._turns.parking.stop
        self._loader = Loader(self, store, ownership)
        self.reads = TurnReads(self, store, ownership)
        self.listings = Listings(store, shards=len(ownership.shards))
        self.residents = Residents(self, self._turns, self._loader, room=resident_objects)
        self.courier = Courier(self, store)
        self.message_serials = itertools.count(1)
        """Numbers the messages of this process, whoever sends them (`messages.Message.serial`)."""
        self._activations = self.residents.by_address
        self._monotonic_ms = store_clock.monotonic_ms
        ownership.on_open = self._opened
        ownership.on_lost = self.residents.lost
        ownership.on_rollback = self.residents.rolled_back

    # The two ways in.

    def try_now(self, address: Address, method: Callable[..., Any], *args: Any) -> Any:
        """Run a plain handler of a checkpointed object at once, or return NOT_NOW.

        Cost: two dictionary look-ups, a clock read and a comparison over the handler's own; guarded by
        `benchmarks/check.py`.

        Raises:
            HandlerError, DomainError, TooLargeError: as `call`.
        """
        activation = self._activations.get(address)
        if activation is None or not activation.idle or activation.kind.durable:
            return NOT_NOW
        now_ms = self._monotonic_ms()
        if now_ms >= activation.shard.valid_until_ms or now_ms > self.committer.fast_until_ms or self._draining:
            return NOT_NOW
        if 0 < activation.state.expire_at_ms <= self.store_clock.upper_at_ms(now_ms) and self._expired(activation):
            return NOT_NOW
        activation.idle_since_ms = 0
        return self._turns.run_plain(activation, method, args)

    def read_now(self, address: Address, method: Callable[..., Any], *args: Any) -> Any:
        """Run a plain `@readonly` handler at once, or return NOT_NOW: also where what it would see is not all stored.

        Raises:
            HandlerError, DomainError, TooLargeError: as `call`.
        """
        activation = self._activations.get(address)
        if activation is None or not activation.idle or activation.written > activation.confirmed or activation.dirty:
            return NOT_NOW
        now_ms = self._monotonic_ms()
        if now_ms >= activation.shard.valid_until_ms or self._draining:
            return NOT_NOW
        if 0 < activation.state.expire_at_ms <= self.store_clock.upper_at_ms(now_ms) and self._expired(activation):
            return NOT_NOW
        activation.idle_since_ms = 0
        return self._turns.run_plain(activation, method, args)

    async def call(
        self,
        address: Address,
        method: Callable[..., Any],
        *args: Any,
        deadline_ms: int | None = None,
        durability: str | None = None,
        size_bytes: int = bounds.CALL_BYTES,
        once: Once | None = None,
    ) -> Any:
        """Run a turn and return its reply, once what it depends on is stored.

        `deadline_ms` is the caller's patience from now; `durability="committed"` makes a
        checkpointed kind wait for the store; `size_bytes` is what the arguments take in memory while
        the call waits; `once` makes a call that may be made again take effect once (not for native kinds).

        Raises:
            InvalidInputError: objects of this kind remember nothing.
            KeyReusedError: the idempotency key stands for another request.
            OverloadedError, UnavailableError: the call did not start.
            DeadlineExceededError: time ran out; `started` says whether the turn had begun.
            CommitFailedError, OutcomeUnknownError: the turn ran, its writes did not (or may not) count.
            HandlerError, DomainError, TooLargeError: the turn failed; what it wrote was dropped.
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
            once=once,
        )
        if once is not None and self._kinds[address.kind].native:
            raise InvalidInputError(f"A {address.kind} remembers no requests", "header.idempotency-key")
        self._deliver(address, call)
        if call.future.done():
            return call.future.result()
        patience_ms = bounds.HANDLER_DEADLINE_MS if deadline_ms is None else deadline_ms
        timer = loop.call_later(patience_ms / 1000, self._expire, call)
        self.admission.enter(call)
        try:
            return await call.future
        finally:
            self.admission.leave(call)
            timer.cancel()

    async def call_from_turn(self, address: Address, method: Callable[..., Any], *args: Any) -> Any:
        """A call that a handler makes: earlier turns of the caller are stored first, and cycles end here.

        Raises:
            CallCycleError: the target waits for this call already.
            CommitFailedError, OutcomeUnknownError: earlier turns of the caller are not, or may not be, stored.
        """
        chain = [link.address for link in current_chain.get()]
        if address in chain or len(chain) >= bounds.CALL_CHAIN_MAX:
            raise CallCycleError([str(link) for link in (*chain, address)])
        if chain:
            await self._let_out(current_chain.get()[-1])
        return await self.call(address, method, *args)

    async def store_earlier_turns(self) -> None:
        """Wait until the store has what was written by turns of the object before the one that asks; see `_let_out`."""
        chain = current_chain.get()
        if chain:
            await self._let_out(chain[-1])

    async def commit_within_turn(self, activation: Activation) -> None:
        """See `DurableObject.commit`."""
        activation.check_resident()
        if activation.dirty and not self._turns.checkpoint(activation):
            raise CommitFailedError("the object's checkpoint failed")
        if activation.running is not None:
            self._turns.check_writes(activation, activation.running.method)
        self._turns.end(activation)
        if activation.written > activation.confirmed:
            await self._confirmation(activation)

    async def store_within_turn(self, activation: Activation) -> None:
        """As `commit_within_turn`, soft writes included."""
        await self.commit_within_turn(activation)
        if activation.state.soft:
            await self._confirmation(activation)

    def resident(self, object_id: bytes) -> bool:
        """Whether the object is in memory."""
        return Address.decode(object_id) in self._activations

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """Those that this host has, by name."""
        return self._kinds

    def kind(self, name: str) -> Kind | None:
        """The kind of that name, if this host has it."""
        return self._kinds.get(name)

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
        self.residents.drained()

    def loops(self) -> list[Coroutine[Any, Any, None]]:
        """What has to run for as long as the host does: commits, loads, alarms, deliveries."""
        return [self.committer.run(), self._loader.run(), self.alarms.run(), self.alarms.read(), self.courier.run()]

    async def passivate_idle(self) -> None:
        """Let objects leave memory that were not touched for their idle time; look at 20,000 at most."""
        await self.residents.passivate_idle()

    # Deliveries.

    def _deliver(self, address: Address, call: Call) -> None:
        if self._draining:
            raise UnavailableError("The node is stopping")
        self.admission.check(address.kind, call)
        activation = self._activations.get(address) or self._activate(address, call)
        shard = activation.shard
        if call.arrived_ms >= shard.valid_until_ms:
            raise UnavailableError("This node does not own the object at the moment")
        if shard.in_doubt:
            self.admission.check_doubt(address.kind, shard)
        self.begin_anew_if_expired(activation)
        activation.idle_since_ms = 0
        if activation.mailbox is None:
            activation.mailbox = Mailbox(self.backlog)
        try:
            activation.mailbox.push(call, address=address)
        except OverloadedError:
            self.metrics.queue_rejected(address.kind, "mailbox")
            raise
        activation.idle = False
        call.cold = activation.phase is Phase.LOADING
        self._turns.pump(activation)
        call.queued = not call.started

    def _activate(self, address: Address, call: Call) -> Activation:
        kind = self._kinds[address.kind]
        object_id = address.encode()
        shard = self._shards[shard_of(object_id, len(self._shards))]
        if not shard.open:
            raise UnavailableError("This node does not own the object at the moment")
        self.quarantines.check(address)
        activation = Activation(self, kind, address, shard)
        self.residents.add(activation, call.trace)
        return activation

    def loaded(self, activation: Activation, state: ObjectState | NativeState) -> None:
        """The loader has the object's state: open it. One whose own `on_activate` fails leaves memory again."""
        activation.state = state
        activation.phase = Phase.ACTIVE
        self.residents.loaded(activation)
        self.metrics.activations(activation.kind.name)
        with suppress(HandlerError):
            self._turns.instantiate(activation)
        self._turns.pump(activation)

    def unloadable(self, activation: Activation, error: Exception) -> None:
        """The object cannot be loaded, or cannot begin anew: whoever waits for it is told why."""
        if activation.mailbox:
            activation.mailbox.fail(error)
        self.residents.close(activation, CommitFailedError("a later turn of the object failed"), "failed")

    def _expired(self, activation: Activation) -> bool:
        """Whether a load would find the object absent by now, and nothing newer of it is in memory."""
        state = activation.state
        passed = 0 < state.expire_at_ms <= self.store_clock.upper_ms()
        return passed and activation.clean and not state.stays

    def begin_anew_if_expired(self, activation: Activation) -> None:
        """Where the expiry has passed, what a load would find is known without one.

        Raises:
            HandlerError: the object cannot begin anew, and has left memory.
        """
        if activation.phase is not Phase.ACTIVE or not self._expired(activation):
            return
        self._turns.passivate(activation)
        activation.state = activation.state.expired()
        self._turns.instantiate(activation)
        self._turns.parking.touched(activation, None)

    def _expire(self, call: Call) -> None:
        call.fail(DeadlineExceededError(started=call.started))

    async def _let_out(self, caller: Activation) -> None:
        """Wait until a call of the running turn may leave: all that it could have seen is stored, and still ours."""
        caller.check_resident()
        if caller.unstorable:
            raise CommitFailedError("earlier changes of the object are not stored yet")
        if caller.written > caller.confirmed:
            await self._confirmation(caller)
            caller.check_resident()
        if self._monotonic_ms() >= caller.shard.valid_until_ms:
            raise CommitFailedError("the lease ended during the turn")

    async def _confirmation(self, activation: Activation) -> None:
        """Wait until the store has all that ended turns, and this one until a `commit`, have written.

        Raises:
            CommitFailedError, OutcomeUnknownError: it does not, or may not, have it; or the object has left memory.
        """
        activation.check_resident()
        future = asyncio.get_running_loop().create_future()
        waiter = Call(
            DurableObject.on_activate, (), future=future, arrived_ms=self._monotonic_ms(), trace=current_trace.get()
        )
        waiter.wrote = True
        activation.gate(waiter, None, None)
        self.committer.push(activation)
        await future

    def checkpoint(self, activation: Activation) -> bool:
        """Have a dirty object put its native state, so that the commit under way carries it; False: it has failed."""
        self._turns.checkpoint(activation)
        return not activation.closed

    def _opened(self, shards: Sequence[Shard]) -> None:
        self.committer.wake()
        self.courier.opened(shards)
        self.alarms.read_soon(shards)
