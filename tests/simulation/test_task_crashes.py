"""Tasks over crashes and lost replies: whatever is lost, each is done at least once with one key, and counts once."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from services.workflows.desk import Desk
from services.workflows.events import Completed
from services.workflows.refusals import AlreadyCompletedError, RunClosedError, RunExistsError, SupersededError
from services.workflows.run import WorkflowRun
from shared.errors import TenureError
from shared.testing.cluster import NodeDiedError
from shared.testing.faults import FaultKind
from shared.testing.kit import Kit, run_with_kit
from tests.support.carried import Installed
from tests.support.runs import begin, told
from tests.support.tasks import LEASE_MS, QUEUE, queue_of

FLOW = """
workflow: flow
start: both
steps:
  both:
    parallel:
      branches:
        left: { start: a, steps: { a: { task: kyc, input: left, timeout: 10m, end: true } } }
        right: { start: b, steps: { b: { task: kyc, input: right, heartbeat: 1m, timeout: 10m, end: true } } }
    next: last
  last: { task: kyc, input: last, timeout: 10m, end: true }
"""


class Worker:
    """Does whatever it is given, and says so until it is heard; it remembers the keys of what it was given."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self.keys: list[str] = []

    async def work(self, ended: Callable[[], bool]) -> None:
        """Go on until there is nothing more to do."""
        while not ended():
            for given in await self._said(
                lambda desk: desk.poll(QUEUE, "w", count=2, lease_ms=LEASE_MS, wait_ms=1_000), []
            ):
                self.keys.append(given.handed.key)
                result = f"{given.handed.input} done"
                event = Completed(path=given.ticket.path, serial=given.ticket.serial, result=result)
                await self._said(lambda desk, of=given, event=event: desk.answer("acme", of.ticket, event), None)

    async def _said(self, what: Callable[..., Any], otherwise: Any) -> Any:
        for _ in range(50):
            try:
                return await self._kit.node.run(what(Desk(self._kit.node.host)))
            except (SupersededError, AlreadyCompletedError, RunClosedError):
                return otherwise
            except (NodeDiedError, TenureError):
                await asyncio.sleep(0.5)
        raise AssertionError("nobody has heard it")


async def outcome_of(kit: Kit, *, dies_at: int = 0, late_ms: int = 0) -> tuple[Any, set[str], list[str]]:
    """The output, the keys of the tasks, and what happened, in order of names. The node dies if told.

    A lease that nobody knows of ends by the heartbeat of its step, if it has one: that attempt is made again.
    """

    async def die() -> None:
        while kit.faults.calls.get("commit", 0) < dies_at:  # noqa: ASYNC110  # A store tells nobody that it is called.
            await asyncio.sleep(0.0005)
        await asyncio.sleep(late_ms / 1000)
        await kit.kill()

    killer = asyncio.ensure_future(die()) if dies_at else None
    run = kit.at(WorkflowRun, "acme", "r-1")
    over = False
    worker = Worker(kit)
    working = asyncio.ensure_future(worker.work(lambda: over))
    for _ in range(200):
        try:
            await run.start(begin(FLOW))
            break
        except (NodeDiedError, RunExistsError):
            await asyncio.sleep(0.5)
    look = None
    for _ in range(200):
        try:
            look = await run.look(0)
        except (NodeDiedError, TenureError):
            look = None
        if look is not None and look.run.phase == "ended":
            break
        await asyncio.sleep(0.5)
    over = True
    await working
    assert look is not None
    assert "ended" == look.run.phase
    if killer is not None:
        assert killer.done(), "the run was over before the node died"
    await kit.advance(LEASE_MS * 2)
    queue = await queue_of(kit).look()
    assert (0, 0) == (queue.waiting, queue.leased), "nothing is left behind"
    history = sorted(line for line in await told(run) if line != "step.retried both/right/b")
    return (await run.look(0)).run.ending.output, set(worker.keys), history


def simulated(**trouble: int) -> tuple[Any, set[str], list[str]]:
    """The outcome of one run with its worker."""
    seen: list[Any] = []

    async def scenario(kit: Kit) -> None:
        seen.append((*await outcome_of(kit, **trouble), kit.faults.calls["commit"]))

    run_with_kit(scenario, kinds=Installed().kinds)
    (outcome,) = seen
    COMMITS.append(outcome[3])
    return outcome[0], outcome[1], outcome[2]


COMMITS: list[int] = []


def test_a_crash_at_any_commit_loses_no_task_and_counts_none_twice() -> None:
    """Before the commit is stored, with it, and after it: the output, the keys and the history are the same."""
    COMMITS.clear()
    without = simulated()
    assert ("last done", {"r-1/both:1/left/a:1", "r-1/both:1/right/b:1", "r-1/last:1"}) == without[:2]
    seen = {
        (dies_at, late_ms): simulated(dies_at=dies_at, late_ms=late_ms)
        for dies_at in range(1, COMMITS[0] - 3)
        for late_ms in (0, 1, 3)
    }
    assert len(seen) > 30
    assert dict.fromkeys(seen, without) == seen


@pytest.mark.parametrize("kind", [FaultKind.REPLY_LOST, FaultKind.REQUEST_LOST, FaultKind.REPEAT])
def test_a_commit_whose_reply_is_lost_or_that_comes_twice_changes_nothing(kind: FaultKind) -> None:
    """Whichever it is: it is known again, or is made again."""
    COMMITS.clear()
    without = simulated()
    for nth in range(1, COMMITS[0] - 3):
        seen: list[Any] = []

        async def scenario(kit: Kit, nth: int = nth, seen: list[Any] = seen) -> None:
            kit.faults.next("commit", kind, nth=nth, delay_ms=20)
            seen.append(await outcome_of(kit))

        run_with_kit(scenario, kinds=Installed().kinds)
        assert [without] == seen
