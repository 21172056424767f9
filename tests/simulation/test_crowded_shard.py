"""What cannot go yet does not hide what comes after it: scans of a shard see more than its oldest rows."""

import asyncio

from shared import bounds
from shared.objects.address import Address
from shared.objects.sweeper import Sweeper
from shared.storage.interface import ClaimOrder, Fence, ObjectWrite, Section
from shared.testing.clock import LoopClock, run_virtual
from shared.testing.store import MemoryStore
from tests.support.simulated import Counter, core

ONE = Address("counter", "acme", "one")
CROWD = [Address("nobody", "acme", f"n{number}").encode() for number in range(2 * bounds.ALARM_SCAN_ROWS + 1)]
LAST = Address("nobody", "acme", "last").encode()


def memory() -> MemoryStore:
    return MemoryStore(LoopClock(asyncio.get_running_loop()), latency_ms=5)


async def crowd(store: MemoryStore, writes: list[ObjectWrite]) -> None:
    """Have an owner that is gone have written to shard 0."""
    claims = await store.claim([ClaimOrder(shard=0)], token=b"z", node="z", lock_id="", ttl_ms=0)
    section = Section(shard=0, fence=Fence(claims.leases[0].epoch, b"z"), seq=0, commit_id=b"c", writes=writes)
    await store.commit([section], ttl_ms=0, timeout_ms=1_000)


def test_alarms_behind_those_that_nobody_here_answers_ring() -> None:
    """However many alarms stay due in a shard, one that falls due later is found in the store, and on time."""

    async def main() -> None:
        store = memory()
        await crowd(store, [ObjectWrite(object_id=member, alarm_sets={member + b"x": 1}) for member in CROWD])
        Counter.rung.clear()
        async with core(store, shards=1) as a:
            await a.host.call(ONE, Counter.arm, "x", bounds.ALARM_HORIZON_MS + 30_000)
            await asyncio.sleep(91)
            assert 1 == len(Counter.rung)
            assert 0 <= Counter.rung[0] <= 100

    run_virtual(main)


def test_objects_behind_those_that_cannot_go_are_swept() -> None:
    """However many expired objects wait for their messages to be delivered, one that expired later goes."""

    async def main() -> None:
        store = memory()
        waiting = [ObjectWrite(object_id=name, expire_at_ms=1, outbox_adds={b"m" * 16: b""}) for name in CROWD]
        await crowd(store, [*waiting, ObjectWrite(object_id=LAST, expire_at_ms=2, puts={b"a": b"1"})])
        async with core(store, shards=1) as a:
            sweeper = Sweeper(store, a.ownership, a.host.committer.sweep)
            await ticks(sweeper, 3)
            shard = store.snapshot().shards[0]
            assert (len(CROWD), {}) == (len(shard.expiries), shard.objects)
            del store._content.shards[0].messages[CROWD[0]]  # It has been delivered.
            await ticks(sweeper, 1)
            assert len(CROWD) - 1 == len(store.snapshot().shards[0].expiries)

    run_virtual(main)


async def ticks(sweeper: Sweeper, count: int) -> None:
    for _ in range(count):
        await sweeper.tick()
        await asyncio.sleep(1)
