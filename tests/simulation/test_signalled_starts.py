"""A signal that begins a run, over crashes: the run and its signal are there together, or neither is."""

import asyncio

import pytest

from services.workflows.events import Cancelled, Completed, Signalled
from services.workflows.liveness import stuck
from services.workflows.refusals import RunClosedError, RunExistsError
from services.workflows.run import WorkflowRun
from shared.errors import NotFoundError
from shared.testing.cluster import NodeDiedError
from shared.testing.kit import Kit, run_with_kit
from tests.support.runs import begin, told

CART = """
workflow: cart
start: nap
steps: { nap: { sleep: 1m, next: add }, add: { wait: { signal: item }, next: pay }, pay: { wait: {}, end: true } }
"""
ITEM = Signalled(name="item", payload=1)


@pytest.mark.parametrize("delay_ms", range(8))
def test_a_crash_leaves_the_run_with_its_signal_or_no_run(delay_ms: int) -> None:
    """Whoever says it again, since nobody knows, has one run."""

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "c-1")
        sending = asyncio.ensure_future(run.start_or_signal(begin(CART), ITEM))
        await asyncio.sleep(delay_ms / 1000)
        await kit.kill()
        outcome = (await asyncio.gather(sending, return_exceptions=True))[0]
        assert outcome is True or isinstance(outcome, NodeDiedError)
        try:
            before = len((await run.look(0)).run.mailbox)
        except NotFoundError:
            before = 0
        assert (before == 0) == await run.start_or_signal(begin(CART), ITEM)
        seen = (await run.look(0)).run
        assert (before + 1, ()) == (len(seen.mailbox), stuck(seen))
        assert 1 == (await told(run)).count("run.started")

    run_with_kit(scenario, kinds=[WorkflowRun])


def test_a_signal_begins_a_run_again_once_the_last_has_ended() -> None:
    """With keys of its own; one that is being undone, or is of another definition, is no place to begin."""
    undone = """
workflow: cart
start: a
steps:
  a: { task: q, compensate: { task: q }, next: b }
  b: { fail: { error: off }, compensate_all: true }
"""

    async def scenario(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "c-1")
        assert await run.start_or_signal(begin(CART), ITEM)
        with pytest.raises(RunExistsError):
            await run.start_or_signal(begin(CART.replace("cart", "other")), ITEM)
        await run.happen(Cancelled())
        assert await run.start_or_signal(begin(undone), ITEM)
        (activity,) = [scope.activity for scope in (await run.look(0)).run.scopes.values()]
        assert "~2/a:1" == activity.key
        await run.settle(0, Completed(path="a", serial=activity.serial))
        with pytest.raises(RunClosedError):
            await run.start_or_signal(begin(undone), ITEM)

    run_with_kit(scenario, kinds=[WorkflowRun])
