"""The mailbox, by what its users may rely on: order, bounds, a lane for alarms, and nothing for those who have gone."""

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shared import bounds
from shared.objects.activation import Backlog, Call, Mailbox
from shared.objects.address import Address
from shared.objects.errors import OverloadedError
from shared.objects.handler import DurableObject

ADDRESS = Address("counter", "acme", "one")


class MailboxMachine(RuleBasedStateMachine):
    """Calls and alarms go in and come out. `calls` and `alarms` are what waits, in order of arrival."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.backlog = Backlog()
        self.mailbox = Mailbox(self.backlog)
        self.now_ms = 0
        self.calls: list[Call] = []
        self.alarms: list[Call] = []
        self.passed = 0  # Calls that have left since the last turn of an alarm,
        self.overtaken = 0  # and those of them that got a turn while an alarm waited.

    def teardown(self) -> None:
        self.loop.close()

    def call(self, alarm: str | None = None) -> Call:
        future = self.loop.create_future()
        return Call(DurableObject.on_alarm, (), future=future, arrived_ms=self.now_ms, alarm=alarm)

    @property
    def living(self) -> list[Call]:
        return [call for call in self.calls if not call.future.done()]

    @rule(count=st.sampled_from([1, 1, 1, 2, 9, bounds.MAILBOX_CALLS_MAX - 1, bounds.MAILBOX_CALLS_MAX]))
    def push_calls(self, count):
        """A call is refused exactly if 1,000 wait or the oldest has waited over 10 s; then nothing has changed."""
        for _ in range(count):
            call = self.call()
            full = len(self.calls) >= bounds.MAILBOX_CALLS_MAX
            if full or (self.calls and self.now_ms - self.calls[0].arrived_ms > bounds.MAILBOX_AGE_MS_MAX):
                with pytest.raises(OverloadedError):
                    self.mailbox.push(call, address=ADDRESS)
                return
            self.mailbox.push(call, address=ADDRESS)
            self.calls.append(call)

    @rule(name=st.sampled_from(["x", "y", "z"]))
    def push_alarm(self, name):
        """An alarm is never refused, and waits once however often it rings."""
        alarm = self.call(name)
        self.mailbox.push(alarm, address=ADDRESS)
        if name not in [waiting.alarm for waiting in self.alarms]:
            self.alarms.append(alarm)

    @precondition(lambda self: self.calls)
    @rule(share=st.floats(0, 1, exclude_max=True), count=st.integers(1, 20))
    def give_up(self, share, count):
        """Callers lose their patience; those that wait together go together."""
        first = int(share * len(self.calls))
        for call in self.calls[first : first + count]:
            call.future.cancel()

    @rule(ms=st.sampled_from([1, 5_000, bounds.MAILBOX_AGE_MS_MAX, bounds.MAILBOX_AGE_MS_MAX + 1]))
    def wait(self, ms):
        self.now_ms += ms

    @rule(count=st.sampled_from([1, 1, 2, 8, 20, bounds.MAILBOX_CALLS_MAX]))
    def pop(self, count):
        """Calls in order, alarms in order, and one of eight turns to an alarm while one waits."""
        for _ in range(count):
            self.pop_one()

    def pop_one(self) -> None:
        living = self.living
        call = self.mailbox.pop()
        alarm_taken = call is not None and call.alarm is not None
        left = len(self.calls) + len(self.alarms) - alarm_taken - len(self.mailbox)
        self.passed += left  # Those that were dropped on the way to an alarm too.
        if call is None:
            assert [] == living == self.alarms
        elif call.alarm is None:
            assert living[0] is call
            self.overtaken += bool(self.alarms)
        else:
            assert self.alarms.pop(0) is call
            assert not living or self.passed >= bounds.ALARM_TURN_SHARE - 1
        assert all(gone.future.done() or gone is call for gone in self.calls[:left])
        del self.calls[:left]
        if alarm_taken:
            self.passed = self.overtaken = 0
        assert self.overtaken < bounds.ALARM_TURN_SHARE

    @rule()
    def fail(self):
        """Whoever still waits is told, and nothing waits any more."""
        waiting = [call for call in (*self.living, *self.alarms) if not call.future.done()]
        error = OverloadedError("gone", retry_after_ms=1)
        self.mailbox.fail(error)
        assert all(call.future.exception() is error for call in waiting)
        self.calls, self.alarms, self.overtaken = [], [], 0

    @invariant()
    def its_length_is_what_waits(self):
        assert len(self.calls) + len(self.alarms) == len(self.mailbox) == self.backlog.calls


TestMailboxMachine = MailboxMachine.TestCase
TestMailboxMachine.settings = settings(stateful_step_count=40)
