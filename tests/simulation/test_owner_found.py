"""Faults in how a node holds its shards that review has found: after silence of the store, after loss of its data."""

import asyncio

import pytest
from structlog.testing import capture_logs

from shared.objects.address import Address
from shared.objects.errors import CommitFailedError, UnavailableError
from shared.storage.interface import ClaimOrder
from shared.telemetry import logs
from shared.testing.clock import LoopClock, run_virtual
from shared.testing.faults import FaultKind, FaultyStore
from shared.testing.store import MemoryStore, Snapshot
from tests.support.simulated import Core, Counter, Meter, core

ONE, TWO = Address("counter", "acme", "one"), Address("counter", "acme", "two")
METER = Address("meter", "acme", "one")
NOTHING = Snapshot({}, {})


def memory() -> MemoryStore:
    return MemoryStore(LoopClock(asyncio.get_running_loop()), latency_ms=5)


def rollbacks(a: Core) -> int:
    text = a.host.metrics.render_prometheus().decode()
    return sum(int(float(line.split()[1])) for line in text.splitlines() if line.startswith("tenure_store_rollbacks"))


def test_a_claim_whose_answer_was_lost_is_made_again_at_once() -> None:
    """The lease that the store then has is our own: the shard is not dark until it ends, and memory is still true."""

    async def main() -> None:
        store = FaultyStore(memory())
        async with core(store) as a:
            assert 1 == await a.host.call(METER, Meter.hit)
            store.next("claim", FaultKind.REPLY_LOST)
            a.ownership.suspend(a.ownership.shards)
            await asyncio.sleep(2)
            assert 2 == await a.host.call(METER, Meter.hit)
            assert 0 == rollbacks(a)
        store.check()

    run_virtual(main)


def test_a_node_whose_first_claim_was_not_answered_opens_with_the_second() -> None:
    """It does not wait for its own lease to end."""

    async def main() -> None:
        store = FaultyStore(memory())
        a = Core(store, kinds=[Counter])
        store.next("claim", FaultKind.REPLY_LOST)
        a.start()
        await asyncio.sleep(3.1)
        assert 4 == a.ownership.open_shards
        await a.bury()
        store.check()

    run_virtual(main)


def test_a_fence_whose_answer_was_lost_is_taken_again() -> None:
    """The commit in doubt gets a definite answer, and the shard stays ours."""

    async def main() -> None:
        store = FaultyStore(memory())
        async with core(store) as a:
            await a.host.call(METER, Meter.hit)
            for nth in (1, 2, 3):
                store.next("commit", FaultKind.REPLY_LOST, nth=nth)
            store.next("claim", FaultKind.REPLY_LOST)
            assert 5 == await a.host.call(ONE, Counter.add, 5)
            assert 2 == await a.host.call(METER, Meter.hit)
        store.check()

    run_virtual(main)


def test_another_who_came_before_an_unanswered_claim_is_noticed() -> None:
    """The newest token in the store is our own, and yet memory is older than what another wrote before it."""

    async def main() -> None:
        shared = memory()
        store = FaultyStore(shared)
        async with core(store, shards=1) as a:
            assert 1 == await a.host.call(METER, Meter.hit, durability="committed")
            store.away = True
            await asyncio.sleep(7)
            async with core(shared, shards=1, node="b") as b:
                assert 11 == await b.host.call(METER, Meter.hit, 10, durability="committed")
                await b.drain()
            store.next("claim", FaultKind.REPLY_LOST)
            store.away = False
            await asyncio.sleep(4)
            assert 12 == await a.host.call(METER, Meter.hit, durability="committed")
        store.check()

    run_virtual(main)


def test_a_late_copy_of_a_claim_takes_nothing_from_a_newer_one() -> None:
    """Not even where both name the same file lock."""

    async def main() -> None:
        store = FaultyStore(memory())
        async with core(store, lock_id="L") as a:
            store.next("claim", FaultKind.REPEAT, delay_ms=300)
            for _ in range(2):
                a.ownership.suspend(a.ownership.shards)
                await asyncio.sleep(0.1)
            fences = [shard.fence for shard in a.ownership.shards]
            await store.settle()
            assert 1 == await a.host.call(ONE, Counter.add, 1)
            assert fences == [shard.fence for shard in a.ownership.shards]
        store.check()

    run_virtual(main)


def test_a_store_that_lost_its_data_gets_checkpointed_memory_written_back() -> None:
    """What was committed alone is gone with the store, what a checkpointed kind has in memory is not."""

    async def main() -> None:
        store = memory()
        async with core(store, lock_id="L"):
            pass
        async with core(store, lock_id="L") as a:
            assert 7 == await a.host.call(METER, Meter.hit, 7)
            assert 1 == await a.host.call(ONE, Counter.add, 1)
            await asyncio.sleep(1)
            store.restore(NOTHING)
            await asyncio.sleep(3)
            assert 0 == await a.host.call(ONE, Counter.value)
            assert 8 == a.host.try_now(METER, Meter.hit)
            await asyncio.sleep(1)
            await a.kill()
        async with core(store, lock_id="L", node="b") as b:
            assert 8 == await b.host.call(METER, Meter.value)

    run_virtual(main)


def test_a_rollback_keeps_memory_over_older_tokens() -> None:
    """The store went back to an earlier claim of ours: memory is newer, and is written back."""

    async def main() -> None:
        store = memory()
        async with core(store) as a:
            assert 1 == await a.host.call(METER, Meter.hit, durability="committed")
            earlier = store.snapshot()
            a.ownership.suspend(a.ownership.shards)
            await asyncio.sleep(1)
            assert 2 == await a.host.call(METER, Meter.hit, durability="committed")
            store.restore(earlier)
            await asyncio.sleep(3)
            assert 3 == await a.host.call(METER, Meter.hit, durability="committed")

    run_virtual(main)


def test_a_store_that_went_back_to_before_our_time_gets_memory_written_back() -> None:
    """The lease in it is that of the owner whom we succeeded: nobody has written since."""

    async def main() -> None:
        store = memory()
        async with core(store, lock_id="L") as z:
            assert 1 == await z.host.call(METER, Meter.hit, durability="committed")
            before = store.snapshot()
        async with core(store, lock_id="L") as a:
            assert 2 == await a.host.call(METER, Meter.hit, durability="committed")
            store.restore(before)
            await asyncio.sleep(3)
            assert 3 == await a.host.call(METER, Meter.hit, durability="committed")

    run_virtual(main)


def test_another_owner_of_what_the_store_has_left_keeps_what_it_wrote() -> None:
    """The store lost everything, and another was first to claim: older memory is not written over its state."""

    async def main() -> None:
        store = memory()
        async with core(store, lock_id="L") as a:
            assert 7 == await a.host.call(METER, Meter.hit, 7, durability="committed")
            a.process.stop()
            store.restore(NOTHING)
            async with core(store, lock_id="L", node="b") as b:
                assert 1 == await b.host.call(METER, Meter.hit, durability="committed")
                await b.drain()
            a.process.resume()
            await asyncio.sleep(3)
            assert 2 == await a.host.call(METER, Meter.hit, durability="committed")

    run_virtual(main)


@pytest.mark.parametrize("by_load", [False, True], ids=["renewal", "load"])
def test_a_rollback_is_counted_once(by_load: bool) -> None:
    """The shard has a new token and the store's number from then on, so nothing notices the same again."""

    async def main() -> None:
        store = memory()
        async with core(store, shards=1) as a:
            await a.host.call(ONE, Counter.add, 1)
            earlier = store.snapshot()
            await a.host.call(ONE, Counter.add, 1)
            fence = a.ownership.shards[0].fence
            store.restore(earlier)
            if by_load:
                assert 0 == await a.host.call(TWO, Counter.value)
            await asyncio.sleep(10)
            assert 1 == await a.host.call(ONE, Counter.value)
            assert 1 == rollbacks(a)
            assert fence.epoch < a.ownership.shards[0].fence.epoch

    run_virtual(main)


def test_a_load_of_a_shard_that_another_claims_meanwhile_fails_at_once() -> None:
    """Nobody waits out a deadline for an object that this node will not load."""

    async def main() -> None:
        shared = memory()
        store = FaultyStore(shared)
        async with core(store, shards=1) as a:
            store.next("load", FaultKind.DELAY, delay_ms=500)
            store.next("claim", FaultKind.AWAY)
            call = asyncio.ensure_future(a.host.call(ONE, Counter.value))
            await asyncio.sleep(0.1)
            (shard,) = a.ownership.shards
            a.ownership.suspend([shard])
            await shared.release([(0, shard.fence)])
            await shared.claim([ClaimOrder(shard=0)], token=b"b", node="b", lock_id="", ttl_ms=9_000)
            async with asyncio.timeout(2):
                with pytest.raises(UnavailableError):
                    await call
        store.check()

    run_virtual(main)


def test_an_outage_is_one_line_of_the_log() -> None:
    """However many shards it costs: the line says how many, and names the first."""

    async def main() -> None:
        store = memory()
        async with core(store, shards=64) as a:
            store.restore(NOTHING)
            with capture_logs() as lines:
                await asyncio.sleep(2)
            fields = {"shards": 64, "first": list(range(8))}
            assert [
                {"event": logs.LEASES_LOST, "log_level": "warning", **fields},
                {"event": logs.ROLLBACK_DETECTED, "log_level": "error", **fields},
                {"event": logs.LEASES_ACQUIRED, "log_level": "info", "shards": 64},
            ] == lines
            assert 64 == rollbacks(a)

    run_virtual(main)


def test_a_write_that_the_store_lost_its_lease_for_has_failed_for_certain() -> None:
    """The store lost its data, a commit is refused: it was not applied, and the shard is served again at once."""

    async def main() -> None:
        store = memory()
        async with core(store) as a:
            await a.host.call(ONE, Counter.add, 1)
            store.restore(NOTHING)
            with pytest.raises(CommitFailedError):
                await a.host.call(ONE, Counter.add, 1)
            await asyncio.sleep(0.1)
            assert 5 == await a.host.call(ONE, Counter.add, 5)

    run_virtual(main)
