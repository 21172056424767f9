"""The end of the onboarding example, as it is written there: two objects are changed together, or neither is."""

import asyncio
from typing import Any

import msgspec
import pytest

from examples.onboarding.objects import HELD_MS, Listing, OwnerAccount
from services.workflows.definition import read_yaml
from services.workflows.events import Cancelled
from services.workflows.run import WorkflowRun
from shared.testing.cluster import NodeDiedError
from shared.testing.kit import Kit, run_with_kit
from tests.architecture.tree import ROOT
from tests.support.carried import Installed
from tests.support.runs import begin, told

ONBOARDING = ROOT / "examples/onboarding/onboarding.yaml"
GIVEN = {"property_id": "p-1", "owner": "ann", "region": "eu"}
FREE = {"state": "free", "report": None}
PUBLISHED = {"state": "published", "report": {"score": 95}}


def saga() -> str:
    """The steps from the reservation on; what comes before gives a report, and what comes after calls nobody."""
    tree: dict[str, Any] = read_yaml(ONBOARDING.read_text()).tree
    steps = {name: tree["steps"][name] for name in ("reserve_listing", "reserve_account", "commit")}
    report = {"pass": {"score": 95}, "assign_vars": {"report": "{% $result %}"}, "next": "reserve_listing"}
    done = {"pass": "done", "end": True}
    return msgspec.json.encode(
        {"workflow": "saga", "start": "report", "steps": {"report": report, **steps, "notify": done}}
    ).decode()


def installed() -> Installed:
    """The service with the two kinds of the example."""
    return Installed(objects=[Listing, OwnerAccount])


async def seen(kit: Kit) -> tuple[Any, Any]:
    """The listing and the account, as they are."""
    listing = await kit.at(Listing, "acme", "p-1").read()
    account = await kit.at(OwnerAccount, "acme", "ann").read()
    return msgspec.to_builtins(listing), msgspec.to_builtins(account)


async def status_of(kit: Kit, within_ms: int = 120_000) -> str:
    """How the run has ended, or what it is at after a while."""
    look = await kit.at(WorkflowRun, "acme", "s-1").look(kit.now_ms() + within_ms)
    status: str = look.status
    return status


def test_both_objects_are_changed() -> None:
    """Reserved, committed, and no lease is left."""

    async def scenario(kit: Kit) -> None:
        await kit.at(WorkflowRun, "acme", "s-1").start(begin(saga(), GIVEN))
        assert "succeeded" == await status_of(kit)
        assert (PUBLISHED, {"listed": 1, "held": 0}) == await seen(kit)
        assert ({}, {}) == (
            kit.alarms(kit.at(Listing, "acme", "p-1")),
            kit.alarms(kit.at(OwnerAccount, "acme", "ann")),
        )

    run_with_kit(scenario, kinds=installed().kinds)


def test_where_one_refuses_the_other_is_given_back() -> None:
    """The account is full: the step stalls, and who cancels the run finds the listing free."""

    async def scenario(kit: Kit) -> None:
        for _ in range(3):
            await kit.at(OwnerAccount, "acme", "ann").prepare()
        run = kit.at(WorkflowRun, "acme", "s-1")
        await run.start(begin(saga(), GIVEN))
        assert "stalled" == await status_of(kit, within_ms=1_000)
        assert "held" == (await seen(kit))[0]["state"]
        await run.happen(Cancelled())
        assert "cancelled" == await status_of(kit)
        assert (FREE, {"listed": 0, "held": 3}) == await seen(kit)

    run_with_kit(scenario, kinds=installed().kinds)


@pytest.mark.slow
def test_what_nobody_commits_is_given_back_after_a_day() -> None:
    """A coordinator that is gone for good holds nobody."""

    async def scenario(kit: Kit) -> None:
        await kit.at(Listing, "acme", "p-1").prepare({"score": 1})
        await kit.at(OwnerAccount, "acme", "ann").prepare()
        await kit.advance(HELD_MS)
        assert (FREE, {"listed": 0, "held": 0}) == await seen(kit)

    run_with_kit(scenario, kinds=installed().kinds, limit_ms=2 * HELD_MS)


@pytest.mark.parametrize("dies_at", range(1, 8))
def test_a_crash_at_any_commit_leaves_both_or_neither(dies_at: int) -> None:
    """At the pivot too: in the end both are committed, each once, and the history is that without a crash."""

    async def scenario(kit: Kit) -> None:
        async def die() -> None:
            while kit.faults.calls.get("commit", 0) < dies_at:  # noqa: ASYNC110  # A store tells nobody of its calls.
                await asyncio.sleep(0.0005)
            await asyncio.sleep(0.001 * (dies_at % 3))
            await kit.kill()

        killer = asyncio.ensure_future(die())
        run = kit.at(WorkflowRun, "acme", "s-1")
        for _ in range(20):
            try:
                await run.start(begin(saga(), GIVEN))
                assert "succeeded" == await status_of(kit)
                break
            except NodeDiedError:
                await asyncio.sleep(0.5)
        assert killer.done(), "the run was over before the node died"
        assert (PUBLISHED, {"listed": 1, "held": 0}) == await seen(kit)
        assert [
            "run.started",
            "step.entered report",
            "step.completed report",
            "step.entered reserve_listing",
            "step.completed reserve_listing",
            "step.entered reserve_account",
            "step.completed reserve_account",
            "step.entered commit",
            "run.past_pivot",
        ] == (await told(run))[:9]

    run_with_kit(scenario, kinds=installed().kinds)
