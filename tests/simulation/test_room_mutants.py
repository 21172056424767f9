"""Broken variants of what may be under way or be known at once, each caught by a named test."""

from functools import partial

import pytest

from shared.objects.alarms import AlarmClock
from shared.objects.courier import Courier
from shared.objects.known import Known
from shared.objects.lines import Places
from shared.objects.room import Room
from tests.simulation import test_deliveries as deliveries
from tests.simulation import test_many_alarms as many
from tests.simulation.test_core_mutants import Mutant, Text, check_detected

MUTANTS = (
    Mutant(
        "alarms_without_number",
        AlarmClock,
        "run",
        Text("self._room.free(monotonic_ms)", "1_000_000"),
        many.test_a_call_is_answered_soon_while_thousands_of_missed_alarms_ring,
    ),
    Mutant(
        "alarms_that_hang_keep_their_places",
        Room,
        "held",
        Text(">= self._patience_ms", "> 1_000_000"),
        many.test_alarms_that_hang_hold_up_the_others_for_a_second_each_time,
    ),
    Mutant(
        "room_that_nobody_is_told_of",
        AlarmClock,
        "_answered",
        Text("self._changed.set()", "pass"),
        many.test_a_call_is_answered_soon_while_thousands_of_missed_alarms_ring,
    ),
    Mutant(
        "receivers_that_hang_take_all_places",
        Places,
        "_next",
        Text("if (room.held(now_ms) if room else 0) < free:", "if free:"),
        partial(deliveries.test_receivers_that_hang_hold_up_nobody_for_long, "other", 0.2),
    ),
    Mutant(
        "one_receiver_fills_the_memory",
        Known,
        "_share",
        Text("(bounds.MESSAGES_KNOWN_MAX - self.total) // bounds.RECEIVER_KNOWN_PART", "bounds.MESSAGES_KNOWN_MAX"),
        deliveries.test_a_receiver_that_takes_nothing_leaves_room_for_what_others_are_sent,
    ),
    Mutant(
        "what_was_passed_over_forgotten",
        Known,
        "_forget",
        Text("if receiver in self._passed", "if False"),
        deliveries.test_a_receiver_that_takes_nothing_leaves_room_for_what_others_are_sent,
    ),
    Mutant(
        "what_comes_later_overtakes_what_was_passed_over",
        Courier,
        "_read",
        Text(" and letter.message.receiver not in post.passed", ""),
        deliveries.test_a_receiver_that_takes_nothing_leaves_room_for_what_others_are_sent,
    ),
)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_named_test_detects_the_mutant(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test passes on the core as it is and fails on the changed one, by an assertion or an error of the core."""
    check_detected(mutant, monkeypatch)
