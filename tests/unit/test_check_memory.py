"""What a gateway's repeated check is told, and that remembering it is bounded."""

from services.ratelimiter.compiled import CompiledPolicy, Decision
from services.ratelimiter.gate import REMEMBERED_MS, REPEATS_MAX, CheckMemory, MemoryKey
from services.ratelimiter.policy import Limit, Policy
from shared.telemetry.metrics import CheckHandle
from shared.testing.clock import ManualClock

POLICY = CompiledPolicy(
    "api", 1, Policy(limits=(Limit(name="burst", limit=10, window_ms=1_000),)), CheckHandle(ManualClock())
)
DECISION = Decision(allowed=True, numbers=(9, 1_000))


def key(check_id: int) -> MemoryKey:
    return ("tenant", "edge", "user-1", b"%d" % check_id, POLICY)


def test_a_decision_is_repeated_so_often_and_no_more() -> None:
    """After that the check is decided, and remembered, anew."""
    memory = CheckMemory(ManualClock())
    memory.remember(key(1), DECISION)

    assert [DECISION] * REPEATS_MAX + [None, None] == [memory.recall(key(1)) for _ in range(REPEATS_MAX + 2)]
    memory.remember(key(1), DECISION)
    assert DECISION == memory.recall(key(1))


def test_repeating_does_not_keep_a_decision_young() -> None:
    """Its five seconds count from when it was made."""
    clock = ManualClock()
    memory = CheckMemory(clock)
    memory.remember(key(1), DECISION)
    clock.advance(REMEMBERED_MS - 1)

    assert DECISION == memory.recall(key(1))
    clock.advance(1)
    assert memory.recall(key(1)) is None


def test_a_full_memory_forgets_what_was_asked_for_longest_ago() -> None:
    """So that one is charged again; memory does not grow."""
    memory = CheckMemory(ManualClock(), known_max=2)
    for check_id in (1, 2, 3):
        memory.remember(key(check_id), DECISION)

    assert [None, DECISION, DECISION] == [memory.recall(key(check_id)) for check_id in (1, 2, 3)]
