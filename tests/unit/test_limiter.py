"""The limiter object over a real state: several limits in one turn, its own timeline, what it stores and forgets."""

from sys import getsizeof
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ratelimiter.compiled import CompiledPolicy
from services.ratelimiter.limiter import Limiter
from services.ratelimiter.policy import Limit, Policy, SubjectFullError
from shared import bounds
from shared.objects.activation import Activation
from shared.objects.native import NativeState
from shared.objects.store_clock import StoreClock
from shared.storage.interface import NATIVE_FIELD
from shared.telemetry.metrics import CheckHandle
from shared.testing.clock import START_MS, ManualClock

ID = b"limiter"


class Owner:
    """As much of a node as one limiter needs: a clock, a state that survives, checkpoints on demand."""

    def __init__(self, fields: dict[bytes, bytes] | None = None, clock: ManualClock | None = None) -> None:
        self.clock = clock or ManualClock(monotonic_ms=5_000_000)
        self.store_clock = StoreClock(self.clock)
        self.dirty = 0
        self.expire_at_ms = 0
        self.stored = dict(fields or {})
        self.start()

    def start(self) -> None:
        """Activate the limiter over what is stored."""
        self.state = NativeState.load(self.stored, now_ms=self.store_clock.upper_ms())
        committer = SimpleNamespace(mark_dirty=self._mark)
        host = SimpleNamespace(store_clock=self.store_clock, committer=committer)
        self.activation = SimpleNamespace(state=self.state, host=host, dirty=False)
        self.limiter = Limiter(cast("Activation", self.activation))
        self.limiter.on_activate()
        self.state.forget_stored()

    def checkpoint(self) -> None:
        """Store what has changed."""
        self.activation.dirty = False
        self.state.checkpoint(*self.limiter.on_checkpoint())
        write = self.state.take(ID, indexed=False)
        if write is None:
            return
        self.stored = {} if write.gone else {NATIVE_FIELD: write.native or b""}
        self.expire_at_ms = write.expire_at_ms

    def crash(self) -> None:
        """The next owner starts from what is stored."""
        self.start()

    def _mark(self, activation: Any) -> None:
        activation.dirty = True
        self.dirty += 1


def policy_of(*limits: tuple[str, int, int], name: str = "api", version: int = 1, log: bool = False) -> CompiledPolicy:
    algorithm = "sliding_log" if log else "sliding_window"
    structs = tuple(
        Limit(name=title, limit=limit, window_ms=window_ms, algorithm=algorithm) for title, limit, window_ms in limits
    )
    return CompiledPolicy(name, version, Policy(limits=structs), CheckHandle(ManualClock()))


TWO = policy_of(("burst", 2, 1_000), ("minute", 5, 60_000))


def test_a_denial_by_one_limit_takes_nothing_from_any() -> None:
    """All or nothing: the minute is not charged for what the burst refused."""
    owner = Owner()
    decisions = [owner.limiter.check(TWO, 1, False) for _ in range(4)]
    assert [True, True, False, False] == [decision.allowed for decision in decisions]
    assert [(1, 1_001, 4, 60_001), (0, 1_001, 3, 60_001)] == [decision.numbers for decision in decisions[:2]]
    assert (0, 1_001, 3, 60_001) == decisions[3].numbers
    assert 1_001 == decisions[3].retry_after_ms


def test_the_wait_is_the_longest_of_those_that_deny() -> None:
    """Denied by both limits, the caller is told when both have room, to the millisecond."""
    owner = Owner()
    for _ in range(3):
        assert owner.limiter.check(TWO, 1, False).allowed
        owner.clock.advance(1_001)
    assert owner.limiter.check(TWO, 2, False).allowed
    denied = owner.limiter.check(TWO, 2, False)
    assert 60_001 - 3 * 1_001 + 1_001 == denied.retry_after_ms
    owner.clock.advance(denied.retry_after_ms - 1)
    assert not owner.limiter.check(TWO, 2, True).allowed
    owner.clock.advance(1)
    assert owner.limiter.check(TWO, 2, True).allowed


def test_peek_and_cost_zero_take_nothing() -> None:
    """Both answer as a check would, change nothing and announce no change; a cost of zero asks for one."""
    owner = Owner()
    for _ in range(10):
        assert (2, 0, 5, 0) == owner.limiter.check(TWO, 2, True).numbers
        assert owner.limiter.check(TWO, 0, False).allowed
    assert 0 == owner.dirty
    assert owner.limiter.check(TWO, 2, False).allowed
    assert not owner.limiter.check(TWO, 0, False).allowed
    assert not owner.limiter.check(TWO, 1, True).allowed
    assert 1 == owner.dirty


def test_usage_survives_a_crash_after_a_checkpoint() -> None:
    """The next owner knows what was checkpointed, and forgets what was not: the stated bound."""
    owner = Owner()
    owner.limiter.check(TWO, 1, False)
    owner.checkpoint()
    owner.limiter.check(TWO, 1, False)
    owner.crash()
    assert 1 == owner.limiter.check(TWO, 1, True).numbers[0]
    assert 4 == owner.limiter.check(TWO, 1, True).numbers[2]


def test_a_checkpoint_under_another_clock_never_shortens_a_window() -> None:
    """A new owner whose clocks stand anywhere: a hit counts for its whole window of real time at least."""
    owner = Owner()
    owner.limiter.check(policy_of(("w", 1, 10_000)), 1, False)
    owner.checkpoint()
    for step_ms in (-3_600_000, -5, 0):
        clock = ManualClock(now_ms=owner.clock.now_ms() + step_ms, monotonic_ms=77)
        heir = Owner(owner.stored, clock)
        assert not heir.limiter.check(policy_of(("w", 1, 10_000)), 1, True).allowed
        clock.advance(10_000)
        assert not heir.limiter.check(policy_of(("w", 1, 10_000)), 1, True).allowed
        clock.advance(1)
        assert heir.limiter.check(policy_of(("w", 1, 10_000)), 1, True).allowed


def test_uncertainty_about_the_store_clock_lengthens_a_window() -> None:
    """Between a checkpoint and the next activation passes what has surely passed, not what may have."""
    owner = Owner()
    owner.limiter.check(policy_of(("w", 1, 10_000)), 1, False)
    owner.checkpoint()
    clock = ManualClock(now_ms=owner.clock.now_ms() + 4_000, monotonic_ms=0)
    heir = Owner(owner.stored, clock)
    heir.store_clock.observe(clock.now_ms(), sent_ms=-300, received_ms=0)  # The reading may be 300 ms old.
    heir.start()
    (usage,) = heir.limiter.usage()
    assert 10_002 - 4_000 == usage.limits[0].reset_ms  # Two milliseconds that were read may be almost over.


def test_the_own_timeline_ignores_the_wall_clock() -> None:
    """While the object is in memory a step of the wall clock frees nothing and holds nothing back."""
    owner = Owner()
    owner.limiter.check(policy_of(("w", 1, 10_000)), 1, False)
    owner.clock.step_wall(3_600_000)
    owner.store_clock.observe(owner.clock.now_ms(), sent_ms=5_000_000, received_ms=5_000_000)
    assert not owner.limiter.check(policy_of(("w", 1, 10_000)), 1, True).allowed
    owner.clock.advance(10_001)
    assert owner.limiter.check(policy_of(("w", 1, 10_000)), 1, True).allowed


def test_a_drained_subject_is_deleted() -> None:
    """What is stored expires within a second after the last hit stops counting; a checkpoint then leaves nothing."""
    owner = Owner()
    owner.limiter.check(TWO, 1, False)
    owner.checkpoint()
    assert START_MS + 61_000 == owner.expire_at_ms
    assert owner.stored
    owner.clock.advance(60_001)
    owner.limiter.check(TWO, 1, True)
    owner.checkpoint()
    assert not owner.stored
    assert () == owner.limiter.usage()


def test_an_expired_state_is_not_taken_in() -> None:
    """An owner that loads past the expiry sees a fresh subject."""
    owner = Owner()
    owner.limiter.check(TWO, 1, False)
    owner.checkpoint()
    owner.clock.advance(60_001)
    owner.crash()
    assert (2, 0, 5, 0) == owner.limiter.check(TWO, 1, True).numbers


def test_a_new_version_keeps_the_usage() -> None:
    """Limits are matched by name: used stays used, also over a crash in between."""
    owner = Owner()
    for _ in range(2):
        owner.limiter.check(TWO, 1, False)
    wider = policy_of(("minute", 8, 60_000), ("burst", 3, 2_000), version=2)
    assert (6, 60_001, 1, 2_001) == owner.limiter.check(wider, 1, True).numbers
    owner.checkpoint()
    owner.crash()
    narrower = policy_of(("minute", 1, 60_000), version=3)
    assert (0, 60_001) == owner.limiter.check(narrower, 1, True).numbers
    assert not owner.limiter.check(narrower, 1, True).allowed


def test_policies_of_one_subject_are_apart() -> None:
    """Usage under one policy does not count under another; all are listed, all survive, each can be reset alone."""
    owner = Owner()
    policies = [policy_of(("w", 3, 10_000), name=name) for name in ("a", "b", "c")]
    for count, policy in enumerate(policies, start=1):
        for _ in range(count):
            assert owner.limiter.check(policy, 1, False).allowed
    owner.checkpoint()
    owner.crash()
    used = {usage.policy: 3 - usage.limits[0].remaining for usage in owner.limiter.usage()}
    assert {"a": 1, "b": 2, "c": 3} == used
    assert owner.limiter.reset("b")
    assert not owner.limiter.reset("b")
    assert {"a", "c"} == {usage.policy for usage in owner.limiter.usage()}
    assert not owner.limiter.check(policies[2], 1, True).allowed
    assert owner.limiter.reset(None)
    owner.checkpoint()
    assert not owner.stored


def test_the_largest_log_is_stored_and_read_back() -> None:
    """A log of 60,000 hits fits into a checkpoint, survives a crash, and shrinks again."""
    owner, policy = Owner(), policy_of(("w", 60_000, 86_400_000), log=True)
    for _ in range(60_000):
        owner.limiter.check(policy, 1, False)
        owner.clock.advance(1)
    owner.checkpoint()
    assert 480_000 < max(len(value) for value in owner.stored.values()) <= bounds.TURN_BYTES_MAX
    owner.crash()
    assert not owner.limiter.check(policy, 1, False).allowed
    owner.clock.advance(86_400_000 - 100)
    assert owner.limiter.check(policy, 1, False).allowed
    owner.checkpoint()
    assert max(len(value) for value in owner.stored.values()) < 1_000


def test_a_subject_that_is_full_refuses_another_policy() -> None:
    """What could not be stored is refused up front; usage that has drained makes room again."""
    owner = Owner()
    large = [policy_of(("w", 60_000, 1_000), name=name, log=True) for name in ("a", "b")]
    assert owner.limiter.check(large[0], 1, False).allowed
    with pytest.raises(SubjectFullError):
        owner.limiter.check(large[1], 1, False)
    assert 59_999 == owner.limiter.check(large[0], 1, True).numbers[0]
    owner.clock.advance(1_001)
    assert owner.limiter.check(large[1], 1, False).allowed


@given(
    st.lists(
        st.tuples(st.integers(0, 700), st.integers(0, 3), st.sampled_from(["take", "peek", "store", "crash"])),
        max_size=60,
    )
)
def test_without_crashes_between_no_window_is_ever_over(steps: list[tuple[int, int, str]]) -> None:
    """Whatever is asked, stored and reloaded after being stored: at most 2 a second and 5 in 5 s of real time."""
    policy = policy_of(("burst", 2, 1_000), ("long", 5, 5_000))
    owner, passed = Owner(), []
    for wait_ms, cost, what in steps:
        owner.clock.advance(wait_ms)
        if what in ("store", "crash"):
            owner.checkpoint()
            if what == "crash":
                owner.crash()
            continue
        decision = owner.limiter.check(policy, min(cost, 2), what == "peek")
        if decision.allowed and what == "take":
            passed.append((owner.clock.monotonic_ms(), min(cost, 2)))
    for limit, span_ms in ((2, 1_000), (5, 5_000)):
        for start, _ in passed:
            assert sum(cost for at, cost in passed if start <= at < start + span_ms) <= limit


def test_a_subject_is_small() -> None:
    """Two limits and eight hits take 600 bytes in memory at most, the limiter's own objects counted whole."""
    owner = Owner()
    policy = policy_of(("burst", 10, 1_000), ("minute", 100, 60_000))
    for _ in range(8):
        owner.limiter.check(policy, 1, False)
        owner.clock.advance(1)
    usage: Any = owner.limiter._recent
    windows = usage.windows
    parts = [owner.limiter, owner.limiter._ahead_ms, usage, windows]
    parts += [part for window in windows for part in (window, window.base_ms)]
    assert sum(map(getsizeof, parts)) <= 600


def test_what_is_stored_of_a_subject_is_small() -> None:
    """Two limits and eight hits take under 300 bytes in the store."""
    owner = Owner()
    policy = policy_of(("burst", 10, 1_000), ("minute", 100, 60_000))
    for _ in range(8):
        owner.limiter.check(policy, 1, False)
    owner.checkpoint()
    assert sum(len(key) + len(value) for key, value in owner.stored.items()) < 300
