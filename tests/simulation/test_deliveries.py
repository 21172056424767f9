"""A receiver that hangs or fails holds up what was sent to it, and nothing else."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import ClassVar

import pytest

from shared import bounds
from shared.objects.address import Address
from shared.objects.errors import UnavailableError
from shared.objects.handler import DurableObject
from shared.objects.lines import Line, LineKey, Places, Post
from shared.objects.ownership import Shard
from shared.objects.store_clock import StoreClock
from shared.testing.clock import LoopClock, run_virtual
from shared.testing.store import MemoryStore
from tests.support.simulated import Core, core, memory

SENDERS = 600
assert SENDERS > bounds.DELIVERIES_MAX


class Clerk(DurableObject):
    """Takes numbers in order, unless it is told to hang or to fail."""

    kind = "clerk"
    ways: ClassVar[dict[str, str]] = {}
    tries: ClassVar[int] = 0
    let_go: ClassVar[asyncio.Event]

    async def take(self, sender: str, number: int) -> None:
        Clerk.tries += 1
        match self.ways.get(self.address.name):
            case "hangs":
                await asyncio.sleep(3_600)
            case "hangs until it is let go":
                await Clerk.let_go.wait()
            case "hangs briefly":
                await asyncio.sleep(2)
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
        Clerk.let_go, Clerk.ways, Clerk.tries = asyncio.Event(), {}, 0
        async with core(store, kinds=[Sender, Clerk]) as node:
            try:
                await scenario(node, store)
            finally:
                Clerk.let_go.set()
                await asyncio.sleep(1)

    run_virtual(main, limit_ms=24 * 3_600_000)


@pytest.mark.parametrize("way", ["hangs", "fails"])
@pytest.mark.parametrize("each", [2, pytest.param(35, marks=pytest.mark.slow)])
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
        share = bounds.MESSAGES_KNOWN_MAX // (bounds.RECEIVER_KNOWN_PART + 1)
        assert min(SENDERS * each, share) <= node.host.courier.held <= min(SENDERS * each, share + 1)
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


def test_a_receiver_that_takes_nothing_leaves_room_for_what_others_are_sent() -> None:
    """One has far more than a node may know of, and what others are sent arrives; later its own does, in order."""

    async def scenario(node: Core, store: MemoryStore) -> None:
        Clerk.ways["bad"] = "fails"
        for number in range(30):
            await node.host.call(sender(number), Sender.send_on, "bad", 100)
        for number in range(20):
            await node.host.call(sender(f"new {number}"), Sender.send_on, f"good {number}", 2)
            await asyncio.sleep(1)
            assert 2 == await total(node, f"good {number}")
        assert 0 < node.host.courier.held <= 640 // bounds.RECEIVER_KNOWN_PART
        Clerk.ways.clear()
        for number in range(30):
            await node.host.call(sender(number), Sender.send_on, "bad", 1)
        await asyncio.sleep(900)
        assert 30 * 101 == await total(node, "bad")
        assert (0, 0) == (node.host.courier.held, waiting(store))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "MESSAGES_KNOWN_MAX", 640)
        sending(scenario)


def test_a_crowd_of_receivers_that_take_nothing_leaves_room_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has as much as a node may know of, and there is room for the next one."""
    monkeypatch.setattr(bounds, "MESSAGES_KNOWN_MAX", 200)

    async def scenario(node: Core, store: MemoryStore) -> None:
        for number in range(50):
            Clerk.ways[f"bad {number}"] = "fails"
            await node.host.call(sender(number), Sender.send_on, f"bad {number}", 200)
        await node.host.call(sender("new"), Sender.send_on, "good", 1)
        await asyncio.sleep(1)
        assert 1 == await total(node, "good")
        assert 50 <= node.host.courier.held < 200

    sending(scenario)


@pytest.mark.parametrize(("tenant", "wait_s"), [("acme", 4.5), ("other", 0.2)])
def test_receivers_that_hang_hold_up_nobody_for_long(tenant: str, wait_s: float) -> None:
    """Twice as many as there are places hang, with several lines each; another tenant does not wait at all."""

    async def scenario(node: Core, store: MemoryStore) -> None:
        bad = [f"bad {number}" for number in range(2 * bounds.DELIVERIES_MAX)]
        Clerk.ways.update(dict.fromkeys(bad, "hangs until it is let go"))
        for line in range(3):
            await asyncio.gather(*(node.host.call(sender(f"{name} {line}"), Sender.send_on, name, 1) for name in bad))
        good = Address("sender", tenant, "well")
        await node.host.call(good, Sender.send_on, "good", 3)
        await asyncio.sleep(wait_s)
        assert 3 == await node.host.call(Address("clerk", tenant, "good"), Clerk.total)
        assert len(bad) * 3 == node.host.courier.held

    sending(scenario)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_receivers_do_each_message_arrives_once_and_in_order(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They hang, fail and are well again at random, and shards are opened anew; so little is known at a time."""
    draw = random.Random(seed)
    monkeypatch.setattr(bounds, "MESSAGES_KNOWN_MAX", draw.choice([1, 20, 100]))
    monkeypatch.setattr(bounds, "MESSAGES_HELD_MAX", draw.choice([0, 10]))
    monkeypatch.setattr(bounds, "MESSAGE_ROWS", draw.choice([1, 4, 64]))
    monkeypatch.setattr(bounds, "DELIVERIES_MAX", draw.choice([1, 3, 16]))

    async def scenario(node: Core, store: MemoryStore) -> None:
        names, sent = ["a", "b", "c"], dict.fromkeys("abc", 0)
        for _ in range(40):
            what, name, count = (
                draw.choice(["send"] * 4 + ["way", "wait", "open"]),
                draw.choice(names),
                draw.randint(1, 9),
            )
            if what == "send":
                await node.host.call(sender(f"{draw.randint(0, 4)} to {name}"), Sender.send_on, name, count)
                sent[name] += count
            elif what == "way":
                Clerk.ways[name] = draw.choice(["well", "hangs briefly", "fails"])
            elif what == "wait":
                await asyncio.sleep(draw.choice([0.01, 0.5, 3]))
            else:
                node.host.courier.opened(draw.sample(node.ownership.shards, 2))
        Clerk.ways.clear()
        await asyncio.sleep(3_600)
        assert sent == {name: await total(node, name) for name in names}
        assert (0, 0) == (node.host.courier.held, waiting(store))
        assert not node.host.courier._known.due

    sending(scenario)


def test_places_go_round_among_receivers(monkeypatch: pytest.MonkeyPatch) -> None:
    """One has a single one until a delivery went well, then its share; lines of a shard that was lost get none.

    Tenants take turns.
    """
    monkeypatch.setattr(bounds, "DELIVERIES_MAX", 10)
    monkeypatch.setattr(bounds, "RECEIVER_DELIVERIES_MAX", 3)
    served: list[Line] = []
    post, lost = Post(Shard(0)), Post(Shard(1))
    lost.closed = True

    def line(receiver: str, post: Post = post) -> Line:
        tenant = "other" if receiver == "z" else "acme"
        return Line(post, LineKey(b"%d" % len(served), Address("clerk", tenant, receiver).encode()))

    def receivers() -> str:
        return "".join(Address.decode(each.key.receiver).name for each in served)

    async def main() -> None:
        clock = StoreClock(LoopClock(asyncio.get_running_loop()))
        places = Places(served.append, clock)
        for receiver in "aaaaaaa", "bbb", "cc":
            for each in receiver:
                places.ready(line(each, lost))
                places.ready(line(each))
        assert receivers() == "abc", "nobody is known to be well"
        places.left(served[0], failed=False)
        assert receivers() == "abcaaa", "one that is well has three"
        places.left(served[1], failed=True)
        assert receivers() == "abcaaab", "one that fails has one"
        for each in "ddzz":
            places.ready(line(each))
        assert receivers() == "abcaaabz", "a tenant has half of all places, and one that comes has some"
        places.left(served[2], failed=True)
        assert receivers() == "abcaaabzd", "who has waited longest without a place"
        places.left(served[7], failed=False)
        assert receivers() == "abcaaabzdz"
        await asyncio.sleep(bounds.DELIVERY_PLACE_MS / 1_000 + 0.1)
        assert receivers() == "abcaaabzdzc", "what takes long has no place, and counts at its receiver"
        places.left(served[3], failed=False)
        assert receivers() == "abcaaabzdzc", "nor is that one well"
        places.stop()

    run_virtual(main)
