"""Tasks that runs offer and workers do: each is done at least once, and counts once."""

import asyncio
from typing import Any

import msgspec
import pytest

from services.workflows.bounds import LEASES_LOST_MAX, QUEUE_TASKS_MAX
from services.workflows.desk import Desk
from services.workflows.events import Cancelled, Failed
from services.workflows.liveness import incidents, stuck
from services.workflows.refusals import (
    AlreadyCompletedError,
    PayloadTooLargeError,
    SupersededError,
    TimedOutError,
)
from services.workflows.run import WorkflowRun
from shared.errors import NotFoundError
from shared.testing.kit import Kit
from tests.support.tasks import (
    CHECK,
    LEASE_MS,
    OPEN,
    answered,
    leased,
    offered,
    polled,
    queue_of,
    simulated,
    started,
)


def test_a_task_is_given_with_all_that_a_worker_needs() -> None:
    """Its input, the key that is the same for all attempts, and the attempt; the run shows who has it."""

    async def scenario(kit: Kit) -> None:
        run = await started(kit)
        given = await polled(kit, worker="w-1")
        handed = given.handed
        assert ("check", 1, "look", 1, {"n": 7}) == (
            handed.definition,
            handed.version,
            handed.path,
            handed.attempt,
            handed.input,
        )
        assert "r-1/look:1" == handed.key
        (activity,) = [scope.activity for scope in (await run.look(0)).run.scopes.values()]
        assert "w-1" == activity.worker
        assert await answered(kit, given.ticket, "fine")
        assert {"found": "fine"} == (await run.look(0)).run.ending.output
        assert 0 == (await queue_of(kit).look()).leased

    simulated(scenario)


def test_an_answer_counts_once_and_a_repeat_is_no_error() -> None:
    """The same answer again is welcome, however late; another is told that it comes too late."""

    async def scenario(kit: Kit) -> None:
        await started(kit, definition=OPEN)
        given = await polled(kit)
        assert await answered(kit, given.ticket)
        assert not await answered(kit, given.ticket)
        with pytest.raises(AlreadyCompletedError):
            await answered(kit, given.ticket, "otherwise")

    simulated(scenario)


def test_a_worker_that_has_lost_its_lease_cannot_answer() -> None:
    """While another has the task, and while it waits; the other's answer counts, and then the first may only repeat it."""

    async def scenario(kit: Kit) -> None:
        run = await started(kit, definition=OPEN)
        slow = await polled(kit, worker="slow")
        await kit.advance(LEASE_MS + 100)
        with pytest.raises(SupersededError):
            await answered(kit, slow.ticket, "slow")
        quick = await polled(kit, worker="quick")
        assert 1 == quick.lost
        with pytest.raises(SupersededError):
            await answered(kit, slow.ticket, "slow")
        assert await answered(kit, quick.ticket, "quick")
        with pytest.raises(AlreadyCompletedError):
            await answered(kit, slow.ticket, "slow")
        assert not await answered(kit, slow.ticket, "quick")
        (activity,) = [scope.activity for scope in (await run.look(0)).run.scopes.values()]
        assert ("done", "quick") == (activity.step, activity.input)

    simulated(scenario)


def test_an_answer_after_the_timeout_is_too_late() -> None:
    """The attempt has failed by then, and the worker is told so before that, with its sign of life."""

    async def scenario(kit: Kit) -> None:
        await started(kit, definition=CHECK.replace("timeout: 10m", "timeout: 5s"))
        given = await polled(kit)
        await kit.advance(6_000)
        beat = await kit.node.run(Desk(kit.node.host).beat("acme", given.ticket, None))
        assert not beat.wanted
        with pytest.raises(TimedOutError):
            await answered(kit, given.ticket)
        assert 0 == (await queue_of(kit).look()).leased

    simulated(scenario)


def test_a_run_that_is_cancelled_takes_its_task_back() -> None:
    """From the queue where it waits, and from the worker with its next sign of life."""

    async def scenario(kit: Kit) -> None:
        waits, works = await started(kit, name="r-2"), await started(kit)
        given = await polled(kit)
        for run in (waits, works):
            await run.happen(Cancelled())
        await kit.advance(100)
        beat = await kit.node.run(Desk(kit.node.host).beat("acme", given.ticket, {"done": 1}))
        assert not beat.wanted
        look = await queue_of(kit).look()
        assert (0, 1) == (look.waiting, look.leased)

    simulated(scenario)


def test_a_task_that_was_given_back_is_another_worker_s_at_once() -> None:
    """No attempt is counted, no worker is lost, and the run shows the one that has it now."""

    async def scenario(kit: Kit) -> None:
        run = await started(kit)
        given = await polled(kit, worker="stops")
        waiting = asyncio.ensure_future(polled(kit, worker="goes on", wait_ms=20_000))
        await kit.advance(100)
        await kit.node.run(Desk(kit.node.host).release("acme", given.ticket))
        again = await waiting
        assert (1, 0) == (again.handed.attempt, again.lost)
        (activity,) = [scope.activity for scope in (await run.look(0)).run.scopes.values()]
        assert "goes on" == activity.worker
        with pytest.raises(SupersededError):
            await kit.node.run(Desk(kit.node.host).release("acme", given.ticket))

    simulated(scenario)


def test_a_lost_worker_costs_a_lease_and_the_last_of_several_an_attempt() -> None:
    """After each the run shows that nobody has the task; after the last the step fails with `task.lost`."""

    async def scenario(kit: Kit) -> None:
        run = await started(kit)
        for nth in range(LEASES_LOST_MAX):
            assert nth == (await polled(kit, worker=f"w-{nth}")).lost
            await kit.advance(LEASE_MS + 500)
            activity = next(scope.activity for scope in (await run.look(0)).run.scopes.values())
            assert () == stuck((await run.look(0)).run)
            assert "" == activity.worker or nth == LEASES_LOST_MAX - 1
        (incident,) = incidents((await run.look(0)).run)
        assert incident.failure is not None
        assert "task.lost" == incident.failure.error
        assert "w-2" in str(incident.failure.cause)

    simulated(scenario)


def test_a_missed_heartbeat_fails_the_attempt_and_the_next_has_the_same_key() -> None:
    """By the rule of the definition; the worker of the old attempt hears that it is not wanted any more."""
    definition = CHECK.replace(
        "retry: []", "heartbeat: 20s, retry: [ { errors: [timeout], interval: 1s, jitter: none } ]"
    )

    async def scenario(kit: Kit) -> None:
        await started(kit, definition=definition)
        slow = await polled(kit, worker="slow")
        desk = Desk(kit.node.host)
        await kit.advance(15_000)
        assert (await kit.node.run(desk.beat("acme", slow.ticket, {"done": 1}))).wanted
        await kit.advance(15_000)
        assert (await kit.node.run(desk.beat("acme", slow.ticket, None))).wanted
        await kit.advance(22_000)
        assert not (await kit.node.run(desk.beat("acme", slow.ticket, None))).wanted
        again = await polled(kit, worker="next")
        assert (2, slow.handed.key) == (again.handed.attempt, again.handed.key)
        with pytest.raises(TimedOutError):
            await answered(kit, slow.ticket)
        assert await answered(kit, again.ticket)

    simulated(scenario)


def test_what_a_worker_tells_of_its_progress_is_in_the_run() -> None:
    """It stays when a later sign of life tells nothing, and when another worker takes over."""

    async def scenario(kit: Kit) -> None:
        run = await started(kit)
        given = await polled(kit)
        desk = Desk(kit.node.host)
        await kit.node.run(desk.beat("acme", given.ticket, {"pages": 3}))
        await kit.node.run(desk.beat("acme", given.ticket, None))
        await kit.node.run(desk.release("acme", given.ticket))
        await polled(kit)
        (activity,) = [scope.activity for scope in (await run.look(0)).run.scopes.values()]
        assert {"pages": 3} == activity.progress

    simulated(scenario)


@pytest.mark.parametrize(("retry", "status"), [(True, "running"), (False, "stalled")])
def test_a_worker_says_whether_to_try_again(retry: bool, status: str) -> None:
    """The definition says how, for errors that it names; the worker can say that it would be in vain."""
    definition = CHECK.replace("retry: []", "retry: [ { errors: [broken], interval: 1m } ]")

    async def scenario(kit: Kit) -> None:
        run = await started(kit, definition=definition)
        ticket = (await polled(kit)).ticket
        event = Failed(path=ticket.path, serial=ticket.serial, error="broken", retry=retry)
        assert await kit.node.run(Desk(kit.node.host).answer("acme", ticket, event))
        assert status == (await run.look(0)).status

    simulated(scenario)


def test_an_answer_that_is_too_large_leaves_the_task_with_its_worker() -> None:
    """So it can say that it has failed."""

    async def scenario(kit: Kit) -> None:
        run = await started(kit)
        ticket = (await polled(kit)).ticket
        with pytest.raises(PayloadTooLargeError):
            await answered(kit, ticket, "x" * 100_000)
        event = Failed(path=ticket.path, serial=ticket.serial, error="payload.too_large")
        assert await kit.node.run(Desk(kit.node.host).answer("acme", ticket, event))
        assert "stalled" == (await run.look(0)).status

    simulated(scenario)


def test_a_ticket_of_a_run_that_is_not_there_is_unknown() -> None:
    """The run may have been purged."""

    async def scenario(kit: Kit) -> None:
        await started(kit)
        ticket = (await polled(kit)).ticket
        gone = msgspec.structs.replace(ticket, lease=msgspec.structs.replace(ticket.lease, run="gone"))
        with pytest.raises(NotFoundError):
            await answered(kit, gone)

    simulated(scenario)


def test_a_task_whose_run_is_gone_is_given_to_nobody() -> None:
    """It is forgotten, and whoever polls waits on for one that is wanted."""

    async def scenario(kit: Kit) -> None:
        await offered(kit, 2)
        waiting = asyncio.ensure_future(polled(kit, wait_ms=20_000))
        await kit.advance(1_000)
        assert 0 == (await queue_of(kit).look()).leased
        await started(kit)
        assert "r-1" == (await waiting).ticket.run

    simulated(scenario)


def test_a_task_whose_run_cannot_be_asked_is_offered_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody counts as lost for it."""
    failures: list[str] = []

    async def scenario(kit: Kit) -> None:
        await started(kit)
        waiting = asyncio.ensure_future(polled(kit, wait_ms=20_000))
        await kit.advance(4_000)
        assert (1, False) == (len(failures), waiting.done())
        assert (0, 2) == ((await waiting).lost, (await waiting).ticket.lease.nth)
        assert () == (await queue_of(kit).look()).lost

    hand_out = WorkflowRun.hand_out

    def once_broken(run: WorkflowRun, serial: int, worker: str, lease: int) -> Any:
        if not failures:
            failures.append(worker)
            raise ValueError("broken")
        return hand_out(run, serial, worker, lease)

    monkeypatch.setattr(WorkflowRun, "hand_out", once_broken)
    simulated(scenario)


def test_a_step_whose_queue_has_an_impossible_name_fails() -> None:
    """The name is made when the step begins, so no validation can see it."""

    async def scenario(kit: Kit) -> None:
        run = await started(kit, definition=CHECK.replace("task: kyc", "task: \"{% '' %}\""))
        (incident,) = incidents((await run.look(0)).run)
        assert incident.failure is not None
        assert "queue.bad_name" == incident.failure.error

    simulated(scenario)


def test_a_run_whose_queue_is_full_offers_its_task_until_there_is_room() -> None:
    """It is not stuck: its alarm rings for it."""

    async def scenario(kit: Kit) -> None:
        queue = await offered(kit, QUEUE_TASKS_MAX)
        run = await started(kit, name="late")
        assert () == stuck((await run.look(0)).run)
        for _ in range(QUEUE_TASKS_MAX // 50):
            for task in await leased(queue, 50):
                await queue.finish(task.number)
        await kit.advance(60_000)
        assert "late" == (await polled(kit)).ticket.run

    simulated(scenario)


UNDONE = """
workflow: check
start: book
steps:
  book: { task: kyc, compensate: { task: kyc, input: { undo: true } }, next: off }
  off: { fail: { error: check.off }, compensate_all: true }
"""


def test_a_compensation_can_be_a_task() -> None:
    """A worker that is lost over it costs a lease; when it is done, the run has failed."""

    async def scenario(kit: Kit) -> None:
        run = await started(kit, definition=UNDONE)
        await answered(kit, (await polled(kit)).ticket)
        assert {"undo": True} == (await polled(kit, wait_ms=1_000)).handed.input
        given = await polled(kit, wait_ms=20_000)
        desk = Desk(kit.node.host)
        assert (await kit.node.run(desk.beat("acme", given.ticket, {"done": 1}))).wanted
        assert await answered(kit, given.ticket)
        assert "failed" == (await run.look(0)).status

    simulated(scenario)
