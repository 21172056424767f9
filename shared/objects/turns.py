"""Runs turns: one at a time an object, whole or without a trace, answers through the output gate.

A handler that fails drops its writes, and the object gets a new instance over its state, so that
what a failed handler left in memory cannot leak into the next turn. An alarm's failure is a turn
of its own: it stores the attempt and the next due time before anything else runs.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from shared import bounds
from shared.errors import TenureError
from shared.objects.activation import Activation, Call, Phase
from shared.objects.alarms import retried
from shared.objects.calls import current_chain
from shared.objects.errors import (
    CommitFailedError,
    DomainError,
    HandlerError,
    OutcomeUnknownError,
    TooLargeError,
    UnavailableError,
)
from shared.objects.handler import Alarm, DurableObject
from shared.objects.migrations import migrate
from shared.objects.native import NativeState
from shared.objects.once import Answer, answered
from shared.objects.parking import Park, Parking
from shared.objects.tracing import begin_turn, describe_alarm, end_turn, observe_turn
from shared.storage.codec import AlarmRecord
from shared.telemetry import logs
from shared.telemetry.context import current_trace

if TYPE_CHECKING:
    from shared.objects.host import Host
    from shared.objects.once import Once

_log = logs.get_logger()
_EXPECTED = (DomainError, TooLargeError)


class Turns:
    """The turns of one host."""

    def __init__(self, host: "Host") -> None:
        self._host = host
        self._clock = host.store_clock
        self._tasks: dict[Call, asyncio.Task[None]] = {}
        self._armed: dict[Activation, list[tuple[int, str]]] = {}
        self.parking = Parking(host, self.pump)

    def instantiate(self, activation: Activation) -> None:
        """Make the object's instance over its state. Migrations and its `on_activate` may write, as a turn.

        Raises:
            HandlerError: it has failed, and the object has left memory.
        """
        method = DurableObject.on_activate.__name__
        try:
            activation.instance = activation.kind.cls(activation)
            migrated = migrate(activation)
            activation.instance.on_activate()
            if isinstance(activation.state, NativeState):
                activation.state.forget_stored()
            if activation.state.overlay_used:
                self.end(activation)
                self._host.committer.mark_dirty(activation)
            if migrated:
                self._host.metrics.migration(activation.kind.name, "ok")
        except HandlerError as exc:  # Of a migration, which is logged by its own event.
            self._host.unloadable(activation, exc)
            raise
        except Exception as exc:
            self._log_failure(activation, method, exc)
            error = HandlerError(activation.kind.name, method)
            self._host.unloadable(activation, error)
            raise error from exc

    def passivate(self, activation: Activation) -> bool:
        """Tell the instance that it leaves memory, which it does even if that fails; say whether it went well."""
        try:
            activation.instance.on_passivate()
        except Exception as exc:  # noqa: BLE001  # An author's hook must not end the node.
            self._log_failure(activation, DurableObject.on_passivate.__name__, exc)
            return False
        return True

    def run_plain(self, activation: Activation, method: Callable[..., Any], args: Sequence[Any]) -> Any:
        """The fast way: a plain handler of a checkpointed kind, whose answer may leave at once.

        Raises:
            HandlerError, DomainError, TooLargeError: the turn failed; what it wrote was dropped.
        """
        activation.turns += 1
        try:
            reply = method(activation.instance, *args)
            if activation.state.overlay_used:
                self.check_writes(activation, method)
                self.end(activation)
                if activation.state.pending:
                    self._host.committer.mark_dirty(activation)
        except Exception as exc:  # noqa: BLE001  # Whatever a handler raises becomes its caller's error.
            failure = self._failed(activation, method, exc)
            raise failure from failure.__cause__
        return reply

    def pump(self, activation: Activation) -> None:
        """Run what waits in the mailbox until a turn has to wait or nothing is left."""
        while activation.phase is Phase.ACTIVE and activation.running is None and activation.mailbox is not None:
            call = activation.mailbox.pop()
            if call is None:
                activation.mailbox = None
                break
            self._start(activation, call)
        activation.idle = activation.phase is Phase.ACTIVE and activation.running is None and activation.mailbox is None

    async def wait_idle(self, *, timeout_ms: int) -> None:
        """Wait until no turn runs; cancel those that take longer."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks.values(), timeout=timeout_ms / 1000)
            for task in late:
                task.cancel()

    def checkpoint(self, activation: Activation) -> bool:
        """Have a dirty object put its native state; say whether it did."""
        activation.dirty = False
        try:
            checkpoint = activation.instance.on_checkpoint()
            if isinstance(activation.state, NativeState):
                assert checkpoint is not None, f"{activation.kind.name} is native, so its checkpoint is its state"
                activation.state.checkpoint(*checkpoint)
                activation.written += 1
            else:
                self.end(activation)
        except Exception as exc:  # noqa: BLE001  # Any failure of an author's hook drops what it wrote.
            activation.state.drop_turn()
            self._log_failure(activation, DurableObject.on_checkpoint.__name__, exc)
            self._reset(activation)
            return False
        return True

    def announce_alarms(self, activation: Activation) -> None:
        """The store has confirmed the object's alarms: tell the queue of those that are due soon."""
        for due_ms, name in self._armed.pop(activation, ()):
            self._host.alarms.armed(due_ms, activation.object_id + name.encode())

    def forget(self, activation: Activation) -> None:
        """The activation is closed: nothing of it will be confirmed, and a turn that still runs does so in vain."""
        self._armed.pop(activation, None)
        task = self._tasks.get(activation.running) if activation.running else None
        if task is not None:  # Soon: it has begun by then, and one that hears from the store why hears that first.
            asyncio.get_running_loop().call_soon(task.cancel)

    def _start(self, activation: Activation, call: Call) -> None:
        now_ms = self._clock.monotonic_ms()
        if now_ms >= activation.shard.valid_until_ms:
            call.fail(UnavailableError("This node does not own the object at the moment"))
            return
        if activation.dirty and not self._settle_earlier(activation, call):
            call.fail(UnavailableError("The object's checkpoint failed"))
            return
        args = call.args
        if call.alarm is not None:
            record = self._due_alarm(activation, call.alarm)
            if record is None:
                self._rung_in_vain(activation, call)
                return
            call.record = record
            describe_alarm(call.span, record, now_ms=self._clock.lower_ms())
            args = (Alarm(name=call.alarm, due_ms=record.due_ms, attempts=record.attempts),)
        if call.queued:
            self._host.metrics.queue_wait(activation.kind.name, (now_ms - call.arrived_ms) / 1000)
        if call.trace is not None:
            begin_turn(self._host.tracer, activation, call, waited_ms=now_ms - call.arrived_ms)
        outer = current_trace.set(call.trace)  # What pumps this mailbox may belong to another call.
        try:
            if call.once is None or not self._answered_before(activation, call, call.once):
                self._run(activation, call, args)
        finally:
            current_trace.reset(outer)

    def _settle_earlier(self, activation: Activation, call: Call) -> bool:
        """Before a turn that may wait: put what earlier ones have changed, and this one not; False: it cannot be."""
        return self._method(activation, call) not in activation.kind.is_async or self.checkpoint(activation)

    def _due_alarm(self, activation: Activation, name: str) -> AlarmRecord | None:
        """The alarm, if it is set and due; one that was set anew is waited for again."""
        record = activation.state.alarm(name)
        if record is not None and record.due_ms <= self._clock.lower_ms():
            return record
        if record is not None:
            self._host.alarms.armed(record.due_ms, activation.object_id + name.encode())
        return None

    def _rung_in_vain(self, activation: Activation, call: Call) -> None:
        if activation.written > activation.confirmed:
            activation.gate(call, None, None)  # The alarm may be there again if that is not stored.
        else:
            call.reply(None)

    def _answered_before(self, activation: Activation, call: Call, once: "Once") -> bool:
        """Give the answer of before, or the error that this call may not run with; say whether it was either."""
        error = None
        try:
            answer = answered(once, activation.instance, call.method.__name__, self._clock)
        except TenureError as exc:
            answer, error = Answer(None), exc
        if answer is None:
            return False
        end_turn(call, "ok" if error is None else "error", error)
        self._answer(activation, call, answer.reply, error)
        return True

    def _run(self, activation: Activation, call: Call, args: Sequence[Any]) -> None:
        call.started = True
        call.started_ns = time.perf_counter_ns()
        call.started_ms = self._clock.monotonic_ms()
        call.written_before = activation.written
        activation.running = call
        activation.turns += 1
        method = self._method(activation, call)
        if method in activation.kind.is_async:
            task = asyncio.get_running_loop().create_task(self._run_async(activation, call, method, args))
            self._tasks[call] = task
            task.add_done_callback(lambda _: self._tasks.pop(call))
            return
        try:
            reply = method(activation.instance, *args)
        except Exception as exc:  # noqa: BLE001  # Whatever a handler raises becomes its caller's error.
            self._finish(activation, call, None, exc)
        else:
            self._finish(activation, call, reply, None)

    async def _run_async(
        self, activation: Activation, call: Call, method: Callable[..., Any], args: Sequence[Any]
    ) -> None:
        current_chain.set((*call.chain, activation))
        try:
            async with asyncio.timeout(bounds.HANDLER_DEADLINE_MS / 1000):
                reply = await method(activation.instance, *args)
        except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001  # As above; a cancelled turn is a failed one.
            self._finish(activation, call, None, exc)
        else:
            self._finish(activation, call, reply, None)
        self.pump(activation)

    def _finish(self, activation: Activation, call: Call, reply: Any, error: BaseException | None) -> None:
        activation.running = None
        if activation.phase is Phase.CLOSED:
            self._left(activation, call, error)
            return
        if error is None:
            try:
                if isinstance(reply, Park):
                    refusal = self.parking.hold(activation, call, reply)
                    observe_turn(self._host.metrics, activation, call, refusal)
                    if refusal is not None:
                        self._answer(activation, call, None, refusal)
                    return
                self._end_call(activation, call, reply)
            except Exception as exc:  # noqa: BLE001  # The reply may be anything, and `keep_reply` is an author's.
                error = exc
        if error is not None:
            error = self._failed(activation, call.method, error, call)
        observe_turn(self._host.metrics, activation, call, error)
        self._answer(activation, call, reply, error)

    def _answer(self, activation: Activation, call: Call, reply: Any, error: BaseException | None) -> None:
        host, kind = self._host, activation.kind
        if activation.closed:
            call.fail(error or CommitFailedError("the object left memory during the turn"))
            return
        now_ms = self._clock.monotonic_ms()
        lapsed = now_ms >= activation.shard.valid_until_ms
        wait = kind.durable or call.durable or lapsed or now_ms > host.committer.fast_until_ms
        if wait and activation.dirty and not self.checkpoint(activation):
            call.fail(CommitFailedError("the object's checkpoint failed"))
            return
        call.wrote = activation.written > call.written_before
        if activation.state.pending:
            (host.committer.push if wait else host.committer.mark_dirty)(activation)
        if wait and activation.written > activation.confirmed:
            activation.gate(call, reply, error)
        elif error is not None:
            call.fail(error)
        elif lapsed:  # It rests on the lease alone, and another owner may have written since.
            call.fail(CommitFailedError("the lease ended during the turn"))
        else:
            call.reply(reply)

    def _left(self, activation: Activation, call: Call, error: BaseException | None) -> None:
        """The object has left memory during the turn: no more of it counts than what it committed in the middle."""
        if isinstance(error, OutcomeUnknownError):
            gone: TenureError = error
        elif activation.in_flight > call.written_before:
            gone = OutcomeUnknownError()
        else:
            gone = CommitFailedError("the object left memory during the turn")
        end_turn(call, "error", gone)
        call.fail(gone)

    def _failed(
        self, activation: Activation, method: Callable[..., Any], error: BaseException, call: Call | None = None
    ) -> BaseException:
        """Drop what the turn wrote, and what it left in memory if that may differ; what its caller is to hear."""
        wrote = activation.state.overlay_used
        activation.drop_turn()
        alarm = self._rung(activation, call) if call is not None else None
        if alarm is not None:
            self._retry_alarm(activation, *alarm, error)
        if isinstance(error, TenureError):  # Also one of a call that the handler made: the caller should know why.
            if wrote or not isinstance(error, _EXPECTED):
                self._reset(activation)
            return error
        self._log_failure(activation, method.__name__, error)
        self._reset(activation)
        failure = HandlerError(activation.kind.name, method.__name__)
        failure.__cause__ = error
        return failure

    def _end_call(self, activation: Activation, call: Call, reply: Any) -> None:
        """The handler has ended well, and with it the alarm that it answers.

        Raises:
            TooLargeError: the object, or the reply to be remembered, would be too large; nothing has ended.
            TypeError: it has written, and should not have.
            Exception: the reply cannot be remembered.
        """
        self.check_writes(activation, call.method)
        if call.once is not None:
            call.once.remember(activation.instance, reply, self._clock)
        alarm = self._rung(activation, call)
        if alarm is not None:
            activation.state.set_alarm(alarm[0], None)
        self.end(activation)
        if call.record is not None:
            lag_ms = self._clock.lower_ms() - call.record.due_ms
            self._host.metrics.alarm_lag(activation.kind.name, max(0, lag_ms) / 1000)
            self._host.metrics.alarm_fired(activation.kind.name, "ok")

    def _rung(self, activation: Activation, call: Call) -> tuple[str, AlarmRecord] | None:
        """The alarm that the turn answers, if it is still set as it was when it rang, and not anew."""
        if call.alarm is None or call.record is None:
            return None
        now = activation.state.alarm(call.alarm)
        return (call.alarm, call.record) if now is not None and now.serial == call.record.serial else None

    def _retry_alarm(self, activation: Activation, name: str, alarm: AlarmRecord, error: BaseException) -> None:
        now_ms = self._clock.now_ms()
        again = retried(alarm, f"{type(error).__name__}: {error}", now_ms, self._host.draw)
        if again is not None:
            activation.state.set_alarm(name, again)
        else:
            activation.state.bury_alarm(name, alarm, now_ms)
            _log.error(logs.ALARM_DEAD, object=str(activation.address), alarm=name)
        self._host.metrics.alarm_fired(activation.kind.name, "retry" if again else "dead")
        self.end(activation)

    def end(self, activation: Activation) -> None:
        """Join what the turn has written so far to what a commit carries, and note the alarms that it has set."""
        state = activation.state
        before = state.alarm_serial
        keys = state.touched_keys() if activation.parked is not None else ()
        if state.end_turn():
            activation.written += 1
            self.parking.touched(activation, keys)
            if state.alarm_serial != before:
                armed = self._armed.setdefault(activation, [])
                armed.extend(
                    (record.due_ms, name) for name, record in state.alarm_records.items() if record.serial > before
                )
        elif state.soft is not None:
            self._host.committer.soft.mark(activation)
        if activation.outgoing is not None:
            self._host.sockets.let_out(activation)

    def check_writes(self, activation: Activation, method: Callable[..., Any]) -> None:
        """Raises TypeError if a handler marked `@readonly` has written what has to be stored."""
        if activation.state.overlay_gates and method.__name__ in activation.kind.readonly:
            raise TypeError(f"{activation.kind.name}/{method.__name__} is @readonly, and has written")

    def _reset(self, activation: Activation) -> None:
        """Forget what a failed turn may have left in memory."""
        if activation.kind.native:  # The newest state was in the instance, and cannot be trusted.
            self._host.residents.evict(activation)
            return
        with suppress(HandlerError):  # An object whose own activation fails has left memory.
            self.instantiate(activation)

    def _log_failure(self, activation: Activation, method: str, error: BaseException) -> None:
        _log.error(logs.TURN_FAILED, object_kind=activation.kind.name, method=method, exc_info=error)

    def _method(self, activation: Activation, call: Call) -> Callable[..., Any]:
        """The handler, as the object's own class has it; an operation of the host's is none of its methods."""
        method: Callable[..., Any] = getattr(activation.kind.cls, call.method.__name__, call.method)
        return method
