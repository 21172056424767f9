"""What clients of the seeded nodes saw of each ledger has one order: a general checker judges it, which knows nothing of ledgers' rules.

The runs are those of `test_seeded_node`: two nodes under crash, pause, cut and drain, over a store that loses, delays and
repeats. Left out are those whose store went back in time: an object that has lost what it acknowledged is not linearizable.
"""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from shared.errors import TenureError
from shared.objects.address import Address
from shared.testing.clock import NeverEndingWaitError
from tests.simulation.seeded_history import History, Op, id_of
from tests.simulation.seeded_world import LEDGERS, simulate
from tests.simulation.test_core_mutants import MUTANTS, changed
from tests.support.environment import PROVE
from tests.support.linearizable import Operation, Seen, append_list, unexplained, with_last_read

SEEDS = range(10_000, 12_000) if PROVE else range(10_000, 10_060)  # Others than those of `test_seeded_node`.
SEEDS_OF_MUTANTS = range(60)
FOUND = ("no_output_gate", "gate_opens_on_failure", "resent_under_a_new_id", "failed_turn_kept", "overlapping_turns")
"""The mutants of `test_core_mutants` that break the order, and do it in one of the first seeds."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """No log: it would take ten times as long as the run itself."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.mark.slow
@pytest.mark.timeout(3_600 if PROVE else 120)
def test_every_ledger_has_one_order_whatever_happened_to_nodes_and_store() -> None:
    """Each answer fits it, lost calls took effect once or never, and alarms took their turns in it."""
    judged, operations, unknown, events = 0, 0, 0, 0
    for seed in SEEDS:
        history = simulate(seed)
        if history.restored_ms:
            continue
        judged += 1
        events += len(history.events)
        for ledger in LEDGERS:
            seen = operations_of(history, ledger)
            operations += len(seen)
            unknown += sum(op.outcome == "unknown" for op in history.ops if op.address == ledger)
            assert unexplained(seen, append_list, Seen()) is None, f"TENURE_SEED={seed} {ledger}"
    print(  # noqa: T201  # The figures of the evidence.
        f"{judged} of {len(SEEDS)} seeds, {events} faults and events: {len(LEDGERS) * judged} ledgers with {operations}"
        f" operations, {unknown} of unknown outcome, are linearizable"
    )
    assert judged > len(SEEDS) / 2
    assert events > 5 * judged
    assert unknown > judged


@pytest.mark.slow
@pytest.mark.parametrize("name", FOUND)
def test_a_core_that_breaks_the_order_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its histories alone: what the run itself found broken is not looked at."""
    (mutant,) = (mutant for mutant in MUTANTS if mutant.name == name)
    method: Any = vars(mutant.owner)[mutant.method]
    change: Callable[..., Any] | property = changed(method, mutant.change)
    monkeypatch.setattr(mutant.owner, mutant.method, change)

    assert any(has_no_order(seed) for seed in SEEDS_OF_MUTANTS)


def has_no_order(seed: int) -> bool:
    """Whether the seed ends, and the history of one of its ledgers is not linearizable."""
    try:
        history = simulate(seed)
    except (AssertionError, TenureError, NeverEndingWaitError, ExceptionGroup):
        return False
    return not history.restored_ms and any(
        unexplained(operations_of(history, ledger), append_list, Seen()) is not None for ledger in LEDGERS
    )


def operations_of(history: History, ledger: Address) -> list[Operation]:
    """What clients did to a ledger, and its alarms' turns, of which nobody was told the outcome."""
    held = [named(entry, place) for place, entry in enumerate(history.final[ledger])]
    operations = [operation(op) for op in history.ops if op.address == ledger and op.outcome != "failed"]
    operations += [Operation("append", 0, entry) for entry in held if entry.startswith("rang:")]
    return with_last_read((each for each in operations if each is not None), held)


def operation(op: Op) -> Operation | None:
    """A call as the checker takes it; None for a read without an answer, which says nothing."""
    if op.outcome == "ok":
        assert isinstance(op.reply, tuple)
        reply = Seen.of(named(entry, place) for place, entry in enumerate(op.reply))
        what = "read" if op.what == "read" else "append_and_read"
        return Operation(what, op.began_ms, op.id, op.ended_ms, reply)
    return None if op.what in ("read", "fail") else Operation("append", op.began_ms, op.id)


def named(entry: str, place: int) -> str:
    """The id of the call that made the entry; the rings of an alarm, which are equal, are told apart by their places."""
    return f"{entry}@{place}" if entry.startswith("rang:") else id_of(entry)
