"""What expressions may take: a turn that has taken long goes on in the next one, and no step holds up a node."""

from services.workflows.bounds import TURN_EXPRESSIONS_MS, UNDO_EXPRESSIONS_MS_MAX
from services.workflows.events import Cancelled
from services.workflows.intents import CallObject
from services.workflows.liveness import incidents
from tests.support.flow import flow

ITEMS = 400


def test_a_turn_that_has_taken_long_goes_on_in_the_next() -> None:
    """Nothing but the number of turns is other than where expressions take no time."""
    chain = "\n".join(f'a{n}: {{ pass: "{{% $states.input + 1 %}}", next: a{n + 1} }}' for n in range(9))
    quick = flow(f"{chain}\na9: {{ pass: '{{% $states.input %}}', end: true }}", 0, start_at="a0")
    slow = flow(f"{chain}\na9: {{ pass: '{{% $states.input %}}', end: true }}", 0, start_at="a0", expression_ms=100)

    assert (slow.status, slow.now_ms) == ("open", slow.run.alarm_ms)
    assert TURN_EXPRESSIONS_MS < 100 * slow.run.entries
    while slow.status == "open":
        slow.pass_ms(0)
    assert (quick.output, quick.history) == (slow.output, slow.history)


def test_a_step_whose_expressions_take_too_long_together_stalls() -> None:
    """It is an incident like others, and the run goes on with what is skipped."""
    many = ", ".join(f"x{n}: '{{% {n} %}}'" for n in range(20))
    run = flow(f"a: {{ pass: {{ {many} }}, next: b }}\nb: {{ pass: 7, end: true }}", expression_ms=100)

    (incident,) = incidents(run.run)
    assert incident.failure is not None
    assert ("a", "expression.limit") == (incident.path, incident.failure.error)


def test_what_is_given_up_at_once_is_undone_all_the_same() -> None:
    """Hundreds of items with slow expressions in their undoing: all of them are recorded, in one turn."""
    item = '{ object: { type: t, id: x, call: c }, compensate: { object: { type: t, id: "{% $item %}", call: u } }, end: true }'
    steps = f'a: {{ map: {{ items: "{{% [1..{ITEMS}] ~> $map($string) %}}" }}, each: {{ start: i, steps: {{ i: {item} }} }}, end: true }}'
    run = flow(steps)
    while run.run.alarm_ms == run.now_ms:
        run.pass_ms(0)
    run.expression_ms = UNDO_EXPRESSIONS_MS_MAX // ITEMS
    run.send(Cancelled())

    assert ITEMS == len(run.run.undo)
    assert "u" == run.sent(CallObject).method
