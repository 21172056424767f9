"""What alarms promise, in virtual time."""

import asyncio

import pytest

from shared import bounds
from shared.objects.address import Address
from shared.testing.clock import run_virtual
from shared.testing.faults import FaultyStore
from tests.simulation.test_core import SLEEPER, Sleeper
from tests.support.simulated import Counter, core, memory

ONE = Address("counter", "acme", "one")


def test_an_alarm_fires_once_it_is_due_and_never_early() -> None:
    """Its turn runs at or after the due time of the store's clock, and it is gone afterwards."""

    async def main() -> None:
        Counter.rung.clear()
        async with core(memory()) as a:
            await a.host.call(ONE, Counter.arm, "x", 10_000)
            await asyncio.sleep(9.9)
            assert [] == Counter.rung
            await asyncio.sleep(0.2)
            assert 1 == len(Counter.rung)
            assert 0 <= Counter.rung[0] <= 50
            assert [] == await a.host.call(ONE, Counter.names)

    run_virtual(main)


def test_alarms_of_kinds_that_nobody_hosts_are_left_alone() -> None:
    """They ring at nobody, delay nobody else's, and are asked for no more often than others."""

    async def main() -> None:
        within = memory()
        async with core(within, lock_id="L") as a:
            for number in range(bounds.ALARMS_MAX):
                await a.host.call(ONE, Counter.arm, f"{number}", 1_000)
            await a.kill()
        store = FaultyStore(within)
        async with core(store, lock_id="L", node="b", kinds=[Sleeper]) as b:
            await asyncio.sleep(5)
            asked = store.calls["due_alarms"]
            await asyncio.sleep(300)
            assert store.calls["due_alarms"] - asked <= 10
            assert (0, 0) == (b.host.alarms.overdue_ms(), len(b.host.alarms.queue))
            await b.kill()
        Counter.rung.clear()
        async with core(within, lock_id="L", node="c"):
            await asyncio.sleep(1)
            assert bounds.ALARMS_MAX == len(Counter.rung)

    run_virtual(main)


def test_an_alarm_survives_the_death_of_its_owner() -> None:
    """It rings at the next owner, though nobody calls the object."""

    async def main() -> None:
        store = memory()
        async with core(store, lock_id="L") as a:
            await a.host.call(ONE, Counter.arm, "x", 5_000)
            await a.kill()
        Counter.rung.clear()
        async with core(store, lock_id="L", node="b"):
            await asyncio.sleep(5.5)
            assert 1 == len(Counter.rung)
            assert Counter.rung[0] >= 0

    run_virtual(main)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_failing_alarm_is_tried_again_and_then_shown_as_dead() -> None:
    """Retries back off for a day; then the alarm is listed as dead, not lost."""

    async def main() -> None:
        store = memory()
        Counter.rung.clear()
        async with core(store) as a:
            await a.host.call(ONE, Counter.arm, "bad", 1_000)
            await asyncio.sleep(10)
            assert 2 <= len(Counter.rung) <= 4
            assert 0 == await a.host.call(ONE, Counter.rings)
            await asyncio.sleep(25 * 3_600)
            tried = len(Counter.rung)
            assert 280 <= tried
            assert [] == await a.host.call(ONE, Counter.names)
            await asyncio.sleep(3_600)
            assert tried == len(Counter.rung)

    run_virtual(main, limit_ms=100 * 3_600_000)


def test_a_cancelled_alarm_does_not_ring() -> None:
    """Not after its cancelling turn was answered."""

    async def main() -> None:
        Counter.rung.clear()
        async with core(memory()) as a:
            await a.host.call(ONE, Counter.arm, "x", 1_000)
            assert await a.host.call(ONE, Counter.cancel, "x")
            await asyncio.sleep(3)
            assert [] == Counter.rung

    run_virtual(main)


def test_an_alarm_rings_again_if_its_owner_dies_during_its_turn() -> None:
    """It leaves the store with the commit of its turn, not before."""

    async def main() -> None:
        store = memory()
        Sleeper.rung.clear()
        async with core(store, lock_id="L", kinds=(Sleeper,)) as a:
            await a.host.call(SLEEPER, Sleeper.arm, "x", 1_000)
            await asyncio.sleep(1.2)
            assert ["x"] == Sleeper.rung
            await a.kill()
        async with core(store, lock_id="L", node="b", kinds=(Sleeper,)):
            await asyncio.sleep(1)
            assert ["x", "x"] == Sleeper.rung

    run_virtual(main)


def test_a_failed_alarm_waits_before_its_next_try() -> None:
    """About 2 s after the failure, a quarter more or less; what its turn wrote is gone."""

    async def main() -> None:
        Counter.rung.clear()
        async with core(memory()) as a:
            await a.host.call(ONE, Counter.arm, "bad", 1_000)
            await asyncio.sleep(2.4)
            assert 1 == len(Counter.rung)
            await asyncio.sleep(1.3)
            assert 2 == len(Counter.rung)
            assert 0 == await a.host.call(ONE, Counter.rings)

    run_virtual(main)
