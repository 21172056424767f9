"""A run moved to another version of its definition: what goes on, what begins anew, and what is refused."""

from typing import Any

import pytest

from services.workflows.definition import define, read_yaml
from services.workflows.events import Cancelled, Paused, Resumed, Retried, Terminated
from services.workflows.intents import AskFor, SendTask, Withdraw
from services.workflows.refusals import RunClosedError, UnmappableStepError
from shared.errors import ConflictError
from tests.support.flow import Flow

MINUTE_MS = 60_000


def flow(steps: str, *, start: str = "a", more: str = "") -> Flow:
    """A run of version 1 with these steps."""
    return Flow(program(steps, version=1, start=start, more=more))


def program(steps: str, *, version: int = 2, start: str = "a", name: str = "w", more: str = "") -> Any:
    """Another version, with these steps."""
    return define(read_yaml(f"workflow: {name}\n{more}\nstart: {start}\nsteps:\n{steps}"), version=version)


def test_a_step_under_way_goes_on_and_leads_where_the_new_version_says() -> None:
    """The same visit, attempt and key; nothing is sent again."""
    run = flow("  a: { task: t, next: b }\n  b: { task: u, end: true }")
    before = run.run.scopes[""].activity
    run.migrate(program("  a: { task: other, next: c }\n  c: { task: v, end: true }"))
    assert (2, before, ()) == (run.run.version, run.run.scopes[""].activity, tuple(run.wanted(SendTask)))
    run.complete("a")
    assert ("c", "v") == (run.at, run.sent(SendTask).queue)
    assert ["run.started", "step.entered a", "run.migrated", "step.completed a", "step.entered c"] == run.history


def test_times_stay_as_they_began() -> None:
    """A sleep and a timeout that were armed; what comes after them is the new version's."""
    old = "  a: { wait: { title: x }, timeout: 10m, catch: [ { errors: [timeout], next: z } ], end: true }\n  z: { sleep: 5m, end: true }"
    run = flow(old).pass_ms(9 * MINUTE_MS)
    run.migrate(program(old.replace("10m", "1h").replace("5m", "7m")))
    run.pass_ms(MINUTE_MS)
    assert "z" == run.at
    run.pass_ms(7 * MINUTE_MS - 1)
    assert "open" == run.status
    assert "succeeded" == run.pass_ms(1).status


def test_a_stalled_step_is_tried_again_as_the_new_version_has_it() -> None:
    """Of whatever kind it is there, with the key that it had; so a mistake in a definition is mended."""
    run = flow("  a: { task: t, next: b }\n  b: { sleep_until: '{% $input.nowhere %}', end: true }").complete("a")
    assert ["b"] == [path for path, _ in run.incidents]
    run.migrate(program("  a: { task: t, next: b }\n  b: { task: mended, end: true }"))
    assert ["b"] == [path for path, _ in run.incidents]
    run.send(Retried(path="b"))
    sent = run.sent(SendTask)
    assert ("mended", "b:1", 2) == (sent.queue, sent.key, sent.attempt)
    assert "succeeded" == run.complete("b").status


def test_a_step_that_waits_to_be_tried_again_is_tried_as_the_new_version_has_it() -> None:
    """At the moment that was set."""
    old = "  a: { task: t, retry: [ { errors: ['*'], interval: 10s, attempts: 3 } ], end: true }"
    run = flow(old).fail("a")
    run.migrate(program("  a: { object: { type: k, id: x, call: m }, end: true }"))
    run.pass_ms(10_000)
    assert ["a"] == run.outstanding
    assert "succeeded" == run.complete("a").status


def test_a_mapped_step_is_given_up_and_the_other_entered() -> None:
    """As a new visit; what was sent is withdrawn, and what may have happened is recorded to be undone."""
    run = flow("  a: { task: t, compensate: { task: undo }, end: true }", more="deadline: { after: 1h }")
    run.migrate(program("  b: { wait: { title: x }, end: true }", start="b"), {"a": "b"})
    assert ("b", ["a"], ["a!undo"]) == (
        run.at,
        [one.path for one in run.wanted(Withdraw)],
        [undo.path for undo in run.run.undo],
    )
    assert "run.migrated" in run.history
    assert "undoing" == run.send(Cancelled()).status
    assert "cancelled" == run.complete("a!undo").status


def test_a_step_mapped_to_itself_begins_anew() -> None:
    """So a wait gets the outcomes and times that it has in the new version."""
    run = flow("  a: { wait: { outcomes: [yes] }, timeout: 10m, end: true }").pass_ms(MINUTE_MS)
    new = program("  a: { wait: { outcomes: [yes, no] }, timeout: 1h, end: true }")
    run.migrate(new, {"a": "a"})
    shown = run.sent(AskFor)
    assert (("yes", "no"), run.now_ms + 60 * MINUTE_MS) == (shown.outcomes, shown.due_ms)
    assert "succeeded" == run.complete("a", outcome="no").status


def test_branches_go_on_each_for_itself() -> None:
    """One has ended, one is under way, and one has stalled."""
    old = """
  a:
    parallel:
      branches:
        x: { start: s, steps: { s: { task: t, end: true } } }
        y: { start: s, steps: { s: { task: t, end: true } } }
        z: { start: s, steps: { s: { task: t, end: true } } }
    end: true
"""
    run = flow(old).complete("a/x/s", 1).fail("a/z/s")
    run.migrate(program(old.replace("end: true } } }", "next: u }, u: { pass: '{% $result %}', end: true } } }")))
    run.complete("a/y/s", 2)
    run.send(Retried(path="a/z/s")).complete("a/z/s", 3)
    assert {"x": 1, "y": 2, "z": 3} == run.output


def test_items_go_on_and_those_not_begun_begin_as_the_new_version_has_them() -> None:
    """Of a map, whose list stays as it was."""
    old = "  a: { map: { items: [1, 2], concurrency: 1 }, each: { start: s, steps: { s: { task: t, end: true } } }, end: true }"
    run = flow(old)
    run.migrate(program(old.replace("task: t", "task: u").replace("[1, 2]", "[]")))
    run.complete("a/0/s", 1)
    assert "u" == run.sent(SendTask).queue
    assert [1, 2] == run.complete("a/1/s", 2).output


def test_a_step_that_is_ready_is_entered_in_the_new_version() -> None:
    """A paused run enters it when it is resumed: the step of its name, or the one that it is mapped to."""
    for step_map, entered in (({}, "b"), ({"b": "c"}, "c")):
        run = flow("  a: { task: t, next: b }\n  b: { task: u, end: true }").send(Paused()).complete("a")
        run.migrate(
            program("  a: { task: t, next: b }\n  b: { task: u, next: c }\n  c: { task: v, end: true }"), step_map
        )
        assert () == tuple(run.wanted(SendTask))
        assert entered == run.send(Resumed()).at


def test_the_same_version_once_more_changes_nothing() -> None:
    """Nothing is written either."""
    steps = "  a: { task: t, end: true }"
    run = flow(steps)
    before = run.run
    assert before == run.migrate(program(steps, version=1)).run
    assert "run.migrated" not in run.history


def test_retention_and_deadline() -> None:
    """The retention is the new version's; a deadline that was set stays, and leads where the new version says."""
    run = flow("  a: { task: t, end: true }", more="deadline: { after: 1h }\nretention: 10d")
    late = "deadline: { after: 5h, next: late }\nretention: 2d"
    run.migrate(program("  a: { task: t, end: true }\n  late: { wait: { title: x }, end: true }", more=late))
    assert 2 * 24 * 60 * MINUTE_MS == run.run.kept_ms
    assert "late" == run.pass_ms(60 * MINUTE_MS).at


PARALLEL = """
  a:
    parallel: { branches: { x: { start: s, steps: { s: { task: t, end: true } } }, y: { start: s, steps: { s: { task: t, end: true } } } } }
    end: true
"""
REMINDED = "remind: { every: 1h, max: 2, do: { http: { POST: 'https://example.com' } } }, "


REFUSED = [
    ("  a: { task: t, end: true }", "  b: { task: t, end: true }", "a"),
    ("  a: { task: t, end: true }", "  a: { sleep: 1h, end: true }", "a"),
    ("  a: { task: t, end: true }", "  a: { object: { type: k, id: x, call: m }, end: true }", "a"),
    ("  a: { wait: { outcomes: [yes] }, end: true }", "  a: { wait: { outcomes: [no] }, end: true }", "a"),
    ("  a: { wait: { signal: go }, end: true }", "  a: { wait: { signal: gone }, end: true }", "a"),
    (f"  a: {{ wait: {{ title: x }}, {REMINDED} end: true }}", "  a: { wait: { title: x }, end: true }", "a"),
    (
        "  a: { wait: { title: x }, escalate: [ { after: 1h, assign: { user: u } } ], end: true }",
        "  a: { wait: { title: x }, end: true }",
        "a",
    ),
    (PARALLEL, PARALLEL.replace("y:", "z:"), "a"),
    (PARALLEL, PARALLEL.replace("parallel: {", "parallel: { join: any,"), "a"),
    (PARALLEL, PARALLEL.replace("x: { start: s, steps: { s:", "x: { start: q, steps: { q:"), "a/x/s"),
]


@pytest.mark.parametrize(("old", "new", "path"), REFUSED)
def test_what_cannot_go_on_is_refused(old: str, new: str, path: str) -> None:
    """With the step that it is about; the run is as it was, and can be moved by a map."""
    run = flow(old)
    start = "b" if new.startswith("  b:") else "a"
    before = run.run
    with pytest.raises(UnmappableStepError) as refused:
        run.migrate(program(new, start=start))
    assert (path, before) == (refused.value.step, run.run)
    assert start == run.migrate(program(new, start=start), {"a": start}).at


@pytest.mark.parametrize(("step_map", "step"), [({"ghost": "a"}, "ghost"), ({"a": "ghost"}, "ghost")])
def test_a_map_with_steps_that_are_not_there_is_refused(step_map: dict[str, str], step: str) -> None:
    """On either side."""
    steps = "  a: { task: t, end: true }"
    with pytest.raises(UnmappableStepError) as refused:
        flow(steps).migrate(program(steps), step_map)
    assert step == refused.value.step


def test_a_run_that_is_not_open_stays_as_it_is() -> None:
    """One that has ended, one that is being undone, and one of another definition."""
    steps = "  a: { task: t, compensate: { task: u }, end: true }"
    ended = flow(steps).send(Terminated())
    undoing = flow(steps).send(Cancelled())
    assert ("terminated", "undoing") == (ended.status, undoing.status)
    for run in (ended, undoing):
        with pytest.raises(RunClosedError):
            run.migrate(program(steps))
    with pytest.raises(ConflictError, match="other"):
        flow(steps).migrate(program(steps, name="other"))
