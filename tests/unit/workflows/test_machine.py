"""The machine, a kind of step at a time: what is sent, what its answers do, and where the run goes on."""

import pytest

from services.workflows.bounds import ENTRIES_MAX, PAYLOAD_BYTES_MAX, STEPS_PER_TURN_MAX
from services.workflows.definition import define, read_yaml
from services.workflows.draft import Surroundings
from services.workflows.events import (
    Accepted,
    Assigned,
    ChildEnded,
    Claimed,
    Completed,
    Heartbeat,
    Leased,
    Signalled,
    TimerDue,
)
from services.workflows.intents import Arm, AskFor, CallObject, Ended, SendHttp, SendTask, StartChild, Withdraw
from services.workflows.machine import start
from services.workflows.program import Secret
from services.workflows.refusals import (
    AlreadyCompletedError,
    ClaimedError,
    MailboxFullError,
    NotWaitingError,
    PayloadTooLargeError,
    SameUserError,
    TimedOutError,
    UnknownSerialError,
    WrongAnswerError,
)
from tests.support.flow import START_MS, flow

MINUTE_MS = 60_000
DAY_MS = 86_400_000


def test_steps_that_do_not_wait_run_in_one_transition() -> None:
    """A value flows from step to step, variables are assigned, and the run ends with the last output."""
    run = flow(
        """
        a: { pass: { n: "{% $input.n + 1 %}" }, assign_vars: { n: "{% $result.n %}" }, next: b }
        b: { choice: [ { when: "{% $n > 10 %}", next: c }, { when: "{% $n > 1 %}", next: d, assign_vars: { m: 7 } } ], default: c }
        c: { fail: { error: wrong } }
        d: { succeed: "{% [$states.input.n, $n, $m] %}" }
        """,
        {"n": 2},
    )

    assert ("succeeded", [3, 3, 7]) == (run.status, run.output)
    assert Ended(status="succeeded", output=[3, 3, 7]) == run.sent(Ended)
    assert [
        "run.started",
        "step.entered a",
        "step.completed a",
        "step.entered b",
        "step.completed b",
        "step.entered d",
        "step.completed d",
        "run.succeeded",
    ] == run.history


def test_variables_are_evaluated_before_any_is_assigned() -> None:
    """As in the Amazon States Language: two can change places."""
    run = flow(
        """
        a: { pass: 0, assign_vars: { x: 1, y: 2 }, next: b }
        b: { pass: 0, assign_vars: { x: "{% $y %}", y: "{% $x %}" }, output: "{% $x %}", end: true }
        """
    )

    assert ({"x": 2, "y": 1}, 1) == (run.variables, run.output)


def test_expressions_see_what_the_reference_says() -> None:
    """$run, $env and the context object of the Amazon States Language."""
    run = flow(
        """
        a: { pass: "{% [$run.id, $run.started_at, $env.base, $states.context.State.Name, $states.context.Execution.Input] %}", end: true }
        """,
        7,
        env={"base": "x"},
    )

    assert ["r1", "2023-11-14T22:13:20.000Z", "x", "a", 7] == run.output


def test_a_choice_without_a_true_rule_stalls() -> None:
    """Nothing says where to go on: an incident, and no dead run."""
    run = flow(
        'a: { choice: [ { when: "{% false %}", next: a } ] }\nb: { succeed: 1 }', top="deadline: { after: 1d, next: b }"
    )

    assert [("a", "choice.no_match")] == run.incidents


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ('a: { pass: "{% $input.gone %}", end: true }', "expression.undefined"),
        ("a: { pass: \"{% 1 + 'a' %}\", end: true }", "expression.failed"),
        ('a: { pass: "{% ($f := function(){$f()}; $f()) %}", end: true }', "expression.limit"),
        ('a: { task: "{% 1 %}", end: true }', "expression.failed"),
        ("a: { sleep: \"{% 'soon' %}\", end: true }", "expression.failed"),
        ('a: { sleep: "{% true %}", end: true }', "expression.failed"),
        ('a: { sleep: "{% -1 %}", end: true }', "expression.failed"),
        ('a: { sleep_until: "{% 5 %}", end: true }', "expression.failed"),
        (
            'a: { map: { items: "{% 5 %}" }, each: { start: b, steps: { b: { pass: 1, end: true } } }, end: true }',
            "expression.failed",
        ),
        (
            'a: { map: { items: "{% [1..1001] %}" }, each: { start: b, steps: { b: { pass: 1, end: true } } }, end: true }',
            "payload.too_large",
        ),
        ('a: { pass: ["{% $input.big %}", "{% $input.big %}"], end: true }', "payload.too_large"),
        ('a: { choice: [ { when: "{% 5 %}", next: a } ], default: a }', "expression.failed"),
        ("a: { child: { workflow: c, id: \"{% $pad('', 300, 'x') %}\" }, end: true }", "child.bad_id"),
    ],
)
def test_what_cannot_be_evaluated_stalls_the_step(step: str, error: str) -> None:
    """The definition or the data has to be mended, so the step waits for somebody."""
    run = flow(f"{step}\nz: {{ succeed: 1 }}", {"big": "x" * 60_000}, top="deadline: { after: 1d, next: z }")

    assert ("open", [("a", error)]) == (run.status, run.incidents)


def test_a_task_is_sent_and_its_result_goes_on() -> None:
    """The key names run, step and visit; the input is the template, or what the step before gave."""
    run = flow(
        'a: { task: q, input: { n: "{% $input %}" }, timeout: 5m, heartbeat: 60s, next: b }\nb: { task: q2, end: true }',
        3,
    )
    task = run.sent(SendTask)

    assert ("a", "a:1", "q", {"n": 3}, 1, 60_000, START_MS + 5 * MINUTE_MS) == (
        task.path,
        task.key,
        task.queue,
        task.input,
        task.attempt,
        task.heartbeat_ms,
        task.due_ms,
    )
    run.complete("a", {"r": 1}, serial=task.serial)
    assert {"r": 1} == run.sent(SendTask).input
    assert "succeeded" == run.complete("b", 9).status
    assert 9 == run.output


def test_a_worker_that_falls_silent_loses_its_task() -> None:
    """The heartbeat counts from the lease, is extended by signs of life, and does not extend the timeout."""
    run = flow("a: { task: q, timeout: 10m, heartbeat: 60s, retry: [ { errors: [timeout] } ], end: true }")
    run.pass_ms(5 * MINUTE_MS)
    assert ["a"] == run.outstanding

    run.send(Leased(path="a", worker="w1"))
    run.pass_ms(50_000).send(Heartbeat(path="a", progress={"done": 1})).pass_ms(50_000)
    assert "called" == run.run.scopes[""].activity.phase  # type: ignore[union-attr]  # The step is under way.
    run.pass_ms(10_000)

    assert "step.retried a" in run.history
    assert 2 == run.pass_ms(1_000).sent(SendTask).attempt


def test_a_timeout_ends_an_attempt_however_lively_the_worker() -> None:
    """What is withdrawn is told to whoever has it, and a late answer is refused as late."""
    run = flow("a: { task: q, timeout: 2m, heartbeat: 60s, retry: [], end: true }")
    serial = run.sent(SendTask).serial
    run.send(Leased(path="a", worker="w1"))
    for _ in range(3):
        run.pass_ms(39_000).send(Heartbeat(path="a"))
    run.pass_ms(3_000)

    assert [Withdraw(path="a", serial=serial)] == run.wanted(Withdraw)
    assert [("a", "timeout")] == run.incidents
    with pytest.raises(TimedOutError):
        run.complete("a", serial=serial)


def test_an_http_call_carries_what_it_needs_and_secrets_stay_references() -> None:
    """Expressions in address, fields and body are evaluated; a secret is only named."""
    run = flow(
        """
        a: { http: { POST: "{% 'https://x.example/' & $input.id %}", headers: { X-A: "{% 'b' %}", Authorization: { secret: s } }, body: { q: 1 } }, end: true }
        """,
        {"id": "7"},
    )
    call = run.sent(SendHttp)

    assert ("POST", "https://x.example/7", {"q": 1}, True) == (call.method, call.url, call.body, call.has_body)
    assert {"X-A": "b", "Authorization": Secret(secret="s")} == call.headers
    assert START_MS + 30_000 == call.due_ms
    with pytest.raises(NotWaitingError):
        run.send(Accepted(path="a"))


def test_a_callback_may_come_later() -> None:
    """After 202 the call is not sent again; the timeout still holds."""
    run = flow('a: { http: { POST: "https://x.example/", callback: true }, timeout: P2D, retry: [], end: true }')
    run.send(Accepted(path="a", serial=run.sent(SendHttp).serial))

    assert [] == run.outstanding
    assert [("a", "timeout")] == run.pass_ms(2 * DAY_MS).incidents


def test_an_object_and_a_child_are_called() -> None:
    """A child has an id made of run and key, and its end is the answer."""
    run = flow(
        """
        a: { object: { type: listing, id: "{% $input.id %}", call: prepare, args: { x: 1 } }, next: b }
        b: { child: { workflow: other, version: 2 }, input: { y: 2 }, next: c }
        c: { child: { workflow: other, id: mine }, catch: [ { errors: [child], next: d } ], end: true }
        d: { succeed: "{% $error.error %}" }
        """,
        {"id": "7"},
    )
    call = run.sent(CallObject)
    assert ("listing", "7", "prepare", {"x": 1}) == (call.kind, call.name, call.method, call.args)

    child = run.complete("a").sent(StartChild)
    assert ("other", 2, "r1/b:1", {"y": 2}) == (child.workflow, child.version, child.id, child.input)

    run.send(ChildEnded(path="b", serial=child.serial, status="succeeded", output=5))
    assert ("mine", 5) == (run.sent(StartChild).id, run.sent(StartChild).input)
    assert "child.cancelled" == run.send(ChildEnded(path="c", status="cancelled")).output


def test_a_sleep_ends_when_it_is_due_and_never_before() -> None:
    """The alarm is the head of the run's own timers; a moment that has passed does not wait."""
    run = flow(
        'a: { sleep: 90s, next: b }\nb: { sleep_until: "2023-11-15T00:00:00Z", next: c }\nc: { sleep: "{% 0 %}", end: true }',
        4,
    )

    assert [Arm(at_ms=START_MS + 90_000)] == run.wanted(Arm)
    assert "a" == run.pass_ms(89_999).at
    run.send(TimerDue())
    assert "a" == run.at
    assert "b" == run.pass_ms(1).at
    assert ("succeeded", 4) == (run.pass_ms(DAY_MS).status, run.output)
    assert None is run.run.alarm_ms


def test_a_wait_is_shown_reminded_of_and_handed_on() -> None:
    """The worked example: reminders on day 2, 4 and 6, operations on day 7, expired on day 10."""
    run = flow(
        """
        a: { wait: { title: Upload, assign: { user: "{% $input %}" } }, remind: { every: P2D, max: 3, do: { http: { POST: "https://x.example/" } } }, escalate: [ { after: P7D, assign: { group: ops }, extend: P3D } ], timeout: P10D, catch: [ { errors: [timeout], next: b } ], end: true }
        b: { fail: { error: expired } }
        """,
        "ann",
    )
    assert ("Upload", {"user": "ann"}) == (run.sent(AskFor).title, run.sent(AskFor).assign)

    for day in (2, 4, 6):
        reminder = run.pass_ms(2 * DAY_MS).sent(SendHttp)
        assert f"a:1!remind:{day // 2}" == reminder.key
        assert ["a", "a!remind"] == run.outstanding
        run.complete("a!remind", serial=reminder.serial)
    run.pass_ms(DAY_MS)
    assert {"group": "ops"} == run.sent(AskFor).assign
    assert "a" == run.pass_ms(3 * DAY_MS - 1).at
    assert ("failed", "expired") == (run.pass_ms(1).status, run.error)


def test_an_escalation_leaves_the_others_time() -> None:
    """Who gets the wait late has at least what `extend` says."""
    run = flow(
        "a: { wait: {}, escalate: [ { after: 1h, assign: { group: ops }, extend: 2h } ], timeout: 90m, end: true }"
    )

    assert "a" == run.pass_ms(179 * MINUTE_MS).at
    assert [("a", "timeout")] == run.pass_ms(MINUTE_MS).incidents


def test_a_reminder_that_fails_is_written_down_and_nothing_else() -> None:
    """Nothing depends on it, neither on its call nor on its values."""
    wait = 'a: { wait: {}, remind: { every: 1h, max: 2, do: { http: { GET: "%s" } } }, end: true }'
    run = flow(wait % "https://x.example/").pass_ms(60 * MINUTE_MS)
    run.fail("a!remind", serial=run.sent(SendHttp).serial)
    broken = flow(wait % "{% $input.gone %}").pass_ms(60 * MINUTE_MS)

    assert ("open", ["a"], True) == (run.status, run.outstanding, "reminder.failed a!remind" in run.history)
    assert ("open", ["a"], True) == (broken.status, broken.outstanding, "reminder.failed a" in broken.history)


def test_an_answer_has_to_be_one() -> None:
    """The outcome is one that was asked for, the result is as the schema says, and the person is another."""
    run = flow(
        """
        a: { wait: {}, next: b }
        b: { wait: { outcomes: [yes, no], forbid_same_user_as: [a], result_schema: { type: object, required: [score], properties: { score: { type: integer, minimum: 0 } } } }, choice: [ { when: "{% $outcome = 'yes' %}", next: c } ], default: d }
        c: { succeed: "{% $result.score %}" }
        d: { fail: { error: no } }
        """
    ).complete("a", by="ann")
    before = run.run

    with pytest.raises(WrongAnswerError, match="yes, no"):
        run.complete("b", {"score": 1}, by="bob")
    with pytest.raises(WrongAnswerError, match=r"at least 0 \(at /result/score\)"):
        run.complete("b", {"score": -1}, outcome="yes", by="bob")
    for by in ("ann", ""):
        with pytest.raises(SameUserError):
            run.complete("b", {"score": 1}, outcome="yes", by=by)
    assert before == run.run
    assert 1 == run.complete("b", {"score": 1}, outcome="yes", by="bob").output


def test_a_wait_is_claimed_and_assigned() -> None:
    """Two cannot have it; who gives it back or hands it on makes room."""
    run = flow("a: { wait: { assign: { group: g } }, end: true }").send(Claimed(path="a", by="ann"))

    with pytest.raises(ClaimedError):
        run.send(Claimed(path="a", by="bob"))
    run.send(Claimed(path="a", by="")).send(Claimed(path="a", by="bob"))
    run.send(Assigned(path="a", assign={"user": "eve"}))
    assert {"user": "eve"} == run.sent(AskFor).assign
    run.send(Claimed(path="a", by="eve"))
    assert ["wait.claimed a", "wait.released a", "wait.claimed a", "wait.assigned a", "wait.claimed a"] == run.history[
        -5:
    ]


def test_a_signal_may_come_early_and_counts_once() -> None:
    """It stays in the mailbox until the wait that is for it; first come, first taken."""
    run = flow("a: { wait: {}, next: b }\nb: { wait: { signal: go }, next: c }\nc: { wait: { signal: go }, end: true }")
    run.send(Signalled(name="go", payload=1)).send(Signalled(name="other")).complete("a")

    assert "c" == run.at
    assert ("succeeded", 2) == (run.send(Signalled(name="go", payload=2)).status, run.output)


def test_a_mailbox_has_an_end() -> None:
    """Signals that nobody takes are refused before they fill the run."""
    run = flow("a: { wait: {}, end: true }")
    for _ in range(100):
        run.send(Signalled(name="x"))

    with pytest.raises(MailboxFullError):
        run.send(Signalled(name="x"))


def test_branches_run_beside_one_another_and_are_joined() -> None:
    """The result has each branch's output by name; inner blocks read the variables around and keep their own."""
    run = flow(
        """
        a: { pass: 1, assign_vars: { v: 5 }, next: b }
        b: { parallel: { branches: { x: { start: t, steps: { t: { task: q, assign_vars: { w: "{% $v + 1 %}" }, next: u }, u: { pass: "{% $w %}", end: true } } }, y: { start: t, steps: { t: { task: q, end: true } } } } }, end: true }
        """
    )
    assert {"b/x/t": "b:1/x/t:1", "b/y/t": "b:1/y/t:1"} == {task.path: task.key for task in run.wanted(SendTask)}

    assert "open" == run.complete("b/y/t", "Y").status
    assert {"x": 6, "y": "Y"} == run.complete("b/x/t").output
    assert {"v": 5} == run.variables


@pytest.mark.parametrize(("join", "answers"), [("any", 1), ("{ count: 2 }", 2)])
def test_a_parallel_goes_on_with_as_many_as_it_needs(join: str, answers: int) -> None:
    """The others are withdrawn, and failures count only when too few are left."""
    branch = "{ start: t, steps: { t: { task: q, end: true } } }"
    run = flow(
        f"a: {{ parallel: {{ join: {join}, branches: {{ x: {branch}, y: {branch}, z: {branch} }} }}, end: true }}"
    )
    run.fail("a/x/t")
    assert ("open", []) == (run.status, run.incidents)
    for name in ("y", "z")[:answers]:
        run.complete(f"a/{name}/t", name)

    assert {name: name for name in ("y", "z")[:answers]} == run.output
    assert 2 - answers == len(run.wanted(Withdraw))


def test_a_branch_that_fails_takes_the_others_with_it() -> None:
    """The parallel's own catcher gets the error; what the others had outstanding is withdrawn."""
    branch = "{ start: t, steps: { t: { task: q, end: true } } }"
    run = flow(
        f"a: {{ parallel: {{ branches: {{ x: {branch}, y: {branch} }} }}, catch: [ {{ errors: [boom], next: b }} ], end: true }}\n"
        'b: { succeed: "{% $error %}" }'
    )
    run.fail("a/x/t", cause="c", data=7)

    assert {"error": "boom", "cause": "c", "step": "a/x/t", "data": 7} == run.output
    assert ["a/y/t"] == [intent.path for intent in run.wanted(Withdraw)]


def test_a_parallel_may_let_the_others_end_first() -> None:
    """`wait_others`: the first failure counts, once nothing is under way any more."""
    branch = "{ start: t, steps: { t: { task: q, end: true } } }"
    run = flow(
        f"a: {{ parallel: {{ on_failure: wait_others, branches: {{ x: {branch}, y: {branch}, z: {{ start: f, steps: {{ f: {{ fail: {{ error: e }} }} }} }} }} }}, end: true }}"
    )
    assert ["a/x/t", "a/y/t"] == run.outstanding
    run.complete("a/x/t")
    assert "open" == run.status

    assert ("failed", "e") == (run.complete("a/y/t").status, run.error)


def test_a_map_runs_so_many_items_at_once_and_keeps_their_order() -> None:
    """A new item begins when one ends; the results stand where their items stood."""
    run = flow(
        'a: { map: { items: "{% $input %}", concurrency: 2 }, each: { start: t, steps: { t: { task: q, input: ["{% $item %}", "{% $index %}"], end: true } } }, end: true }',
        ["p", "q", "r"],
    )
    assert [["p", 0], ["q", 1]] == [task.input for task in run.wanted(SendTask)]
    assert ["r", 2] == run.complete("a/1/t", "Q").sent(SendTask).input

    assert ["P", "Q", "R"] == run.complete("a/2/t", "R").complete("a/0/t", "P").output


@pytest.mark.parametrize("tolerate", ["1", "50%"])
def test_a_map_bears_so_many_failures(tolerate: str) -> None:
    """A failed item gives null; one more fails the map."""
    step = f"a: {{ map: {{ items: [1, 2], tolerate: {tolerate} }}, each: {{ start: t, steps: {{ t: {{ task: q, end: true }} }} }}, on_exhausted: fail, end: true }}"
    run = flow(step).fail("a/0/t").complete("a/1/t", 2)
    worse = flow(step).fail("a/0/t").fail("a/1/t")

    assert [None, 2] == run.output
    assert ("open", [("a/1/t", "boom")]) == (worse.status, worse.incidents)


def test_a_map_of_nothing_is_done() -> None:
    """And an item sees itself in maps within maps."""
    inner = '{ map: { items: "{% $item %}" }, each: { start: c, steps: { c: { pass: "{% [$item, $index] %}", end: true } } }, end: true }'
    run = flow(f"a: {{ map: {{ items: [[1, 2], []] }}, each: {{ start: b, steps: {{ b: {inner} }} }}, end: true }}")

    assert [[[1, 0], [2, 1]], []] == run.output


def test_the_first_answer_counts_and_every_later_one_is_told_why() -> None:
    """A repeat changes nothing and is no error; another answer, another attempt and an unknown number are."""
    run = flow("a: { task: q, retry: [ { errors: [boom] } ], next: b }\nb: { task: q, end: true }")
    first = run.sent(SendTask).serial
    run.fail("a", serial=first)
    with pytest.raises(AlreadyCompletedError):
        run.complete("a", serial=first)
    second = run.pass_ms(1_000).sent(SendTask).serial
    before = run.complete("a", 1, serial=second).run

    assert before == run.complete("a", 1, serial=second).run
    assert () == run.effects
    with pytest.raises(AlreadyCompletedError):
        run.complete("a", 2, serial=second)
    with pytest.raises(UnknownSerialError):
        run.complete("a", 2, serial=99)
    with pytest.raises(NotWaitingError):
        run.complete("a", 2)


def test_a_loop_that_nobody_meant_gives_others_their_turn_and_ends_in_an_incident() -> None:
    """So many steps a transition, then the alarm goes on at once; so many in all, then a person looks."""
    run = flow('a: { pass: 1, choice: [ { when: "{% false %}", next: b } ], default: a }\nb: { succeed: 1 }')
    assert STEPS_PER_TURN_MAX == run.run.entries
    assert START_MS == run.run.alarm_ms

    run.pass_ms(0)
    assert ENTRIES_MAX + 1 == run.run.entries
    assert [("a", "run.too_long")] == run.incidents


def test_a_step_may_be_entered_so_often() -> None:
    """`max_visits` is an error of the step, which can be caught."""
    run = flow(
        """
        a: { pass: 1, next: b }
        b: { task: q, max_visits: 2, catch: [ { errors: [visits.exceeded], next: c } ], next: a }
        c: { succeed: "{% $error.error %}" }
        """
    )

    assert "visits.exceeded" == run.complete("b").complete("b").output


def test_what_is_too_large_is_refused_before_it_is_kept() -> None:
    """A payload from outside is refused; the run is as it was."""
    run = flow("a: { task: q, end: true }")

    with pytest.raises(PayloadTooLargeError):
        run.complete("a", "x" * PAYLOAD_BYTES_MAX)
    assert ["a"] == run.outstanding


def test_the_input_is_checked_before_there_is_a_run() -> None:
    """By the definition's schema, and by its size."""
    program = define(
        read_yaml("workflow: w\ninput_schema: { type: object, required: [id] }\nstart: a\nsteps: { a: { succeed: 1 } }")
    )
    around = Surroundings(now_ms=START_MS)

    with pytest.raises(WrongAnswerError, match="'id' is missing"):
        start(program, run_id="r", run_input={}, around=around)
    with pytest.raises(PayloadTooLargeError):
        start(program, run_id="r", run_input={"id": "x" * PAYLOAD_BYTES_MAX}, around=around)


def test_results_that_fill_a_run_stall_it_instead_of_losing_it() -> None:
    """What a step gives by itself is not kept once the run is full; a person looks, and the run can still be stored."""
    steps = [f'v{n}: {{ sleep: 1s, assign_vars: {{ x{n}: "{{% $input %}}" }}, next: v{n + 1} }}' for n in range(9)]
    run = flow("\n".join([*steps, "v9: { succeed: 1 }"]), "x" * 37_000, start_at="v0").pass_ms(MINUTE_MS)

    assert [("v5", "payload.too_large")] == run.incidents


def test_answers_are_known_by_the_first_name_only() -> None:
    """An event for a step of another branch, or of none, finds nobody."""
    run = flow("a: { wait: {}, end: true }")

    for path in ("b", "a/x", "", "a!undo"):
        with pytest.raises(NotWaitingError):
            run.send(Completed(path=path))
