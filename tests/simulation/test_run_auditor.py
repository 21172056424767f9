"""The auditor of open runs: what it finds is armed again and counted, and of right runs it changes nothing."""

from types import SimpleNamespace
from typing import cast

import pytest

from services.workflows.auditor import Auditor
from services.workflows.bounds import QUEUE_TASKS_MAX
from services.workflows.events import Completed, Paused, Terminated
from services.workflows.operation import GO_ON, Operation
from services.workflows.operation_schemas import ChangeRuns
from services.workflows.run import WorkflowRun
from shared.objects.address import Address
from shared.objects.config import Documents
from shared.objects.handler import DurableObject
from shared.objects.operations import cancel_alarm
from shared.testing.kit import Kit, run_with_kit
from tests.support.carried import Installed
from tests.support.runs import begin
from tests.support.schedules import Scheduled, with_schedule
from tests.support.tasks import QUEUE, answered, offered, polled, queue_of, simulated, started

NAP = "workflow: nap\nstart: a\nsteps: { a: { sleep: 1h, end: true } }"


def auditor_of(kit: Kit, *tenants: str) -> Auditor:
    """The auditor of the node, which has these tenants."""
    found = [SimpleNamespace(name=name) for name in tenants]
    return Auditor(kit.node.host, cast("Documents", SimpleNamespace(list_all=lambda _: found)))


async def round_of(kit: Kit, auditor: Auditor, looks: int = 14) -> int:
    """How many runs are seen in so many looks, more than a round takes."""
    return sum([await kit.node.run(auditor.look()) for _ in range(looks)])


def repaired(kit: Kit) -> float:
    """How many runs were counted as repaired."""
    text = kit.node.host.metrics.render_prometheus().decode()
    found = [line for line in text.splitlines() if line.startswith("tenure_workflow_repaired_total ")]
    return float(found[0].split()[1]) if found else 0.0


def test_a_run_that_waits_for_nothing_is_armed_again() -> None:
    """Whoever cancelled its alarm: it wakes when it should, is counted, and the others are left alone."""

    async def scenario(kit: Kit) -> None:
        for name in ("a", "b"):
            await kit.at(WorkflowRun, "acme", name).start(begin(NAP))
        armed = kit.alarms(kit.at(WorkflowRun, "acme", "a"))
        await kit.node.call(Address("run", "acme", "a"), cancel_alarm, "timers")
        assert 2 == await round_of(kit, auditor_of(kit, "other", "acme"))
        assert (armed, 1.0) == (kit.alarms(kit.at(WorkflowRun, "acme", "a")), repaired(kit))
        await kit.advance(3_600_000)
        assert "succeeded" == (await kit.at(WorkflowRun, "acme", "a").look(0)).status

    run_with_kit(scenario, kinds=[WorkflowRun], limit_ms=7_200_000)


def test_a_schedule_that_waits_for_nothing_is_armed_again(capsys: pytest.CaptureFixture[str]) -> None:
    """Once, with a count and a line that says which."""

    async def scenario(it: Scheduled) -> None:
        await it.put()
        armed = it.kit.alarms(it.ref)
        await it.kit.node.call(Address("schedule", "acme", "nightly"), cancel_alarm, "due")
        assert 2 == await round_of(it.kit, auditor_of(it.kit, "acme"), looks=18), "it is seen in two rounds"
        assert (armed, 1.0) == (it.kit.alarms(it.ref), repaired(it.kit))

    with_schedule(scenario)
    assert "schedule/acme/nightly" in capsys.readouterr().out


def begin_without_alarm(operation: Operation) -> None:
    """Begin it so that it never goes on."""
    operation.begin(ChangeRuns(op="pause", ids=["a"]), room=True)
    operation.alarms.cancel(GO_ON)


def test_an_operation_that_waits_for_nothing_is_armed_again(capsys: pytest.CaptureFixture[str]) -> None:
    """It goes on to its end, with a count and a line that says which; one that has ended is left alone."""

    async def scenario(kit: Kit) -> None:
        operation, run = kit.at(Operation, "acme", "op"), kit.at(WorkflowRun, "acme", "a")
        await run.start(begin(NAP))
        await kit.node.call(Address("operation", "acme", "op"), begin_without_alarm)
        await kit.advance(60_000)
        assert "running" == (await operation.look()).standing.status
        assert 2 == await round_of(kit, auditor_of(kit, "acme"), looks=8)
        await kit.advance(1_000)
        assert ("done", "paused", 1.0) == (
            (await operation.look()).standing.status,
            (await run.look(0)).status,
            repaired(kit),
        )
        assert () == await operation.audit()

    run_with_kit(scenario, kinds=[WorkflowRun, Operation], limit_ms=7_200_000)
    assert "operation/acme/op" in capsys.readouterr().out


def forget(queue: DurableObject) -> None:
    """Lose all that the object has."""
    queue.storage.delete_all()


def test_a_task_that_its_queue_has_lost_is_offered_again(capsys: pytest.CaptureFixture[str]) -> None:
    """Once, with a count and a line that says which; it is done and counts as if it had never been away."""

    async def scenario(kit: Kit) -> None:
        run = await started(kit)
        await kit.node.call(QUEUE, forget)
        await kit.evict(queue_of(kit))
        assert 0 == (await queue_of(kit).look()).waiting
        auditor = auditor_of(kit, "acme")
        assert 2 <= await round_of(kit, auditor, looks=20), "it is seen in several rounds"
        assert (1, 1.0) == ((await queue_of(kit).look()).waiting, repaired(kit))
        assert await answered(kit, (await polled(kit)).ticket)
        assert "succeeded" == (await run.look(0)).status

    simulated(scenario)
    assert "the task of look was not in its queue kyc" in capsys.readouterr().out


@pytest.mark.parametrize("ended", [False, True])
def test_a_child_that_is_lost_is_started_again_or_tells_its_end(
    capsys: pytest.CaptureFixture[str], *, ended: bool
) -> None:
    """The store has lost it, or that its end was to be told: its parent hears of it all the same, once."""

    async def scenario(kit: Kit) -> None:
        parent, child = kit.at(WorkflowRun, "acme", "p"), kit.at(WorkflowRun, "acme", "p/a:1")
        await parent.start(begin("workflow: p\nstart: a\nsteps: { a: { child: { workflow: c }, end: true } }"))
        await kit.advance(1_000)
        auditor = auditor_of(kit, "acme")
        await round_of(kit, auditor)
        assert 0.0 == repaired(kit), "a child that is open is there"
        if ended:
            await kit.node.call(Address("run", "acme", "p/a:1"), end_unheard)
        else:
            await kit.node.call(Address("run", "acme", "p/a:1"), forget)
        await kit.evict(child)
        await round_of(kit, auditor)
        await kit.advance(1_000)
        if not ended:
            await child.happen(Completed(path="t", result=7))
            await kit.advance(1_000)
        look = await parent.look(0)
        assert ("succeeded", 1.0) == (look.status, repaired(kit))

    child = "workflow: c\nstart: t\nsteps: { t: { wait: {}, end: true } }"
    run_with_kit(scenario, kinds=Installed({"c": child}).kinds)
    assert "the child of a, p/a:1, was gone or had not told its end" in capsys.readouterr().out


def end_unheard(run: WorkflowRun) -> None:
    """End the run, and lose that its end is to be told."""
    run.happen(Completed(path="t", result=7))
    for errand in run.errands():
        run.settle(errand.number, None)


def test_tasks_that_wait_or_are_with_workers_are_not_offered_again() -> None:
    """Nor one that would come too late, or whose queue has not taken it in yet: that is under way by itself."""

    async def scenario(kit: Kit) -> None:
        await started(kit, name="leased")
        await polled(kit)
        await started(kit, name="waiting")
        await offered(kit, QUEUE_TASKS_MAX - 2)
        await started(kit, name="no room")
        commits = kit.faults.calls["commit"]
        assert 3 <= await round_of(kit, auditor_of(kit, "acme"), looks=7)
        assert (commits, 0.0) == (kit.faults.calls["commit"], repaired(kit))

    simulated(scenario)


def test_right_runs_are_looked_at_and_nothing_is_written() -> None:
    """Also paused ones; those that have ended are not looked at, and a round begins when the last has ended."""

    async def scenario(kit: Kit) -> None:
        for number in range(25):
            await kit.at(WorkflowRun, "acme", f"r{number}").start(begin(NAP))
        await kit.at(WorkflowRun, "acme", "r0").happen(Paused())
        await kit.at(WorkflowRun, "acme", "r1").happen(Terminated())
        auditor = auditor_of(kit, "acme")
        commits = kit.faults.calls["commit"]
        seen = [await kit.node.run(auditor.look()) for _ in range(7)]
        assert [0, 20, 3, 1, 0, 0, 0] == seen
        assert 24 == await round_of(kit, auditor, looks=7)
        assert (commits, 0.0) == (kit.faults.calls["commit"], repaired(kit))

    run_with_kit(scenario, kinds=[WorkflowRun])


def test_a_store_that_is_away_does_not_end_the_auditor(capsys: pytest.CaptureFixture[str]) -> None:
    """It says so and looks again."""

    async def scenario(kit: Kit) -> None:
        await kit.at(WorkflowRun, "acme", "a").start(begin(NAP))
        task = kit.node.process.spawn(auditor_of(kit, "acme").run())
        kit.faults.away = True
        await kit.advance(10_500)
        kit.faults.away = False
        await kit.advance(30_000)
        assert not task.done()
        task.cancel()

    run_with_kit(scenario, kinds=[WorkflowRun])
    assert "store.unreached" in capsys.readouterr().out
