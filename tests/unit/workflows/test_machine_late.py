"""What happens late, or when there is no room: after a pause or an outage, with a full mailbox, in a run that is full."""

from collections.abc import Callable

import msgspec
import pytest

from services.workflows.bounds import MAILBOX_SIGNALS_MAX, PAYLOAD_BYTES_MAX, RUN_BYTES_FULL, RUN_BYTES_MAX
from services.workflows.draft import Surroundings
from services.workflows.events import (
    Cancelled,
    Completed,
    Failed,
    Heartbeat,
    Leased,
    Paused,
    Reset,
    Resumed,
    Retried,
    Signalled,
    Skipped,
    Terminated,
    TimerDue,
)
from services.workflows.intents import AskFor, SendHttp
from services.workflows.liveness import incidents
from services.workflows.machine import advance, start
from services.workflows.refusals import MailboxFullError, RunTooLargeError
from services.workflows.state import encode
from tests.support.flow import START_MS, Flow, flow

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
LARGE = "x" * (PAYLOAD_BYTES_MAX - 1_024)
BRANCHES = ", ".join(f"b{n}: {{ start: t, steps: {{ t: {{ task: q, end: true }} }} }}" for n in range(8))
SPREAD = f"{{ parallel: {{ branches: {{ {BRANCHES} }} }}, end: true }}"


def serial_of(run: Flow, number: int) -> int:
    """Of the attempt in that branch."""
    activity = run.run.scopes[f"a/b{number}"].activity
    assert activity is not None
    return activity.serial


def test_a_wait_takes_its_signal_though_the_mailbox_is_full() -> None:
    """Signals of other names are kept, so many; the one that is waited for needs no room, and another has none."""
    run = flow("a: { wait: { signal: go }, next: b }\nb: { wait: { signal: other }, end: true }")
    for _ in range(MAILBOX_SIGNALS_MAX):
        run.send(Signalled(name="never"))
    with pytest.raises(MailboxFullError):
        run.send(Signalled(name="never"))

    assert "b" == run.send(Signalled(name="go")).at
    assert MAILBOX_SIGNALS_MAX == len(run.run.mailbox)
    assert "succeeded" == run.send(Signalled(name="other")).status


def test_whoever_gets_a_wait_late_has_their_time_all_the_same() -> None:
    """The run was paused, or its node away, when the wait was to be handed on, and until after its timeout."""
    run = flow(
        "a: { wait: {}, escalate: [ { after: 1h, assign: { group: ops }, extend: 2h } ], timeout: 90m, end: true }"
    )
    run.now_ms += 5 * HOUR_MS
    run.send(TimerDue())

    assert ({"group": "ops"}, []) == (run.sent(AskFor).assign, run.incidents)
    assert [] == run.pass_ms(119 * MINUTE_MS).incidents
    assert [("a", "timeout")] == run.pass_ms(MINUTE_MS).incidents


@pytest.mark.parametrize(("away_ms", "sent", "later"), [(0, 1, 3), (150, 1, 2), (250, 1, 1), (10_000, 1, 0)])
def test_reminders_that_are_late_come_once(away_ms: int, sent: int, later: int) -> None:
    """Of those that became due meanwhile one is sent; those that are still to come keep their times."""
    remind = 'remind: { every: 60m, max: 4, do: { http: { POST: "https://x.example/" } } }'
    run = flow(f"a: {{ wait: {{}}, {remind}, end: true }}").send(Paused())
    run.now_ms += HOUR_MS + away_ms * MINUTE_MS * 6 // 10
    run.send(Resumed())
    assert sent == len(run.wanted(SendHttp))
    run.intents.clear()
    run.pass_ms(20 * HOUR_MS)

    assert later == len([one for one in run.intents if isinstance(one, SendHttp)])


def test_a_run_that_would_be_too_large_is_not_begun() -> None:
    """Its input would stand in each branch."""
    program = flow(f"a: {SPREAD}").program
    with pytest.raises(RunTooLargeError):
        start(program, run_id="r", run_input=LARGE, around=Surroundings(now_ms=START_MS))


def _resumed() -> Flow:
    run = flow(f"a: {{ task: q, next: b }}\nb: {SPREAD}").send(Paused())
    return run.send(Completed(path="a", result=LARGE)).send(Resumed())


def _rung() -> Flow:
    return flow(f"a: {{ sleep: 1h, next: b }}\nb: {SPREAD}", LARGE).pass_ms(HOUR_MS)


def _caught() -> Flow:
    caught = "catch: [ { errors: [boom], output: '{% $input %}', next: b } ]"
    return flow(f"a: {{ task: q, input: 1, retry: [], {caught}, end: true }}\nb: {SPREAD}", LARGE).fail("a")


def _reset() -> Flow:
    return flow(f"a: {{ task: q, input: 1, next: b }}\nb: {SPREAD}", LARGE).send(Reset(step="b"))


@pytest.mark.parametrize("run_of", [_resumed, _rung, _caught, _reset])
def test_a_step_that_would_make_the_run_too_large_stalls(run_of: Callable[[], Flow]) -> None:
    """Whatever led to it: it is an incident, the run can be stored, and it can be helped."""
    run = run_of()

    ((path, error),) = run.incidents
    assert "payload.too_large" == error
    assert len(encode(run.run)) <= RUN_BYTES_MAX
    run.send(Retried(path=path))
    assert "terminated" == run.send(Terminated()).status


def test_a_sign_of_life_that_tells_too_much_is_refused() -> None:
    """Its sender hears of it, and the run is as it was."""
    run = flow(f"a: {SPREAD}")
    beats = [Heartbeat(path=f"a/b{number}/t", progress=LARGE) for number in range(4)]
    for beat in beats[:3]:
        run.send(beat)
    with pytest.raises(RunTooLargeError):
        advance(run.program, run.run, beats[3], Surroundings(now_ms=START_MS))


def test_an_error_that_tells_too_much_counts_without_what_it_tells() -> None:
    """So its step goes on, and the same answer once more is known."""
    run = flow(f"a: {SPREAD}")
    errors = [
        Failed(path=f"a/b{number}/t", error="e", data=LARGE, serial=serial_of(run, number)) for number in range(8)
    ]
    for error in errors:
        run.send(error)

    told = [one.failure.data for one in incidents(run.run) if one.failure is not None]
    assert (8, {LARGE, None}) == (len(told), set(told))
    assert run.run is advance(run.program, run.run, errors[7], Surroundings(now_ms=START_MS))[0]


def test_a_worker_has_to_live_also_in_an_attempt_that_is_made_by_hand() -> None:
    """Leases are counted anew in each: the first of this one is not taken for one that was overtaken before."""
    run = flow("a: { task: q, heartbeat: 1m, retry: [], end: true }")
    for lease in (1, 2):
        run.send(Leased(path="a", worker="w", lease=lease))
    run.fail("a").send(Retried(path="a"))
    run.send(Leased(path="a", worker="w", lease=1))

    assert [("a", "timeout.heartbeat")] == run.pass_ms(MINUTE_MS).incidents


UNDONE = "retry: [], timeout: 1s, compensate: { task: u, input: '{% $input %}' }, catch: [ { errors: [timeout]"


def filled(record_bytes: int) -> Flow:
    """A run whose loop is to be undone, until there is no room for more."""
    steps = f"a: {{ task: q, input: 1, {UNDONE}, next: a }} ], next: b }}\nb: {{ task: q, input: 1, end: true }}"
    return flow(steps, "x" * record_bytes).pass_ms(3_000_000)


@pytest.mark.parametrize("record_bytes", [1_000, 4_001, 40_000])
def test_a_run_that_is_full_of_what_is_to_be_undone_can_be_helped(record_bytes: int) -> None:
    """Its step stalls, however often it is tried; and it is undone, though an undoing fails, with its last step first."""
    run = filled(record_bytes)
    assert [("a", "payload.too_large")] == run.incidents
    assert [("a", "payload.too_large")] == run.send(Retried(path="a")).incidents
    assert [("a", "payload.too_large")] == run.send(Reset(step="a")).incidents
    run.send(Paused()).send(Resumed())
    count = len(run.run.undo)
    assert RUN_BYTES_FULL < len(encode(run.run)) + 2 * record_bytes
    assert "undoing" == run.send(Cancelled()).status

    ((path, _),) = run.fail("a!undo", cause=LARGE, data=LARGE, retry=False).incidents
    run.send(Retried(path=path))
    for left in range(count, 0, -1):
        assert left == len(run.run.undo)
        run.complete("a!undo")
    assert "cancelled" == run.status


def test_a_run_that_is_full_can_be_terminated() -> None:
    """Then nothing is kept to be undone."""
    run = filled(4_000).send(Terminated())

    assert ("terminated", ()) == (run.status, run.run.undo)


def test_a_run_that_is_full_goes_past_its_pivot() -> None:
    """Whoever takes the stalled step as done is refused where it would need room, and not where it makes some."""
    run = filled(4_000)
    with pytest.raises(RunTooLargeError):
        run.send(Skipped(path="a"))
    past = "b: { task: q, pivot: true, retry: [ { errors: ['*'], attempts: unlimited } ], end: true }"
    other = flow(f"a: {{ task: q, {UNDONE}, next: b }} ], next: b }}\n{past}").program
    run.migrate(msgspec.structs.replace(other, version=2)).send(Skipped(path="a"))

    assert ("b", ()) == (run.at, run.run.undo)


def test_reminders_that_a_run_has_no_room_for_are_left_out() -> None:
    """The wait goes on all the same."""
    call = 'http: { POST: "https://x.example/", body: "{% $input %}" }'
    run = flow(f"a: {{ wait: {{}}, remind: {{ every: 1h, max: 4, do: {{ {call} }} }}, end: true }}", "x" * 70_000)
    run.pass_ms(20 * HOUR_MS)

    assert (1, 3) == (run.history.count("reminder.sent a"), run.history.count("reminder.failed a"))
    assert "succeeded" == run.complete("a").status


def test_where_not_even_stalling_finds_room_the_step_around_stalls() -> None:
    """A thousand items wake at once in a run that is nearly full; tried again, the map begins anew."""
    item = "{ start: t, steps: { t: { sleep: 1h, next: u }, u: { task: q, end: true } } }"
    run = flow(f"a: {{ map: {{ items: '{{% [1..1000] %}}' }}, each: {item}, end: true }}", "x" * 16_000)
    run.pass_ms(HOUR_MS + MINUTE_MS)

    assert ([("a", "payload.too_large")], 1) == (run.incidents, len(run.run.scopes))
    assert 1 < len(run.send(Retried(path="a")).run.scopes)
    assert "terminated" == run.send(Terminated()).status
