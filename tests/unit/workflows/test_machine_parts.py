"""Parts that the histories of other tests do not reach: schemas of answers, the test for being stuck, and names of errors."""

from typing import Any

import msgspec
import pytest

from services.workflows.events import Cancelled, Completed, Paused, Resumed, Skipped
from services.workflows.fitting import mismatches
from services.workflows.handling import matches
from services.workflows.intents import AskFor, SendTask
from services.workflows.liveness import stuck
from services.workflows.program import Retrier
from services.workflows.refusals import NotWaitingError, RunTooLargeError, WrongAnswerError
from services.workflows.retrying import delay_ms
from services.workflows.state import Run, decode
from tests.support.flow import Flow, flow

FITTING: list[tuple[dict[str, Any], Any, list[tuple[str, str]]]] = [
    ({}, {"any": 1}, []),
    ({"type": "object"}, [], [("", "This is object")]),
    ({"type": ["string", "null"]}, 1, [("", "This is string or null")]),
    ({"type": "integer"}, 1.0, []),
    ({"type": "integer"}, 1.5, [("", "This is integer")]),
    ({"type": "number"}, True, [("", "This is number")]),
    ({"type": "boolean"}, True, []),
    ({"enum": [1, "a"]}, "b", [("", "This is one of [1, 'a']")]),
    ({"enum": [1]}, True, [("", "This is one of [1]")]),
    ({"const": 1}, 2, [("", "This is 1")]),
    ({"required": ["a"]}, {}, [("", "'a' is missing")]),
    ({"properties": {"a/b": {"type": "null"}}}, {"a/b": 1}, [("/a~1b", "This is null")]),
    ({"additionalProperties": False}, {"x": 1}, [("/x", "'x' is not known")]),
    (
        {"items": {"minLength": 2}, "minItems": 3},
        ["ab", "a"],
        [("", "This has at least 3 items"), ("/1", "This has at least 2 characters")],
    ),
    ({"maxItems": 1}, [1, 2], [("", "This has at most 1 items")]),
    ({"minimum": 1, "maximum": 2}, 3, [("", "This is at most 2")]),
    ({"minimum": 1}, 0, [("", "This is at least 1")]),
]


@pytest.mark.parametrize(("schema", "value", "expected"), FITTING)
def test_a_value_fits_its_schema(schema: dict[str, Any], value: Any, expected: list[tuple[str, str]]) -> None:
    """Every mismatch is told with its place, as JSON Schema would see it."""
    assert expected == list(mismatches(schema, value))


@pytest.mark.parametrize(
    ("pattern", "error", "expected"),
    [
        ("timeout", "timeout", True),
        ("timeout", "timeout.heartbeat", True),
        ("timeout.heartbeat", "timeout", False),
        ("time", "timeout", False),
        ("http.5xx", "http.503", True),
        ("http.5xx", "http.404", False),
        ("http.5xx", "http.5031", False),
        ("*", "anything", True),
        ("*", "payload.too_large", False),
        ("payload.too_large", "payload.too_large", True),
    ],
)
def test_names_of_errors_are_paths(pattern: str, error: str, expected: bool) -> None:
    """A handler is for what its name contains."""
    assert expected == matches([pattern], error)


def test_waits_do_not_grow_beyond_what_a_timer_can_hold() -> None:
    """However often and however steeply."""
    assert 316_224_000_000 == delay_ms(Retrier(errors=("*",), rate=100.0), 10_000, 0.5)


def changed(run: Flow, **changes: Any) -> Run:
    """The run with something wrong."""
    return msgspec.structs.replace(run.run, **changes)


def with_activity(run: Flow, **changes: Any) -> Run:
    """The run with something wrong in the step that it is at."""
    root = run.run.scopes[""]
    assert root.activity
    activity = msgspec.structs.replace(root.activity, **changes)
    return changed(run, scopes={"": msgspec.structs.replace(root, activity=activity)})


def test_a_run_that_waits_for_nothing_is_found() -> None:
    """Each way to be stuck has its sentence; a right run has none."""
    task = flow("a: { task: q, timeout: 1h, end: true }")
    asleep = flow("a: { sleep: 1h, end: true }")
    idle = msgspec.structs.replace(task.run.scopes[""], activity=None)
    undoing = flow("a: { task: q, compensate: { task: u }, end: true }").send(Cancelled())
    recorded = msgspec.structs.replace(undoing.run.undo[0], phase="recorded")

    assert () == stuck(task.run)
    assert ("a is called, and nothing will come",) == stuck(with_activity(task, sent=None))
    assert ("a is joining, and nothing will come",) == stuck(with_activity(task, phase="joining"))
    assert ("a is stalled, and nothing will come",) == stuck(with_activity(task, phase="stalled"))
    assert ("a is sleeping, and nothing will come",) == stuck(changed(asleep, timers=(), alarm_ms=None))
    assert ("the block '' has no step",) == stuck(changed(task, scopes={"": idle}))
    ready = msgspec.structs.replace(idle, ready="a")
    assert ("a of the block '' is ready, and nobody will enter it",) == stuck(changed(task, scopes={"": ready}))
    assert ("the run is open, and nothing is under way",) == stuck(changed(task, scopes={}))
    assert 1 == len(stuck(changed(task, alarm_ms=None)))
    assert ("the run is being undone, and nothing is left to undo",) == stuck(changed(undoing, undo=()))
    assert ("a!undo was not begun",) == stuck(changed(undoing, undo=(recorded,)))
    assert ("a!undo has no timer",) == stuck(changed(undoing, timers=(), alarm_ms=None))


def test_a_paused_run_undoes_nothing_until_it_is_resumed() -> None:
    """An answer that fails the run is taken; what follows from it waits."""
    run = flow("a: { task: q, compensate: { task: u }, next: b }\nb: { wait: {}, on_exhausted: fail, end: true }")
    run.complete("a").send(Paused()).fail("b")
    assert ("undoing", [], []) == (run.status, run.wanted(SendTask), run.outstanding)

    assert "u" == run.send(Resumed()).sent(SendTask).queue
    assert ["a!undo"] == run.outstanding
    assert "failed" == run.complete("a!undo").status


def test_an_event_that_would_fill_the_run_is_refused() -> None:
    """Who sent it is told, and the run is as it was."""
    steps = [f'v{n}: {{ wait: {{}}, assign_vars: {{ x{n}: "{{% $result %}}" }}, next: v{n + 1} }}' for n in range(9)]
    run = flow("\n".join([*steps, "v9: { succeed: 1 }"]), start_at="v0")
    for number in range(6):
        run.complete(f"v{number}", "x" * 37_000)
    before = run.run

    with pytest.raises(RunTooLargeError):
        run.complete(run.at, "x" * 37_000)
    assert before == run.run
    with pytest.raises(RunTooLargeError):
        run.send(Skipped(path=run.at, result="x" * 37_000))


def test_a_deadline_that_cannot_be_told_is_an_input_that_does_not_fit() -> None:
    """It is told before there is a run."""
    with pytest.raises(WrongAnswerError, match="no value here"):
        flow("a: { wait: {}, end: true }", {}, top='deadline: { after: "{% $input.days %}" }')


def test_an_escalation_that_cannot_be_told_stalls_its_wait() -> None:
    """The wait has nobody to go to, so somebody has to look."""
    run = flow('a: { wait: {}, escalate: [ { after: 1h, assign: { user: "{% $input.boss %}" } } ], end: true }', {})

    assert [("a", "expression.undefined")] == run.pass_ms(3_600_000).incidents
    with pytest.raises(NotWaitingError):
        run.send(Completed(path="a"))


def test_a_wait_that_is_backing_off_is_not_answered() -> None:
    """A wait can be retried like any step: it is shown again."""
    run = flow("a: { wait: {}, timeout: 1h, retry: [ { errors: [timeout], interval: 1m } ], end: true }").pass_ms(
        3_600_000
    )
    with pytest.raises(NotWaitingError):
        run.complete("a")

    assert "a" == run.pass_ms(60_000).sent(AskFor).path


def test_another_release_is_known_by_what_it_stored() -> None:
    """What is no run is an error and no guess."""
    with pytest.raises(msgspec.ValidationError):
        decode(msgspec.msgpack.encode({"format": 1}))
