"""What leaves a turn before it has ended: calls to other objects wait as replies do, and nothing leaves a turn that is void."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar

import pytest

from shared.objects.address import Address, shard_of
from shared.objects.errors import CommitFailedError, HandlerError, NoRoomError, OutcomeUnknownError
from shared.objects.handler import Checkpoint, DurableObject, readonly
from shared.objects.host import NOT_NOW
from shared.storage.interface import StoreAwayError, StoreInDoubtError
from shared.testing.clock import run_virtual
from shared.testing.faults import Fault, FaultKind, FaultyStore
from tests.support.simulated import Core, Counter, Meter, core, lose_all, memory

TELLER = Address("teller", "acme", "one")
PURSE = Address("purse", "acme", "one")
METER = Address("meter", "acme", "one")


def elsewhere() -> Address:
    """A counter in another shard than the tellers'."""
    names = (Address("counter", "acme", f"c{index}") for index in range(64))
    return next(name for name in names if shard_of(name.encode(), 4) != shard_of(TELLER.encode(), 4))


OTHER = elsewhere()


class Teller(DurableObject):
    """A committed object that calls a counter after a while."""

    kind = "teller"
    went_on: ClassVar[list[str]] = []

    def write(self, text: str) -> None:
        self.storage.put("text", text)

    @readonly
    def read(self) -> str:
        text: str = self.storage.get("text", str, default="")
        return text

    async def pay(self, after_s: float) -> int:
        await asyncio.sleep(after_s)
        total: int = await self.objects.at(Counter, "acme", OTHER.name).add(1)
        return total

    async def pay_stubbornly(self, after_s: float) -> int:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(after_s)
        return await self.pay(0)

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        Teller.went_on.append("wait")

    async def split(self) -> None:
        self.storage.put("text", "first")
        await self.commit()
        Teller.went_on.append("split")
        self.storage.put("text", "second")


class Purse(DurableObject):
    """A checkpointed total that calls a counter in the middle of a turn."""

    __slots__ = ("total",)
    kind = "purse"
    durability = "checkpointed"
    indexed = False

    def on_activate(self) -> None:
        self.total: int = self.storage.get("total", int, default=0)

    def hit(self) -> int:
        self.total += 1
        self.dirty()
        return self.total

    async def pay(self, after_s: float, then: str = "") -> int:
        await asyncio.sleep(after_s)
        self.hit()
        total: int = await self.objects.at(Counter, "acme", OTHER.name).add(1)
        if then == "fail":
            raise ValueError("no")
        if then == "wait":
            await asyncio.sleep(3)
        return total

    @readonly
    def value(self) -> int:
        return self.total

    def on_checkpoint(self) -> Checkpoint | None:
        self.storage.put("total", self.total)
        return None


class NativePurse(Purse):
    """The same, kept natively."""

    __slots__ = ()
    kind = "purse"
    native = True

    def on_activate(self) -> None:
        self.total = int(self.loaded or b"0")

    def on_checkpoint(self) -> Checkpoint:
        return Checkpoint(b"%d" % self.total if self.total else b"")


TELLERS = (Counter, Teller)
both = pytest.mark.parametrize("purse", [Purse, NativePurse], ids=["put", "native"])


def later(node: Core, address: Address, method: Callable[..., Any], *args: Any) -> "asyncio.Future[Any]":
    """A call that is on its way."""
    return asyncio.ensure_future(node.host.call(address, method, *args))


def test_a_call_does_not_leave_after_a_failed_commit() -> None:
    """What the turn had seen is not stored, and its object has a successor by then, which has nothing to do with it."""

    async def main() -> None:
        store = memory()
        async with core(store, kinds=TELLERS) as a:
            assert 1 == await a.host.call(OTHER, Counter.add, 1)
            await a.host.call(TELLER, Teller.read)
            store.full = True
            write = later(a, TELLER, Teller.write, "old")
            paying = later(a, TELLER, Teller.pay_stubbornly, 0.1)
            with pytest.raises(NoRoomError):
                await write
            store.full = False
            assert "" == await a.host.call(TELLER, Teller.read)
            with pytest.raises(CommitFailedError):
                await paying
            await asyncio.sleep(0.5)
            assert 1 == await a.host.call(OTHER, Counter.value)

    run_virtual(main)


def test_a_call_that_waits_for_a_commit_does_not_leave_when_that_fails() -> None:
    """It is told so at once, and the caller of its turn with it."""

    async def main() -> None:
        store = memory()
        async with core(store, kinds=TELLERS) as a:
            await a.host.call(TELLER, Teller.read)
            store.full = True
            write = later(a, TELLER, Teller.write, "old")
            paying = later(a, TELLER, Teller.pay, 0)
            with pytest.raises(NoRoomError):
                await write
            store.full = False
            with pytest.raises(CommitFailedError):
                await paying
            assert 0 == await a.host.call(OTHER, Counter.value)

    run_virtual(main)


def test_a_call_does_not_leave_an_object_whose_owner_learns_with_the_commit_that_it_is_none() -> None:
    """The write that it waited for counts, under the old lease; the turn does not go on."""

    async def main() -> None:
        store = memory()
        link = FaultyStore(store)
        async with core(link, kinds=TELLERS, lock_id="L") as a:
            await a.host.call(OTHER, Counter.value)
            other = a.host.residents.by_address[OTHER]
            await a.host.call(TELLER, Teller.read)
            link.next("commit", FaultKind.REPLY_LOST)
            write = later(a, TELLER, Teller.write, "old")
            paying = later(a, TELLER, Teller.pay, 0)
            await asyncio.sleep(0.1)
            async with core(store, kinds=TELLERS, lock_id="L", node="b"):
                await write
                with pytest.raises(CommitFailedError):
                    await paying
            assert 1 == other.turns
        assert not link.unfired()

    run_virtual(main)


def test_a_call_does_not_leave_past_the_lease() -> None:
    """It would rest on memory alone, which another owner may have left behind; the called object's lease runs on."""

    async def main() -> None:
        store = memory()
        async with core(store, kinds=TELLERS) as a:
            await a.host.call(TELLER, Teller.read)
            store.renew = _away  # type: ignore[method-assign]  # So that commits alone extend leases.
            paying = later(a, TELLER, Teller.pay, 6)
            await asyncio.sleep(4)
            assert 1 == await a.host.call(OTHER, Counter.add, 1)
            with pytest.raises(CommitFailedError, match="the lease ended"):
                await paying
            assert 1 == await a.host.call(OTHER, Counter.value)

    run_virtual(main)


@both
def test_a_call_waits_for_the_checkpoint_of_what_it_may_have_seen(purse: type[Purse]) -> None:
    """Only replies leave ahead of the store: when the called object has run, its caller's past is safe."""

    async def main() -> None:
        store = memory()
        async with core(store, lock_id="L", kinds=(Counter, purse)) as a:
            await a.host.call(PURSE, purse.value)
            assert 1 == await a.host.call(PURSE, purse.hit)
            assert 1 == await a.host.call(PURSE, purse.pay, 0)
            await a.kill()
        async with core(store, lock_id="L", node="b", kinds=(Counter, purse)) as b:
            assert [1, 1] == [await b.host.call(OTHER, Counter.value), await b.host.call(PURSE, purse.value)]

    run_virtual(main)


@both
def test_a_call_does_not_store_what_its_own_turn_has_changed(purse: type[Purse]) -> None:
    """The turn fails after its call: what earlier turns did is there, what it did itself is not."""

    async def main() -> None:
        async with core(memory(), kinds=(Counter, purse)) as a:
            await a.host.call(PURSE, purse.value)
            assert 1 == await a.host.call(PURSE, purse.hit)
            with pytest.raises(HandlerError):
                await a.host.call(PURSE, purse.pay, 0, "fail")
            assert 1 == await a.host.call(PURSE, purse.value)
            assert 1 == await a.host.call(OTHER, Counter.value)

    run_virtual(main)


def test_a_call_does_not_leave_while_its_native_object_cannot_be_stored() -> None:
    """The checkpoint before the turn was refused, and the next one would store half a turn: the turn fails."""

    async def main() -> None:
        store = memory()
        async with core(store, kinds=(Counter, NativePurse)) as a:
            await a.host.call(OTHER, Counter.value)
            await a.host.call(PURSE, NativePurse.value)
            assert 1 == await a.host.call(PURSE, NativePurse.hit)
            store.full = True
            with pytest.raises(CommitFailedError, match="not stored yet"):
                await a.host.call(PURSE, NativePurse.pay, 0.7)
            assert 0 == await a.host.call(OTHER, Counter.value)

    run_virtual(main)


def test_a_checkpoint_that_was_refused_does_not_grow_younger_by_a_running_turn() -> None:
    """The fast way closes a second after what it had carried was answered, whatever runs meanwhile."""

    async def main() -> None:
        store = memory()
        async with core(store, kinds=(Counter, NativePurse, Meter)) as a:
            await a.host.call(METER, Meter.value)
            await a.host.call(PURSE, NativePurse.value)
            assert 1 == await a.host.call(PURSE, NativePurse.hit)
            store.full = True
            paying = later(a, PURSE, NativePurse.pay, 3)
            await asyncio.sleep(0.9)
            assert 0 == a.host.try_now(METER, Meter.value)
            for _ in range(8):
                await asyncio.sleep(0.25)
                assert a.host.try_now(METER, Meter.value) is NOT_NOW
            with pytest.raises(CommitFailedError):
                await paying

    run_virtual(main)


def test_a_long_turn_does_not_keep_others_from_the_fast_way() -> None:
    """What it has changed is not answered yet, so no answer has left ahead of it."""

    async def main() -> None:
        async with core(memory(), kinds=(Counter, Purse, Meter)) as a:
            await a.host.call(METER, Meter.value)
            paying = later(a, PURSE, Purse.pay, 0, "wait")
            for _ in range(10):
                await asyncio.sleep(0.28)
                assert a.host.try_now(METER, Meter.value) is not NOT_NOW
            assert 1 == await paying

    run_virtual(main)


def test_a_turn_ends_with_the_lease_and_its_successor_runs_alone() -> None:
    """Its caller hears at once that nothing of it counts, and the object serves the next call."""

    async def main() -> None:
        Teller.went_on.clear()
        async with core(memory(), kinds=TELLERS, lock_id="L") as a:
            await a.host.call(TELLER, Teller.read)
            waiting = later(a, TELLER, Teller.wait, 1)
            await asyncio.sleep(0.1)
            lose_all(a)
            await asyncio.sleep(0.01)
            assert waiting.done()
            with pytest.raises(CommitFailedError, match="left memory"):
                await waiting
            await a.ownership.claim_missing()
            for _ in range(3):
                await a.host.call(TELLER, Teller.write, "new")
                await a.host.call(TELLER, Teller.wait, 0.5)
            assert 3 * ["wait"] == Teller.went_on

    run_virtual(main)


def test_a_turn_that_has_hardly_begun_is_answered_when_its_object_leaves() -> None:
    """Also in the moment between the start of the turn and its first step, which nothing of the handler has seen."""

    async def main() -> None:
        async with core(memory(), kinds=TELLERS) as a:
            await a.host.call(TELLER, Teller.read)
            waiting = later(a, TELLER, Teller.wait, 1)
            await asyncio.sleep(0)
            assert 2 == a.host.turns_of(TELLER)
            lose_all(a)
            await asyncio.sleep(0.01)
            assert waiting.done()
            with pytest.raises(CommitFailedError, match="left memory"):
                await waiting

    run_virtual(main)


def test_a_split_turn_whose_owner_changes_while_its_commit_flies_may_have_counted() -> None:
    """Nobody is told that it failed for certain, and the second half never runs."""

    async def main() -> None:
        Teller.went_on.clear()
        store = memory()
        delays = [Fault(operation="commit", kind=FaultKind.DELAY, delay_ms=200)]
        async with core(FaultyStore(store, delays), kinds=TELLERS) as a:
            await a.host.call(TELLER, Teller.read)
            splitting = later(a, TELLER, Teller.split)
            await asyncio.sleep(0.1)
            lose_all(a)
            for shard in a.ownership.shards:
                shard.open, shard.valid_until_ms = True, 1 << 60
            with pytest.raises(OutcomeUnknownError):
                await splitting
            assert "first" == await a.host.call(TELLER, Teller.read)
            assert [] == Teller.went_on

    run_virtual(main)


def test_a_split_turn_whose_commit_is_unknown_says_so() -> None:
    """The store is silent until the lease ends: the turn hears that at its `commit`, and its caller from the turn."""

    async def main() -> None:
        store = memory()
        async with core(store, kinds=TELLERS) as a:
            await a.host.call(TELLER, Teller.read)
            for name in ("commit", "claim", "renew"):
                setattr(store, name, _silent)
            with pytest.raises(OutcomeUnknownError):
                await a.host.call(TELLER, Teller.split)

    run_virtual(main)


async def _away(*_: object, **__: object) -> Any:
    raise StoreAwayError("away")


async def _silent(*_: object, **__: object) -> Any:
    await asyncio.sleep(0.01)
    raise StoreInDoubtError("silent")
