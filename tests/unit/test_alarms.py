"""The queue of alarms against a sorted set, and how long a failed alarm waits for its next try."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shared import bounds
from shared.objects.alarms import AlarmQueue, retried
from shared.storage.codec import AlarmRecord

NOW_MS = 1_700_000_000_000

dues_ms = st.integers(0, 30)
members = st.sampled_from([b"a", b"b", b"c"])


class AlarmQueueMachine(RuleBasedStateMachine):
    """Alarms go in in any order, again and again, and come out due, oldest first, once each."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = AlarmQueue()
        self.waiting: set[tuple[int, bytes]] = set()
        self.now_ms = 0

    @rule(due_ms=dues_ms, member=members, times=st.integers(1, 3))
    def push(self, due_ms, member, times):
        for _ in range(times):
            self.queue.push(due_ms, member)
        self.waiting.add((due_ms, member))

    @rule(ms=st.integers(0, 5))
    def wait(self, ms):
        self.now_ms += ms

    @rule(count_max=st.integers(0, 5))
    def pop_due(self, count_max):
        expected = sorted(entry for entry in self.waiting if entry[0] <= self.now_ms)[:count_max]
        assert expected == self.queue.pop_due(self.now_ms, count_max)
        self.waiting.difference_update(expected)

    @invariant()
    def it_knows_what_is_next(self):
        assert len(self.waiting) == len(self.queue)
        assert min((due_ms for due_ms, _ in self.waiting), default=None) == self.queue.next_ms()


TestAlarmQueueMachine = AlarmQueueMachine.TestCase
TestAlarmQueueMachine.settings = settings(stateful_step_count=40)


@given(attempts=st.integers(0, 400), failing_ms=st.integers(1, bounds.ALARM_GIVE_UP_MS - 1))
def test_a_failed_alarm_waits_twice_as_long_each_time_up_to_five_minutes(attempts, failing_ms):
    """2 s doubled with each try, 5 min at most, a quarter more or less; its first error stays, its last is new."""
    record = AlarmRecord(
        due_ms=NOW_MS - 5,
        serial=3,
        attempts=attempts,
        first_failed_ms=NOW_MS - failing_ms,
        first_error="first",
        last_error="then",
    )
    again = retried(record, "now", NOW_MS)
    assert again is not None
    delay_ms = min(bounds.ALARM_RETRY_MS_MAX, bounds.ALARM_RETRY_MS * 2**attempts)
    assert 0.75 * delay_ms - 1 <= again.due_ms - NOW_MS <= 1.25 * delay_ms
    assert (attempts + 1, NOW_MS - failing_ms, "first", "now") == (
        again.attempts,
        again.first_failed_ms,
        again.first_error,
        again.last_error,
    )


def test_an_alarm_that_has_failed_for_a_day_is_given_up():
    """Not a millisecond sooner, counted from its first failure."""
    first = retried(AlarmRecord(due_ms=NOW_MS, serial=1), "no", NOW_MS)
    assert first is not None
    assert retried(first, "no", NOW_MS + bounds.ALARM_GIVE_UP_MS - 1) is not None
    assert retried(first, "no", NOW_MS + bounds.ALARM_GIVE_UP_MS) is None
