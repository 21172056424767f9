"""Tasks that workers lease from a queue: in order, one holder at a time, and given back by time."""

import asyncio

import msgspec
import pytest

from services.workflows.backlog import Offer
from services.workflows.bounds import QUEUE_KEPT_MS, QUEUE_TASKS_MAX
from services.workflows.queue import LISTED, TaskQueue
from services.workflows.refusals import (
    QueueFullError,
    SupersededError,
)
from shared.objects.errors import OverloadedError
from shared.testing.kit import Kit
from tests.support.tasks import LEASE_MS, QUEUE, leased, names, offered, queue_of, simulated


def test_the_oldest_task_is_given_first_whoever_had_it_meanwhile() -> None:
    """One that was given back, and one whose worker was lost, keep their places."""

    async def scenario(kit: Kit) -> None:
        queue = await offered(kit, 4)
        first, second = await leased(queue, 2)
        assert ["r-0", "r-1"] == names((first, second))
        assert await queue.release(second.lease)
        assert ["r-1"] == names(await leased(queue))
        await kit.advance(LEASE_MS)
        assert ["r-0", "r-1", "r-2", "r-3"] == names(await leased(queue, 9))

    simulated(scenario)


def test_a_task_that_is_offered_again_is_there_once() -> None:
    """Of each attempt there is one, also while a worker has it."""

    async def scenario(kit: Kit) -> None:
        queue = await offered(kit, 1)
        await offered(kit, 1)
        assert ["r-0"] == names(await leased(queue, 9))
        await offered(kit, 1)
        assert () == await leased(queue)
        await queue.offer(Offer(run="r-0", serial=2))
        assert ["r-0"] == names(await leased(queue))

    simulated(scenario)


def test_a_full_queue_refuses_and_forgets_nothing() -> None:
    """What is there already is no new task; and there is room again when one is done."""

    async def scenario(kit: Kit) -> None:
        queue = await offered(kit, QUEUE_TASKS_MAX)
        with pytest.raises(QueueFullError):
            await queue.offer(Offer(run="late", serial=1))
        await queue.offer(Offer(run="r-0", serial=1))
        (task,) = await leased(queue)
        await queue.finish(task.number)
        await queue.offer(Offer(run="late", serial=1))
        assert QUEUE_TASKS_MAX == (await queue.look()).waiting

    simulated(scenario)


def test_a_queue_of_the_longest_names_can_be_stored() -> None:
    """Its bound is within that of an object, with every task in hand."""

    async def scenario(kit: Kit) -> None:
        queue = queue_of(kit)
        for number in range(QUEUE_TASKS_MAX):
            name = f"{number:0256d}"
            await queue.offer(Offer(run=name, serial=10**9, due_ms=2**52, heartbeat_ms=10**9))
        for _ in range(QUEUE_TASKS_MAX // 50):
            assert 50 == len(await leased(queue, 50, worker="w" * 128))
        await kit.evict(queue)
        assert QUEUE_TASKS_MAX == (await queue.look()).leased

    simulated(scenario)


def test_a_lease_ends_by_itself_and_never_early() -> None:
    """Then the task waits again, the queue shows whom it has lost, and the old lease holds nothing."""

    async def scenario(kit: Kit) -> None:
        queue = await offered(kit, 1)
        (task,) = await leased(queue, worker="first")
        await kit.advance(LEASE_MS - 100)
        assert "held" == await queue.standing(task.lease)
        assert () == (await queue.look()).lost
        await kit.advance(100)
        look = await queue.look()
        assert ["first"] == [lost.worker for lost in look.lost]
        assert (1, 0) == (look.waiting, look.leased)
        (again,) = await leased(queue, worker="second")
        assert ("superseded", "held") == (await queue.standing(task.lease), await queue.standing(again.lease))

    simulated(scenario)


def test_of_several_leases_each_ends_at_its_own_time() -> None:
    """One alarm sees to all of them."""

    async def scenario(kit: Kit) -> None:
        queue = await offered(kit, 2)
        (first,) = await leased(queue)
        await kit.advance(3_000)
        (second,) = await leased(queue)
        await kit.advance(LEASE_MS - 2_900)
        assert ("superseded", "held") == (await queue.standing(first.lease), await queue.standing(second.lease))
        await kit.advance(3_000)
        assert "superseded" == await queue.standing(second.lease)

    simulated(scenario)


def test_a_sign_of_life_extends_the_lease_by_its_length() -> None:
    """From the moment of the sign on; without one it ends, and then no sign brings it back."""

    async def scenario(kit: Kit) -> None:
        queue = await offered(kit, 1)
        (task,) = await leased(queue)
        for _ in range(5):
            await kit.advance(LEASE_MS - 1_000)
            beat = await queue.beat(task.lease)
            assert beat.wanted
            assert 0 <= beat.until_ms - kit.now_ms() - LEASE_MS + 50 <= 50
        await kit.advance(LEASE_MS)
        with pytest.raises(SupersededError):
            await queue.beat(task.lease)
        with pytest.raises(SupersededError):
            await queue.release(task.lease)

    simulated(scenario)


def test_a_lease_lasts_longer_than_the_heartbeat_of_its_step() -> None:
    """So the run, which knows what a missed heartbeat means, is the first to see one."""

    async def scenario(kit: Kit) -> None:
        queue = queue_of(kit)
        await queue.offer(Offer(run="r-0", serial=1, heartbeat_ms=30_000))
        (task,) = await leased(queue, lease_ms=1_000)
        await kit.advance(34_000)
        assert "held" == await queue.standing(task.lease)
        await kit.advance(2_000)
        assert "superseded" == await queue.standing(task.lease)

    simulated(scenario)


def test_a_task_that_nobody_wants_is_given_to_nobody() -> None:
    """One that waits is gone at once; whoever has one hears of it, cannot hold it longer, and nobody gets it after."""

    async def scenario(kit: Kit) -> None:
        queue = await offered(kit, 3)
        (held,) = await leased(queue)
        await queue.withdraw("r-0", 1)
        await queue.withdraw("r-1", 1)
        await queue.withdraw("nobody", 1)
        beat = await queue.beat(held.lease)
        assert (False, held.held.until_ms if held.held else 0) == (beat.wanted, beat.until_ms)
        assert ["r-2"] == names(await leased(queue, 9))
        assert not await queue.release(held.lease)
        assert "gone" == await queue.standing(held.lease)

    simulated(scenario)


def test_a_withdrawn_task_whose_worker_is_lost_is_no_loss() -> None:
    """It is forgotten when the lease ends."""

    async def scenario(kit: Kit) -> None:
        queue = await offered(kit, 1)
        await leased(queue)
        await queue.withdraw("r-0", 1)
        await kit.advance(LEASE_MS + 1_000)
        look = await queue.look()
        assert (0, 0, ()) == (look.waiting, look.leased, look.lost)

    simulated(scenario)


def test_a_task_past_its_time_is_given_to_nobody() -> None:
    """Its run has given it up by then; the worker gets the next one."""

    async def scenario(kit: Kit) -> None:
        queue = queue_of(kit)
        await queue.offer(Offer(run="late", serial=1, due_ms=kit.now_ms() + 1_000))
        await queue.offer(Offer(run="r-1", serial=1))
        await kit.advance(1_000)
        assert ["r-1"] == names(await leased(queue, 9))

    simulated(scenario)


def test_a_lease_is_known_by_its_secret() -> None:
    """Its number and its count are no secret, so they are not enough."""

    async def scenario(kit: Kit) -> None:
        queue = await offered(kit, 1)
        (task,) = await leased(queue)
        made_up = msgspec.structs.replace(task.lease, secret=b"12345678")
        assert "superseded" == await queue.standing(made_up)

    simulated(scenario)


def test_one_new_task_calls_one_of_a_thousand_that_wait() -> None:
    """The one that has waited longest, at once; the others are not asked. One more than a thousand is refused."""

    async def scenario(kit: Kit) -> None:
        queue = queue_of(kit)
        until_ms = kit.now_ms() + 25_000
        waiting = [asyncio.ensure_future(queue.poll("w", 1, 60_000, until_ms)) for _ in range(1_000)]
        await kit.advance(1_000)
        with pytest.raises(OverloadedError):
            await queue.poll("w", 1, LEASE_MS, until_ms)
        before = kit.node.host.turns_of(QUEUE)
        await offered(kit, 3)
        await kit.advance(10)
        assert [0, 1, 2] == [number for number, task in enumerate(waiting) if task.done()]
        assert [["r-0"], ["r-1"], ["r-2"]] == [names(await task) for task in waiting[:3]]
        assert 6 == kit.node.host.turns_of(QUEUE) - before
        await kit.advance(24_500)
        assert 997 == sum(task.done() and not task.result() for task in waiting)

    simulated(scenario)


def test_many_tasks_at_once_are_given_to_as_many_that_wait() -> None:
    """Also those that come back when their leases end: each calls somebody."""

    async def scenario(kit: Kit) -> None:
        queue = await offered(kit, 5)
        await leased(queue, 5, worker="lost")
        until_ms = kit.now_ms() + 25_000
        waiting = [asyncio.ensure_future(queue.poll("w", 2, LEASE_MS, until_ms)) for _ in range(4)]
        await kit.advance(LEASE_MS + 100)
        assert [2, 2, 1] == [len(await task) for task in waiting[:3]]
        assert not waiting[3].done()
        waiting[3].cancel()

    simulated(scenario)


def test_a_poll_goes_on_when_its_queue_has_left_memory() -> None:
    """Those who wait are not lost with the instance that they waited for."""

    async def scenario(kit: Kit) -> None:
        queue = queue_of(kit)
        waiting = asyncio.ensure_future(queue.poll("w", 1, LEASE_MS, kit.now_ms() + 20_000))
        await kit.advance(100)
        kit.node.host.residents.evict(kit.node.host.residents.by_address[QUEUE])
        await kit.advance(100)
        await offered(kit, 1)
        assert ["r-0"] == names(await waiting)

    simulated(scenario)


def test_a_queue_is_listed_until_it_has_been_empty_for_long() -> None:
    """And for as long as it has a task."""

    async def scenario(kit: Kit) -> None:
        queue = await offered(kit, 1)
        (task,) = await leased(queue, lease_ms=12 * 3_600_000)
        assert ["kyc"] == [row.address.name for row in await kit.find(TaskQueue, "acme", LISTED, "")]
        await queue.finish(task.number)
        await queue.finish(task.number)
        assert {} == kit.alarms(queue)
        assert [QUEUE_KEPT_MS // 3_600_000] == [expiry_of(kit) // 3_600_000]
        await offered(kit, 1)
        assert 0 == kit.node.host.residents.by_address[QUEUE].state.expire_at_ms

    simulated(scenario)


def expiry_of(kit: Kit) -> int:
    """How long the queue is kept from now on, in ms, and a little more."""
    return kit.node.host.residents.by_address[QUEUE].state.expire_at_ms - kit.now_ms() + 1_000


def test_what_becomes_of_tasks_is_counted() -> None:
    """And how long each waited until a worker got it for the first time."""

    async def scenario(kit: Kit) -> None:
        queue = await offered(kit, 3)
        await kit.advance(3_000)
        _, released, finished = await leased(queue, 3)
        await queue.release(released.lease)
        await queue.finish(finished.number)
        await queue.withdraw("r-1", 1)
        await kit.advance(LEASE_MS)
        await leased(queue)
        text = kit.node.host.metrics.render_prometheus().decode()
        counted = dict.fromkeys(("offered", "leased", "finished", "released", "lost", "withdrawn"), 1.0)
        for event, count in (counted | {"offered": 3.0, "leased": 4.0}).items():
            assert f'tenure_workflow_tasks_total{{event="{event}"}} {count}' in text
        assert "tenure_workflow_task_wait_seconds_count 3.0" in text
        assert 'tenure_workflow_task_wait_seconds_bucket{le="2.5"} 0.0' in text

    simulated(scenario)
