"""What is due is read from the store beside the ringing: in time, once, and again where that may have missed something."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

import pytest

from shared import bounds
from shared.objects.address import Address
from shared.objects.errors import CommitFailedError, HandlerError
from shared.objects.handler import Alarm
from shared.testing.clock import run_virtual
from shared.testing.faults import Fault, FaultKind, FaultyStore
from tests.support.simulated import Core, Counter, core, memory

ONE = Address("counter", "acme", "one")
CROWD = [Address("counter", "acme", f"c{number}") for number in range(16)]
assert len(CROWD) * bounds.ALARMS_MAX >= 4 * bounds.ALARM_SCAN_ROWS


class Frail(Counter):
    """One that can be told not to begin, and not to answer its alarm."""

    kind = "frail"
    begins: ClassVar[bool] = True
    answers: ClassVar[bool] = True

    def on_activate(self) -> None:
        if not self.begins:
            raise ValueError("no")

    def on_alarm(self, alarm: Alarm) -> None:
        super().on_alarm(alarm)
        if not self.answers:
            Frail.begins = False
            raise ValueError("no")


FRAIL = Address("frail", "acme", "one")


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    Counter.rung.clear()
    Frail.begins = Frail.answers = True
    run_virtual(main)


def test_a_read_of_the_store_makes_no_alarm_late() -> None:
    """However long the store takes to say what is due, what is known of already rings in time."""

    async def main() -> None:
        store = FaultyStore(memory(), [Fault(operation="due_alarms", kind=FaultKind.DELAY, count=2, delay_ms=1_500)])
        async with core(store) as a:
            await a.host.call(ONE, Counter.arm, "x", bounds.ALARM_RESCAN_MS + 500)
            await asyncio.sleep(bounds.ALARM_RESCAN_MS / 1_000 + 1)
            assert 1 == len(store.fired)
            assert 1 == len(Counter.rung)
            assert 0 <= Counter.rung[0] <= 50

    run(main)


def test_the_store_is_not_asked_again_for_what_is_known() -> None:
    """However many alarms ring, it is asked when the shards open, and every 30 s."""

    async def main() -> None:
        store = FaultyStore(memory())
        async with core(store) as a:
            for number in range(bounds.ALARMS_MAX):
                await a.host.call(ONE, Counter.arm, f"{number}", 1_000 + 300 * number)
            await asyncio.sleep(25)
            assert bounds.ALARMS_MAX == len(Counter.rung)
            assert 1 == store.calls["due_alarms"]
            await asyncio.sleep(10)
            assert 2 == store.calls["due_alarms"]

    run(main)


@pytest.mark.parametrize("apart_ms", [0, 1])
def test_more_alarms_than_one_read_takes_ring_soon(apart_ms: int) -> None:
    """Of one moment or not: the rest of a crowded shard is read while the first of it ring, and none is passed over."""
    more_than_a_page(apart_ms)


def more_than_a_page(apart_ms: int = 0) -> None:
    async def main() -> None:
        within = memory()
        async with core(within, lock_id="L", shards=1) as a:
            for number, address in enumerate(CROWD):
                for name in range(bounds.ALARMS_MAX):
                    in_ms = 30_000 + apart_ms * (number + len(CROWD) * name) - a.host.store_clock.now_ms() % 10_000
                    await a.host.call(address, Counter.arm, f"{name}", in_ms)
            await a.kill()
        await asyncio.sleep(60)
        store = FaultyStore(within)
        async with core(store, lock_id="L", node="b", shards=1):
            await asyncio.sleep(5)
            assert len(CROWD) * bounds.ALARMS_MAX == len(Counter.rung)
            assert store.calls["due_alarms"] > 2

    run(main)


def test_a_read_that_failed_is_repeated() -> None:
    """An owner that could not learn at first what its shards hold learns it within a second or so."""

    async def main() -> None:
        within = memory()
        async with core(within, lock_id="L") as a:
            await a.host.call(ONE, Counter.arm, "x", 1_000)
            await a.kill()
        store = FaultyStore(within, [Fault(operation="due_alarms", kind=FaultKind.AWAY)])
        async with core(store, lock_id="L", node="b"):
            await asyncio.sleep(3)
            assert 1 == len(store.fired)
            assert 1 == len(Counter.rung)

    run(main)


def test_an_alarm_of_an_object_that_could_not_begin_rings_again_soon() -> None:
    """As soon as a second after that; nobody has to ask for the object."""

    async def main() -> None:
        async with core(memory(), kinds=[Frail]) as a:
            await a.host.call(FRAIL, Frail.arm, "x", 1_000)
            Frail.begins = False
            a.host.residents.close(a.host._activations[FRAIL], CommitFailedError("gone"), "failed")
            await asyncio.sleep(3)
            assert [] == Counter.rung
            Frail.begins = True
            await asyncio.sleep(1.1)
            assert 1 == len(Counter.rung)

    run(main)


def test_an_alarm_rings_again_soon_if_its_object_broke_while_it_failed() -> None:
    """Then not even the failed try is stored."""

    async def main() -> None:
        async with core(memory(), kinds=[Frail]) as a:
            await a.host.call(FRAIL, Frail.arm, "x", 1_000)
            Frail.answers = False
            await asyncio.sleep(1.1)
            assert 1 == len(Counter.rung)
            Frail.begins = Frail.answers = True
            await asyncio.sleep(1.2)
            assert 2 == len(Counter.rung)
            assert 0 == a.host.alarms.overdue_ms()

    run(main)


def test_an_alarm_whose_setter_left_memory_before_its_commit_landed_rings() -> None:
    """In time: it is stored, though nobody was there any more to hear of that."""

    async def main() -> None:
        async with core(memory(), kinds=[Frail]) as a:
            await a.host.call(FRAIL, Frail.value)
            arming = asyncio.ensure_future(a.host.call(FRAIL, Frail.arm, "x", 1_000))
            await asyncio.sleep(0.002)
            Frail.begins = False
            with pytest.raises(HandlerError):
                await a.host.call(FRAIL, Frail.fail_after_write)
            Frail.begins = True
            await arming
            await asyncio.sleep(1.1)
            assert 1 == len(Counter.rung)
            assert 0 <= Counter.rung[0] <= 50

    run(main)


def test_an_alarm_that_is_back_with_an_older_store_rings_soon() -> None:
    """The store went back in time under an owner that goes on: what it holds now is read anew."""

    async def main() -> None:
        store = memory()
        async with core(store, shards=1) as a:
            await a.host.call(ONE, Counter.arm, "x", 1_000)
            earlier = store.snapshot()
            await asyncio.sleep(1.1)
            assert 1 == len(Counter.rung)
            store.restore(earlier)
            await notice(a)
            await asyncio.sleep(1)
            assert 2 == len(Counter.rung)

    run(main)


async def notice(node: Core) -> None:
    """By a commit that does not fit."""
    with pytest.raises(CommitFailedError):
        await node.host.call(ONE, Counter.add, 1)
