"""What may wait on a node is bounded, and what is over a bound is refused at once, as not started."""

import asyncio

import pytest

from shared import bounds
from shared.objects.address import Address, shard_of
from shared.objects.errors import OverloadedError
from shared.testing.clock import run_virtual
from shared.testing.faults import Fault, FaultKind, FaultyStore
from tests.support.simulated import Core, Counter, core, memory

ONE = Address("counter", "acme", "one")
MIB = 1024 * 1024


def adding(node: Core, address: Address, *, size_bytes: int = bounds.CALL_BYTES) -> "asyncio.Future[int]":
    """A call that is on its way."""
    return asyncio.ensure_future(node.host.call(address, Counter.add, 1, size_bytes=size_bytes))


def elsewhere(address: Address) -> Address:
    """An address in another shard."""
    others = (address._replace(name=str(number)) for number in range(100))
    return next(other for other in others if shard_of(other.encode(), 4) != shard_of(address.encode(), 4))


def rejected(node: Core, reason: str) -> int:
    """How many calls were counted as refused for this reason."""
    shown = node.host.metrics.render_prometheus().decode()
    name = f'tenure_object_queue_rejected_total{{kind="counter",reason="{reason}"}} '
    return sum(int(float(line.removeprefix(name))) for line in shown.splitlines() if line.startswith(name))


def test_a_shard_in_doubt_takes_256_turns_and_no_more() -> None:
    """The next one is refused before it starts, other shards go on, and after the doubt the shard takes calls again."""

    async def main() -> None:
        store = FaultyStore(memory(), [Fault(operation="commit", kind=FaultKind.REPLY_LOST)])
        async with core(store) as a:
            await a.host.call(ONE, Counter.value)
            first = adding(a, ONE)
            await asyncio.sleep(0.05)
            taken = [adding(a, ONE) for _ in range(bounds.DOUBT_TURNS_MAX)]
            await asyncio.sleep(0.05)
            with pytest.raises(OverloadedError):
                await a.host.call(ONE, Counter.add, 1)
            assert 1 == rejected(a, "doubt")
            assert 0 == await a.host.call(elsewhere(ONE), Counter.value)
            assert not any(call.done() for call in (first, *taken))
            assert list(range(1, 258)) == await asyncio.gather(first, *taken)
            assert 258 == await a.host.call(ONE, Counter.add, 1)
        assert not store.unfired()

    run_virtual(main)


def test_a_mailbox_holds_8_mib() -> None:
    """Calls that would pass it are refused; those that were let in all run, and then there is room again."""

    async def main() -> None:
        async with core(memory()) as a:
            calls = [adding(a, ONE, size_bytes=MIB) for _ in range(11)]
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert [True] * 8 + [False] * 3 == [isinstance(result, int) for result in results]
            assert {OverloadedError} == {type(result) for result in results[8:]}
            assert 3 == rejected(a, "mailbox")
            again = [adding(a, ONE, size_bytes=MIB) for _ in range(8)]
            assert list(range(9, 17)) == await asyncio.gather(*again)

    run_virtual(main)


def test_a_call_that_nobody_waits_for_any_more_takes_no_room() -> None:
    """Callers whose patience ended give back their bytes, in the mailbox and on the node."""

    async def main() -> None:
        async with core(memory()) as a:
            for _ in range(3):
                late = [
                    asyncio.ensure_future(a.host.call(ONE, Counter.add, 1, size_bytes=MIB, deadline_ms=1))
                    for _ in range(8)
                ]
                await asyncio.gather(*late, return_exceptions=True)
                await asyncio.sleep(0.1)
            assert 0 == rejected(a, "mailbox")
            assert 0 == await a.host.call(ONE, Counter.value) % 8

    run_virtual(main)


def test_a_node_holds_256_mib() -> None:
    """However many objects they are for; when the calls are answered, there is room again."""

    async def main() -> None:
        async with core(memory()) as a:
            objects = [Address("counter", "acme", str(number)) for number in range(33)]
            calls = [adding(a, one, size_bytes=8 * MIB) for one in objects]
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert ([1] * 32, OverloadedError) == (results[:32], type(results[32]))
            assert 1 == rejected(a, "node")
            assert 1 == await adding(a, objects[32], size_bytes=8 * MIB)

    run_virtual(main)
