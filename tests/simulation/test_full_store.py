"""A store without memory left, in virtual time: a clear refusal, nothing lost, and all well once there is room."""

import asyncio

import pytest

from shared.objects.address import Address
from shared.objects.errors import CommitFailedError, NoRoomError, OutcomeUnknownError
from shared.objects.host import NOT_NOW
from shared.objects.messages import Message
from shared.testing.clock import run_virtual
from shared.testing.faults import Fault, FaultKind, FaultyStore
from tests.simulation import test_messages as messages
from tests.support.simulated import Counter, Tally, core, memory

ONE = Address("counter", "acme", "one")
TALLY = Address("tally", "acme", "one")


def test_a_write_to_a_full_store_is_refused_for_certain_and_at_once() -> None:
    """The caller is told that there is no room, the object is as it was, and the next write with room counts."""

    async def main() -> None:
        store = memory()
        async with core(store) as a:
            await a.host.call(ONE, Counter.add, 1)
            store.full = True
            for _ in range(2):
                with pytest.raises(NoRoomError):
                    await a.host.call(ONE, Counter.add, 10, deadline_ms=100)
            assert 1 == await a.host.call(ONE, Counter.value)
            store.full = False
            assert 3 == await a.host.call(ONE, Counter.add, 2)

    run_virtual(main)


def test_a_full_store_lets_objects_go_and_owners_stay() -> None:
    """Deleting needs no room; a lease is renewed past its life; an object that is not in memory is loaded."""

    async def main() -> None:
        store = memory()
        async with core(store, lock_id="L") as a:
            await a.host.call(ONE, Counter.add, 1)
            await a.kill()
        store.full = True
        async with core(store, lock_id="L", node="b") as b:
            await asyncio.sleep(20)
            assert 1 == await b.host.call(ONE, Counter.value)
            await b.host.call(ONE, Counter.vanish)
        assert not [shard for shard in store.snapshot().shards.values() if shard.objects]

    run_virtual(main)


def test_an_alarm_can_be_disarmed_on_a_full_store() -> None:
    """A key or an alarm that is taken away writes nothing but the object's own record."""

    async def main() -> None:
        store = memory()
        async with core(store) as a:
            await a.host.call(ONE, Counter.arm, "x", 60_000)
            store.full = True
            assert await a.host.call(ONE, Counter.cancel, "x")
        assert not [shard.alarms for shard in store.snapshot().shards.values() if shard.alarms]

    run_virtual(main)


def test_a_message_becomes_a_dead_letter_on_a_full_store() -> None:
    """It is none more, so it does not fail what is taken away in the same step."""

    async def main() -> None:
        store = memory()
        desk = messages.DESK
        async with core(store, kinds=[*messages.KINDS, Counter], shards=1) as a:
            await a.host.call(ONE, Counter.add, 1)
            await a.host.call(messages.office("n"), messages.Office.set, "closed", True)
            resting = asyncio.ensure_future(a.host.call(messages.office("n"), messages.Office.rest, 0.5))
            await a.host.call(desk, messages.Desk.issue, ["n"], 5)
            store.full = True
            await resting
            await a.host.call(ONE, Counter.vanish)
            await asyncio.sleep(0.2)
            (shard,) = store.snapshot().shards.values()
            letters = [Message.decode(row.sent.message) for row in shard.outbox()]
            assert 5 == sum(letter.dead_ms > 0 for letter in letters)
            with pytest.raises(NoRoomError):
                await a.host.call(desk, messages.Desk.issue, ["n"])

    run_virtual(main)


def test_a_late_copy_cannot_make_a_refusal_untrue() -> None:
    """A flight in doubt that then meets a full store is fenced before it is called a failure."""

    async def main() -> None:
        within = memory()
        store = FaultyStore(within, [Fault(operation="commit", kind=FaultKind.DELAY, delay_ms=600)])
        async with core(store) as a:
            await a.host.call(ONE, Counter.value)
            write = asyncio.ensure_future(a.host.call(ONE, Counter.add, 1))
            await asyncio.sleep(0.2)
            within.full = True
            with pytest.raises(CommitFailedError):
                await write
            within.full = False
            await store.settle()
            assert 0 == await a.host.call(ONE, Counter.value)
            assert 1 == await a.host.call(ONE, Counter.add, 1)
        assert not store.unfired()

    run_virtual(main)


def test_checkpoints_that_are_refused_close_the_fast_way_until_one_is_stored() -> None:
    """Refusals at once must not look like a store that keeps up; with room, all in memory is stored, unknown or answered."""

    async def main() -> None:
        store = memory()
        async with core(store, lock_id="L") as a:
            await a.host.call(TALLY, Tally.hit)
            await asyncio.sleep(1)
            store.full = True
            assert 2 == a.host.try_now(TALLY, Tally.hit)
            await asyncio.sleep(0.9)
            assert 3 == a.host.try_now(TALLY, Tally.hit)
            for _ in range(20):
                await asyncio.sleep(0.25)
                assert a.host.try_now(TALLY, Tally.hit) is NOT_NOW
            with pytest.raises(OutcomeUnknownError):
                await a.host.call(TALLY, Tally.hit)
            store.full = False
            await asyncio.sleep(0.6)
            assert 5 == a.host.try_now(TALLY, Tally.hit)
            await asyncio.sleep(0.3)
            await a.kill()
        async with core(store, lock_id="L", node="b") as b:
            assert 5 == await b.host.call(TALLY, Tally.value)

    run_virtual(main)
