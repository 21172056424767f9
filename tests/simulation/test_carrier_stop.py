"""A node that stops: what runs have under way outside has a while to end, and what has not is carried out by the next."""

import asyncio
from typing import Any

from services.workflows.bounds import ERRANDS_STOP_MS, RESEND_MS
from services.workflows.run import WorkflowRun
from shared.testing.kit import Kit, run_with_kit
from tests.support.carried import Installed
from tests.support.receivers import Made, Receivers, replied
from tests.support.runs import begin

CALL = """
workflow: w
start: a
steps:
  a: { http: { POST: "https://there.example/", body: 1 }, next: b }
  b: { http: { POST: "https://there.example/", body: 2 }, end: true }
"""


def stopped(call_ms: int, scenario: Any) -> Receivers:
    """Run a scenario with a run whose first call has been under way for 10 ms, and a carrier that stops; the calls."""

    async def answer_late(made: Made) -> None:
        await asyncio.sleep(call_ms / 1000)

    calls = Receivers(replied(200, {"done": True}), before=answer_late)
    installed = Installed(calls=calls)

    async def main(kit: Kit) -> None:
        run = kit.at(WorkflowRun, "acme", "r-1")
        await run.start(begin(CALL))
        await kit.advance(10)
        assert (1, 1) == (len(calls.made), installed.carrier.under_way)
        began_ms = kit.now_ms()
        await installed.carrier.stop()
        assert 0 == installed.carrier.under_way
        await scenario(kit, run, kit.now_ms() - began_ms)

    run_with_kit(main, kinds=installed.kinds)
    return calls


def test_a_call_that_ends_in_time_counts_and_no_other_begins() -> None:
    """Its answer is stored before the node leaves; the next call is for the next node."""

    async def scenario(kit: Kit, run: Any, took_ms: int) -> None:
        assert took_ms < ERRANDS_STOP_MS
        (activity,) = [scope.activity for scope in (await run.look(0)).run.scopes.values()]
        assert "b" == activity.step
        await kit.advance(2 * RESEND_MS)
        assert ["b"] == [errand.intent.path for errand in await run.errands()]

    calls = stopped(1_000, scenario)
    assert ["r-1/a:1"] == [made.key for made in calls.made]


def test_a_call_that_takes_longer_is_given_up_and_stays_with_its_run() -> None:
    """After 3 s; it is sent again with the same key, as after a crash."""

    async def scenario(kit: Kit, run: Any, took_ms: int) -> None:
        assert ERRANDS_STOP_MS <= took_ms < ERRANDS_STOP_MS + 100
        assert [("a", "a:1")] == [(one.intent.path, one.intent.key) for one in await run.errands()]

    stopped(60_000, scenario)


def test_stopping_with_nothing_under_way_takes_no_time() -> None:
    """And may be done before anything began."""

    async def scenario(kit: Kit) -> None:
        began_ms = kit.now_ms()
        await Installed().carrier.stop()
        assert began_ms == kit.now_ms()

    run_with_kit(scenario, kinds=[WorkflowRun])
