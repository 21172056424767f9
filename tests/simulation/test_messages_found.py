"""Faults that reviews have found in messages, each with the test that fails without its mend."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from shared.objects.address import Address
from shared.objects.courier import Courier
from shared.storage.interface import LoadOrder, Loads, ObjectWrite
from shared.testing.clock import START_MS, LoopClock, run_virtual
from shared.testing.faults import FaultKind, FaultyStore
from shared.testing.store import MemoryStore
from tests.simulation.test_messages import DESK, KINDS, Desk, Office, QuickDesk, filed, office, outbox
from tests.support.simulated import core, memory


@pytest.mark.parametrize("busy_s", [0.01, 13.15], ids=["buried behind it", "buried ahead of it"])
def test_a_dead_letter_stays_dead_though_its_sender_stores_anew_what_it_has_sent(
    busy_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knew whether the checkpoint that sent it had arrived: it had, and the letter was refused meanwhile."""
    bury, buried = Courier._bury, []

    def counted(*args: Any) -> ObjectWrite:
        buried.append(args)
        return bury(*args)

    monkeypatch.setattr(Courier, "_bury", counted)

    async def main() -> None:
        store = FaultyStore(memory())
        quick = Address("quick_desk", "acme", "one")
        async with core(store, kinds=KINDS) as a:
            await a.host.call(office("n"), Office.set, "closed", True)  # As above.
            resting = asyncio.ensure_future(a.host.call(office("n"), Office.rest, busy_s))
            await a.host.call(quick, QuickDesk.issue, ["n"])
            store.next("commit", FaultKind.REPLY_LOST)
            await asyncio.sleep(0.3)
            store.away = True
            await asyncio.sleep(10)  # The lease is over, and the verdict unknown.
            store.away = False
            for nth in (
                1,
                2,
                3,
            ):  # The next checkpoint fails for certain, and one 250 ms later carries all of it again.
                store.next("commit", FaultKind.REQUEST_LOST, nth=nth)
            await asyncio.sleep(2.9)
            await resting
            await a.host.call(office("n"), Office.set, "closed", busy_s < 1)  # As above.
            await asyncio.sleep(60)
            assert [True] == [message.dead_ms > 0 for message in await outbox(store, quick)]
            assert ([], 1, 0) == (await filed(a, "n"), len(buried), a.host.courier.held)
        store.check()

    run_virtual(main)


def test_a_message_is_lost_with_the_commit_that_sent_it() -> None:
    """A checkpointed sender keeps its state over a store that went back in time, but not what it has sent since then."""

    async def main() -> None:
        store = memory()
        quick = Address("quick_desk", "acme", "one")
        async with core(store, kinds=KINDS) as a:
            resting = asyncio.ensure_future(a.host.call(office("n"), Office.rest, 3))
            await a.host.call(quick, QuickDesk.issue, ["n"], durability="committed")
            backup = store.snapshot()
            await a.host.call(quick, QuickDesk.issue, ["n"], durability="committed")
            store.restore(backup)
            await asyncio.sleep(5)
            await asyncio.gather(resting, return_exceptions=True)
            assert 3 == await a.host.call(quick, QuickDesk.issue, ["n"])
            await asyncio.sleep(60)
            assert [1, 3] == await filed(a, "n")
            assert [] == await outbox(store, quick)

    run_virtual(main)


def test_an_epoch_does_not_fall_on_a_replica_whose_clock_is_behind() -> None:
    """The place of a message is taken from it: with a lower one, a receiver in memory would take new messages for old."""

    async def main() -> None:
        store = memory()
        async with core(store, kinds=KINDS) as a:
            backup = store.snapshot()
            await asyncio.sleep(1)
            a.ownership.suspend(a.ownership.shards)
            await asyncio.sleep(1)
            before = [shard.fence.epoch for shard in a.ownership.shards]
            store.restore(backup)
            store._clock = LoopClock(asyncio.get_running_loop(), START_MS - 3_600_000)
            await asyncio.sleep(5)
            after = [shard.fence.epoch for shard in a.ownership.shards]
            assert [True] * len(before) == [old < new for old, new in zip(before, after, strict=True)]

    run_virtual(main)


class SlowToTell(MemoryStore):
    """What it answers to a load is old when it arrives."""

    slow_s = 0.0

    async def load(self, orders: Sequence[LoadOrder]) -> Loads:
        loads = await super().load(orders)
        await asyncio.sleep(self.slow_s)
        return loads


def test_a_message_that_leaves_while_its_sender_is_loaded_makes_room() -> None:
    """What the load has read is of before."""

    async def main() -> None:
        store = SlowToTell(LoopClock(asyncio.get_running_loop()), latency_ms=5)
        async with core(store, kinds=KINDS) as a:
            resting = asyncio.ensure_future(a.host.call(office("n"), Office.rest, 2))
            await a.host.call(DESK, Desk.issue, ["n"])
            await asyncio.sleep(1.5)
            assert a.host.residents.passivate(DESK)
            store.slow_s = 1
            await a.host.call(DESK, Desk.issue, [])
            await resting
            assert [] == await outbox(store)
            assert set() == a.host.residents.by_address[DESK].state.kept.outstanding  # type: ignore[union-attr]  # No native kind.

    run_virtual(main)
