"""Faults of turns that review has found: what a failure leaves in memory, what callers hear of it, what authors' hooks may do."""

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from shared import bounds
from shared.objects.activation import Backlog, Call, Mailbox
from shared.objects.address import Address
from shared.objects.errors import (
    CommitFailedError,
    DomainError,
    HandlerError,
    OutcomeUnknownError,
    TooLargeError,
    UnavailableError,
)
from shared.objects.handler import Checkpoint, DurableObject, readonly
from shared.objects.host import NOT_NOW
from shared.testing.clock import run_virtual
from shared.testing.faults import FaultyStore
from tests.support.simulated import Core, Counter, Meter, core, lose_all, memory

ONE = Address("counter", "acme", "one")
METER = Address("meter", "acme", "one")
PURSE = Address("purse", "acme", "one")
MOODY = Address("moody", "acme", "one")
SULKY = Address("sulky", "acme", "one")
ODD = Address("odd", "acme", "one")


class EmptyError(DomainError):
    """There is not enough in the purse."""


class Purse(DurableObject):
    """A checkpointed total that finds out too late what it must not do."""

    __slots__ = ("total",)
    kind = "purse"
    durability = "checkpointed"
    indexed = False

    def on_activate(self) -> None:
        self.total: int = self.storage.get("total", int, default=3)

    def spend(self, amount: int) -> int:
        self.total -= amount
        self.storage.put("total", self.total)
        if self.total < 0:
            raise EmptyError("not enough")
        return self.total

    def note(self, size_bytes: int) -> None:
        self.total = -1
        self.storage.put("total", -1)
        self.storage.put("note", bytes(size_bytes))

    @readonly
    def value(self) -> int:
        return self.total


class Moody(DurableObject):
    """It can be made unable to begin anew."""

    kind = "moody"
    bad: ClassVar[bool]

    def on_activate(self) -> None:
        if Moody.bad:
            raise ValueError("secret")

    def write(self) -> None:
        self.storage.put("text", "new")

    def fail(self) -> None:
        Moody.bad = True
        raise ValueError("no")


class Sulky(DurableObject):
    """It does not want to leave."""

    kind = "sulky"

    def keep(self, for_ms: int = 0) -> None:
        self.storage.put("text", "kept")
        if for_ms:
            self.storage.expire_at(self.clock.now_ms() + for_ms)

    def read(self) -> str:
        text: str = self.storage.get("text", str, default="")
        return text

    def on_passivate(self) -> None:
        raise ValueError("no")


class Odd(Meter):
    """What it wants to be stored is no bytes once its total is odd, and it cannot be stored at all from 10 on."""

    kind = "odd"

    def on_checkpoint(self) -> Checkpoint:
        if self.total >= 10:
            raise ValueError("too much")
        if self.total % 2:
            return Checkpoint(str(self.total))  # type: ignore[arg-type]  # The author's mistake.
        return super().on_checkpoint()


async def fast(node: Core, address: Address, method: Callable[..., Any], *args: Any) -> Any:
    """The fast way, which has to be open."""
    reply = node.host.try_now(address, method, *args)
    assert reply is not NOT_NOW
    return reply


async def ordinary(node: Core, address: Address, method: Callable[..., Any], *args: Any) -> Any:
    """The ordinary way."""
    return await node.host.call(address, method, *args)


both = pytest.mark.parametrize("ask", [fast, ordinary])


@both
def test_a_declared_error_after_a_write_leaves_memory_as_it_was(ask: Callable[..., Any]) -> None:
    """What the handler changed in its instance goes with what it wrote, so memory is what is stored."""

    async def main() -> None:
        async with core(memory(), kinds=[Purse]) as a:
            assert 2 == await a.host.call(PURSE, Purse.spend, 1)
            with pytest.raises(EmptyError):
                await ask(a, PURSE, Purse.spend, 5)
            assert 2 == await ask(a, PURSE, Purse.value)

    run_virtual(main)


@both
def test_a_value_that_is_too_large_is_called_that(ask: Callable[..., Any]) -> None:
    """On either way the caller is told what was too large, and nothing of the turn is left."""

    async def main() -> None:
        async with core(memory(), kinds=[Purse]) as a:
            assert 2 == await a.host.call(PURSE, Purse.spend, 1)
            with pytest.raises(TooLargeError, match="The value has"):
                await ask(a, PURSE, Purse.note, 200_000)
            assert 2 == await ask(a, PURSE, Purse.value)

    run_virtual(main)


@both
def test_an_undeclared_error_keeps_its_cause(ask: Callable[..., Any]) -> None:
    """The caller hears that the handler failed; the log and the debugger see why."""

    async def main() -> None:
        async with core(memory(), kinds=[Meter]) as a:
            await a.host.call(METER, Meter.hit)
            with pytest.raises(HandlerError) as failed:
                await ask(a, METER, Meter.spoil)
            assert isinstance(failed.value.__cause__, ValueError)

    run_virtual(main)


def test_what_stays_in_memory_is_not_called_a_failure() -> None:
    """The store was away for certain, and yet the next checkpoint stores the hit: its caller is told that it may count."""

    async def main() -> None:
        store = memory()
        link = FaultyStore(store)
        async with core(link, lock_id="L") as a:
            await a.host.call(METER, Meter.value)
            link.away = True
            with pytest.raises(OutcomeUnknownError) as unknown:
                await a.host.call(METER, Meter.hit, durability="committed")
            assert isinstance(unknown.value.__cause__, CommitFailedError)
            link.away = False
            await asyncio.sleep(5)
            await a.kill()
        async with core(store, lock_id="L", node="b") as b:
            assert 1 == await b.host.call(METER, Meter.value)

    run_virtual(main)


def test_an_object_that_fails_to_say_goodbye_leaves_all_the_same() -> None:
    """Nothing else is kept from leaving by it, and it comes back as it was stored."""

    async def main() -> None:
        async with core(memory(), kinds=[Sulky, Counter]) as a:
            await a.host.call(SULKY, Sulky.keep)
            await a.host.call(ONE, Counter.add, 4)
            for _ in range(3):
                await a.host.passivate_idle()
                await asyncio.sleep(61)
            assert 0 == a.host.objects_resident
            assert "kept" == await a.host.call(SULKY, Sulky.read)

    run_virtual(main)


def test_idle_objects_leave_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others have their turns in between, however many there are; each is looked at once."""
    monkeypatch.setattr(bounds, "PASSIVATION_SLICE_OBJECTS", 2)
    monkeypatch.setattr(bounds, "PASSIVATION_SCAN_OBJECTS", 7)

    async def main() -> None:
        async with core(memory(), kinds=[Counter]) as a:
            for number in range(9):
                await a.host.call(Address("counter", "acme", f"{number}"), Counter.add, 1)
            for _ in range(2):  # Each is seen idle once.
                await a.host.passivate_idle()
            await asyncio.sleep(61)
            leaving = asyncio.ensure_future(a.host.passivate_idle())
            left = [a.host.objects_resident]
            while not leaving.done():
                await asyncio.sleep(0)
                left.append(a.host.objects_resident)
            assert [9, 7, 5, 3, 2] == sorted(set(left), reverse=True)

    run_virtual(main)


def test_an_object_that_fails_to_say_goodbye_expires_all_the_same() -> None:
    """Who calls it after its expiry finds it absent."""

    async def main() -> None:
        async with core(memory(), kinds=[Sulky]) as a:
            await a.host.call(SULKY, Sulky.keep, 500)
            await asyncio.sleep(1)
            assert "" == await a.host.call(SULKY, Sulky.read)

    run_virtual(main)


def test_an_object_that_cannot_be_encoded_fails_alone() -> None:
    """Its caller is told, its last good state is read again, and the commits of others go on."""

    async def main() -> None:
        async with core(memory(), kinds=[Odd, Counter]) as a:
            assert 2 == await a.host.call(ODD, Odd.hit, 2, durability="committed")
            with pytest.raises(CommitFailedError, match="cannot be encoded"):
                await a.host.call(ODD, Odd.hit, durability="committed")
            assert 1 == await a.host.call(ONE, Counter.add, 1)
            assert 2 == await a.host.call(ODD, Odd.value)

    run_virtual(main)


def test_a_failed_restart_is_not_told_in_the_words_of_the_author() -> None:
    """Earlier turns hear that they are not stored, later calls that the object cannot begin; neither sees the exception."""

    async def main() -> None:
        Moody.bad = False
        async with core(memory(), kinds=[Moody]) as a:
            await a.host.call(MOODY, Moody.write)
            calls = [
                asyncio.ensure_future(a.host.call(MOODY, method)) for method in (Moody.write, Moody.fail, Moody.write)
            ]
            earlier, failed, later = await asyncio.gather(*calls, return_exceptions=True)
            assert [CommitFailedError, HandlerError] == [type(earlier), type(failed)]
            assert ["moody/fail failed.", "moody/on_activate failed."] == [str(failed), str(later)]

    run_virtual(main)


def test_an_alarm_that_waits_already_does_not_leave_a_second_call_without_an_answer() -> None:
    """It is told at once that it did not start; one turn is enough for both."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        backlog = Backlog()
        mailbox = Mailbox(backlog)
        first, second = (
            Call(DurableObject.on_alarm, (), future=loop.create_future(), arrived_ms=0, alarm="x") for _ in range(2)
        )
        for call in (first, second):
            mailbox.push(call, address=ONE)
        assert isinstance(second.future.exception(), UnavailableError)
        assert [1, 1, False] == [backlog.calls, len(mailbox), first.future.done()]

    run_virtual(main)


class Sleepy(Meter):
    """Its turns take as long as they are told."""

    kind = "sleepy"

    async def nap(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


SLEEPY = Address("sleepy", "acme", "one")


def test_a_drain_does_not_lose_what_was_answered_before_a_long_turn() -> None:
    """The turn is cut off in the end, and its native object's memory with it; the hit before was stored by then."""

    async def main() -> None:
        store = memory()
        async with core(store, lock_id="L", kinds=[Sleepy]) as a:
            assert 1 == await a.host.call(SLEEPY, Sleepy.hit)
            nap = asyncio.ensure_future(a.host.call(SLEEPY, Sleepy.nap, 20))
            await asyncio.sleep(0.01)
            await a.drain()
            with pytest.raises(CommitFailedError):
                await nap
        async with core(store, lock_id="L", node="b", kinds=[Sleepy]) as b:
            assert 1 == await b.host.call(SLEEPY, Sleepy.value)

    run_virtual(main)


def test_a_turn_does_not_start_over_a_past_that_cannot_be_stored() -> None:
    """The checkpoint before it fails: the call is refused as not started, and the next one meets the last good state."""

    async def main() -> None:
        async with core(memory(), kinds=[Odd]) as a:
            assert 2 == await a.host.call(ODD, Odd.hit, 2, durability="committed")
            assert 12 == await a.host.call(ODD, Odd.hit, 10)
            with pytest.raises(UnavailableError, match="checkpoint failed"):
                await a.host.call(ODD, Odd.hit_slowly)
            assert 4 == await a.host.call(ODD, Odd.hit, 2)

    run_virtual(main)


def test_what_is_not_wanted_any_more_is_not_asked_of_the_store() -> None:
    """The object left before the loader came to it: no trip for nothing."""

    async def main() -> None:
        link = FaultyStore(memory())
        async with core(link) as a:
            asking = asyncio.ensure_future(a.host.call(ONE, Counter.value))
            await asyncio.sleep(0)
            lose_all(a)
            with pytest.raises(UnavailableError):
                await asking
            await asyncio.sleep(0.1)
            assert 0 == link.calls.get("load", 0)

    run_virtual(main)
