"""Faults of the core that simulation and review have found, each as the plainest test that shows it."""

import asyncio
from typing import Any

import msgspec
import pytest

from shared.objects.address import Address, shard_of
from shared.objects.errors import CommitFailedError, HandlerError
from shared.objects.handler import Alarm, DurableObject, readonly
from shared.objects.host import NOT_NOW
from shared.storage.interface import Claims
from shared.testing.clock import run_virtual
from shared.testing.faults import FaultyStore
from tests.support.simulated import Counter, Meter, core, memory

BUSY = Address("busy_tally", "acme", "one")
READER = Address("reader", "acme", "one")


class BusyTally(DurableObject):
    """A checkpointed tally in which a turn runs whenever a wave of checkpoints comes by."""

    kind = "busy_tally"
    durability = "checkpointed"

    def on_activate(self) -> None:
        self.total: int = self.storage.get("total", int, default=0)

    async def hit_slowly(self) -> int:
        self.total += 1
        self.dirty()
        await asyncio.sleep(0.4)
        return self.total

    @readonly
    def value(self) -> int:
        return self.total

    def on_checkpoint(self) -> None:
        self.storage.put("total", self.total)


class Reader(DurableObject):
    """Its reads take longer than a lease."""

    kind = "reader"

    def write(self, text: str) -> None:
        self.storage.put("text", text)

    @readonly
    async def read_slowly(self) -> str:
        text: str = self.storage.get("text", str)
        await asyncio.sleep(8)
        return text


def test_what_is_dirty_does_not_grow_younger_by_a_running_turn() -> None:
    """However long turns follow on turns, no more is lost than what was answered in the last second."""

    async def main() -> None:
        store = memory()
        async with core(store, lock_id="L", kinds=[BusyTally]) as a:
            calls = [asyncio.ensure_future(a.host.call(BUSY, BusyTally.hit_slowly)) for _ in range(10)]
            await asyncio.sleep(3)
            await a.kill()
            answered = sum(call.done() for call in calls)
        async with core(store, lock_id="L", node="b", kinds=[BusyTally]) as b:
            assert 7 == answered
            assert answered - 3 <= await b.host.call(BUSY, BusyTally.value)

    run_virtual(main)


def test_an_answer_that_rests_on_the_lease_does_not_outlive_it() -> None:
    """A long read of an owner that was cut off ends in an error: another one may have written meanwhile."""

    async def main() -> None:
        store = memory()
        link = FaultyStore(store)
        async with core(link, kinds=[Reader]) as a, core(store, node="b", kinds=[Reader]) as b:
            await a.host.call(READER, Reader.write, "old")
            reading = asyncio.ensure_future(a.host.call(READER, Reader.read_slowly))
            await asyncio.sleep(0)
            link.away = True
            await asyncio.sleep(7.9)
            await b.host.call(READER, Reader.write, "new")
            with pytest.raises(CommitFailedError):
                await reading

    run_virtual(main)


class Ticker(DurableObject):
    """An alarm that sets itself anew and then splits its turn."""

    kind = "ticker"

    def start(self, at_ms: int) -> None:
        self.alarms.set("tick", at_ms=at_ms)

    async def start_and_commit(self, in_ms: int) -> int:
        at_ms = self.clock.now_ms() + in_ms
        self.alarms.set("tick", at_ms=at_ms)
        await self.commit()
        self.storage.put("started", 1)
        return at_ms

    @readonly
    def rings(self) -> list[int]:
        return list(self.storage.get("rings", tuple[int, ...], default=()))

    async def on_alarm(self, alarm: Alarm) -> None:
        self.storage.put("rings", (*self.rings(), self.clock.now_ms() - alarm.due_ms))
        self.alarms.set("tick", at_ms=self.clock.now_ms() + 1_000)
        await self.commit()


TICKER = Address("ticker", "acme", "one")
METER = Address("meter", "acme", "one")


def test_an_alarm_that_was_set_anew_before_a_commit_goes_on() -> None:
    """The end of the turn answers the setting that rang, not the one that the turn has made."""

    async def main() -> None:
        async with core(memory(), kinds=[Ticker]) as a:
            await a.host.call(TICKER, Ticker.start_and_commit, 1_000)
            await asyncio.sleep(10.5)
            rings = await a.host.call(TICKER, Ticker.rings)
            assert 9 <= len(rings) <= 10
            assert max(rings) <= 100  # Also the first, which was set before a commit in the middle of a turn.

    run_virtual(main)


@pytest.mark.parametrize("at_ms", [2**64, -1, 1.5])
def test_a_moment_that_cannot_be_fails_its_own_turn_alone(at_ms: int) -> None:
    """Nothing of it reaches a commit, where it would fail or tear the writes of other objects."""

    async def main() -> None:
        async with core(memory(), kinds=[Ticker, Counter]) as a:
            with pytest.raises(HandlerError):
                await a.host.call(TICKER, Ticker.start, at_ms)
            assert 1 == await a.host.call(Address("counter", "acme", "x"), Counter.add, 1)
            assert [] == await a.host.call(TICKER, Ticker.rings)

    run_virtual(main)


def test_a_native_object_that_fails_in_a_turn_to_be_stored_has_one_successor() -> None:
    """The failed turn's own answer does not put the object out of memory a second time."""

    async def main() -> None:
        async with core(memory()) as a:
            await a.host.call(METER, Meter.hit, 7, durability="committed")
            slow = asyncio.ensure_future(a.host.call(METER, Meter.hit_slowly))
            await asyncio.sleep(0.01)
            spoilt = asyncio.ensure_future(a.host.call(METER, Meter.spoil, durability="committed"))
            rest = [asyncio.ensure_future(a.host.call(METER, Meter.hit)) for _ in range(5)]
            assert 8 == await slow
            with pytest.raises(HandlerError):
                await spoilt
            hits = await asyncio.gather(*rest)
            assert sorted(set(hits)) == hits
            assert hits[-1] == await a.host.call(METER, Meter.value)

    run_virtual(main)


def test_a_lost_shard_does_not_keep_others_from_the_fast_way() -> None:
    """What was dirty in it has left memory: no wave waits for it."""

    async def main() -> None:
        store = memory()
        async with core(store) as a:
            names = [Address("meter", "acme", f"m{i}") for i in range(16)]
            for name in names:
                await a.host.call(name, Meter.hit)
            lost = a.ownership.shards[0]
            a.ownership.suspend([lost])
            store.claim = _refused(store.claim)  # type: ignore[method-assign]  # Somebody else has it.
            await asyncio.sleep(3)
            open_ones = [name for name in names if shard_of(name.encode(), 4) != 0]
            assert open_ones
            await a.host.call(open_ones[0], Meter.hit)
            assert a.host.try_now(open_ones[0], Meter.hit) is not NOT_NOW

    run_virtual(main)


def _refused(claim: Any) -> Any:
    async def refuse(*args: Any, **kwargs: Any) -> Claims:
        claims = await claim(*args, **kwargs)
        return Claims(claims.now_ms, [msgspec.structs.replace(lease, granted=False) for lease in claims.leases])

    return refuse
