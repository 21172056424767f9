"""The run object on the real core, in virtual time: history, alarm, index rows, and a crash at every commit."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from services.workflows.events import Cancelled, Completed, Failed, Paused, Resumed, Retried, Signalled, Skipped
from services.workflows.forgetting import FORGET
from services.workflows.liveness import incidents, stuck
from services.workflows.refusals import NotWaitingError, RunClosedError, RunExistsError, WrongAnswerError
from services.workflows.run import WorkflowRun
from services.workflows.state import Run
from shared.errors import InvalidInputError, NotFoundError
from shared.objects.address import Address
from shared.objects.operations import cancel_alarm
from shared.testing.cluster import NodeDiedError
from shared.testing.kit import Kit, Ref, run_with_kit
from tests.support.runs import begin, told

MINUTE_MS = 60_000
ORDER = """
workflow: order
start: decide
steps:
  decide:
    wait: { title: Take the order, outcomes: [yes, no] }
    choice: [ { when: "{% $outcome = 'yes' %}", next: both } ]
    default: refuse
  both:
    parallel:
      branches:
        cool: { start: nap, steps: { nap: { sleep: 2m, end: true } } }
        pay:
          start: charge
          steps:
            charge:
              task: payments
              retry: [ { errors: [busy], interval: 10s, attempts: 2 } ]
              compensate: { task: refunds }
              end: true
    next: ship
  ship: { task: shipping, on_exhausted: fail, end: true }
  refuse: { fail: { error: refused } }
"""
Step = Callable[[Kit, Ref], Awaitable[Any]]


async def look(run: Ref) -> Run:
    """The run as it is now; never one that is stuck."""
    seen: Run = (await run.look(0)).run
    assert () == stuck(seen)
    return seen


def start(definition: str = ORDER, run_input: Any = None) -> Step:
    """The step that starts the run."""
    return lambda _, run: run.start(begin(definition, run_input))


def event(what: Any) -> Step:
    """The step that lets something happen."""
    return lambda _, run: run.happen(what)


def passing(ms: int) -> Step:
    """The step that lets time pass."""
    return lambda kit, _: kit.advance(ms)


UNDONE: list[Step] = [
    start(),
    event(Completed(path="decide", outcome="yes")),
    event(Failed(path="both/pay/charge", error="busy")),
    passing(11_000),
    event(Completed(path="both/pay/charge")),
    passing(3 * MINUTE_MS),
    event(Failed(path="ship", error="lost")),
    event(Completed(path="both/pay/charge!undo")),
]
"""Every kind of trouble: a retry, a sleep in a branch beside it, and an order that is undone at its end."""


def test_a_run_waits_sleeps_retries_and_is_undone() -> None:
    """After each event nothing is stuck, and at the end the charge is refunded and no alarm is left."""

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "o-1")
        for step in UNDONE:
            await step(kit, run)
            await look(run)
        assert {FORGET} == kit.alarms(run).keys()
        assert [
            "run.started",
            "step.entered decide",
            "step.completed decide",
            "step.entered both",
            "step.entered both/cool/nap",
            "step.entered both/pay/charge",
            "step.retried both/pay/charge",
            "step.completed both/pay/charge",
            "step.completed both/cool/nap",
            "step.completed both",
            "step.entered ship",
            "step.failed ship",
            "undo.started both/pay/charge!undo",
            "undo.completed both/pay/charge!undo",
            "run.failed",
        ] == await told(run)

    run_with_kit(scenario, kinds=[WorkflowRun])


@pytest.mark.parametrize("dies_at", range(len(UNDONE)))
def test_a_crash_after_any_commit_changes_no_history(dies_at: int) -> None:
    """The node dies once the step is stored: what happened is what happens without the crash."""

    async def without(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "o-1")
        for step in UNDONE:
            await step(kit, run)
        histories.append(await told(run))

    async def crashed(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "o-1")
        for number, step in enumerate(UNDONE):
            await step(kit, run)
            if number == dies_at:
                await kit.kill()
            await look(run)
        histories.append(await told(run))

    histories: list[list[str]] = []
    run_with_kit(without, kinds=[WorkflowRun])
    run_with_kit(crashed, kinds=[WorkflowRun])

    assert histories[0] == histories[1]


@pytest.mark.parametrize("delay_ms", range(8))
def test_a_crash_within_a_commit_leaves_all_of_a_turn_or_nothing(delay_ms: int) -> None:
    """Whoever starts again the run of which nobody knows has one run, with one beginning."""

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "o-1")
        starting = asyncio.ensure_future(run.start(begin(ORDER, {"n": 1})))
        await asyncio.sleep(delay_ms / 1000)
        await kit.kill()
        outcome = (await asyncio.gather(starting, return_exceptions=True))[0]
        assert outcome is True or isinstance(outcome, NodeDiedError)
        again = await run.start(begin(ORDER, {"n": 1}))
        assert not (outcome is True and again)
        assert ["run.started", "step.entered decide"] == await told(run)
        await look(run)

    run_with_kit(scenario, kinds=[WorkflowRun])


def test_a_run_is_started_once() -> None:
    """The same start again is no second run; another input or another definition is refused."""

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "o-1")
        assert await run.start(begin(ORDER, {"n": 1}))
        assert not await run.start(begin(ORDER, {"n": 1}, version=2))
        assert 1 == (await look(run)).version
        with pytest.raises(RunExistsError):
            await run.start(begin(ORDER, {"n": 2}))
        with pytest.raises(RunExistsError):
            await run.start(begin(ORDER.replace("order", "other", 1), {"n": 1}))

    run_with_kit(scenario, kinds=[WorkflowRun])


def test_an_id_that_is_too_long_starts_nothing() -> None:
    """It is told by its place."""

    async def scenario(kit: Kit) -> None:
        with pytest.raises(InvalidInputError):
            await kit.at(WorkflowRun, "acme", "x" * 257).start(begin(ORDER, None))

    run_with_kit(scenario, kinds=[WorkflowRun])


def test_a_run_that_was_not_started_is_not_found() -> None:
    """Nothing of it can be seen, and nothing can happen to it."""

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "gone")
        for call in (run.look(0), run.history(0, 10), run.happen(Cancelled())):
            with pytest.raises(NotFoundError):
                await call

    run_with_kit(scenario, kinds=[WorkflowRun])


def test_a_refused_event_leaves_no_trace() -> None:
    """Neither state nor history has it."""

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "o-1")
        await run.start(begin(ORDER, None))
        before = (kit.stored(run), kit.journal(run))
        with pytest.raises(NotWaitingError):
            await run.happen(Completed(path="ship"))
        assert before == (kit.stored(run), kit.journal(run))

    run_with_kit(scenario, kinds=[WorkflowRun])


def test_an_answer_that_is_given_twice_counts_once() -> None:
    """The repeat gets the status, and writes nothing."""

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "o-1")
        await run.start(begin(ORDER, None))
        sent = (await look(run)).scopes[""].activity.sent  # type: ignore[union-attr]  # The run is at its wait.
        answer = Completed(path="decide", outcome="yes", serial=sent.serial)  # type: ignore[union-attr]  # As above.
        assert "running" == await run.happen(answer)
        before = kit.journal(run)
        assert "running" == await run.happen(answer)
        assert before == kit.journal(run)

    run_with_kit(scenario, kinds=[WorkflowRun])


def test_a_paused_run_has_no_alarm_until_it_is_resumed() -> None:
    """What became due meanwhile happens then, and the listing follows."""

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "n-1")
        nap = "workflow: nap\nstart: a\nsteps: { a: { sleep: 1m, end: true } }"
        await run.start(begin(nap, None))
        assert ["timers"] == list(kit.alarms(run))
        assert "paused" == await run.happen(Paused())
        await kit.advance(5 * MINUTE_MS)
        assert ({}, ["n-1"]) == (kit.alarms(run), await _listed(kit, "status", "paused"))
        assert "succeeded" == await run.happen(Resumed())
        assert ([], ["n-1"]) == (await _listed(kit, "status", "paused"), await _listed(kit, "definition", "nap"))
        with pytest.raises(RunClosedError):
            await run.happen(Signalled(name="late"))

    run_with_kit(scenario, kinds=[WorkflowRun])


def test_a_step_that_cannot_go_on_is_listed_as_stalled() -> None:
    """It can be tried again, and be skipped with a result."""

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "s-1")
        bad = 'workflow: bad\nstart: a\nsteps: { a: { pass: "{% $input.gone %}", end: true } }'
        await run.start(begin(bad, {}))
        assert ["s-1"] == await _listed(kit, "status", "stalled")
        assert "stalled" == await run.happen(Retried(path="a"))
        assert ["a"] == [one.path for one in incidents(await look(run))]
        assert "succeeded" == await run.happen(Skipped(path="a", result=7))
        ended = await look(run)
        assert ended.ending is not None
        assert 7 == ended.ending.output

    run_with_kit(scenario, kinds=[WorkflowRun])


def test_who_waits_for_the_end_is_told_when_it_comes() -> None:
    """And at the moment that was named, where it does not come before."""

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "o-1")
        await run.start(begin(ORDER, None))
        assert "open" == (await run.look(kit.now_ms() + 1_000)).run.phase
        waiting = asyncio.ensure_future(run.look(kit.now_ms() + 20_000))
        await asyncio.sleep(1)
        await run.happen(Cancelled(reason="enough"))
        assert "ended" == (await waiting).run.phase

    run_with_kit(scenario, kinds=[WorkflowRun])


def test_a_large_run_is_kept_in_pieces_that_come_and_go() -> None:
    """What is loaded is what was stored, when there are more pieces and when there are fewer."""

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "big")
        wait = "workflow: w\nstart: a\nsteps: { a: { wait: { title: t, signal: go }, next: b }, b: { pass: 1, end: true } }"
        await run.start(begin(wait, None))
        for _ in range(2):
            await run.happen(Signalled(name="other", payload="x" * 90_000))
        await kit.evict(run)
        assert ["x" * 90_000] * 2 == [signal.payload for signal in (await look(run)).mailbox]
        assert 3 == len([key for key in kit.stored(run) if key.startswith("run:")])

    run_with_kit(scenario, kinds=[WorkflowRun])


def test_the_history_says_how_much_it_leaves_out() -> None:
    """What is long stands in the run, and the entry has its size."""

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "l-1")
        await run.start(begin('workflow: p\nstart: a\nsteps: { a: { pass: "{% $input %}", end: true } }', "x" * 300))
        (entry,) = await run.history(0, 10)
        assert b'{"left_out_bytes":302}' == entry.value.lines[-1].data

    run_with_kit(scenario, kinds=[WorkflowRun])


def test_a_full_history_loses_its_older_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run goes on: what happened last is what is asked for."""
    monkeypatch.setattr("shared.bounds.JOURNAL_ENTRIES_MAX", 4)

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "o-1")
        await run.start(begin(ORDER, None))
        for _ in range(2):
            await run.happen(Paused())
            await run.happen(Resumed())
        assert ["run.resumed", "run.paused", "run.resumed"] == await told(run)

    run_with_kit(scenario, kinds=[WorkflowRun])


def test_a_turn_that_has_much_to_tell_tells_how_much_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """First what belongs to the lines goes, then the last lines; the run itself is whole."""
    monkeypatch.setattr("services.workflows.keeping.HISTORY_TURN_BYTES_MAX", 300)
    chain = "".join(f"  s{n}: {{ pass: 1, next: s{n + 1} }}\n" for n in range(20))

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "c-1")
        await run.start(begin(f"workflow: c\nstart: s0\nsteps:\n{chain}  s20: {{ pass: 1, end: true }}"))
        (entry,) = await run.history(0, 10)
        *lines, last = entry.value.lines
        assert ("history.left_out", b'{"lines":%d}' % (44 - len(lines))) == (last.event, last.data)
        assert {b""} == {line.data for line in lines}
        assert "succeeded" == (await run.look(0)).status

    run_with_kit(scenario, kinds=[WorkflowRun])


def test_a_run_is_found_by_its_attributes() -> None:
    """Those that its definition makes of the input, and those that it is given, which count more."""
    named = ORDER.replace("start: decide", "attributes: { region: '{% $input.region %}', team: a }\nstart: decide")

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "o-1")
        await run.start(begin(named, {"region": "eu"}, attributes={"team": "b"}))
        assert {"region": "eu", "team": "b"} == (await run.look(0)).attributes
        assert ["o-1"] == await _listed(kit, "attr.region", "eu")
        assert (["o-1"], []) == (await _listed(kit, "attr.team", "b"), await _listed(kit, "attr.team", "a"))

    run_with_kit(scenario, kinds=[WorkflowRun])


@pytest.mark.parametrize(
    ("attributes", "run_input"),
    [
        ({f"a{n}": "x" for n in range(11)}, {}),
        ({"a": "x" * 257}, {}),
        ({"a/b": "x"}, {}),
        ({"x" * 49: "x"}, {}),
        ({}, {"m": 1}),
    ],
)
def test_attributes_that_cannot_be_start_nothing(attributes: dict[str, str], run_input: dict[str, int]) -> None:
    """Too many, too long, a name that is none, or an input that they cannot be made of."""
    named = ORDER.replace("start: decide", "attributes: { n: '{% $string($input.n) %}' }\nstart: decide")
    definition = ORDER if attributes else named

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "o-1")
        with pytest.raises(WrongAnswerError):
            await run.start(begin(definition, run_input, attributes=attributes))
        assert {} == kit.stored(run)

    run_with_kit(scenario, kinds=[WorkflowRun])


def test_who_waits_for_news_is_told_when_there_are_some() -> None:
    """Of the change that comes next, or at once where it was missed."""

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "o-1")
        await run.start(begin(ORDER))
        seen = (await run.look(0)).seq
        waiting = asyncio.ensure_future(run.look(kit.now_ms() + 20_000, seen))
        await asyncio.sleep(1)
        await run.happen(Paused())
        assert seen + 1 == (await waiting).seq
        assert seen + 1 == (await run.look(kit.now_ms() + 20_000, seen)).seq

    run_with_kit(scenario, kinds=[WorkflowRun])


def test_a_run_whose_alarm_was_taken_away_is_armed_by_the_auditor() -> None:
    """Of a right run it finds nothing, and writes nothing."""

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "n-1")
        await run.start(begin("workflow: nap\nstart: a\nsteps: { a: { sleep: 1m, end: true } }"))
        before = (kit.stored(run), kit.alarms(run))
        assert () == await run.audit()
        await kit.node.call(Address("run", "acme", "n-1"), cancel_alarm, "timers")
        assert 1 == len(await run.audit())
        assert before == (kit.stored(run), kit.alarms(run))

    run_with_kit(scenario, kinds=[WorkflowRun])


def test_a_run_that_begins_later_is_never_stuck() -> None:
    """It has an alarm for its beginning, and nothing is entered before, whatever happens to it; nor after a crash."""

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "o-1")
        await run.start(begin(ORDER, begins_ms=kit.now_ms() + MINUTE_MS))
        for happens in (Signalled(name="seen"), Paused(), Resumed()):
            await run.happen(happens)
            assert 0 == (await look(run)).entries
        await kit.kill()
        assert 0 == (await look(run)).entries
        await kit.advance(MINUTE_MS)
        assert 1 == (await look(run)).entries

    run_with_kit(scenario, kinds=[WorkflowRun])


async def _listed(kit: Kit, index: str, value: str) -> list[str]:
    return [found.address.name for found in await kit.find(WorkflowRun, "acme", index, value)]


def test_all_is_retried_though_one_retry_ends_another() -> None:
    """Both waits have timed out; the first takes the signal that has come meanwhile, and the run fails with its branch."""
    wait = "{ wait: { signal: go }, timeout: 1m, retry: [], next: f }, f: { fail: { error: no } }"
    both = f"x: {{ start: t, steps: {{ t: {wait} }} }}, y: {{ start: t, steps: {{ t: {wait} }} }}"
    text = f"workflow: w\nstart: a\nsteps: {{ a: {{ parallel: {{ branches: {{ {both} }} }}, end: true }} }}"

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "o-1")
        await run.start(begin(text))
        await kit.advance(2 * MINUTE_MS)
        assert 2 == len(incidents(await look(run)))
        await run.happen(Signalled(name="go", payload=1))
        assert "failed" == await run.retry_all()

    run_with_kit(scenario, kinds=[WorkflowRun])
