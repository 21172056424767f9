"""What the object core promises, in virtual time: each fault fires, each promise holds."""

import asyncio
from typing import Any, ClassVar

import pytest

from shared.objects.address import Address
from shared.objects.errors import (
    CallCycleError,
    CommitFailedError,
    HandlerError,
    OutcomeUnknownError,
    OverloadedError,
    UnavailableError,
)
from shared.objects.handler import Alarm, DurableObject
from shared.objects.host import NOT_NOW
from shared.storage.interface import StoreAwayError, StoreInDoubtError
from shared.testing.clock import START_MS, LoopClock, run_virtual
from shared.testing.faults import Fault, FaultKind, FaultyStore
from shared.testing.store import MemoryStore
from tests.support.simulated import Counter, Tally, core, lose_all, memory

ONE = Address("counter", "acme", "one")
TWO = Address("counter", "acme", "two")
TALLY = Address("tally", "acme", "one")
METER = Address("meter", "acme", "one")
SLEEPER = Address("sleeper", "acme", "one")
SLOW = Address("slow_tally", "acme", "one")


class Sleeper(DurableObject):
    """Its turns take as long as they are told, those of its alarms half a second."""

    kind = "sleeper"
    rung: ClassVar[list[str]] = []

    async def nap(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def arm(self, name: str, in_ms: int) -> None:
        self.alarms.set(name, at_ms=self.clock.now_ms() + in_ms)

    async def on_alarm(self, alarm: Alarm) -> None:
        Sleeper.rung.append(alarm.name)
        await asyncio.sleep(0.5)


class SlowTally(Tally):
    """A tally whose turn outlasts the wave of its checkpoint."""

    kind = "slow_tally"

    async def hit_slowly(self) -> int:
        self.total += 1
        self.dirty()
        await asyncio.sleep(0.4)
        return self.total


def test_turns_of_one_object_run_one_after_another() -> None:
    """A hundred turns that wait in the middle lose no update."""

    async def main() -> None:
        async with core(memory()) as a:
            await asyncio.gather(*(a.host.call(ONE, Counter.add_slowly, 1) for _ in range(100)))

            assert 100 == await a.host.call(ONE, Counter.value)

    run_virtual(main)


def test_a_reply_waits_for_its_commit() -> None:
    """When the reply is there, another process that takes over reads the write."""

    async def main() -> None:
        store = memory()
        async with core(store, lock_id="L") as a:
            await a.host.call(ONE, Counter.add, 7)
            await a.kill()
        async with core(store, lock_id="L", node="b") as b:
            assert 7 == await b.host.call(ONE, Counter.value)

    run_virtual(main)


def test_a_read_waits_for_the_commit_it_has_seen() -> None:
    """A read-only turn behind an unconfirmed write answers no sooner than the write."""

    async def main() -> None:
        async with core(memory()) as a:
            await a.host.call(ONE, Counter.value)
            order: list[str] = []
            write = asyncio.ensure_future(a.host.call(ONE, Counter.add, 1))
            read = asyncio.ensure_future(a.host.call(ONE, Counter.value))
            write.add_done_callback(lambda _: order.append("write"))
            read.add_done_callback(lambda _: order.append("read"))
            await asyncio.sleep(0.001)

            assert [False, False] == [write.done(), read.done()]
            await asyncio.gather(write, read)
            assert ["write", "read"] == order

    run_virtual(main)


def test_a_failed_handler_leaves_no_trace() -> None:
    """Its write is dropped, in memory and in the store."""

    async def main() -> None:
        store = memory()
        async with core(store, lock_id="L") as a:
            await a.host.call(ONE, Counter.add, 3)
            with pytest.raises(HandlerError):
                await a.host.call(ONE, Counter.fail_after_write)
            assert 3 == await a.host.call(ONE, Counter.value)
        async with core(store, lock_id="L", node="b") as b:
            assert 3 == await b.host.call(ONE, Counter.value)

    run_virtual(main)


def test_a_call_cycle_fails_at_once_and_is_named() -> None:
    """A -> B -> A ends in an error that shows the way, without waiting."""

    async def main() -> None:
        async with core(memory()) as a:
            with pytest.raises(CallCycleError, match=r"acme/one -> counter/acme/two -> counter/acme/one"):
                await a.host.call(ONE, Counter.add_and_call_back, "two")

    run_virtual(main)


def test_a_full_mailbox_refuses_and_loses_nothing() -> None:
    """The 1,001st waiting call is refused as not started; the others all run."""

    async def main() -> None:
        async with core(memory()) as a:
            calls = [asyncio.ensure_future(a.host.call(ONE, Counter.add, 1)) for _ in range(1_005)]
            results = await asyncio.gather(*calls, return_exceptions=True)

            refused = [result for result in results if isinstance(result, OverloadedError)]
            assert 5 == len(refused)
            assert 1_000 == await a.host.call(ONE, Counter.value)

    run_virtual(main)


def test_a_lost_reply_of_a_commit_is_resolved_by_its_id() -> None:
    """The commit ran and its reply was lost: the same id is sent again, applied once, answered as done."""

    async def main() -> None:
        store = FaultyStore(memory(), [Fault(operation="commit", kind=FaultKind.REPLY_LOST)])
        async with core(store) as a:
            assert 5 == await a.host.call(ONE, Counter.add, 5)
            assert 5 == await a.host.call(ONE, Counter.value)
        assert not store.unfired()

    run_virtual(main)


def test_a_store_that_stays_silent_makes_the_outcome_unknown_not_failed() -> None:
    """With no answer until the lease ends nobody can know, and the caller is told just that."""

    async def main() -> None:
        store = memory()
        async with core(store) as a:
            await a.host.call(ONE, Counter.value)
            silence = StoreInDoubtError("silent")
            for name in ("commit", "claim", "renew"):
                setattr(store, name, _always(silence))
            with pytest.raises(OutcomeUnknownError):
                await a.host.call(ONE, Counter.add, 1)

    run_virtual(main)


def test_a_commit_that_surely_never_reached_the_store_has_failed() -> None:
    """The store is away until the lease ends: nobody need wonder, the write is not there."""

    async def main() -> None:
        store = memory()
        async with core(store) as a:
            await a.host.call(ONE, Counter.value)
            away = StoreAwayError("away")
            for name in ("commit", "claim", "renew"):
                setattr(store, name, _always(away))
            with pytest.raises(CommitFailedError):
                await a.host.call(ONE, Counter.add, 1)

    run_virtual(main)


def test_a_shard_that_was_claimed_again_outlives_the_refusal_of_an_old_commit() -> None:
    """Lost to another, won back while the old commit was on its way: that one is refused, the shard stays open."""

    async def main() -> None:
        store = memory()
        delays = [Fault(operation="commit", kind=FaultKind.DELAY, delay_ms=250)]
        async with core(FaultyStore(store, delays), lock_id="L", shards=1) as a:
            await a.host.call(ONE, Counter.value)
            write = asyncio.ensure_future(a.host.call(ONE, Counter.add, 1))
            await asyncio.sleep(0.003)
            async with core(store, lock_id="L", node="b", shards=1):
                await a.ownership.renew()
            await a.ownership.claim_missing()
            with pytest.raises((CommitFailedError, OutcomeUnknownError)):
                await write
            assert 1 == a.ownership.open_shards
            assert 0 == await a.host.call(ONE, Counter.value)

    run_virtual(main)


def test_a_former_owner_cannot_write() -> None:
    """After another process has claimed the shard, a commit of the old one is refused and says so."""

    async def main() -> None:
        store = memory()
        async with core(store, lock_id="L") as a:
            await a.host.call(ONE, Counter.add, 1)
            async with core(store, lock_id="L", node="b") as b:
                assert 1 == await b.host.call(ONE, Counter.value)
                with pytest.raises(CommitFailedError):
                    await a.host.call(ONE, Counter.add, 100)
                assert 3 == await b.host.call(ONE, Counter.add, 2)

    run_virtual(main)


def test_a_store_that_went_back_in_time_is_reported_and_its_state_read_again() -> None:
    """Memory that was only committed is dropped; the answer to the commit is a definite failure."""

    async def main() -> None:
        store = memory()
        async with core(store) as a:
            await a.host.call(ONE, Counter.add, 1)
            earlier = store.snapshot()
            await a.host.call(ONE, Counter.add, 1)
            store.restore(earlier)
            with pytest.raises(CommitFailedError):
                await a.host.call(ONE, Counter.add, 1)
            assert 1 == await a.host.call(ONE, Counter.value)
            assert 2 == await a.host.call(ONE, Counter.add, 1)
            assert b"tenure_store_rollbacks_total 1" in a.host.metrics.render_prometheus().replace(b".0\n", b"\n")

    run_virtual(main)


def test_checkpointed_replies_leave_at_once_and_reach_the_store_within_the_checkpoint() -> None:
    """The fast way answers without the store; 300 ms later a crash loses nothing of it."""

    async def main() -> None:
        store = memory()
        async with core(store, lock_id="L") as a:
            await a.host.call(TALLY, Tally.hit)
            assert 2 == a.host.try_now(TALLY, Tally.hit)
            await asyncio.sleep(0.3)
            assert 3 == a.host.try_now(TALLY, Tally.hit)
            await a.kill()
        async with core(store, lock_id="L", node="b") as b:
            assert 2 == await b.host.call(TALLY, Tally.value)

    run_virtual(main)


def test_a_stale_checkpoint_closes_the_fast_way() -> None:
    """When the store has confirmed nothing for a second, answers wait for it again."""

    async def main() -> None:
        store = memory()
        async with core(store) as a:
            await a.host.call(TALLY, Tally.hit)
            await asyncio.sleep(1)
            assert a.host.try_now(TALLY, Tally.hit) is not NOT_NOW
            store.commit = _always(StoreAwayError("away"))  # type: ignore[method-assign]  # The store breaks here.
            await asyncio.sleep(0.9)
            assert a.host.try_now(TALLY, Tally.hit) is not NOT_NOW
            await asyncio.sleep(0.2)
            assert a.host.try_now(TALLY, Tally.hit) is NOT_NOW

    run_virtual(main)


def test_idle_objects_leave_memory_and_come_back() -> None:
    """After their idle time nothing of them is in memory; the next call finds their state."""

    async def main() -> None:
        async with core(memory()) as a:
            await a.host.call(ONE, Counter.add, 4)
            for _ in range(3):
                await a.host.passivate_idle()
                await asyncio.sleep(61)
            assert 0 == a.host.objects_resident
            assert 4 == await a.host.call(ONE, Counter.value)

    run_virtual(main)


def test_an_object_that_deletes_everything_leaves_nothing_in_the_store() -> None:
    """Keys, alarms and index entries are gone, and it can begin anew."""

    async def main() -> None:
        store = memory()
        empty = store.snapshot()
        async with core(store) as a:
            before = [shard.objects for shard in store.snapshot().shards.values()]
            await a.host.call(ONE, Counter.add, 4)
            await a.host.call(ONE, Counter.arm, "x", 60_000)
            await a.host.call(ONE, Counter.vanish)
            after = [shard.objects for shard in store.snapshot().shards.values()]
            assert before == after
            assert 1 == await a.host.call(ONE, Counter.add, 1)
        assert empty is not None

    run_virtual(main)


def test_nothing_starts_past_the_local_validity_of_the_lease() -> None:
    """A node that was not heard for longer than its lease answers nothing, not even reads."""

    async def main() -> None:
        store = memory()
        async with core(store) as a:
            await a.host.call(TALLY, Tally.hit)
            await asyncio.sleep(1)
            store.renew = _always(StoreAwayError("away"))  # type: ignore[method-assign]  # The store breaks here.
            await asyncio.sleep(7)
            assert a.host.try_now(TALLY, Tally.hit) is NOT_NOW
            with pytest.raises(Exception, match="does not own"):
                await a.host.call(TALLY, Tally.value)

    run_virtual(main)


def test_nothing_that_waited_starts_past_the_local_validity_of_the_lease() -> None:
    """A call that was accepted in time and comes to its turn too late is refused as not started."""

    async def main() -> None:
        store = memory()
        async with core(store, kinds=(Sleeper,)) as a:
            store.renew = _always(StoreAwayError("away"))  # type: ignore[method-assign]  # The store breaks here.
            long = asyncio.ensure_future(a.host.call(SLEEPER, Sleeper.nap, 6))
            await asyncio.sleep(1)
            with pytest.raises(UnavailableError):
                await a.host.call(SLEEPER, Sleeper.nap, 0)
            assert long.done()

    run_virtual(main)


def test_a_lease_counts_from_when_it_was_asked_for() -> None:
    """However slow the store answers, we stop at least a second before it lets the lease lapse."""

    async def main() -> None:
        store = MemoryStore(LoopClock(asyncio.get_running_loop()), latency_ms=1_000)
        store.renew = _always(StoreAwayError("away"))  # type: ignore[method-assign]  # So that the claim alone counts.
        async with core(store, shards=1) as a:
            for turn in range(100):
                ends_ms = store.snapshot().shards[0].lease.expires_ms - START_MS
                assert 3_000 < a.ownership.shards[0].valid_until_ms <= ends_ms - 1_000
                if turn == 0:
                    del store.renew
                await asyncio.sleep(0.1)

    run_virtual(main)


def test_a_former_owner_cannot_load() -> None:
    """It learns from the store that it is one, and says that the call did not start."""

    async def main() -> None:
        store = memory()
        async with core(store, lock_id="L") as a, core(store, lock_id="L", node="b") as b:
            await b.host.call(ONE, Counter.add, 2)
            with pytest.raises(UnavailableError):
                await a.host.call(ONE, Counter.value)

    run_virtual(main)


def test_what_another_owner_wrote_in_between_is_seen() -> None:
    """A shard that came back after somebody else had it is read again, though memory had waited for it."""

    async def main() -> None:
        shared = memory()
        store = FaultyStore(shared)
        async with core(store, shards=1) as a:
            await a.host.call(ONE, Counter.add, 1)
            await a.host.call(TWO, Counter.value)
            store.away = True
            with pytest.raises(CommitFailedError):
                await a.host.call(TWO, Counter.add, 1)
            await asyncio.sleep(2)
            async with core(shared, shards=1, node="b") as b:
                assert 11 == await b.host.call(ONE, Counter.add, 10)
                await b.ownership.release()
            store.away = False
            await asyncio.sleep(2)
            assert 11 == await a.host.call(ONE, Counter.value)

    run_virtual(main)


def test_a_load_notices_that_the_store_went_back_in_time() -> None:
    """Reading one object is enough for the others of its shard not to answer from newer memory."""

    async def main() -> None:
        store = memory()
        async with core(store, shards=1) as a:
            await a.host.call(ONE, Counter.add, 1)
            earlier = store.snapshot()
            await a.host.call(ONE, Counter.add, 1)
            store.restore(earlier)
            assert 0 == await a.host.call(TWO, Counter.value)
            assert 1 == await a.host.call(ONE, Counter.value)

    run_virtual(main)


@pytest.mark.parametrize("lost", [FaultKind.REPLY_LOST, FaultKind.REQUEST_LOST], ids=lambda kind: kind.value)
def test_a_commit_that_stays_in_doubt_is_decided_by_a_new_fence(lost: FaultKind) -> None:
    """After three lost answers it surely counts or surely does not, and the caller is told which."""

    async def main() -> None:
        store = FaultyStore(memory(), [Fault(operation="commit", kind=lost, count=count) for count in (1, 2, 3)])
        async with core(store) as a:
            if lost is FaultKind.REPLY_LOST:
                assert 5 == await a.host.call(ONE, Counter.add, 5)
            else:
                with pytest.raises(CommitFailedError):
                    await a.host.call(ONE, Counter.add, 1)
                assert 5 == await a.host.call(ONE, Counter.add, 5)
            assert 5 == await a.host.call(ONE, Counter.value)
        assert not store.unfired()

    run_virtual(main)


class KeptTally(Tally):
    """One that is worth its place while there is room."""

    kind = "kept_tally"
    keep_ms = 3_600_000


@pytest.mark.parametrize(("room", "minutes", "resident"), [(1, 50, 1), (1, 70, 0), (0, 5, 0)])
def test_an_object_worth_its_place_stays_while_there_is_room(room: int, minutes: int, resident: int) -> None:
    """For its own longer time, and like any other where the node has more objects than that."""

    async def main() -> None:
        async with core(memory(), kinds=[KeptTally], resident_objects=room) as a:
            await a.host.call(Address("kept_tally", "acme", "one"), KeptTally.hit)
            for _ in range(minutes):
                await a.host.passivate_idle()
                await asyncio.sleep(60)
            assert resident == a.host.objects_resident

    run_virtual(main, limit_ms=2 * 3_600_000)


def test_an_object_with_unconfirmed_changes_stays_in_memory() -> None:
    """However long nobody touches it: the store does not have them."""

    async def main() -> None:
        store = memory()
        async with core(store) as a:
            await a.host.call(TALLY, Tally.hit)
            await asyncio.sleep(1)
            store.commit = _always(StoreAwayError("away"))  # type: ignore[method-assign]  # The store breaks here.
            assert 2 == a.host.try_now(TALLY, Tally.hit)
            for _ in range(3):
                await a.host.passivate_idle()
                await asyncio.sleep(61)
            del store.commit
            assert 2 == await a.host.call(TALLY, Tally.value)

    run_virtual(main)


def test_a_drain_stores_everything() -> None:
    """What was answered ahead of the store is there for the next owner, however short the stop."""

    async def main() -> None:
        store = memory()
        async with core(store, lock_id="L") as a:
            await a.host.call(TALLY, Tally.hit)
            assert 2 == a.host.try_now(TALLY, Tally.hit)
            await a.host.drain()
            await a.kill()
        async with core(store, lock_id="L", node="b") as b:
            assert 2 == await b.host.call(TALLY, Tally.value)

    run_virtual(main)


def test_a_checkpoint_that_met_a_running_turn_is_not_forgotten() -> None:
    """The wave passes while the turn waits; the next one carries what it left."""

    async def main() -> None:
        store = memory()
        async with core(store, lock_id="L", kinds=(SlowTally,)) as a:
            assert 1 == await a.host.call(SLOW, SlowTally.hit_slowly)
            await asyncio.sleep(0.3)
            await a.kill()
        async with core(store, lock_id="L", node="b", kinds=(SlowTally,)) as b:
            assert 1 == await b.host.call(SLOW, SlowTally.value)

    run_virtual(main)


def test_an_answer_whose_commit_is_under_way_gets_the_verdict_of_the_store() -> None:
    """The lease is lost while the commit flies; the commit was applied, so the caller is told that it was."""

    async def main() -> None:
        async with core(memory()) as a:
            await a.host.call(ONE, Counter.value)
            write = asyncio.ensure_future(a.host.call(ONE, Counter.add, 5))
            await asyncio.sleep(0.003)
            lose_all(a)
            assert 5 == await write

    run_virtual(main)


def test_a_write_that_was_not_sent_when_the_lease_was_lost_has_failed_for_certain() -> None:
    """It waits behind a flight, so it was never sent: the caller may repeat it safely."""

    async def main() -> None:
        async with core(memory()) as a:
            await a.host.call(ONE, Counter.value)
            writes = [asyncio.ensure_future(a.host.call(ONE, Counter.add, 1))]
            await asyncio.sleep(0.003)
            writes.append(asyncio.ensure_future(a.host.call(ONE, Counter.add, 1)))
            await asyncio.sleep(0)
            lose_all(a)
            first, second = await asyncio.gather(*writes, return_exceptions=True)
            assert 1 == first
            assert isinstance(second, CommitFailedError)

    run_virtual(main)


def test_an_object_is_read_again_only_when_the_store_has_decided() -> None:
    """Its shard is lost and won while its commit flies slowly: the next activation sees what that commit wrote."""

    async def main() -> None:
        store = memory()
        delays = [Fault(operation="commit", kind=FaultKind.DELAY, delay_ms=200)]
        async with core(FaultyStore(store, delays)) as a:
            await a.host.call(ONE, Counter.value)
            write = asyncio.ensure_future(a.host.call(ONE, Counter.add, 5))
            await asyncio.sleep(0.003)
            lose_all(a)
            for shard in a.ownership.shards:
                shard.open, shard.valid_until_ms = True, 1 << 60
            assert 5 == await a.host.call(ONE, Counter.value)
            assert 5 == await write

    run_virtual(main)


def test_an_object_whose_activation_fails_fails_alone() -> None:
    """Its callers are told each time, and objects that are loaded after it are served."""

    class Broken(DurableObject):
        kind = "broken"

        def on_activate(self) -> None:
            raise ValueError("what is stored makes no sense")

        def greet(self) -> str:
            return "hello"

    async def main() -> None:
        async with core(memory(), kinds=(Counter, Broken)) as a:
            for _ in range(2):
                with pytest.raises(HandlerError, match="broken/on_activate"):
                    await a.host.call(Address("broken", "acme", "one"), Broken.greet)
            assert 1 == a.host.objects_resident + await a.host.call(ONE, Counter.add, 1)

    run_virtual(main)


def _always(error: Exception) -> Any:
    async def refuse(*_: object, **__: object) -> object:
        await asyncio.sleep(0.01)
        raise error

    return refuse
