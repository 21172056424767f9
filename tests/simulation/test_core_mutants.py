"""Broken variants of the running core, each of which a named test has to catch: the tests are worth what they detect.

Most mutants replace one piece of the text of one method, so they break where the core reads otherwise, and say so;
the others put another method in its place. Either lasts for one run of the test.
"""

import inspect
import secrets
import textwrap
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import msgspec
import pytest

from shared.errors import TenureError
from shared.objects import listings as listings_module
from shared.objects.activation import Activation, Call, Mailbox
from shared.objects.alarms import AlarmClock
from shared.objects.committer import Committer
from shared.objects.errors import OutcomeUnknownError
from shared.objects.host import Host
from shared.objects.layers import Layers
from shared.objects.loader import Loader
from shared.objects.ownership import Ownership
from shared.objects.parts import Parts
from shared.objects.quarantine import Quarantines
from shared.objects.residents import Residents
from shared.objects.ringing import Ringer
from shared.objects.state import ObjectState
from shared.objects.store_clock import StoreClock
from shared.objects.turns import Turns
from shared.testing.faults import FaultKind, FaultyStore
from shared.testing.store import MemoryStore
from tests.simulation import test_alarm_reading as reading
from tests.simulation import test_alarm_turns as alarm_tests
from tests.simulation import test_calls_from_turns as call_tests
from tests.simulation import test_core as tests
from tests.simulation import test_core_found as found
from tests.simulation import test_index as index
from tests.simulation import test_journal as journal
from tests.simulation import test_owner_found as owned
from tests.simulation import test_quarantine as quarantine_tests
from tests.simulation import test_soft as soft
from tests.simulation import test_turns_found as turn_tests
from tests.unit import test_find as listings

REPLY_LOST_FOR_GOOD = partial(tests.test_a_commit_that_stays_in_doubt_is_decided_by_a_new_fence, FaultKind.REPLY_LOST)
REQUEST_LOST_FOR_GOOD = partial(
    tests.test_a_commit_that_stays_in_doubt_is_decided_by_a_new_fence, FaultKind.REQUEST_LOST
)


def reply_at_once(activation: Activation, call: Call, reply: Any, error: BaseException | None) -> None:
    """In the place of `Activation.gate`."""
    if error is None:
        call.reply(reply)
    else:
        call.fail(error)


def open_gate(activation: Activation, error: BaseException) -> None:
    """In the place of `Activation.fail_gated`."""
    gated, activation.gated = activation.gated, None
    for _, call, reply, _ in gated or ():
        call.reply(reply)


async def give_up(committer: Committer, flight: Any, parts: Any, *, doubtful: bool) -> None:
    """In the place of `Committer._resolve`."""
    for part in parts:
        committer._fail(flight, part, OutcomeUnknownError())


async def send_under_a_new_id(store: FaultyStore, sections: Any, **limits: int) -> Any:
    """In the place of `FaultyStore.commit`; the flight knows the id by which it was sent last."""
    if store.calls.get("commit"):
        for section in sections:
            msgspec.structs.force_setattr(section, "commit_id", secrets.token_bytes(16))
    return await store._run("commit", lambda: store._store.commit(sections, **limits))


async def stored_soon_enough(_: Committer | Host) -> None:
    """In the place of `Committer.flush`, or of another method that waits for the store."""


def nothing(*_: object) -> None:
    """In the place of a method that would have done something."""


class Text(NamedTuple):
    """One change to the text of a method."""

    old: str
    new: str


class Mutant(NamedTuple):
    """A method of the core, what becomes of it, and the test that sees it."""

    name: str
    owner: type | ModuleType
    method: str
    change: Text | Callable[..., Any] | property
    test: Callable[[], None]


MUTANTS = (
    Mutant("no_output_gate", Activation, "gate", reply_at_once, tests.test_a_reply_waits_for_its_commit),
    Mutant("gate_opens_on_failure", Activation, "fail_gated", open_gate, tests.test_a_former_owner_cannot_write),
    Mutant(
        "alarm_removed_before_its_turn",
        Turns,
        "_run",
        Text(
            "call.started = True",
            "if call.alarm is not None:\n"
            "        activation.state.set_alarm(call.alarm, None)\n"
            "        self.end(activation)\n"
            "        self._host.committer.push(activation)\n"
            "    call.started = True",
        ),
        alarm_tests.test_an_alarm_rings_again_if_its_owner_dies_during_its_turn,
    ),
    Mutant(
        "unguarded_load",
        MemoryStore,
        "load",
        Text("if not shard.lease.held_by(order.fence):", "if False:"),
        tests.test_a_former_owner_cannot_load,
    ),
    Mutant(
        "refused_load_taken_for_absence",
        Loader,
        "_load",
        Text("elif loaded.seq < seq:", "elif 0 <= loaded.seq < seq:"),
        tests.test_a_former_owner_cannot_load,
    ),
    Mutant(
        "no_seq_check_at_the_loader",
        Loader,
        "_load",
        Text("elif loaded.seq < seq:", "elif loaded.seq < 0:"),
        tests.test_a_load_notices_that_the_store_went_back_in_time,
    ),
    Mutant(
        "memory_kept_over_another_owner",
        Ownership,
        "_forget",
        nothing,
        tests.test_what_another_owner_wrote_in_between_is_seen,
    ),
    Mutant(
        "another_owner_hidden_by_a_claim_without_an_answer",
        MemoryStore,
        "claim",
        Text("take(lease, order, token)", "take(lease, ClaimOrder(shard=0, known_epoch=1 << 60), token)"),
        owned.test_another_who_came_before_an_unanswered_claim_is_noticed,
    ),
    Mutant(
        "own_claim_taken_for_another_owner",
        Ownership,
        "_look_back",
        Text("and not self.is_own(before)", "and before != fence.token"),
        owned.test_a_rollback_keeps_memory_over_older_tokens,
    ),
    Mutant(
        "data_loss_taken_for_another_owner",
        Ownership,
        "_look_back",
        Text("if before and not", "if not"),
        owned.test_a_store_that_lost_its_data_gets_checkpointed_memory_written_back,
    ),
    Mutant(
        "rollback_taken_for_another_owner",
        Ownership,
        "_look_back",
        Text(" and not (behind and before == shard.predecessor)", ""),
        owned.test_a_store_that_went_back_to_before_our_time_gets_memory_written_back,
    ),
    Mutant("no_fence_on_doubt_applied", Committer, "_resolve", give_up, REPLY_LOST_FOR_GOOD),
    Mutant("no_fence_on_doubt_not_applied", Committer, "_resolve", give_up, REQUEST_LOST_FOR_GOOD),
    Mutant(
        "resent_under_a_new_id",
        FaultyStore,
        "commit",
        send_under_a_new_id,
        tests.test_a_lost_reply_of_a_commit_is_resolved_by_its_id,
    ),
    Mutant(
        "fast_way_past_the_lease",
        Host,
        "try_now",
        Text("now_ms >= activation.shard.valid_until_ms or ", ""),
        tests.test_nothing_starts_past_the_local_validity_of_the_lease,
    ),
    Mutant(
        "turn_past_the_lease",
        Turns,
        "_start",
        Text("if now_ms >= activation.shard.valid_until_ms:", "if False:"),
        tests.test_nothing_that_waited_starts_past_the_local_validity_of_the_lease,
    ),
    Mutant(
        "renewal_counts_from_its_answer",
        Ownership,
        "renew",
        Text("self.extend(shard, sent_ms)", "self.extend(shard, self._store_clock.monotonic_ms())"),
        tests.test_a_lease_counts_from_when_it_was_asked_for,
    ),
    Mutant(
        "claim_counts_from_its_answer",
        Ownership,
        "_adopt",
        Text("sent_ms + self.valid_ms", "self._store_clock.monotonic_ms() + self.valid_ms"),
        tests.test_a_lease_counts_from_when_it_was_asked_for,
    ),
    Mutant("failed_turn_kept", ObjectState, "drop_turn", nothing, tests.test_a_failed_handler_leaves_no_trace),
    Mutant(
        "alarm_early",
        StoreClock,
        "lower_ms",
        StoreClock.upper_ms,
        alarm_tests.test_an_alarm_fires_once_it_is_due_and_never_early,
    ),
    Mutant(
        "alarm_without_retry", Turns, "_retry_alarm", nothing, alarm_tests.test_a_failed_alarm_waits_before_its_next_try
    ),
    Mutant(
        "overlapping_turns",
        Turns,
        "pump",
        Text(
            "while activation.phase is Phase.ACTIVE and activation.running is None and",
            "while activation.phase is Phase.ACTIVE and",
        ),
        tests.test_turns_of_one_object_run_one_after_another,
    ),
    Mutant(
        "rollback_not_noticed",
        Residents,
        "rolled_back",
        nothing,
        tests.test_a_store_that_went_back_in_time_is_reported_and_its_state_read_again,
    ),
    Mutant(
        "passivated_with_unconfirmed_changes",
        Activation,
        "clean",
        property(lambda activation: activation.idle),
        tests.test_an_object_with_unconfirmed_changes_stays_in_memory,
    ),
    Mutant("drain_without_flush", Committer, "flush", stored_soon_enough, tests.test_a_drain_stores_everything),
    Mutant(
        "stale_checkpoint_ignored",
        Committer,
        "_set_fast",
        nothing,
        tests.test_a_stale_checkpoint_closes_the_fast_way,
    ),
    Mutant(
        "checkpoint_forgotten_at_a_running_turn",
        Committer,
        "_add",
        Text("self.mark_dirty(activation)", "pass"),
        tests.test_a_checkpoint_that_met_a_running_turn_is_not_forgotten,
    ),
    Mutant(
        "loaded_while_its_commit_flies",
        Residents,
        "add",
        Text("if activation.address not in self._leaving:", "if True:"),
        tests.test_an_object_is_read_again_only_when_the_store_has_decided,
    ),
    Mutant(
        "answers_in_flight_failed_with_the_lease",
        Activation,
        "fail_gated",
        Text("if waiting[0] > self.in_flight:", "if True:"),
        tests.test_an_answer_whose_commit_is_under_way_gets_the_verdict_of_the_store,
    ),
    Mutant(
        "unbounded_mailbox",
        Mailbox,
        "push",
        Text("len(calls) >= bounds.MAILBOX_CALLS_MAX or ", ""),
        tests.test_a_full_mailbox_refuses_and_loses_nothing,
    ),
    Mutant(
        "cycles_wait",
        Host,
        "call_from_turn",
        Text("if address in chain or ", "if "),
        tests.test_a_call_cycle_fails_at_once_and_is_named,
    ),
    Mutant(
        "dirt_grows_younger_by_a_running_turn",
        Committer,
        "_keep_age",
        nothing,
        call_tests.test_a_checkpoint_that_was_refused_does_not_grow_younger_by_a_running_turn,
    ),
    Mutant(
        "turn_over_a_past_that_is_not_put",
        Turns,
        "_start",
        Text("if activation.dirty and not self._settle_earlier(activation, call):", "if False:"),
        found.test_what_is_dirty_does_not_grow_younger_by_a_running_turn,
    ),
    Mutant(
        "call_leaves_before_the_checkpoint",
        Turns,
        "_start",
        Text("if activation.dirty and not self._settle_earlier(activation, call):", "if False:"),
        partial(call_tests.test_a_call_waits_for_the_checkpoint_of_what_it_may_have_seen, call_tests.NativePurse),
    ),
    Mutant(
        "call_leaves_after_a_failed_commit",
        Host,
        "call_from_turn",
        Text("(current_chain.get()[-1])", "(self._activations.get(chain[-1]) or current_chain.get()[-1])"),
        call_tests.test_a_call_does_not_leave_after_a_failed_commit,
    ),
    Mutant(
        "call_leaves_with_the_last_commit_of_a_former_owner",
        Host,
        "_let_out",
        Text(
            "await self._confirmation(caller)\n        caller.check_resident()",
            "return await self._confirmation(caller)",
        ),
        call_tests.test_a_call_does_not_leave_an_object_whose_owner_learns_with_the_commit_that_it_is_none,
    ),
    Mutant(
        "call_outlives_the_lease",
        Host,
        "_let_out",
        Text("if self._monotonic_ms() >= caller.shard.valid_until_ms:", "if False:"),
        call_tests.test_a_call_does_not_leave_past_the_lease,
    ),
    Mutant(
        "confirmed_without_its_checkpoint",
        Committer,
        "_add",
        Text("if activation.unstorable:", "if False:"),
        call_tests.test_a_call_does_not_leave_while_its_native_object_cannot_be_stored,
    ),
    Mutant(
        "turn_outlives_its_object",
        Turns,
        "forget",
        Text("if task is not None:", "if False:"),
        call_tests.test_a_turn_ends_with_the_lease_and_its_successor_runs_alone,
    ),
    Mutant(
        "unknown_half_of_a_turn_called_a_failure",
        Turns,
        "_left",
        Text("elif activation.in_flight > call.written_before:", "elif False:"),
        call_tests.test_a_split_turn_whose_owner_changes_while_its_commit_flies_may_have_counted,
    ),
    Mutant(
        "kept_memory_called_a_failure",
        Residents,
        "commit_failed",
        Text("activation.fail_gated(_kept(error))", "activation.fail_gated(error)"),
        turn_tests.test_what_stays_in_memory_is_not_called_a_failure,
    ),
    Mutant(
        "instance_kept_after_a_declared_error",
        Turns,
        "_failed",
        Text("if wrote or ", "if "),
        partial(turn_tests.test_a_declared_error_after_a_write_leaves_memory_as_it_was, turn_tests.fast),
    ),
    Mutant(
        "answer_outlives_the_lease",
        Turns,
        "_answer",
        Text("lapsed = now_ms >= activation.shard.valid_until_ms", "lapsed = False"),
        found.test_an_answer_that_rests_on_the_lease_does_not_outlive_it,
    ),
    Mutant(
        "soft_writes_outlive_what_was_deleted",
        Layers,
        "end_turn",
        Text("self.soft = None", "pass"),
        soft.test_what_is_deleted_or_has_expired_takes_its_soft_writes_along,
    ),
    Mutant(
        "refused_soft_writes_turn_callers_away",
        Residents,
        "commit_failed",
        Text("activation.state.take_back()", "False"),
        soft.test_a_full_store_that_refuses_what_is_soft_turns_nobody_away,
    ),
    Mutant(
        "refused_soft_writes_count_as_stored",
        Layers,
        "take_back",
        Text("(soft, self._existed, self._cleared), ", "(soft, _, _), "),
        soft.test_after_a_refusal_the_next_commit_knows_what_the_store_has,
    ),
    Mutant(
        "refused_soft_writes_outlive_a_deletion",
        Layers,
        "take_back",
        Text("self._pending is None or not self._pending.clear", "True"),
        soft.test_what_is_deleted_while_the_store_refuses_it_stays_deleted,
    ),
    Mutant(
        "refused_soft_writes_keep_idle_objects",
        Residents,
        "_keep_soft",
        Text("self._passivate(activation)", "self._host.committer.soft.mark(activation)"),
        soft.test_a_full_store_keeps_no_idle_object_in_memory,
    ),
    Mutant(
        "readonly_turns_write",
        Turns,
        "check_writes",
        nothing,
        partial(soft.test_a_readonly_turn_writes_nothing_else, soft.Person, "write"),
    ),
    Mutant(
        "journal_read_without_what_waits",
        Layers,
        "tail",
        Text("_parts_of(self._pending), ", ""),
        journal.test_a_read_sees_what_no_commit_has_confirmed_and_its_answer_waits_for_it,
    ),
    Mutant(
        "journal_read_without_what_is_on_its_way",
        Layers,
        "tail",
        Text("sent = None if self.parts is None else self.parts.sent", "sent = None"),
        journal.test_a_read_sees_what_no_commit_has_confirmed_and_its_answer_waits_for_it,
    ),
    Mutant(
        "positions_begin_anew_with_a_reload",
        Parts,
        "load",
        Text("JournalMark() if stored is None else decode(stored, JournalMark)", "JournalMark()"),
        journal.test_where_a_journal_stands_is_known_after_a_reload,
    ),
    Mutant(
        "journal_outlives_its_object",
        Parts,
        "take",
        Text("pending.cut = True", "pass"),
        journal.test_a_journal_expires_with_its_object,
    ),
    Mutant(
        "entries_on_their_way_forgotten_with_a_failed_commit",
        Parts,
        "rewritten",
        Text("in (self.sent, pending)", "in (pending,)"),
        journal.test_a_checkpointed_journal_is_kept_over_a_failed_commit,
    ),
    Mutant(
        "rows_forgotten_with_a_failed_commit",
        Parts,
        "rewritten",
        Text("everything.rows.update(self.rows)", "pass"),
        index.test_a_checkpointed_object_is_found_when_its_checkpoint_is_stored,
    ),
    Mutant(
        "rows_of_a_deleted_object_kept_in_memory",
        Parts,
        "merge",
        Text("if clear:", "if False:"),
        index.test_a_deleted_object_is_found_nowhere,
    ),
    Mutant(
        "listing_ahead_of_earlier_turns",
        Host,
        "store_earlier_turns",
        stored_soon_enough,
        index.test_a_turn_that_looks_finds_what_turns_before_it_wrote,
    ),
    Mutant(
        "listing_ends_where_a_shard_runs_dry",
        listings_module,
        "merged",
        Text("if at + 1 == len(pages[shard]) and shard in more and len(found) < limit:", "if False:"),
        listings.test_rows_of_one_shard_are_asked_for_twice_at_most,
    ),
    Mutant(
        "quarantine_not_asked_for_at_the_load",
        Quarantines,
        "loaded",
        Text("if record is None or", "if True or"),
        quarantine_tests.test_the_next_owner_refuses_the_object_and_serves_the_others,
    ),
    Mutant(
        "quarantine_without_end",
        Quarantines,
        "loaded",
        Text("record.until_ms <= self._clock.lower_ms()", "False"),
        quarantine_tests.test_the_next_owner_refuses_the_object_and_serves_the_others,
    ),
    Mutant(
        "alarm_in_quarantine_rung_again_and_again",
        AlarmClock,
        "_take",
        Text("max(due_ms, self._not_before_ms(member))", "due_ms"),
        quarantine_tests.test_an_alarm_of_an_object_in_quarantine_does_not_keep_the_node_busy,
    ),
    Mutant(
        "alarm_rung_once_and_never_again",
        Ringer,
        "_answered",
        Text("if error is not None and shard.open:", "if False:"),
        reading.test_an_alarm_of_an_object_that_could_not_begin_rings_again_soon,
    ),
    Mutant(
        "alarms_of_the_moment_where_a_page_ends_passed_over",
        AlarmClock,
        "_page",
        Text("last[shard] = page[-1][1]", "last[shard] = page[-1][1] + 1"),
        reading.more_than_a_page,
    ),
    Mutant(
        "alarms_that_a_read_left_forgotten",
        AlarmClock,
        "_read",
        Text("more | self._unread", "self._unread"),
        reading.test_a_read_that_failed_is_repeated,
    ),
    Mutant(
        "alarms_forgotten_with_their_setter",
        Residents,
        "_forget",
        Text("self._turns.announce_alarms(activation)", "pass"),
        reading.test_an_alarm_whose_setter_left_memory_before_its_commit_landed_rings,
    ),
    Mutant(
        "lift_that_leaves_the_memory",
        Quarantines,
        "lift",
        Text("self._until_ms.pop(address, None)", "pass"),
        quarantine_tests.test_an_operator_sees_and_lifts_it,
    ),
)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_named_test_detects_the_mutant(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test passes on the core as it is and fails on the changed one, by an assertion or an error of the core."""
    check_detected(mutant, monkeypatch)


def check_detected(mutant: Mutant, monkeypatch: pytest.MonkeyPatch, *more: type[Exception]) -> None:
    """Hold that the mutant's test passes as things are, and fails on the change: by an assertion, an error, or `more`."""
    change = changed(vars(mutant.owner)[mutant.method], mutant.change)
    mutant.test()
    monkeypatch.setattr(mutant.owner, mutant.method, change)
    with pytest.raises((AssertionError, pytest.fail.Exception, TenureError, *more)):
        mutant.test()


def changed(method: Callable[..., Any], change: Text | Callable[..., Any] | property) -> Any:
    """What comes in the place of the method."""
    if not isinstance(change, Text):
        return change
    text = textwrap.dedent(inspect.getsource(getattr(method, "__func__", method)))
    assert 1 == text.count(change.old), "the method no longer reads as the mutant expects"
    made: dict[str, Any] = {}
    exec(text.replace(change.old, change.new), getattr(method, "__func__", method).__globals__, made)
    return made[method.__name__]
