"""A run takes the place of another, over crashes: one of them has the id, and all that the other has begun is recalled."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from services.workflows.desk import Desk
from services.workflows.events import Completed
from services.workflows.liveness import stuck
from services.workflows.run import WorkflowRun
from shared.errors import TenureError
from shared.testing.cluster import NodeDiedError
from shared.testing.kit import Kit, Ref, run_with_kit
from tests.support.carried import Installed
from tests.support.runs import begin, told
from tests.support.tasks import LEASE_MS, QUEUE, queue_of

OLD = """
workflow: old
start: all
steps:
  all:
    parallel:
      branches:
        docs: { start: a, steps: { a: { task: kyc, timeout: 1h, end: true } } }
        room: { start: b, steps: { b: { child: { workflow: room }, end: true } } }
        ask: { start: c, steps: { c: { wait: { title: Old, assign: { group: g } }, end: true } } }
    end: true
"""
NEW = OLD.replace("workflow: old", "workflow: new").replace("title: Old", "title: New")
ROOM = "workflow: room\nstart: a\nsteps: { a: { wait: { title: Stay }, end: true } }"
PARENT = "workflow: parent\nstart: a\nsteps: { a: { child: { workflow: old, id: r-1 }, retry: [], end: true } }"


async def said(what: Callable[[], Awaitable[Any]]) -> Any:
    """Say it until somebody has heard it."""
    for _ in range(50):
        try:
            return await what()
        except (NodeDiedError, TenureError):
            await asyncio.sleep(0.5)
    raise AssertionError("nobody has heard it")


async def outcome_of(kit: Kit, *, dies_at: int = 0, late_ms: int = 0) -> tuple[Any, ...]:
    """What there is in the end. The node dies at the `dies_at`-th commit after the new run was asked for."""
    parent, run = kit.at(WorkflowRun, "acme", "p-1"), kit.at(WorkflowRun, "acme", "r-1")
    await parent.start(begin(PARENT))
    await kit.advance(1_000)
    before = kit.faults.calls["commit"]

    async def die() -> None:
        while kit.faults.calls["commit"] < before + dies_at:  # noqa: ASYNC110  # A store tells nobody that it is called.
            await asyncio.sleep(0.0005)
        await asyncio.sleep(late_ms / 1000)
        await kit.kill()

    killer = asyncio.ensure_future(die()) if dies_at else None
    await said(lambda: run.start(begin(NEW, replace=True)))
    await kit.advance(30_000)
    if killer is not None:
        assert killer.done(), "all was over before the node died"
    COMMITS.append(kit.faults.calls["commit"] - before)
    assert () == stuck((await run.look(0)).run)
    return (*(await things_of(kit, run)), (await parent.look(0)).status)


async def things_of(kit: Kit, run: Ref) -> tuple[Any, ...]:
    """History, the status of either child, and the keys of the tasks that are given out."""
    children = [(await kit.at(WorkflowRun, "acme", name).look(0)).status for name in CHILDREN]
    taken = kit.node.run(Desk(kit.node.host).poll(QUEUE, "w", count=5, lease_ms=LEASE_MS, wait_ms=1_000))
    given = await taken
    for one in given:
        event = Completed(path=one.ticket.path, serial=one.ticket.serial)
        assert await kit.node.run(Desk(kit.node.host).answer("acme", one.ticket, event))
    assert (0, 0) == ((look := await queue_of(kit).look()).waiting, look.leased)
    history = await told(run)
    return sorted(history[:-1]), history.index("run.terminated"), children, [one.handed.key for one in given]


CHILDREN = ("r-1/all:1/room/b:1", "r-1/~2/all:1/room/b:1")
COMMITS: list[int] = []


def simulated(**trouble: int) -> tuple[Any, ...]:
    """The outcome with one crash, or none."""
    seen: list[tuple[Any, ...]] = []

    async def scenario(kit: Kit) -> None:
        seen.append(await outcome_of(kit, **trouble))

    run_with_kit(scenario, kinds=Installed({"old": OLD, "room": ROOM}).kinds)
    return seen[0]


def test_the_old_run_is_recalled_and_the_new_one_is_alone() -> None:
    """The child is cancelled, the task is given to nobody, and whoever waited for the old run hears how it ended."""
    _, at, children, keys, parent = simulated()

    assert (["cancelled", "running"], ["r-1/~2/all:1/docs/a:1"], "stalled") == (children, keys, parent)
    assert at > 0


def test_a_crash_at_any_commit_leaves_one_of_the_two() -> None:
    """Before the commit is stored, with it, and after it: in the end all is as without a crash."""
    without = simulated()
    for dies_at in range(1, COMMITS[-1] - 1):
        for late_ms in (0, 1, 3):
            assert without == simulated(dies_at=dies_at, late_ms=late_ms), (dies_at, late_ms)
