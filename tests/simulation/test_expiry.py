"""An object whose expiry has passed is absent, by every way in, whether or not it is still in memory."""

import asyncio
from typing import ClassVar

from shared.objects.address import Address
from shared.objects.host import NOT_NOW
from shared.testing.clock import run_virtual
from tests.support.simulated import Tally, core, memory

TALLY = Address("tally", "acme", "one")


def test_the_fast_way_does_not_see_what_has_expired() -> None:
    """Until its expiry it is answered at once; from then on the ordinary path finds it absent, and it begins anew."""

    async def main() -> None:
        store = memory()
        async with core(store, lock_id="L") as a:
            await a.host.call(TALLY, Tally.expire, 10_000)
            await asyncio.sleep(9.9)
            assert 1 == a.host.try_now(TALLY, Tally.value)
            await asyncio.sleep(0.2)
            assert a.host.try_now(TALLY, Tally.value) is NOT_NOW
            assert 0 == await a.host.call(TALLY, Tally.value)
            assert 1 == a.host.try_now(TALLY, Tally.hit)
            await asyncio.sleep(0.5)
            await a.kill()
        async with core(store, lock_id="L", node="b") as b:
            assert 1 == await b.host.call(TALLY, Tally.value)

    run_virtual(main)


def test_beginning_anew_needs_no_load() -> None:
    """What the store holds of an expired object is known: it is not asked again, and is replaced whole."""

    async def main() -> None:
        store = memory()
        async with core(store) as a:
            await a.host.call(TALLY, Tally.expire, 1_000)
            await asyncio.sleep(2)
            before = asyncio.get_running_loop().time()
            assert 0 == await a.host.call(TALLY, Tally.value)
            assert before == asyncio.get_running_loop().time()

    run_virtual(main)


def test_what_is_not_stored_yet_has_not_expired() -> None:
    """A newer turn in memory counts, also where the expiry that the store knows has passed."""

    async def main() -> None:
        async with core(memory()) as a:
            await a.host.call(TALLY, Tally.expire, 10_000)
            await asyncio.sleep(9.95)
            assert 2 == a.host.try_now(TALLY, Tally.hit)
            await asyncio.sleep(0.1)
            assert 3 == a.host.try_now(TALLY, Tally.hit)

    run_virtual(main)


class Fragile(Tally):
    """It cannot be made while it is told so."""

    kind = "fragile"
    refuses: ClassVar[bool] = False

    def on_activate(self) -> None:
        if Fragile.refuses:
            raise ValueError("no")
        super().on_activate()


def test_an_alarm_that_meets_an_object_which_cannot_begin_anew_harms_nobody() -> None:
    """A stale alarm rings for an expired object whose own activation fails: the node's alarms go on."""

    async def main() -> None:
        async with core(memory(), kinds=[Fragile]) as a:
            address = Address("fragile", "acme", "one")
            await a.host.call(address, Fragile.expire, 1_000)
            await asyncio.sleep(2)
            Fragile.refuses = True
            a.host.alarms.queue.push(0, address.encode() + b"stale")
            await asyncio.sleep(31)
            Fragile.refuses = False
            assert 0 == await a.host.call(address, Fragile.value)

    run_virtual(main)
