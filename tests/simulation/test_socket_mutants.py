"""Broken variants of sockets, each of which a named test has to catch."""

import pytest

from shared.errors import TenureError
from shared.http.eventstreams import EventStreams
from shared.http.sockets import SocketDoor, _Transport
from shared.objects.activation import Activation
from shared.objects.ingress import Ingress
from shared.objects.mirror import Mirror, _Held
from shared.objects.residents import Residents
from shared.objects.tickets import Tickets
from shared.objects.wire import Wire
from tests.services import test_sessions_feed as feeds
from tests.services import test_sockets_api as edge
from tests.simulation import test_sockets as tests
from tests.simulation.test_core_mutants import Mutant, Text, changed, nothing

MUTANTS = (
    Mutant(
        "told_before_the_commit",
        Mirror,
        "let_out",
        Text("if activation.written > activation.confirmed:", "if False:"),
        tests.test_nothing_is_heard_before_its_commit,
    ),
    Mutant(
        "whispered_ahead_of_what_it_saw",
        Mirror,
        "let_out",
        Text("if activation.written > activation.confirmed:", "if activation.state.pending:"),
        tests.test_a_turn_that_writes_nothing_waits_for_what_it_could_have_seen,
    ),
    Mutant(
        "failed_turn_heard",
        Activation,
        "drop_turn",
        Text("self.outgoing = None", "pass"),
        tests.test_what_a_failed_turn_said_is_never_heard_and_its_sender_hears_why,
    ),
    Mutant(
        "failed_commit_kept_quiet",
        Residents,
        "_forget",
        Text('if reason in ("failed", "lost"):', "if False:"),
        tests.test_a_store_that_went_back_in_time_is_told_to_every_client,
    ),
    Mutant(
        "failed_commit_heard",
        _Held,
        "fail",
        Text("entry.outlet.lost(entry.id)", "self.reply(None)"),
        tests.test_a_word_whose_commit_failed_is_refused_and_everybody_is_told_to_ask_anew,
    ),
    Mutant(
        "streams_that_a_stopping_node_leaves_open",
        Ingress,
        "stop",
        Text("end.set_result(STOPPING)", "pass"),
        feeds.test_streams_and_sockets_end_at_once_with_a_node_that_stops,
    ),
    Mutant(
        "node_that_stops_before_its_streams_have_ended",
        Ingress,
        "stop",
        Text("if self._wires or self._streams:", "if self._wires:"),
        feeds.test_streams_and_sockets_end_at_once_with_a_node_that_stops,
    ),
    Mutant(
        "event_streams_that_no_stop_ends",
        EventStreams,
        "_counted",
        Text("{coming, end}", "{coming}"),
        feeds.test_streams_and_sockets_end_at_once_with_a_node_that_stops,
    ),
    Mutant(
        "change_of_owner_kept_quiet",
        Ingress,
        "reattach",
        Text("if not clean:", "if False:"),
        tests.test_a_socket_survives_the_death_of_its_owner_and_hears_of_it,
    ),
    Mutant(
        "new_owner_not_told",
        Ingress,
        "reattach",
        Text("self._attach(wire)", "pass"),
        tests.test_a_socket_survives_the_death_of_its_owner_and_hears_of_it,
    ),
    Mutant(
        "number_lost_with_the_activation",
        Wire,
        "follows",
        Text("expected = self.number + 1 if sender == self.sender else 1", "expected = self.number + 1"),
        tests.test_a_socket_survives_that_its_object_leaves_memory,
    ),
    Mutant(
        "unknown_told_as_refused",
        Ingress,
        "receive",
        Text("if _undecided(exc):", "if False:"),
        tests.test_a_word_that_was_under_way_when_its_owner_died_is_reported_as_not_known,
    ),
    Mutant(
        "no_bound_for_slow_readers",
        Wire,
        "_put",
        Text("if (\n", "if False and (\n"),
        tests.test_a_slow_reader_is_cut_off_and_delays_nobody,
    ),
    Mutant(
        "heard_before_it_has_joined",
        Ingress,
        "_attach",
        Text("entry.joined = wire.opened", "entry.joined = True"),
        tests.test_a_socket_hears_nothing_before_its_opening_and_everything_after,
    ),
    Mutant(
        "any_origin",
        SocketDoor,
        "_check_origin",
        nothing,
        edge.test_w_01_a_page_of_a_foreign_origin_is_refused_before_it_is_accepted,
    ),
    Mutant(
        "credential_asked_once",
        Ingress,
        "sweep",
        Text("if not wire.valid():", "if False:"),
        edge.test_w_02_a_revoked_key_ends_its_sockets_within_a_second_and_no_others,
    ),
    Mutant(
        "size_in_characters",
        _Transport,
        "_take",
        Text("len(text.encode()) if", "len(text) if"),
        edge.test_w_03_a_frame_over_64_kib_ends_its_socket_with_1009,
    ),
    Mutant(
        "waits_for_a_stalled_reader",
        _Transport,
        "run",
        Text("timeout=bounds.SOCKET_GRACE_MS / 1000", "timeout=None"),
        edge.test_w_04_a_reader_that_stalls_is_cut_off_with_1013_and_the_rest_goes_on,
    ),
    Mutant(
        "ticket_used_twice",
        Tickets,
        "redeem",
        Text("self._grants.pop(_digest(ticket), None)", "self._grants.get(_digest(ticket))"),
        edge.test_a_ticket_opens_one_socket_of_its_object_within_half_a_minute,
    ),
)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_a_named_test_catches_it(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test passes on the core as it is, which its own run shows, and fails on the changed one."""
    method = vars(mutant.owner)[mutant.method]
    monkeypatch.setattr(mutant.owner, mutant.method, changed(method, mutant.change))

    with pytest.raises((AssertionError, TenureError, TimeoutError, KeyError)):
        mutant.test()
