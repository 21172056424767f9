"""A backup restored under a live node: whoever has seen newer commits says that the store went back in time."""

import asyncio

import pytest

from shared.objects.address import Address
from shared.testing.clock import LoopClock, run_virtual
from shared.testing.store import MemoryStore, Snapshot
from tests.support.simulated import Core, Counter, core

ONE = Address("counter", "acme", "one")


def rollbacks(node: Core) -> bool:
    """Whether the node has counted any."""
    lines = node.host.metrics.render_prometheus().decode().splitlines()
    return any(line.startswith("tenure_store_rollbacks_total ") and float(line.split()[1]) > 0 for line in lines)


def restored(content: Snapshot, *, held: bool) -> Snapshot:
    """The content as `tenure restore` leaves it, or (`held`) as it is while that still writes."""
    for shard in content.shards.values():
        shard.lease.token, shard.lease.previous_token = b"restored" * 3, b""
        shard.lease.epoch += 1_000_000
        shard.lease.active, shard.lease.expires_ms = held, 2**52 if held else 0
    return content


@pytest.mark.parametrize("held_s", [0, 1, 20])
def test_a_backup_restored_under_a_live_node_is_detected(held_s: int) -> None:
    """Counted however long the restore took, memory gives way to what was restored, and work goes on."""

    async def main() -> None:
        store = MemoryStore(LoopClock(asyncio.get_running_loop()), latency_ms=5)
        async with core(store) as node:
            await node.host.call(ONE, Counter.add, 1)
            backup = store.snapshot()
            for _ in range(3):
                await node.host.call(ONE, Counter.add, 1)
            assert not rollbacks(node)
            if held_s:
                store.restore(restored(backup, held=True))
                await asyncio.sleep(held_s)
            store.restore(restored(backup, held=False))
            await asyncio.sleep(10)
            assert rollbacks(node)
            assert 2 == await node.host.call(ONE, Counter.add, 1)

    run_virtual(main)


@pytest.mark.parametrize("held_s", [0, 20])
def test_an_owner_in_between_is_no_restore(held_s: int) -> None:
    """Another node that worked on the shards meanwhile left more commits, not fewer: nothing is counted."""

    async def main() -> None:
        store = MemoryStore(LoopClock(asyncio.get_running_loop()), latency_ms=5)
        async with core(store) as node:
            await node.host.call(ONE, Counter.add, 1)
            await node.ownership.release()
            async with core(store, node="b") as other:
                await other.host.call(ONE, Counter.add, 1)
                await asyncio.sleep(held_s)
                await other.drain()
            await asyncio.sleep(10)
            assert 3 == await node.host.call(ONE, Counter.add, 1)
            assert not rollbacks(node)

    run_virtual(main)
