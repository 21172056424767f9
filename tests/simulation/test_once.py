"""A request with a key takes effect once, and its answer is the same whenever it is asked for."""

import asyncio
from typing import Any, ClassVar

import pytest

from shared import bounds
from shared.errors import InvalidInputError
from shared.objects.address import Address, shard_of
from shared.objects.errors import (
    CommitFailedError,
    DomainError,
    HandlerError,
    KeyReusedError,
    OverloadedError,
    TooLargeError,
)
from shared.objects.handler import DurableObject
from shared.objects.once import KeyedRequest
from shared.storage.interface import LoadOrder
from shared.testing.clock import run_virtual
from shared.testing.faults import Fault, FaultKind, FaultyStore
from tests.support.simulated import Core, Meter, core, memory

ONE = Address("till", "acme", "one")
DAY_S = bounds.REQUEST_KEEP_MS / 1000


class NoFundsError(DomainError):
    """There is less in the till than was asked for."""


class Till(DurableObject):
    """Money in, money out."""

    kind = "till"
    runs: ClassVar[int] = 0

    def pay_in(self, amount: int) -> int:
        Till.runs += 1
        total = self.storage.get("total", int, default=0) + amount
        self.storage.put("total", total)
        return total

    async def pay_in_slowly(self, amount: int) -> int:
        await asyncio.sleep(0.5)
        return self.pay_in(amount)

    def pay_out(self, amount: int) -> tuple[str, int]:
        Till.runs += 1
        if self.storage.get("total", int, default=0) < amount:
            raise NoFundsError
        self.storage.put("total", self.storage.get("total", int, default=0) - amount)
        return "paid", amount

    def close(self) -> int:
        Till.runs += 1
        total = self.storage.get("total", int, default=0)
        self.storage.delete_all()
        return total

    def statement(self, lines: int) -> str:
        self.storage.put("printed", lines)
        return "." * lines

    def secret(self) -> str:
        self.storage.put("seed", "s3")
        return "token-s3"

    def oddity(self) -> object:
        self.storage.put("total", -1)
        return object()

    def keep_reply(self, method: str, reply: Any) -> Any:
        return "recipe" if method == "secret" else reply

    def recall_reply(self, method: str, kept: Any) -> Any:
        return f"token-{self.storage.get('seed', str)}" if method == "secret" else kept

    def total(self) -> int:
        return self.storage.get("total", int, default=0)


class ForgetfulTill(Till):
    """One that cannot make a reply again of what it kept."""

    kind = "forgetful_till"

    def recall_reply(self, method: str, kept: Any) -> Any:  # As its base has it.
        raise LookupError(method)


class CheckpointedTill(Till):
    """One that may forget its last moments, and then both the payment and that it was made."""

    kind = "quick_till"
    durability = "checkpointed"


async def ask(node: Core, key: str, method: Any, *args: Any, address: Address = ONE) -> Any:
    """Make a keyed request."""
    return await node.host.call(address, method, *args, once=KeyedRequest(key, method, args))


async def tills(node: Core) -> int:
    """What is in the till."""
    total: int = await node.host.call(ONE, Till.total)
    return total


@pytest.fixture(autouse=True)
def _count_runs() -> None:
    Till.runs = 0


def test_the_same_request_is_answered_again_and_not_run_again() -> None:
    """In memory, after the object has left memory, and under the next owner."""

    async def main() -> None:
        store = memory()
        async with core(store, kinds=[Till], lock_id="L") as a:
            assert 5 == await ask(a, "k1", Till.pay_in, 5)
            assert 5 == await ask(a, "k1", Till.pay_in, 5)
            assert a.host.residents.passivate(ONE)
            assert 5 == await ask(a, "k1", Till.pay_in, 5)
            assert 12 == await ask(a, "k2", Till.pay_in, 7)
        async with core(store, kinds=[Till], lock_id="L") as b:
            assert 5 == await ask(b, "k1", Till.pay_in, 5)
            assert 12 == await tills(b)
        assert 2 == Till.runs

    run_virtual(main)


def test_a_reply_comes_back_as_the_type_that_it_had() -> None:
    """A tuple is no list, the second time too."""

    async def main() -> None:
        async with core(memory(), kinds=[Till]) as a:
            await a.host.call(ONE, Till.pay_in, 5)
            assert ("paid", 2) == await ask(a, "k", Till.pay_out, 2)
            assert ("paid", 2) == await ask(a, "k", Till.pay_out, 2)

    run_virtual(main)


def test_a_request_under_way_is_joined() -> None:
    """The second waits for the first and gets its answer."""

    async def main() -> None:
        async with core(memory(), kinds=[Till]) as a:
            both = [ask(a, "k", Till.pay_in_slowly, 5) for _ in range(2)]
            assert [5, 5] == await asyncio.gather(*both)
        assert 1 == Till.runs

    run_virtual(main)


def test_a_key_stands_for_one_request() -> None:
    """Other arguments or another method under the same key are refused, and change nothing."""

    async def main() -> None:
        async with core(memory(), kinds=[Till]) as a:
            await ask(a, "k", Till.pay_in, 5)
            for method, args in ((Till.pay_in, (6,)), (Till.pay_out, (5,))):
                with pytest.raises(KeyReusedError):
                    await ask(a, "k", method, *args)
            assert 5 == await tills(a)

    run_virtual(main)


def test_a_failure_is_not_remembered() -> None:
    """What was refused, or was never stored, may be tried again with the same key."""

    async def main() -> None:
        lost = [Fault(operation="commit", kind=FaultKind.REQUEST_LOST, count=count) for count in (1, 2, 3)]
        store = FaultyStore(memory(), lost)
        async with core(store, kinds=[Till]) as a:
            with pytest.raises(NoFundsError):
                await ask(a, "out", Till.pay_out, 5)
            with pytest.raises(CommitFailedError):
                await ask(a, "in", Till.pay_in, 5)
            assert 5 == await ask(a, "in", Till.pay_in, 5)
            assert ("paid", 5) == await ask(a, "out", Till.pay_out, 5)
        assert not store.unfired()

    run_virtual(main)


def test_the_answer_of_a_request_whose_reply_was_lost_is_there() -> None:
    """The owner dies after its commit and before its answer; the client asks the next one, and nothing is paid twice."""

    async def main() -> None:
        shared = memory()
        store = FaultyStore(shared, [Fault(operation="commit", kind=FaultKind.REPLY_LOST)])
        async with core(store, kinds=[Till], lock_id="L") as a:
            first = asyncio.ensure_future(ask(a, "k", Till.pay_in, 5))
            await asyncio.sleep(0.1)
            assert not first.done()
            await a.kill()
            first.cancel()
        async with core(shared, kinds=[Till], lock_id="L") as b:
            assert 5 == await ask(b, "k", Till.pay_in, 5)
            assert 5 == await tills(b)
        assert not store.unfired()

    run_virtual(main)


def test_an_answer_outlives_its_object() -> None:
    """A request that deletes the object, asked again, does not run on nothing."""

    async def main() -> None:
        async with core(memory(), kinds=[Till]) as a:
            await a.host.call(ONE, Till.pay_in, 5)
            assert 5 == await ask(a, "k", Till.close)
            assert a.host.residents.passivate(ONE)
            assert 5 == await ask(a, "k", Till.close)
            assert 0 == await tills(a)
            before = Till.runs
            for _ in range(2):
                assert 0 == await ask(a, "of nothing", Till.close)
                assert a.host.residents.passivate(ONE)
            assert before + 1 == Till.runs

    run_virtual(main)


@pytest.mark.slow
def test_an_answer_is_remembered_for_a_day() -> None:
    """Then the key is free, whether the object was in memory all the time or not."""

    async def main() -> None:
        async with core(memory(), kinds=[Till]) as a:
            for passivate in (False, True):
                before = Till.runs
                key = f"k{passivate}"
                await ask(a, key, Till.pay_in, 5)
                await asyncio.sleep(DAY_S - 1)
                await ask(a, key, Till.pay_in, 5)
                assert before + 1 == Till.runs
                await asyncio.sleep(2)
                if passivate:
                    assert a.host.residents.passivate(ONE)
                await ask(a, key, Till.pay_in, 5)
                assert before + 2 == Till.runs

    run_virtual(main, limit_ms=int(DAY_S * 3_000))


def test_a_full_table_refuses_and_forgets_nothing() -> None:
    """The 1,025th key of a day does not run; those before are still known; what has expired makes room."""

    async def main() -> None:
        async with core(memory(), kinds=[Till]) as a:
            for number in range(bounds.ENTRIES_MAX):
                await ask(a, str(number), Till.pay_in, 1)
            with pytest.raises(OverloadedError):
                await ask(a, "more", Till.pay_in, 1)
            assert 1 == await ask(a, "0", Till.pay_in, 1)
            await asyncio.sleep(DAY_S + 60)
            assert bounds.ENTRIES_MAX + 1 == await ask(a, "more", Till.pay_in, 1)

    run_virtual(main, limit_ms=int(DAY_S * 2_000))


def test_a_reply_that_cannot_be_kept_is_an_error_and_changes_nothing() -> None:
    """Too large, or of a type that cannot be stored: the turn is dropped as a whole."""

    async def main() -> None:
        async with core(memory(), kinds=[Till]) as a:
            with pytest.raises(TooLargeError):
                await ask(a, "k", Till.statement, bounds.REPLY_BYTES_MAX)
            with pytest.raises(HandlerError):
                await ask(a, "k", Till.oddity)
            assert 0 == await tills(a)
            assert "." * 9 == await ask(a, "k", Till.statement, 9)

    run_virtual(main)


def test_a_secret_is_made_again_and_not_stored() -> None:
    """What is kept is what the author says, and the reply is what the author makes of it."""

    async def main() -> None:
        store = memory()
        async with core(store, kinds=[Till]) as a:
            assert "token-s3" == await ask(a, "k", Till.secret)
            assert "token-s3" == await ask(a, "k", Till.secret)
            shard = a.ownership.shards[shard_of(ONE.encode(), 4)]
            (stored,) = (await store.load([LoadOrder(shard.index, shard.fence, ONE.encode())])).objects
        assert [True] == [b"recipe" in entry.value for entry in stored.entries.values()]
        assert [False] == [b"token" in entry.value for entry in stored.entries.values()]

    run_virtual(main)


@pytest.mark.parametrize("key", ["", "x" * 256, "ä" * 128])
def test_a_key_has_1_to_255_bytes(key: str) -> None:
    """Others are refused before anything runs."""
    with pytest.raises(InvalidInputError):
        KeyedRequest(key, Till.pay_in, (1,))


def test_a_native_kind_remembers_no_requests() -> None:
    """Its state is its instance's; the caller is told."""

    async def main() -> None:
        async with core(memory()) as a:
            with pytest.raises(InvalidInputError):
                await ask(a, "k", Meter.hit, 1, address=Address("meter", "acme", "one"))

    run_virtual(main)


def test_a_checkpointed_kind_forgets_effect_and_answer_together() -> None:
    """A crash before the checkpoint loses both, one after it neither."""

    async def main() -> None:
        store, quick = memory(), Address("quick_till", "acme", "one")
        async with core(store, kinds=[CheckpointedTill], lock_id="L") as a:
            assert 5 == await ask(a, "stored", CheckpointedTill.pay_in, 5, address=quick)
            await asyncio.sleep(1)
            assert 10 == await ask(a, "lost", CheckpointedTill.pay_in, 5, address=quick)
            await a.kill()
        async with core(store, kinds=[CheckpointedTill], lock_id="L") as b:
            assert 5 == await ask(b, "stored", CheckpointedTill.pay_in, 5, address=quick)
            assert 10 == await ask(b, "lost", CheckpointedTill.pay_in, 5, address=quick)

    run_virtual(main)


def test_a_reply_that_cannot_be_recalled_fails_its_call_alone() -> None:
    """Whoever waits behind it is served, be it one who arrives or one who has waited for a turn to end."""

    async def main() -> None:
        forgetful = Address("forgetful_till", "acme", "one")
        async with core(memory(), kinds=[ForgetfulTill]) as a:
            for wait in (False, True):
                first = KeyedRequest(f"k{wait}", Till.pay_in, [5])
                await a.host.call(forgetful, Till.pay_in, 5, once=first)
                before = [a.host.call(forgetful, Till.pay_in_slowly, 1)] if wait else []
                again = a.host.call(forgetful, Till.pay_in, 5, once=first)
                calls = [asyncio.ensure_future(call) for call in (*before, again, a.host.call(forgetful, Till.total))]
                *_, recalled, total = await asyncio.gather(*calls, return_exceptions=True)
                assert isinstance(recalled, HandlerError)
                assert 5 + 6 * wait == total

    run_virtual(main)
