"""A receiver that hangs or fails holds up what was sent to it, and nothing else."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import ClassVar

import pytest

from shared import bounds
from shared.objects.address import Address
from shared.objects.errors import UnavailableError
from shared.objects.handler import DurableObject
from shared.objects.lines import Line, LineKey, Places, Post
from shared.objects.ownership import Shard
from shared.testing.clock import run_virtual
from shared.testing.store import MemoryStore
from tests.support.simulated import Core, core, memory

SENDERS = 300
assert SENDERS > bounds.DELIVERIES_MAX


class Clerk(DurableObject):
    """Takes numbers in order, unless it is told to hang or to fail."""

    kind = "clerk"
    ways: ClassVar[dict[str, str]] = {}
    tries: ClassVar[int] = 0

    async def take(self, sender: str, number: int) -> None:
        Clerk.tries += 1
        match self.ways.get(self.address.name):
            case "hangs":
                await asyncio.sleep(3_600)
            case "fails":
                raise UnavailableError("no paper")
        assert number == self.last(sender) + 1
        self.storage.put(sender, number)

    def last(self, sender: str) -> int:
        return self.storage.get(sender, int, default=0)

    def total(self) -> int:
        return sum(self.last(key) for key in self.storage.list())


class Sender(DurableObject):
    """Sends numbers to clerks."""

    kind = "sender"

    def send_on(self, clerk: str, count: int) -> None:
        number = self.storage.get("number", int, default=0)
        for each in range(number + 1, number + count + 1):
            self.send(Clerk, self.address.tenant, clerk).take(self.address.name, each)
        self.storage.put("number", number + count)


@pytest.fixture(autouse=True)
def _willing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Clerk, "ways", {})
    monkeypatch.setattr(Clerk, "tries", 0)


def sender(name: object) -> Address:
    """Its address."""
    return Address("sender", "acme", f"{name}")


def clerk(name: str) -> Address:
    """Its address."""
    return Address("clerk", "acme", name)


def waiting(store: MemoryStore) -> int:
    """How many messages are in the store."""
    return sum(len(shard.outbox()) for shard in store.snapshot().shards.values())


async def total(node: Core, name: str) -> int:
    """What a clerk has taken."""
    return int(await node.host.call(clerk(name), Clerk.total))


def sending(scenario: Callable[[Core, MemoryStore], Awaitable[None]]) -> None:
    async def main() -> None:
        store = memory()
        async with core(store, kinds=[Sender, Clerk]) as node:
            await scenario(node, store)

    run_virtual(main, limit_ms=24 * 3_600_000)


@pytest.mark.parametrize("way", ["hangs", "fails"])
@pytest.mark.parametrize("each", [4, pytest.param(70, marks=pytest.mark.slow)])
def test_a_receiver_that_does_not_take_anything_holds_up_nobody_else(
    way: str, each: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More messages wait for it than memory takes, of more senders than there are places; others' arrive in a second.

    At full size they are 21,000.
    """
    monkeypatch.setattr(bounds, "MESSAGES_HELD_MAX", min(bounds.MESSAGES_HELD_MAX, SENDERS * each // 2))

    async def scenario(node: Core, store: MemoryStore) -> None:
        Clerk.ways["bad"] = way
        for number in range(SENDERS):
            await node.host.call(sender(number), Sender.send_on, "bad", each)
        for number in range(5):
            await node.host.call(sender(f"new {number}"), Sender.send_on, "good", 1)
            await asyncio.sleep(1)
            assert number + 1 == await total(node, "good")
            await asyncio.sleep(12)
        assert SENDERS * each == node.host.courier.held
        assert Clerk.tries < 10 * SENDERS

    sending(scenario)


def test_what_was_put_aside_arrives_in_order_once_its_receiver_is_well() -> None:
    """Each message once, sender by sender; then nothing is known of it, in memory and in the store."""

    async def scenario(node: Core, store: MemoryStore) -> None:
        Clerk.ways["bad"] = "fails"
        for number in range(20):
            await node.host.call(sender(number), Sender.send_on, "bad", 100)
        await asyncio.sleep(200)
        for number in range(20):
            await node.host.call(sender(number), Sender.send_on, "bad", 3)
        Clerk.ways.clear()
        await asyncio.sleep(500)
        assert 20 * 103 == await total(node, "bad")
        assert (0, 0) == (node.host.courier.held, waiting(store))

    sending(scenario)


def test_past_what_is_kept_in_memory_numbers_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """And past what a node may know of, the rest is read as room comes."""
    monkeypatch.setattr(bounds, "MESSAGES_HELD_MAX", 7)
    monkeypatch.setattr(bounds, "MESSAGES_KNOWN_MAX", 300)

    async def scenario(node: Core, store: MemoryStore) -> None:
        for number in range(10):
            await node.host.call(sender(number), Sender.send_on, "good", 200)
        await asyncio.sleep(60)
        assert 2_000 == await total(node, "good")
        assert (0, 0) == (node.host.courier.held, waiting(store))

    sending(scenario)


def test_places_go_round_among_receivers(monkeypatch: pytest.MonkeyPatch) -> None:
    """One has at most its share of them, and a single one while it fails; lines of a shard that was lost get none."""
    monkeypatch.setattr(bounds, "DELIVERIES_MAX", 5)
    monkeypatch.setattr(bounds, "RECEIVER_DELIVERIES_MAX", 3)
    served: list[Line] = []
    places, post, lost = Places(served.append), Post(Shard(0)), Post(Shard(1))
    lost.closed = True

    def line(receiver: bytes, post: Post = post) -> Line:
        return Line(post, LineKey(b"%d" % len(served), receiver))

    def receivers() -> bytes:
        return b"".join(each.key.receiver for each in served)

    for receiver in b"aaaaaaa", b"bbb", b"cc":
        for _ in receiver:
            places.ready(line(receiver[:1], lost))
            places.ready(line(receiver[:1]))
    assert b"aaabb" == receivers()
    places.left(served[0], failed=True)
    places.left(served[1], failed=True)
    assert b"aaabbbc" == receivers()
    places.left(served[2], failed=True)
    assert b"aaabbbcc" == receivers()
    for each in served[3:]:
        places.left(each, failed=False)
    assert b"aaabbbcca" == receivers(), "one that fails has one place"
    places.left(served[8], failed=False)
    assert b"aaabbbccaaaa" == receivers()[:12]
