"""Objects whose instance alone has the state, in virtual time."""

import asyncio

import pytest

from shared.objects.address import Address
from shared.objects.errors import CommitFailedError, HandlerError
from shared.objects.handler import Checkpoint
from shared.testing.clock import run_virtual
from tests.support.simulated import Meter, core, memory

METER = Address("meter", "acme", "one")


def test_a_native_state_survives_its_owner() -> None:
    """The next owner starts from the last checkpoint; an object that has nothing left is not stored."""

    async def main() -> None:
        store = memory()
        async with core(store, lock_id="L") as a:
            await a.host.call(METER, Meter.hit, 7)
            await asyncio.sleep(0.3)
            assert 8 == a.host.try_now(METER, Meter.hit)
            await a.kill()
        async with core(store, lock_id="L", node="b") as b:
            assert 7 == await b.host.call(METER, Meter.value)
            await b.host.call(METER, Meter.hit, -7, durability="committed")
        assert [] == [shard for shard in store.snapshot().shards.values() if shard.natives]

    run_virtual(main)


def test_a_native_object_that_fails_is_read_again_and_loses_nobody() -> None:
    """What the failed handler left in memory is gone, and the calls behind it run on the last checkpoint."""

    async def main() -> None:
        async with core(memory()) as a:
            await a.host.call(METER, Meter.hit, 7)
            await asyncio.sleep(0.3)
            calls = [
                asyncio.ensure_future(a.host.call(METER, method))
                for method in (Meter.hit_slowly, Meter.spoil, Meter.value)
            ]
            slow, spoilt, value = await asyncio.gather(*calls, return_exceptions=True)
            assert 8 == slow
            assert isinstance(spoilt, HandlerError)
            assert value in (7, 8)

    run_virtual(main)


def test_a_native_kind_has_no_keys_and_no_alarms() -> None:
    """Asking for them is a mistake of its author, and says so."""

    async def main() -> None:
        async with core(memory()) as a:
            await a.host.call(METER, Meter.hit)
            instance = a.host._activations[METER].instance
            with pytest.raises(TypeError, match="native kind"):
                instance.storage  # noqa: B018  # The look is what fails.
            with pytest.raises(TypeError, match="native kind"):
                instance.alarms.set("x", at_ms=1)


class Broken(Meter):
    """Its state cannot be encoded once it is odd."""

    kind = "broken"

    def on_checkpoint(self) -> Checkpoint:
        if self.total % 2:
            raise ValueError("odd")
        return super().on_checkpoint()


def test_an_answer_that_was_to_be_stored_fails_with_its_checkpoint() -> None:
    """Who asked for `committed` is not told of a success that nothing holds; what was stored before is there."""

    async def main() -> None:
        async with core(memory(), kinds=[Broken]) as a:
            address = Address("broken", "acme", "one")
            assert 2 == await a.host.call(address, Broken.hit, 2, durability="committed")
            with pytest.raises(CommitFailedError, match="checkpoint failed"):
                await a.host.call(address, Broken.hit, 1, durability="committed")
            assert 2 == await a.host.call(address, Broken.value)

    run_virtual(main)
