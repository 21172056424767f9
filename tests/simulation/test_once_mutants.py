"""Broken variants of what happens once, of messages and of parked callers, each caught by a named test."""

import pytest

from shared.objects.courier import Courier
from shared.objects.keeping import Keeping
from shared.objects.kept import Kept
from shared.objects.layers import Layers
from shared.objects.once import Delivery, KeyedRequest
from shared.objects.parking import Parking
from shared.objects.residents import Residents
from shared.objects.turns import Turns
from tests.simulation import test_messages as messages
from tests.simulation import test_once as once
from tests.simulation import test_parking as parking
from tests.simulation.test_core_mutants import Mutant, Text, check_detected, nothing

MUTANTS = (
    Mutant(
        "request_not_remembered",
        KeyedRequest,
        "remember",
        nothing,
        once.test_the_answer_of_a_request_whose_reply_was_lost_is_there,
    ),
    Mutant(
        "request_remembered_after_its_commit",
        Turns,
        "_end_call",
        Text(
            "call.once.remember(activation.instance, reply, self._clock)",
            "self.end(activation)\n"
            "        self._host.committer.push(activation)\n"
            "        call.future.add_done_callback(\n"
            "            lambda _: call.once.remember(activation.instance, reply, self._clock)\n"
            "        )",
        ),
        once.test_the_answer_of_a_request_whose_reply_was_lost_is_there,
    ),
    Mutant(
        "key_of_any_request",
        KeyedRequest,
        "answered",
        Text("if stored.digest != self._digest:", "if False:"),
        once.test_a_key_stands_for_one_request,
    ),
    Mutant(
        "table_that_forgets",
        Keeping,
        "has_room_to_remember",
        Text("return not full or bool(self._expired_entries(now_ms))", "return True"),
        once.test_a_full_table_refuses_and_forgets_nothing,
    ),
    Mutant(
        "answer_that_ends_with_its_object",
        Layers,
        "take",
        Text("if self._existed or pending.kept else None", "if False else None"),
        once.test_an_answer_outlives_its_object,
    ),
    Mutant(
        "second_delivery_runs_again",
        Delivery,
        "answered",
        Text("if entry is not None and self._place <= decode(entry.value, _Place)", "if False"),
        messages.test_a_message_that_was_delivered_is_known_again,
    ),
    Mutant(
        "place_without_its_epoch",
        Delivery,
        "__init__",
        Text("_Place(epoch, serial)", "_Place(0, serial)"),
        messages.test_a_message_that_was_delivered_is_known_again,
    ),
    Mutant(
        "removed_before_it_is_delivered",
        Courier,
        "_deliver",
        Text("await self._hand_over(line.key, message)", "self._hand_over(line.key, message).close()"),
        messages.test_a_message_is_delivered_after_its_turn_is_stored,
    ),
    Mutant(
        "outbox_of_the_last_owner_forgotten",
        Courier,
        "opened",
        Text("self.posted(shard)", "pass"),
        messages.test_a_crash_after_the_commit_loses_no_message,
    ),
    Mutant(
        "next_one_does_not_wait",
        Courier,
        "_take_up",
        Text("line = post.lines.get(key)", "line = None"),
        messages.test_a_receiver_that_fails_is_tried_again_and_the_others_do_not_wait,
    ),
    Mutant(
        "dead_letter_dropped",
        Courier,
        "_bury",
        Text("settled.outbox_adds =", "_ ="),
        messages.test_a_message_that_is_refused_becomes_a_dead_letter,
    ),
    Mutant(
        "message_of_a_lost_flight_forgotten",
        Kept,
        "rewritten",
        Text("for changes in (self.sent, pending):", "for changes in (pending,):"),
        messages.test_a_message_whose_checkpoint_failed_is_sent_with_the_next,
    ),
    Mutant(
        "parked_caller_hears_early",
        Parking,
        "hold",
        Text("if activation.state.overlay_used or call.alarm is not None:", "if False:"),
        parking.test_a_turn_that_parks_has_written_nothing,
    ),
    Mutant(
        "parked_caller_left_behind",
        Residents,
        "_unpark",
        nothing,
        parking.test_parked_callers_go_on_to_the_next_activation,
    ),
)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_named_test_detects_the_mutant(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test passes on the core as it is and fails on the changed one, by an assertion or an error of the core."""
    check_detected(mutant, monkeypatch)
