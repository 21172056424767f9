"""Broken variants of the two phases, each of which a named test has to catch."""

from functools import partial

import pytest

from shared.errors import TenureError
from shared.objects.transactions import Participant, Transaction
from tests.simulation import test_transactions as tests
from tests.simulation.test_core_mutants import Mutant, Text, changed

CRASH_BEFORE = partial(tests.test_a_crash_at_any_commit_neither_makes_nor_loses_money, applied=False)
ASK = "await self._activation.host.call_from_turn(coordinator, Transaction.decide, held.ticket)"

MUTANTS = (
    Mutant(
        "participant_aborts_alone",
        Participant,
        "transaction_lease_over",
        Text(ASK, "False"),
        tests.test_a_participant_never_decides_alone,
    ),
    Mutant(
        "participant_gives_up_asking",
        Participant,
        "transaction_lease_over",
        Text("self.alarms.set(LEASE_ALARM,", "dict(name=LEASE_ALARM,"),
        tests.test_a_participant_never_decides_alone,
    ),
    Mutant(
        "prepared_without_a_lease",
        Participant,
        "transaction_prepare",
        Text("self.alarms.set(LEASE_ALARM,", "dict(name=LEASE_ALARM,"),
        CRASH_BEFORE,
    ),
    Mutant(
        "prepared_for_two",
        Participant,
        "transaction_prepare",
        Text("if not held.ticket.same(ticket):", "if False:"),
        tests.test_a_prepared_object_refuses_other_transactions_and_goes_on_with_plain_turns,
    ),
    Mutant(
        "same_attempt_with_other_steps",
        Participant,
        "transaction_prepare",
        Text("if encode(held.parts) != encode(parts):", "if False:"),
        tests.test_one_attempt_with_other_steps_is_a_conflict,
    ),
    Mutant(
        "commit_not_idempotent",
        Participant,
        "_finish",
        Text("self.storage.delete(_HELD)", "pass"),
        tests.test_messages_that_come_twice_or_late_change_nothing,
    ),
    Mutant(
        "finished_and_forgotten",
        Participant,
        "_remember",
        lambda self, ticket: None,
        tests.test_messages_that_come_twice_or_late_change_nothing,
    ),
    Mutant(
        "finished_beyond_memory",
        Participant,
        "_remember",
        Text("floor_ms = max([finished.floor_ms, *(other.deadline_ms for other in dropped)])", "floor_ms = 0"),
        tests.test_more_finished_than_are_remembered_refuse_what_is_as_old,
    ),
    Mutant(
        "decision_not_stored_before_it_is_told",
        Transaction,
        "run",
        Text("await self.commit()", "pass"),
        CRASH_BEFORE,
    ),
    Mutant(
        "decision_without_an_alarm",
        Transaction,
        "run",
        Text("self.alarms.set(_TELL,", "dict(name=_TELL,"),
        tests.test_the_coordinator_tells_again_after_a_crash,
    ),
    Mutant(
        "first_answer_not_stored",
        Transaction,
        "decide",
        Text("self._abort(ticket)", "pass"),
        tests.test_a_prepared_participant_asks_and_the_first_answer_is_abort,
    ),
    Mutant(
        "aborted_attempt_taken_up_again",
        Transaction,
        "_prepared",
        Text("default=0) + 1", "default=0) or 1"),
        tests.test_a_participant_that_refuses_is_told_as_it_says_and_nothing_counts,
    ),
    Mutant(
        "told_once_only",
        Transaction,
        "_tell_committed",
        Text("if left:", "if False:"),
        tests.test_a_hook_that_fails_is_an_error_of_its_author,
    ),
)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_named_test_detects_the_mutant(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test passes on the core as it is (it is one of this folder) and fails on the changed one."""
    method = vars(mutant.owner)[mutant.method]
    monkeypatch.setattr(mutant.owner, mutant.method, changed(method, mutant.change))
    with pytest.raises((AssertionError, pytest.fail.Exception, TenureError)):
        mutant.test()
