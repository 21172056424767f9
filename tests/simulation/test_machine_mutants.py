"""Broken variants of the workflow machine: random programs and histories beside the second interpreter find each."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from services.workflows import (
    answering,
    closing,
    controls,
    machine,
    state,
    stepping,
    timing,
    undoing,
    waiting,
)
from shared.errors import TenureError
from tests.simulation.test_core_mutants import Text, changed
from tests.unit.workflows.test_machine_model import Model

SEARCH = settings(
    max_examples=3_000,
    stateful_step_count=40,
    deadline=None,
    phases=[Phase.generate],
    derandomize=True,
    database=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


class Broken(NamedTuple):
    """A function of the machine, and what becomes of it."""

    name: str
    function: Callable[..., Any]
    change: Text


MUTANTS = (
    Broken("silent_for_ever", answering.beat, Text("_expect_heartbeat(draft, scope)", "pass")),
    Broken("no_202_is_asked_for", answering.accept, Text("isinstance(sent, SendHttp) and sent.callback", "True")),
    Broken("claim_outlives_its_wait", waiting.show_again, Text(', claimed_by=""', "")),
    Broken("answered_twice", answering.is_repeat, Text("one.serial == event.serial and", "False and")),
    Broken("extended_from_then", waiting.escalate, Text("draft.now_ms + escalation", "timer.due_ms + escalation")),
    Broken("reminded_of_all_at_once", waiting.remind, Text("passed = 1 +", "passed = 1 + 0 *")),
    Broken("signals_for_ever", state.waiting_signals, Text("if not 0 < signal.until_ms <= now_ms", "")),
    Broken("deadline_past_the_pivot", stepping._pass_pivot, Text('draft.disarm_one("deadline", 0)', "pass")),
    Broken("undone_past_the_pivot", stepping._pass_pivot, Text("draft.undo = []", "pass")),
    Broken("cancelled_past_the_pivot", controls.cancel, Text("if draft.past_pivot:", "if False:")),
    Broken("deadline_that_only_fails", timing._pass_deadline, Text("or deadline.next is None", "or True")),
    Broken("visited_once_too_little", stepping.enter, Text("visit > step.visits_max", "visit >= step.visits_max")),
    Broken("accepted_never_happened", closing.note_unsure, Text('{"called", "accepted"}', '{"called"}')),
    Broken("undoing_never_times_out", undoing._send, Text('draft.arm(due_ms, "timeout", serial)', "pass")),
    Broken("undoing_though_paused", undoing.undo_next, Text("if not draft.paused:", "if True:")),
    Broken("signals_outlive_a_reset", controls.reset, Text("if event.keep_signals else []", "")),
    Broken("pivot_outlives_a_reset", controls.reset, Text("None, False", "None, draft.past_pivot")),
    Broken("no_pause", machine._has_room, Text("not draft.paused and", "")),
)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_model_detects_the_mutant(mutant: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within so many histories, which are the same every time."""
    monkeypatch.setattr(mutant.function, "__code__", changed(mutant.function, mutant.change).__code__)
    with pytest.raises((AssertionError, TenureError, LookupError, pytest.fail.Exception, ExceptionGroup)):
        run_state_machine_as_test(Model, settings=SEARCH)
