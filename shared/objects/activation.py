"""One object in memory: its instance, its state, who waits for it and what waits for the store.

The *mailbox* holds calls that have not started, in arrival order, with a lane of its own for due
alarms. The *output gate* holds finished turns until the commit that covers what they could have
seen is confirmed. Both are made on first wait: an object that is only ever called the fast way
carries neither.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any

from shared import bounds
from shared.objects.address import Address
from shared.objects.errors import CommitFailedError, OverloadedError, UnavailableError
from shared.objects.handler import DurableObject, Kind
from shared.objects.native import NativeState
from shared.objects.state import ObjectState
from shared.storage.codec import AlarmRecord
from shared.telemetry.context import TraceContext
from shared.telemetry.traces import NoSpan, Span

if TYPE_CHECKING:
    from shared.objects.host import Host
    from shared.objects.once import Once
    from shared.objects.ownership import Shard
    from shared.objects.parking import ParkedCalls
    from shared.objects.sockets import Outgoing


class Phase(Enum):
    """Where an activation is in its life."""

    LOADING = 1
    ACTIVE = 2
    CLOSED = 3


class Call:
    """One request to run a turn, from its arrival to its reply."""

    __slots__ = (
        "alarm",
        "args",
        "arrived_ms",
        "chain",
        "cold",
        "durable",
        "future",
        "method",
        "once",
        "parked",
        "queued",
        "record",
        "size_bytes",
        "span",
        "started",
        "started_ms",
        "started_ns",
        "trace",
        "waits",
        "written_before",
        "wrote",
    )

    def __init__(
        self,
        method: Callable[..., Any],
        args: Sequence[Any],
        *,
        future: "asyncio.Future[Any]",
        arrived_ms: int,
        chain: "tuple[Activation, ...]" = (),
        durable: bool = False,
        trace: TraceContext | None = None,
        alarm: str | None = None,
        size_bytes: int = bounds.CALL_BYTES,
        once: "Once | None" = None,
    ) -> None:
        self.method = method
        self.args = args
        self.future = future
        self.arrived_ms = arrived_ms
        self.chain = chain
        self.durable = durable
        self.trace = trace  # The sampled span that the call belongs to: its caller's, and from the start its turn's.
        self.span: Span | NoSpan | None = None  # Of the alarm, and from the start of the turn.
        self.alarm = alarm
        self.record: AlarmRecord | None = None  # The setting that its turn answers.
        self.size_bytes = size_bytes
        self.once = once  # How a call that was answered before is known.
        self.cold = False  # The object was not in memory.
        self.waits = False  # Its caller has been counted among those that wait on the node,
        self.parked = False  # or among those that wait for an object to change.
        self.queued = False  # It had to wait in the mailbox.
        self.wrote = False  # Its turn wrote something; known once it has ended.
        self.written_before = 0  # Writes of the object when the turn started.
        self.started = False
        self.started_ns = 0
        self.started_ms = 0  # By the clock that was handed in.

    def reply(self, value: Any) -> None:
        """Answer, unless the caller has gone."""
        if not self.future.done():
            self.future.set_result(value)

    def fail(self, error: BaseException) -> None:
        """Answer with an error, unless the caller has gone."""
        if not self.future.done():
            self.future.set_exception(error)


class Backlog:
    """How many calls wait in all mailboxes of a host: a number to look at, from any thread."""

    __slots__ = ("calls",)

    def __init__(self) -> None:
        self.calls = 0


class Mailbox:
    """Calls that have not started. Bounded by count, bytes and age; alarms have a lane of their own."""

    __slots__ = ("_alarms", "_backlog", "_calls", "_since_alarm", "_size_bytes")

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self._calls: deque[Call] = deque()
        self._alarms: deque[Call] = deque()
        self._since_alarm = 0
        self._size_bytes = 0

    def __len__(self) -> int:
        return len(self._calls) + len(self._alarms)

    @property
    def trace(self) -> TraceContext | None:
        """The sampled span of the call that waits first, if it has one: what is done for the mailbox belongs to it."""
        waiting = self._calls or self._alarms
        return waiting[0].trace if waiting else None

    def push(self, call: Call, *, address: Address) -> None:
        """Queue a call. An alarm that waits already is answered at once: one turn is enough for both.

        Raises:
            OverloadedError: 1,000 calls or 8 MiB wait already, or the oldest has waited 10 s.
        """
        if call.alarm is not None:
            if any(waiting.alarm == call.alarm for waiting in self._alarms):
                call.fail(UnavailableError("The alarm waits for its turn already"))
                return
            self._alarms.append(call)
            self._backlog.calls += 1
            return
        calls = self._calls
        size_bytes = self._size_bytes + call.size_bytes
        if len(calls) >= bounds.MAILBOX_CALLS_MAX or size_bytes > bounds.MAILBOX_BYTES_MAX:
            raise OverloadedError(
                f"{address.kind} has {len(calls)} waiting calls", retry_after_ms=bounds.RETRY_AFTER_MS
            )
        if calls and call.arrived_ms - calls[0].arrived_ms > bounds.MAILBOX_AGE_MS_MAX:
            raise OverloadedError(f"Calls to {address.kind} wait for over 10 s", retry_after_ms=bounds.RETRY_AFTER_MS)
        calls.append(call)
        self._size_bytes = size_bytes
        self._backlog.calls += 1

    def pop(self) -> Call | None:
        """The next call that somebody still waits for: in order, at least every eighth an alarm if one is due."""
        while self._calls or self._alarms:
            self._backlog.calls -= 1
            if self._alarms and (not self._calls or self._since_alarm >= bounds.ALARM_TURN_SHARE - 1):
                self._since_alarm = 0
                return self._alarms.popleft()
            self._since_alarm += bool(self._alarms)
            call = self._calls.popleft()
            self._size_bytes -= call.size_bytes
            if not call.future.done():
                return call
        return None

    def fail(self, error: Exception) -> None:
        """Take out everything and answer it with `error`."""
        self._backlog.calls -= len(self)
        for call in (*self._calls, *self._alarms):
            call.fail(error)
        self._calls.clear()
        self._alarms.clear()
        self._size_bytes = 0


class Activation:
    """An object in memory. The host alone changes it."""

    __slots__ = (
        "address",
        "confirmed",
        "dirty",
        "gated",
        "host",
        "idle",
        "idle_since_ms",
        "in_flight",
        "instance",
        "kind",
        "lazy",
        "mailbox",
        "outgoing",
        "parked",
        "phase",
        "running",
        "sender",
        "shard",
        "state",
        "turns",
        "urgent",
        "written",
    )

    instance: DurableObject
    state: ObjectState | NativeState

    def __init__(self, host: "Host", kind: Kind, address: Address, shard: "Shard") -> None:
        self.host = host
        self.kind = kind
        self.address = address
        self.shard = shard
        self.phase = Phase.LOADING
        self.idle = False  # Active, no turn running, nothing waiting: the fast way in is open.
        self.running: Call | None = None
        self.mailbox: Mailbox | None = None
        self.gated: deque[tuple[int, Call, Any, BaseException | None]] | None = None
        self.parked: ParkedCalls | None = None
        self.outgoing: Outgoing | None = None  # What the running turn says to sockets.
        self.sender: tuple[int, int] | None = None  # Who that is, from the first time on.
        self.written = 1  # Turns that wrote, and one for what was loaded.
        self.confirmed = 1  # Those of them that the store has confirmed.
        self.in_flight = 0  # Up to which of them a commit is on its way; 0 if none is.
        self.urgent = False  # The committer will take it with the next flight,
        self.lazy = False  # or with a wave of checkpoints.
        self.dirty = False  # Native state changed; `on_checkpoint` is due.
        self.turns = 0  # That have begun.
        self.idle_since_ms = 0  # 0: it has been touched since that was looked at.

    @property
    def object_id(self) -> bytes:
        """The encoded address: made when it is asked for, for it would be 64 bytes of every object in memory."""
        return self.address.encode()

    @property
    def unstorable(self) -> bool:
        """Whether it has changes that no commit can carry before the running turn has ended.

        So it is when a flight that failed has left a native state to the next checkpoint.
        """
        return self.written > self.confirmed and not self.in_flight and not self.state.pending

    def part(self) -> None:
        """Let go of the instance, which knows us too: so both are freed at once, without the garbage collector."""
        if hasattr(self, "instance"):
            del self.instance

    @property
    def closed(self) -> bool:
        """Whether it has left memory."""
        return self.phase is Phase.CLOSED

    def check_resident(self) -> None:
        """Nothing of a turn counts any more once its object has left memory.

        Raises:
            CommitFailedError: it has.
        """
        if self.closed:
            raise CommitFailedError("the object left memory during the turn")

    @property
    def clean(self) -> bool:
        """Whether the store has everything and nobody is inside or waiting."""
        return self.idle and not self.dirty and self.written == self.confirmed and not self.state.pending

    def drop_turn(self) -> None:
        """Forget what the running turn wrote, and what it said to sockets."""
        self.state.drop_turn()
        self.outgoing = None

    def gate(self, call: Call, reply: Any, error: BaseException | None) -> None:
        """Hold an answer until everything written so far is confirmed."""
        if self.gated is None:
            self.gated = deque()
        self.gated.append((self.written, call, reply, error))

    def confirm(self) -> list[Call]:
        """The store has what was in flight: let the answers out that waited for it."""
        covers, self.in_flight = self.in_flight, 0
        self.confirmed = covers
        if self.state.parts is not None:
            self.state.parts.landed()
        if self.state.kept is not None:
            self.state.kept.landed()
        released: list[Call] = []
        gated = self.gated
        while gated and gated[0][0] <= covers:
            _, call, reply, error = gated.popleft()
            released.append(call)
            if error is None:
                call.reply(reply)
            else:
                call.fail(error)
        if not gated:
            self.gated = None
        return released

    def fail_gated(self, error: BaseException) -> None:
        """The store will not have it: what waits becomes `error`, but for the answers that a flight decides."""
        gated, self.gated = self.gated or (), None
        for waiting in gated:
            if waiting[0] > self.in_flight:
                waiting[1].fail(error)
            else:
                self.gated = self.gated or deque()
                self.gated.append(waiting)
