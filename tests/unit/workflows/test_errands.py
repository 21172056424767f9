"""What runs have done outside: objects called, children started and recalled, ends reported; and all of it over crashes."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from services.workflows.events import AnyEvent, Cancelled, Completed, Paused, Resumed, Signalled, Terminated
from services.workflows.forgetting import FORGET
from services.workflows.liveness import incidents, stuck
from services.workflows.refusals import NotWaitingError, RunClosedError, RunExistsError
from services.workflows.run import WorkflowRun
from services.workflows.turning import ERRANDS
from shared.objects.handler import DurableObject, public
from shared.testing.cluster import NodeDiedError
from shared.testing.kit import Kit, Ref, run_with_kit
from tests.support.carried import Installed, Shelf
from tests.support.runs import begin, told

TRIP = """
workflow: trip
start: reserve
steps:
  reserve:
    object: { type: shelf, id: seats, call: take, args: { count: "{% $input.n %}" } }
    compensate: { object: { type: shelf, id: seats, call: put_back, args: { count: "{% $input.n %}" } } }
    assign_vars: { left: "{% $result %}" }
    next: hotel
  hotel: { child: { workflow: hotel }, input: { n: 2 }, assign_vars: { room: "{% $result %}" }, next: approve }
  approve:
    wait: { title: Go, outcomes: [yes, no] }
    choice: [ { when: "{% $outcome = 'yes' %}", next: done } ]
    default: undo
  done: { pass: { left: "{% $left %}", room: "{% $room %}" }, end: true }
  undo: { fail: { error: trip.off }, compensate_all: true }
"""
HOTEL = """
workflow: hotel
start: take
steps:
  take: { object: { type: shelf, id: rooms, call: take, args: { count: "{% $input.n %}" } }, next: rest }
  rest: { sleep: 5s, end: true }
"""


class Sloth(DurableObject):
    """Takes its time."""

    kind = "sloth"

    @public
    async def think(self) -> int:
        """Think for 20 seconds."""
        await asyncio.sleep(20)
        return 1


async def settled(kit: Kit, run: Ref, until: Callable[[str], bool]) -> None:
    """Go on until the run is so, 10 minutes at most; never stuck on the way."""
    for _ in range(600):
        look = await run.look(0)
        assert () == stuck(look.run)
        if until(look.status):
            return
        await kit.advance(1_000)
    raise AssertionError("ten minutes have passed")


def ended(status: str) -> bool:
    """Whether the run is over."""
    return status in {"succeeded", "failed", "cancelled", "terminated"}


def at(step: str, status: str = "running") -> Callable[[Kit, Ref], Awaitable[None]]:
    """Go on until the run is at that step of its own."""

    async def wait(kit: Kit, run: Ref) -> None:
        for _ in range(600):
            look = await run.look(0)
            scope = look.run.scopes.get("")
            if scope and scope.activity and (scope.activity.step, look.status) == (step, status):
                return
            await kit.advance(100)
        raise AssertionError(f"it never came to {step}")

    return wait


def test_a_run_calls_objects_and_waits_for_children() -> None:
    """Results come back, the child's too; and when all is done no alarm is left."""

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "t-1")
        await run.start(begin(TRIP, {"n": 3}))
        await at("approve")(kit, run)
        await run.happen(Completed(path="approve", outcome="yes"))
        assert {"left": 7, "room": 8} == (await run.look(0)).run.ending.output
        assert {FORGET} == kit.alarms(run).keys()
        child = kit.at(WorkflowRun, "acme", "t-1/hotel:1")
        assert "succeeded" == (await child.look(0)).status
        assert {FORGET} == kit.alarms(child).keys()
        metrics = kit.node.host.metrics.render_prometheus().decode()
        assert 'tenure_workflow_runs_total{event="succeeded"} 2.0' in metrics
        assert 'tenure_workflow_steps_total{event="completed"} 6.0' in metrics
        assert 'tenure_workflow_errand_duration_seconds_count{errand="StartChild",outcome="ok"} 1.0' in metrics

    run_with_kit(scenario, kinds=Installed({"hotel": HOTEL}).kinds)


def test_what_an_object_refuses_is_an_error_of_the_step() -> None:
    """With the code that its author chose; a fault is one too, and so is an object that nobody hosts."""

    async def scenario(kit: Kit) -> None:
        for number, (call, error) in enumerate(
            (
                ("{ type: shelf, id: s, call: take, args: { count: 11 } }", "object.sold_out"),
                ("{ type: shelf, id: s, call: broken }", "object.failed"),
                ("{ type: shelf, id: s, call: take, args: { count: many } }", "object.bad_arguments"),
                ("{ type: shelf, id: s, call: nothing }", "object.unknown"),
                ("{ type: ghost, id: s, call: take }", "object.unknown"),
            )
        ):
            run = kit.at(WorkflowRun, "acme", f"t-{number}")
            await run.start(begin(f"workflow: w\nstart: a\nsteps: {{ a: {{ object: {call}, end: true }} }}"))
            await settled(kit, run, lambda status: status == "stalled")
            (incident,) = incidents((await run.look(0)).run)
            assert incident.failure is not None
            assert error == incident.failure.error

    run_with_kit(scenario, kinds=Installed().kinds)


@pytest.mark.parametrize(
    ("child", "error"),
    [("{ workflow: ghost }", "child.unknown"), ("{ workflow: hotel, id: taken }", "child.exists")],
)
def test_a_child_that_cannot_be_started_is_an_error_of_the_step(child: str, error: str) -> None:
    """There is no such definition, or the id is that of another run."""

    async def scenario(kit: Kit) -> None:
        await kit.at(WorkflowRun, "acme", "taken").start(begin(HOTEL, {"n": 1}))
        run = kit.at(WorkflowRun, "acme", "t-1")
        await run.start(begin(f"workflow: w\nstart: a\nsteps: {{ a: {{ child: {child}, end: true }} }}", {"n": 1}))
        await settled(kit, run, lambda status: status == "stalled")
        (incident,) = incidents((await run.look(0)).run)
        assert incident.failure is not None
        assert error == incident.failure.error

    run_with_kit(scenario, kinds=Installed({"hotel": HOTEL}).kinds)


def test_a_child_whose_input_does_not_fit_is_an_error_of_the_step() -> None:
    """As its own start would have been refused."""
    strict = HOTEL.replace("start: take", "input_schema: { required: [m] }\nstart: take").replace(
        "$input.n", "$input.m"
    )

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "t-1")
        await run.start(begin(TRIP, {"n": 1}))
        await settled(kit, run, lambda status: status == "stalled")
        (incident,) = incidents((await run.look(0)).run)
        assert incident.failure is not None
        assert "child.bad_input" == incident.failure.error

    run_with_kit(scenario, kinds=Installed({"hotel": strict}).kinds)


@pytest.mark.parametrize(("event", "status"), [(Cancelled(), "cancelled"), (Terminated(), "terminated")])
def test_a_run_that_is_given_up_takes_its_children_with_it(event: AnyEvent, status: str) -> None:
    """The child is cancelled; what the run itself has taken is put back only where it was cancelled."""
    waiting = HOTEL.replace("rest: { sleep: 5s", "rest: { wait: { title: never }")

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "t-1")
        await run.start(begin(TRIP, {"n": 3}))
        child = kit.at(WorkflowRun, "acme", "t-1/hotel:1")
        await at("hotel")(kit, run)
        await kit.advance(1_000)
        await at("rest")(kit, child)
        await run.happen(event)
        await settled(kit, run, ended)
        await settled(kit, child, ended)
        assert (status, "cancelled") == ((await run.look(0)).status, (await child.look(0)).status)
        left = await kit.at(Shelf, "acme", "seats").put_back(0)
        assert (10 if status == "cancelled" else 7) == left

    run_with_kit(scenario, kinds=Installed({"hotel": waiting}).kinds)


def test_a_child_belongs_to_the_step_that_started_it() -> None:
    """Neither can another step wait for it, nor can it be recalled by one."""

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "t-1")
        await run.start(begin(TRIP, {"n": 3}))
        await at("hotel")(kit, run)
        await kit.advance(100)
        child = kit.at(WorkflowRun, "acme", "t-1/hotel:1")
        parent = (await child.look(0)).parent
        other = type(parent)(run="another", path="a", serial=1)
        with pytest.raises(RunExistsError):
            await child.start_child(begin(HOTEL, {"n": 2}, parent=other))
        await child.recall(other)
        assert "running" == (await child.look(0)).status

    run_with_kit(scenario, kinds=Installed({"hotel": HOTEL}).kinds)


def test_an_object_that_is_away_is_called_again_by_the_step() -> None:
    """A step whose call could not be made is tried again, as its definition says."""

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "t-1")
        retried = TRIP.replace(
            "    next: hotel\n", "    retry: [ { errors: [object], interval: 1s } ]\n    next: hotel\n"
        )
        await run.start(begin(retried, {"n": 11}))
        await kit.advance(1_500)
        await kit.at(Shelf, "acme", "seats").put_back(5)
        await at("approve")(kit, run)
        assert 4 == await kit.at(Shelf, "acme", "seats").put_back(0)

    run_with_kit(scenario, kinds=Installed({"hotel": HOTEL}).kinds)


def test_a_tenant_whose_receivers_are_slow_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """With as many errands under way as it may have; its own wait, and are carried out later."""
    monkeypatch.setattr("services.workflows.carrier.ERRANDS_AT_ONCE", 2)
    call = "{ object: { type: sloth, id: '{% $input %}', call: think }, end: true }"
    definition = f"workflow: w\nstart: a\nsteps: {{ a: {call} }}"

    async def scenario(kit: Kit) -> None:
        for number in range(3):
            await kit.at(WorkflowRun, "slow", f"s-{number}").start(begin(definition, str(number)))
        await kit.advance(1_000)
        await kit.at(WorkflowRun, "acme", "t-1").start(begin(TRIP, {"n": 1}))
        await at("approve")(kit, kit.at(WorkflowRun, "acme", "t-1"))
        assert ["running"] * 3 == [
            (await kit.at(WorkflowRun, "slow", f"s-{number}").look(0)).status for number in range(3)
        ]
        await kit.advance(50_000)
        assert ["succeeded"] * 3 == [
            (await kit.at(WorkflowRun, "slow", f"s-{number}").look(0)).status for number in range(3)
        ]

    run_with_kit(scenario, kinds=Installed({"hotel": HOTEL}, objects=[Sloth]).kinds)


def test_an_answer_that_comes_too_late_changes_nothing() -> None:
    """The errand is forgotten, and the run is as it was."""

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "t-1")
        await run.start(begin(TRIP, {"n": 3}))
        await at("approve")(kit, run)
        before = kit.stored(run)
        await run.settle(1, Completed(path="reserve", serial=1, result=0))
        await run.settle(99, None)
        assert before == kit.stored(run)

    run_with_kit(scenario, kinds=Installed({"hotel": HOTEL}).kinds)


def test_an_answer_that_is_too_large_fails_the_step() -> None:
    """The run is not wedged: the error is one like others."""

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "t-1")
        await run.start(begin("workflow: w\nstart: a\nsteps: { a: { task: q, end: true } }"))
        serial = next(iter((await run.look(0)).run.scopes.values())).activity.sent.serial
        await run.settle(0, Completed(path="a", serial=serial, result="x" * 100_000))
        (incident,) = incidents((await run.look(0)).run)
        assert incident.failure is not None
        assert "payload.too_large" == incident.failure.error

    run_with_kit(scenario, kinds=Installed().kinds)


def test_an_errand_of_a_dead_node_is_carried_out_by_the_next() -> None:
    """Even where nobody calls the run: its alarm rings."""

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "t-1")
        starting = asyncio.ensure_future(run.start(begin(TRIP, {"n": 3})))
        await asyncio.wait({starting})
        await kit.kill()
        assert ERRANDS in kit.alarms(run)
        await kit.advance(11_000)
        assert 7 == await kit.at(Shelf, "acme", "seats").put_back(0)

    run_with_kit(scenario, kinds=Installed({"hotel": HOTEL}).kinds)


async def drive(kit: Kit, run: Ref, answer: str) -> None:
    """All that comes from outside, each said again until somebody has heard it."""

    async def said(what: Callable[[], Awaitable[object]]) -> None:
        for _ in range(50):
            try:
                await what()
            except NodeDiedError:
                await asyncio.sleep(0.5)
            except (NotWaitingError, RunClosedError):
                return  # It was heard, and the answer was lost.
            else:
                return

    async def come_to(step: str) -> None:
        await said(lambda: at(step)(kit, run))

    await said(lambda: run.start(begin(TRIP, {"n": 3})))
    await come_to("approve")
    await said(lambda: run.happen(Signalled(name="seen")))
    await said(lambda: run.happen(Completed(path="approve", outcome=answer)))
    await said(lambda: settled(kit, run, ended))


async def history_of(kit: Kit, answer: str, *, dies_at: int = 0, late_ms: int = 0) -> tuple[list[str], ...]:
    """Histories of the run and its child, and what is left on the shelves. The node dies in its `dies_at`-th commit."""

    async def die() -> None:
        while kit.faults.calls.get("commit", 0) < dies_at:  # noqa: ASYNC110  # A store tells nobody that it is called.
            await asyncio.sleep(0.0005)
        await asyncio.sleep(late_ms / 1000)
        await kit.kill()

    killer = asyncio.ensure_future(die()) if dies_at else None
    run = kit.at(WorkflowRun, "acme", "t-1")
    await drive(kit, run, answer)
    if killer is not None:
        assert killer.done(), "the run was over before the node died"
    left = [str(await kit.at(Shelf, "acme", name).put_back(0)) for name in ("seats", "rooms")]
    signals = [line for line in await told(run) if line != "signal.received"]
    return signals, await told(kit.at(WorkflowRun, "acme", "t-1/hotel:1")), left


@pytest.mark.parametrize("answer", ["yes", "no"])
def test_a_crash_at_any_commit_changes_no_history(answer: str) -> None:
    """Before the commit is stored, with it, and after it: every errand took effect once, and all ended as without."""
    seen: dict[tuple[int, int], tuple[list[str], ...]] = {}
    commits: list[int] = []

    async def without(kit: Kit) -> None:
        seen[0, 0] = await history_of(kit, answer)
        commits.append(kit.faults.calls["commit"])

    run_with_kit(without, kinds=Installed({"hotel": HOTEL}).kinds)
    for dies_at in range(1, commits[0] - 2):
        for late_ms in (0, 1, 3):

            async def crashed(kit: Kit, dies_at: int = dies_at, late_ms: int = late_ms) -> None:
                seen[dies_at, late_ms] = await history_of(kit, answer, dies_at=dies_at, late_ms=late_ms)

            run_with_kit(crashed, kinds=Installed({"hotel": HOTEL}).kinds)

    assert len(seen) > 30
    assert dict.fromkeys(seen, seen[0, 0]) == seen


TAKE = "{ type: shelf, id: seats, call: take, args: { count: 1 } }"


def test_a_call_that_is_not_wanted_any_more_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """It had to wait for others of its tenant, and its run has given it up meanwhile."""
    monkeypatch.setattr("services.workflows.carrier.ERRANDS_AT_ONCE", 1)
    slow = "workflow: w\nstart: a\nsteps: { a: { object: { type: sloth, id: s, call: think }, end: true } }"
    timed = f"workflow: w\nstart: a\nsteps: {{ a: {{ object: {TAKE}, timeout: 5s, retry: [], end: true }} }}"

    async def scenario(kit: Kit) -> None:
        await kit.at(WorkflowRun, "acme", "t-1").start(begin(slow))
        await kit.advance(1_000)
        late, off = kit.at(WorkflowRun, "acme", "t-2"), kit.at(WorkflowRun, "acme", "t-3")
        await late.start(begin(timed))
        await off.start(begin(timed.replace("timeout: 5s, ", "")))
        await off.happen(Cancelled())
        await kit.advance(40_000)
        assert ("stalled", "cancelled") == ((await late.look(0)).status, (await off.look(0)).status)
        assert 10 == await kit.at(Shelf, "acme", "seats").put_back(0)

    run_with_kit(scenario, kinds=Installed(objects=[Sloth]).kinds)


def test_a_call_whose_time_is_over_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could carry it out in time, and the run is paused, so that its time-out waits."""
    timed = f"workflow: w\nstart: a\nsteps: {{ a: {{ object: {TAKE}, timeout: 5s, retry: [], end: true }} }}"
    installed = Installed()
    senders = dict(installed.carrier._senders)
    monkeypatch.setattr(installed.carrier, "_senders", {})

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "t-1")
        await run.start(begin(timed))
        await run.happen(Paused())
        monkeypatch.setattr(installed.carrier, "_senders", senders)
        await kit.advance(30_000)
        assert ([], 10) == (await run.errands(), await kit.at(Shelf, "acme", "seats").put_back(0))
        await run.happen(Resumed())
        assert [("a", "stalled")] == [(one.path, one.phase) for one in incidents((await run.look(0)).run)]

    run_with_kit(scenario, kinds=installed.kinds)
