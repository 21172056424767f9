"""Broken variants of operations and of migrations, each caught by a named test."""

from functools import partial
from typing import cast

import pytest

from services.workflows import migrating
from services.workflows.operation import Operation
from tests.services import test_operations_api as asked
from tests.simulation import test_operation_crashes as crashes
from tests.simulation.test_core_mutants import Mutant, Text, check_detected
from tests.unit.workflows import test_machine_migrating as moved

few_at_once = crashes.few_at_once
MIGRATING = cast("type", migrating)


def crashing(order: str) -> partial[None]:
    """The test that dies at every commit."""
    return partial(crashes.test_a_crash_at_any_commit_changes_no_outcome, crashes.ORDERS[order])


MUTANTS = (
    Mutant(
        "asked_before_it_is_stored",
        Operation,
        "on_alarm",
        Text("        await self.commit()\n", ""),
        crashing("pause"),
    ),
    Mutant(
        "asked_anew_after_a_crash",
        Operation,
        "_ask",
        Text('None if dry else KeyedRequest(f"{_KEY}{self.address.name}", method, (change,))', "None"),
        crashing("cancel"),
    ),
    Mutant(
        "goes_on_never",
        Operation,
        "_settle",
        Text("self.alarms.set(GO_ON, at_ms=now_ms + _pause_ms(standing.troubles))", "pass"),
        asked.test_more_runs_than_are_changed_at_once_are_changed,
    ),
    Mutant(
        "over_its_limit",
        Operation,
        "_find",
        Text("min(OPERATION_RUNS_AT_ONCE, order.limit - standing.taken)", "OPERATION_RUNS_AT_ONCE"),
        partial(asked.test_many_runs_are_changed_by_an_operation, "pause", "paused"),
    ),
    Mutant(
        "held_up_for_ever",
        Operation,
        "_change",
        Text("last = standing.troubles + 1 >= OPERATION_TRIES_MAX", "last = False"),
        asked.test_what_stands_in_the_way_is_waited_for_and_then_told,
    ),
    Mutant(
        "asked_once_and_no_more",
        Operation,
        "_ask",
        Text("told if error.retryable is Retryable.NEVER else _Trouble(told)", "told"),
        asked.test_what_stood_in_the_way_for_a_moment_is_no_error,
    ),
    Mutant(
        "known_by_its_key_alone",
        Operation,
        "begin",
        Text("if self._order() != order:", "if False:"),
        asked.test_a_repeated_request_is_answered_with_its_operation,
    ),
    Mutant(
        "dry_and_wet_all_the_same",
        Operation,
        "_ask",
        Text("WorkflowRun.rehearse if dry else WorkflowRun.change", "WorkflowRun.change"),
        partial(asked.test_a_dry_run_says_what_would_be_and_changes_nothing, "cancel"),
    ),
    Mutant(
        "stopped_and_on_it_goes",
        Operation,
        "stop",
        Text('status="stopped"', 'status="running"'),
        asked.test_an_operation_can_be_stopped,
    ),
    Mutant(
        "kept_for_ever",
        Operation,
        "_settle",
        Text("        self.storage.expire_at(now_ms + OPERATION_KEPT_MS)\n", ""),
        asked.test_operations_are_listed_and_kept_for_a_week,
    ),
    Mutant(
        "as_many_as_are_asked_for",
        Operation,
        "_settle",
        Text("        self.index.clear(RUNNING)\n", ""),
        asked.test_so_many_operations_are_under_way_at_once,
    ),
    Mutant(
        "moved_whatever_it_is_at",
        MIGRATING,
        "_check",
        Text("if before != after:", "if False:"),
        partial(moved.test_what_cannot_go_on_is_refused, *moved.REFUSED[1]),
    ),
    Mutant(
        "branches_unseen",
        MIGRATING,
        "_check",
        Text("_check(draft, child, step.kind.branches[child.name])", "pass"),
        partial(moved.test_what_cannot_go_on_is_refused, *moved.REFUSED[-1]),
    ),
    Mutant(
        "what_has_stalled_is_of_its_kind",
        MIGRATING,
        "_check",
        Text("if activity is None or activity.phase in _BEGUN_ANEW:", "if activity is None:"),
        moved.test_a_stalled_step_is_tried_again_as_the_new_version_has_it,
    ),
    Mutant(
        "outcomes_do_not_matter",
        MIGRATING,
        "_shape",
        Text("name, kind.outcomes, kind.signal", "name, kind.signal"),
        partial(moved.test_what_cannot_go_on_is_refused, *moved.REFUSED[3]),
    ),
)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_named_test_detects_the_mutant(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test passes on what is there and fails on the changed one, by an assertion or an error of the core."""
    check_detected(mutant, monkeypatch, KeyError)
