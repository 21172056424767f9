"""The machine when things go wrong or people step in: retries, catches, incidents, undoing, deadlines and the control verbs."""

import pytest

from services.workflows.definition import define, read_yaml
from services.workflows.events import (
    Accepted,
    Cancelled,
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
)
from services.workflows.intents import AskFor, CallObject, Ended, Notify, SendHttp, SendTask, StartChild, Withdraw
from services.workflows.refusals import (
    NotWaitingError,
    PastPivotError,
    RunClosedError,
    SupersededError,
    UnknownStepError,
)
from tests.support.flow import START_MS, Flow, flow
from tests.support.launching import ROOT

DAY_MS = 86_400_000
SAGA = """
a: { task: book, compensate: { task: unbook, input: { id: "{% $result.id %}" }, retry: [ { errors: ["*"], attempts: 1 } ] }, next: b }
b: { task: pay, compensate: { http: { POST: "https://x.example/refund", body: "{% $result %}" } }, next: c }
c: { task: ship, retry: [], catch: [ { errors: [lost], next: d } ], end: true }
d: { fail: { error: gone }, compensate_all: true }
"""

ONE = """
a: { task: book, compensate: { task: unbook, input: { id: "{% $result.id %}" }, retry: [ { errors: ["*"], attempts: 1 } ] }, next: b }
b: { wait: {}, end: true }
"""


def test_retries_grow_and_end_in_a_stalled_step() -> None:
    """By the rules of the Amazon States Language: interval, rate, cap, and then an incident, not a dead run."""
    run = flow(
        "a: { task: q, retry: [ { errors: [boom], interval: 2s, rate: 3, max_delay: 10s, attempts: 3 } ], end: true }"
    )
    waits = []
    for _ in range(3):
        run.fail("a")
        assert run.run.alarm_ms is not None
        waits.append(run.run.alarm_ms - run.now_ms)
        run.pass_ms(waits[-1])
    run.fail("a", cause="last")

    assert [2_000, 6_000, 10_000] == waits
    assert {1} == {len({task.key}) for task in run.intents if isinstance(task, SendTask)}
    assert [1, 2, 3, 4] == [task.attempt for task in run.intents if isinstance(task, SendTask)]
    assert ("open", [("a", "boom")]) == (run.status, run.incidents)
    assert ("incident.opened", "last") == (run.sent(Notify).event, run.sent(Notify).data["cause"])


def test_each_retrier_counts_for_itself_and_the_first_that_fits_decides() -> None:
    """One that is used up does not hand on to a later one."""
    run = flow(
        'a: { task: q, retry: [ { errors: [x], attempts: 1 }, { errors: ["*"], attempts: 1 } ], catch: [ { errors: ["*"], next: b } ], end: true }\n'
        "b: { succeed: 1 }"
    )
    run.fail("a", "x").pass_ms(1_000).fail("a", "y").pass_ms(1_000)
    assert "open" == run.status

    assert "succeeded" == run.fail("a", "x").status


def test_jitter_is_handed_in_and_what_the_other_side_asks_for_is_heeded() -> None:
    """Full jitter draws between nothing and the wait, on top of `Retry-After`, which has a cap."""
    step = "a: { task: q, retry: [ { errors: [boom], interval: 10s, jitter: %s } ], end: true }"
    cases = {("full", 0): 2_500, ("full", 60_000): 62_500, ("none", 60_000): 60_000, ("none", 10**9): 3_600_000}
    for (jitter, asked_ms), expected in cases.items():
        run = flow(step % jitter)
        run.draw = 0.25
        run.fail("a", retry_after_ms=asked_ms)
        assert START_MS + expected == run.run.alarm_ms


def test_defaults_retry_what_nobody_knows_and_nothing_that_was_answered() -> None:
    """A status of 404 is an answer; 503, a lost worker and a timeout are none."""
    for error, retried in {
        "http.404": False,
        "http.503": True,
        "timeout": True,
        "task.lost": True,
        "boom": False,
    }.items():
        run = flow('a: { http: { GET: "https://x.example/" }, end: true }').fail("a", error)
        assert retried == (not run.incidents), error


def test_a_catcher_counts_visits_of_where_it_leads() -> None:
    """`max_visits` of a catcher: then the error is nobody's, and the step stalls."""
    run = flow(
        "a: { task: q, next: b }\nb: { task: q, catch: [ { errors: [again], next: a, max_visits: 2 } ], end: true }"
    )
    run.complete("a").fail("b", "again").complete("a").fail("b", "again")

    assert [("b", "again")] == run.incidents


def test_a_catcher_that_cannot_be_evaluated_stalls_its_step() -> None:
    """It was meant for the error, so nobody else gets it."""
    run = flow(
        'a: { task: q, catch: [ { errors: [boom], next: b, assign_vars: { x: "{% $error.gone %}" } } ], end: true }\nb: { succeed: 1 }'
    )

    assert [("a", "expression.undefined")] == run.fail("a").incidents


def test_what_a_catcher_hands_on_is_seen_behind_it() -> None:
    """$error, $states.errorOutput, its variables and its output."""
    run = flow(
        """
        a: { task: q, catch: [ { errors: [boom], next: b, assign_vars: { why: "{% $states.errorOutput.Cause %}" }, output: { e: "{% $error.error %}" } } ], end: true }
        b: { succeed: "{% [$states.input.e, $why, $error.step] %}" }
        """
    )

    assert ["boom", "c", "a"] == run.fail("a", cause="c").output


def test_a_failure_may_end_the_run_where_the_author_says_so() -> None:
    """`on_exhausted: fail`, of a step or of the whole definition, and what was done is undone."""
    run = flow("a: { task: q, on_exhausted: fail, end: true }").fail("a")
    whole = flow("a: { task: q, end: true }", top="on_exhausted: fail").fail("a", cause="c")

    assert (("failed", "boom"), ("failed", "boom")) == ((run.status, run.error), (whole.status, whole.error))
    assert Ended(status="failed", error="boom", cause="c") == whole.sent(Ended)


def test_an_error_that_nobody_handles_stalls_where_it_happened() -> None:
    """Also inside of branches: the others go on, and after a retry the parallel is joined."""
    branch = "{ start: t, steps: { t: { task: q, end: true } } }"
    run = flow(f"a: {{ parallel: {{ branches: {{ x: {branch}, y: {branch} }} }}, end: true }}").fail("a/x/t")
    assert [("a/x/t", "boom")] == run.incidents
    run.complete("a/y/t", 1).send(Retried(path="a/x/t"))

    assert {"x": 2, "y": 1} == run.complete("a/x/t", 2).output


def test_a_parallel_is_retried_as_a_whole_with_the_keys_it_had() -> None:
    """The receivers of its steps can tell that they have been asked before."""
    branch = "{ start: t, steps: { t: { task: q, end: true } } }"
    run = flow(
        f"a: {{ parallel: {{ branches: {{ x: {branch}, y: {branch} }} }}, retry: [ {{ errors: ['*'], attempts: unlimited }} ], end: true }}"
    )
    first = {task.key for task in run.wanted(SendTask)}
    run.complete("a/x/t").fail("a/y/t").pass_ms(1_000)

    assert first == {task.key for task in run.wanted(SendTask)}
    assert {"x": 1, "y": 2} == run.complete("a/x/t", 1).complete("a/y/t", 2).output


def test_a_stalled_step_is_retried_by_hand_or_skipped() -> None:
    """Same visit, same key, next attempt, fresh retries; the incident is closed."""
    run = flow("a: { task: q, retry: [ { errors: [boom], attempts: 1 } ], end: true }")
    run.fail("a").pass_ms(1_000).fail("a").send(Retried(path="a"))
    task = run.sent(SendTask)
    assert ("a:1", 3, ["incident.closed"]) == (task.key, task.attempt, [one.event for one in run.wanted(Notify)])
    run.fail("a").pass_ms(1_000).fail("a")
    assert [("a", "boom")] == run.incidents

    assert ("succeeded", 7) == (run.send(Skipped(path="a", result=7)).status, run.output)


def test_a_retry_that_cannot_begin_stalls_again() -> None:
    """The values are still not to be had."""
    run = flow('a: { task: q, input: "{% $env.x %}", end: true }').send(Retried(path="a"))
    assert [("a", "expression.undefined")] == run.incidents
    run.env["x"] = 5

    assert 5 == run.send(Retried(path="a")).sent(SendTask).input


def test_a_step_under_way_is_skipped() -> None:
    """What was sent is withdrawn, branches with it, and its result is the given one."""
    branch = "{ start: t, steps: { t: { task: q, end: true } } }"
    run = flow(f"a: {{ parallel: {{ branches: {{ x: {branch} }} }}, next: b }}\nb: {{ wait: {{}}, end: true }}")
    run.send(Skipped(path="a", result=1))
    assert (["a/x/t"], "b") == ([one.path for one in run.wanted(Withdraw)], run.at)

    assert ("succeeded", 2) == (run.send(Skipped(path="b", result=2)).status, run.output)


@pytest.mark.parametrize("path", ["b", "a/x", ""])
def test_only_what_is_there_is_retried_or_skipped(path: str) -> None:
    """And only what has stalled is retried."""
    run = flow("a: { task: q, end: true }")

    for event in (Retried(path=path), Skipped(path=path), Retried(path="a")):
        with pytest.raises(NotWaitingError):
            run.send(event)


def test_cancelling_undoes_what_was_done_last_first() -> None:
    """With the values of then, one after another, and then the run has ended."""
    run = flow(SAGA).complete("a", {"id": 5}).complete("b", {"paid": 1}).complete("c")
    assert "succeeded" == run.status
    run = flow(SAGA).complete("a", {"id": 5}).complete("b", {"paid": 1}).send(Cancelled(reason="changed my mind"))
    refund = run.sent(SendHttp)

    assert ("undoing", "b:1!undo", {"paid": 1}) == (run.status, refund.key, refund.body)
    assert {"id": 5} == run.complete("b!undo", serial=refund.serial).sent(SendTask).input
    assert "cancelled" == run.complete("a!undo").status
    assert ("run.cancelled", "changed my mind") == (run.sent(Ended).error, run.sent(Ended).cause)


def test_what_may_have_happened_is_undone_too() -> None:
    """A task that is out when the run is cancelled: its result is null in what undoes it."""
    run = flow(SAGA).send(Cancelled())

    assert {"id": None} == run.sent(SendTask).input
    assert "cancelled" == run.complete("a!undo").status


def test_a_definite_failure_is_not_undone_and_an_uncertain_one_is() -> None:
    """Who says "it did not happen" is believed; a timeout says nothing."""
    step = 'a: { task: q, timeout: 1m, retry: [], catch: [ { errors: ["*"], next: b } ], compensate: { task: u }, end: true }\nb: { fail: { error: e }, compensate_all: true }'
    sure, unsure = flow(step).fail("a"), flow(step).pass_ms(60_000)

    assert ("failed", "undoing") == (sure.status, unsure.status)


def test_a_compensation_that_cannot_be_evaluated_is_told() -> None:
    """After a success the step stalls; for what may have happened it is written down and left out."""
    step = 'a: { task: q, compensate: { task: "{% $result.queue %}" }, end: true }'
    run = flow(step).complete("a", {})
    assert [("a", "expression.undefined")] == run.incidents

    assert "cancelled" == flow(step).send(Cancelled()).status


def test_a_fail_step_undoes_only_if_it_says_so() -> None:
    """`compensate_all` is the author's choice."""
    run = flow(SAGA).complete("a", {"id": 1}).complete("b").fail("c", "lost")
    assert "undoing" == run.status
    quiet = flow(SAGA.replace(", compensate_all: true", "")).complete("a", {"id": 1}).complete("b").fail("c", "lost")

    assert ("failed", "gone", 0) == (quiet.status, quiet.error, len(quiet.wanted(SendHttp)))


def test_a_compensation_has_its_own_retries_and_stalls_in_the_end() -> None:
    """The run stays open with an incident; it is retried, skipped, or terminated."""
    run = flow(ONE).complete("a", {"id": 5}).send(Cancelled())
    run.fail("a!undo").pass_ms(1_000)
    assert 2 == run.sent(SendTask).attempt
    run.fail("a!undo")
    assert [("a!undo", "boom")] == run.incidents
    assert 3 == run.send(Retried(path="a!undo")).sent(SendTask).attempt
    run.fail("a!undo").pass_ms(1_000).fail("a!undo")

    assert "cancelled" == run.send(Skipped(path="a!undo")).status
    assert "undo.skipped a!undo" in run.history


def test_a_compensation_times_out_and_is_answered_once() -> None:
    """A worker that takes it may live on; an answer of an earlier attempt is refused."""
    run = flow(ONE).complete("a", {"id": 5}).send(Cancelled())
    serial = run.sent(SendTask).serial
    run.send(Leased(path="a!undo", worker="w")).send(Heartbeat(path="a!undo")).send(Accepted(path="a!undo"))
    assert [] == run.outstanding
    run.pass_ms(3_600_000 + 1_000)
    assert 2 == run.sent(SendTask).attempt
    with pytest.raises(SupersededError):
        run.complete("a!undo", serial=serial)

    assert "terminated" == run.send(Terminated()).status


def test_behind_the_pivot_a_run_only_goes_forward() -> None:
    """What was recorded is dropped, the deadline with it, and a cancel is refused; terminate is not."""
    run = flow(
        'a: { task: q, compensate: { task: u }, next: b }\nb: { task: q, pivot: true, retry: [ { errors: ["*"], attempts: unlimited, max_delay: 1h } ], end: true }',
        top="deadline: { after: 1d }",
    ).complete("a")
    with pytest.raises(PastPivotError):
        run.send(Cancelled())
    for _ in range(50):
        run.pass_ms(DAY_MS).fail("b")

    assert ("open", []) == (run.status, run.incidents)
    assert "terminated" == run.send(Terminated(reason="r")).status


def test_a_run_has_a_deadline() -> None:
    """It goes on where the definition says, or fails and is undone."""
    steps = "a: { task: q, compensate: { task: u }, end: true }\nz: { succeed: late }"
    led = flow(steps, top="deadline: { after: 1d, next: z }").pass_ms(DAY_MS)
    failed = flow("a: { task: q, compensate: { task: u }, end: true }", top="deadline: { after: 1d }").pass_ms(DAY_MS)

    assert ("succeeded", "late", ["a"]) == (led.status, led.output, [one.path for one in led.wanted(Withdraw)])
    assert ("undoing", "failed", "deadline") == (failed.status, failed.complete("a!undo").status, failed.error)


def test_terminating_stops_at_once_and_undoes_nothing() -> None:
    """Also while compensations run or have stalled."""
    run = flow(ONE).complete("a", {"id": 1}).send(Terminated())
    undoing = flow(ONE).complete("a", {"id": 1}).send(Cancelled()).send(Terminated())
    stalled = flow(ONE).complete("a", {"id": 1}).send(Cancelled())
    stalled.fail("a!undo").pass_ms(1_000).fail("a!undo").send(Terminated())

    assert ("terminated", ["b"]) == (run.status, [one.path for one in run.wanted(Withdraw)])
    assert ("terminated", ["a!undo"]) == (undoing.status, [one.path for one in undoing.wanted(Withdraw)])
    assert ("terminated", ["incident.closed"]) == (stalled.status, [one.event for one in stalled.wanted(Notify)])


def test_a_paused_run_begins_nothing_and_forgets_nothing() -> None:
    """Answers are taken, time goes on, and what became due happens when it is resumed."""
    run = flow("a: { task: q, next: b }\nb: { sleep: 1h, next: c }\nc: { task: q, end: true }")
    run.send(Paused()).send(Paused()).complete("a")
    assert ("", "b") == (run.at, run.run.scopes[""].ready)
    run.send(Resumed())
    assert "b" == run.at
    run.send(Paused()).pass_ms(2 * 3_600_000)
    assert ("b", None) == (run.at, run.run.alarm_ms)

    assert ("c", "open") == (run.send(Resumed()).send(Resumed()).at, run.status)
    assert "cancelled" == run.send(Paused()).send(Cancelled()).status


def test_a_reset_goes_on_at_a_step_as_a_new_visit() -> None:
    """New generation, new key, variables kept; signals only if asked for. Also of a run that has ended."""
    run = flow("a: { task: q, assign_vars: { v: 1 }, next: b }\nb: { wait: {}, end: true }").complete("a")
    run.send(Signalled(name="s")).send(Reset(step="a"))
    assert ("a:2", 2, (), ["b"]) == (
        run.sent(SendTask).key,
        run.run.generation,
        run.run.mailbox,
        [one.path for one in run.wanted(Withdraw)],
    )
    run.complete("a").send(Signalled(name="s")).send(Reset(step="b", keep_signals=True))
    assert (1, 1) == (len(run.run.mailbox), len(run.wanted(AskFor)))
    assert "succeeded" == run.complete("b").status
    run.send(Reset(step="b"))

    assert ("open", {"v": 1}) == (run.status, run.variables)
    with pytest.raises(UnknownStepError):
        run.send(Reset(step="nowhere"))


def test_a_run_that_has_ended_takes_nothing_more() -> None:
    """Nor does one that is being undone, beside what undoing needs."""
    ended = flow("a: { succeed: 1 }")
    undoing = flow(SAGA).complete("a", {"id": 1}).send(Cancelled())

    for event in (Signalled(name="s"), Cancelled(), Terminated(), Paused(), Failed(path="a", error="e")):
        with pytest.raises(RunClosedError):
            ended.send(event)
    for refused in (Signalled(name="s"), Cancelled(), Reset(step="a")):
        with pytest.raises(RunClosedError):
            undoing.send(refused)


def onboarding() -> Flow:
    """The worked example, with the documents uploaded and the branches of the verification sent."""
    program = define(read_yaml((ROOT / "examples" / "onboarding" / "onboarding.yaml").read_text()))
    run = Flow(program, {"property_id": "p1", "owner": "ann", "region": "eu"}, env={"notify": "https://notify.example"})
    return run.complete("document_upload", {"documents": [{"id": 1, "preferred_window": "am"}, {"id": 2}]}, by="ann")


def inspected() -> Flow:
    """The same, up to the approval."""
    run = onboarding()
    run.complete("verification/identity/check", {"ok": True})
    run.send(Accepted(path="verification/title/search")).complete("verification/title/search", {"clean": True})
    run.complete("verification/documents/scan/0/one", 1).complete("verification/documents/scan/1/one", 2)
    run.complete(
        "inspection_scheduling", {"slot_id": "s1", "starts_at": "2023-11-20T09:00:00+01:00", "inspector": "bob"}
    )
    assert "inspection_day" == run.at
    run.pass_ms(6 * DAY_MS)
    return run.complete("inspection_report", {"score": 60, "reason": "roof"}, by="bob")


def test_the_onboarding_example_runs_to_its_end() -> None:
    """Every step of it, through branches, a map, an appointment, an approval and two objects."""
    run = inspected()
    assert "final_approval" == run.at
    prepared = run.complete("final_approval", outcome="approve", by="eve").sent(CallObject)
    assert ("listing", "p1", "prepare") == (prepared.kind, prepared.name, prepared.method)
    run.complete("reserve_listing").complete("reserve_account")
    assert ["commit/account/c", "commit/listing/c"] == run.outstanding
    run.complete("commit/listing/c").fail("commit/account/c", "object.unreachable").pass_ms(10_000)
    run.complete("commit/listing/c").complete("commit/account/c")
    assert "https://notify.example/onboarded" == run.sent(SendHttp).url

    assert "succeeded" == run.complete("notify").status
    assert [] == run.wanted(StartChild)


def test_the_onboarding_example_goes_its_unhappy_ways() -> None:
    """Rejected documents go back to the upload, rejection releases the slot, silence expires."""
    back = onboarding().fail("verification/documents/scan/0/one", "document.rejected")
    assert "document_upload" == back.at
    rejected = inspected().complete("final_approval", outcome="reject", by="eve")
    assert {"slot": "s1"} == rejected.sent(SendTask).input
    assert ("failed", "onboarding.rejected") == (rejected.complete("inspection_scheduling!undo").status, rejected.error)
    silent = onboarding().pass_ms(45 * DAY_MS)

    assert ("failed", "onboarding.expired") == (silent.status, silent.error)
