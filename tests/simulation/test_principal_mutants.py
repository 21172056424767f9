"""Broken variants of a principal, each caught by a named test or by the random histories beside its reference."""

from functools import partial

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from services.sessions.cuts import Cuts
from services.sessions.holding import Holding
from services.sessions.principal import Principal
from shared.errors import TenureError
from tests.simulation import test_sessions as sessions
from tests.simulation import test_sessions_over as over
from tests.simulation.test_core_mutants import Mutant, Text, changed
from tests.simulation.test_principal_model import Model

HISTORIES = partial(
    run_state_machine_as_test,
    Model,
    settings=settings(
        max_examples=60, stateful_step_count=40, deadline=None, derandomize=True, database=None, phases=[Phase.generate]
    ),
)
"""As many as show it: what is found need not be made smaller."""

MUTANTS = (
    Mutant(
        "limit_without_the_one_that_comes",
        Principal,
        "create",
        Text("for session_id in evicted:", "for session_id in evicted[1:]:"),
        sessions.test_s05_a_limit_is_exact_when_all_come_at_once,
    ),
    Mutant(
        "let_in_though_disabled",
        Principal,
        "create",
        Text("if record.disabled_ms:", "if False:"),
        sessions.test_s18_disabling_ends_everything_until_it_is_enabled,
    ),
    Mutant(
        "use_that_is_not_noted",
        Principal,
        "stand",
        Text('self.storage.put_soft(f"u/{session_id}", seen)', "pass"),
        HISTORIES,
    ),
    Mutant(
        "each_window_gets_its_own_successor",
        Principal,
        "rotate",
        Text("if generation == session.generation:", "if True:"),
        sessions.test_s15_all_who_rotate_one_token_get_the_same_successor,
    ),
    Mutant(
        "successor_for_who_did_not_step_up",
        Principal,
        "rotate",
        Text("session.previous.elevated", "False"),
        sessions.test_s14_an_older_generation_never_gets_what_came_after_it,
    ),
    Mutant(
        "thief_whoever_steps_up_in_another_window",
        Principal,
        "rotate",
        Text(" and not overtaken", ""),
        sessions.test_s16_a_window_that_rotates_while_another_steps_up_is_no_thief,
    ),
    Mutant(
        "reuse_told_every_time",
        Principal,
        "_reused",
        Text("if session.reuse_told != session.generation:", "if True:"),
        sessions.test_s16_a_policy_may_deny_a_reuse_and_keep_the_session,
    ),
    Mutant(
        "reuse_that_ends_nothing",
        Principal,
        "_reused",
        Text('self.end(session_id, "reuse_detected", rules)', "pass"),
        sessions.test_s16_a_rotation_with_an_old_token_ends_the_session_once,
    ),
    Mutant(
        "all_others_and_oneself",
        Principal,
        "revoke_all",
        Text(" if session_id != except_id", ""),
        sessions.test_s02_revoking_all_others_leaves_one_while_each_is_being_rotated,
    ),
    Mutant(
        "all_that_are_there_counted_as_ended",
        Principal,
        "revoke_all",
        Text("self.settle(rules)", "pass"),
        partial(over.test_what_the_tenants_cut_has_ended_is_not_ended_again, "all"),
    ),
    Mutant(
        "one_ended_that_was_over",
        Principal,
        "revoke",
        Text("self.settle(rules)", "False"),
        partial(over.test_what_the_tenants_cut_has_ended_is_not_ended_again, "one"),
    ),
    Mutant(
        "erased_with_what_was_over",
        Principal,
        "erase",
        Text("self._live(rules)", "self.sessions()"),
        partial(over.test_what_the_tenants_cut_has_ended_is_not_ended_again, "erase"),
    ),
    Mutant(
        "over_by_what_is_certain_alone",
        Holding,
        "settle",
        Text("self.over(key, session, rules)", "self.over(key, session, None)"),
        partial(over.test_what_the_tenants_cut_has_ended_is_not_ended_again, "all"),
    ),
    Mutant(
        "cut_that_its_tokens_tell_nobody_of",
        Principal,
        "stand",
        Text(', untold=verdict == "tenant"', ""),
        over.test_a_token_that_comes_after_the_cut_has_its_principal_tell_of_it,
    ),
    Mutant(
        "cut_that_a_rotation_tells_nobody_of",
        Principal,
        "rotate",
        Text("self.catch_up(rules)", "pass"),
        over.test_a_rotation_that_comes_after_the_cut_tells_of_it_itself,
    ),
    Mutant(
        "cut_that_listeners_do_not_hear_of",
        Cuts,
        "_cut",
        Text("self._look(address)", "pass"),
        over.test_who_listens_to_a_principal_hears_of_the_cut_within_a_second,
    ),
    Mutant(
        "cut_of_another_tenant",
        Cuts,
        "_cut",
        Text(" if address.tenant == tenant", " if address.tenant != tenant"),
        over.test_who_listens_to_a_principal_hears_of_the_cut_within_a_second,
    ),
    Mutant(
        "asked_once_though_somebody_listens",
        Cuts,
        "_again",
        Text("if address in self._listened:", "if False:"),
        over.test_a_principal_that_could_not_be_asked_is_asked_again_while_somebody_listens,
    ),
    Mutant(
        "as_many_looks_as_tokens_come",
        Cuts,
        "came",
        Text("if len(self._waiting) < CUT_LOOKS_WAITING_MAX:", "if True:"),
        over.test_very_many_tokens_that_come_after_the_cut_cost_no_memory,
    ),
    Mutant(
        "alarm_that_knows_no_tenant",
        Holding,
        "_tidy",
        Text("self.tenants_rules()", "None"),
        over.test_an_alarm_tells_of_the_cut_and_not_of_a_time_out,
    ),
    Mutant(
        "rotation_that_begins_the_time_anew",
        Holding,
        "renew",
        Text(" if elevated else session.lifetime", ""),
        sessions.test_s12_use_never_moves_the_absolute_end,
    ),
    Mutant(
        "token_of_before_stands_for_what_came_after",
        Holding,
        "renew",
        Text("assurance=session.assurance\n", "assurance=assurance\n"),
        sessions.test_s14_an_older_generation_never_gets_what_came_after_it,
    ),
)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_named_test_detects_the_mutant(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is named fails on the changed principal, by an assertion, an answer of another kind or an error of the core."""
    monkeypatch.setattr(mutant.owner, mutant.method, changed(vars(mutant.owner)[mutant.method], mutant.change))
    with pytest.raises((AssertionError, AttributeError, pytest.fail.Exception, TenureError)):
        mutant.test()
