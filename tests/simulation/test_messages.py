"""Messages take effect once, in the order of sending, over crashes, moves and lost answers, or are there to be seen."""

import asyncio
import random
from collections.abc import Sequence
from typing import ClassVar

import msgspec
import pytest

from shared import bounds
from shared.objects.address import Address, shard_of
from shared.objects.errors import DomainError, HandlerError, TooLargeError
from shared.objects.handler import DurableObject
from shared.objects.messages import Message
from shared.storage.interface import Store
from shared.storage.listings import OutboxMessage
from shared.testing.clock import run_virtual
from shared.testing.faults import Fault, FaultKind, FaultyStore
from tests.support.simulated import Core, Meter, core, memory

DESK = Address("desk", "acme", "one")
SHARDS = 4
HOUR_MS = 3_600_000


class ClosedError(DomainError):
    """The office takes nothing any more."""


class Slip(msgspec.Struct, frozen=True):
    """What is sent."""

    number: int
    text: str = ""


class Office(DurableObject):
    """Files what it gets."""

    kind = "office"
    refused: ClassVar[int] = 0
    """The number of a slip that no office takes."""

    def file(self, slip: Slip, copies: int = 1) -> None:
        if slip.number == Office.refused > 0:
            raise ClosedError
        if self.storage.get("closed", bool, default=False):
            raise ClosedError
        if self.storage.get("broken", bool, default=False):
            raise ValueError("no paper")
        assert isinstance(slip, Slip)
        self.storage.put("filed", (*self.filed(), *[slip.number] * copies))

    def set(self, what: str, value: bool) -> None:  # Turns take their arguments by place.
        self.storage.put(what, value)

    async def rest(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def filed(self) -> tuple[int, ...]:
        return self.storage.get("filed", tuple[int, ...], default=())

    def shred(self) -> None:
        self.storage.delete_all()


class Desk(DurableObject):
    """Sends slips to offices."""

    kind = "desk"

    def issue(self, offices: Sequence[str], count: int = 1, text: str = "") -> int:
        number = self.storage.get("number", int, default=0)
        for _ in range(count):
            number += 1
            for office in offices:
                self.send(Office, self.address.tenant, office).file(Slip(number, text))
        self.storage.put("number", number)
        return number

    def issue_in_vain(self, office: str) -> None:
        self.send(Office, self.address.tenant, office).file(Slip(-1))
        raise ValueError("changed my mind")

    def issue_wrongly(self, office: str) -> None:
        self.send(Office, self.address.tenant, office).file()

    def issue_to_a_meter(self, meter: str) -> None:
        self.send(Meter, self.address.tenant, meter).hit(1)

    def issue_briefly(self, office: str, ttl_ms: int) -> None:
        self.send(Office, self.address.tenant, office, ttl_ms=ttl_ms).file(Slip(0))

    def issue_to_nobody(self) -> None:
        self.send(Unhosted, self.address.tenant, "one", ttl_ms=HOUR_MS).file(Slip(0))

    def vanish(self, office: str) -> None:
        self.send(Office, self.address.tenant, office).file(Slip(99))
        self.storage.delete_all()


class QuickDesk(Desk):
    """One whose numbers and slips are stored with the next checkpoint."""

    kind = "quick_desk"
    durability = "checkpointed"


class Unhosted(Office):
    """No node of these tests has it."""

    kind = "unhosted"


KINDS = (Desk, QuickDesk, Office)


def office(name: str) -> Address:
    """Its address."""
    return Address("office", "acme", name)


async def filed(node: Core, name: str) -> list[int]:
    """What an office has filed."""
    return list(await node.host.call(office(name), Office.filed))


async def outbox(store: Store, sender: Address = DESK) -> list[Message]:
    """What the store has of a sender's messages."""
    (rows,) = await store.outbox([(shard_of(sender.encode(), SHARDS), 0)], rows=bounds.MESSAGES_MAX)
    return [Message.decode(row.sent.message) for row in rows if row.object_id == sender.encode()]


def test_a_message_is_delivered_after_its_turn_is_stored() -> None:
    """In order, to each receiver, and then it is nowhere any more."""

    async def main() -> None:
        store = memory()
        async with core(store, kinds=KINDS) as a:
            assert 20 == await a.host.call(DESK, Desk.issue, ["n", "s"], 20)
            await asyncio.sleep(1)
            assert list(range(1, 21)) == await filed(a, "n") == await filed(a, "s")
            assert [] == await outbox(store)
            assert set() == a.host.residents.by_address[DESK].state.kept.outstanding  # type: ignore[union-attr]  # No native kind.
            assert 0 == a.host.courier.held

    run_virtual(main)


def test_a_turn_that_fails_sends_nothing() -> None:
    """Nor one whose message does not fit the receiver's method, or whose receiver could not know it again."""

    async def main() -> None:
        async with core(memory(), kinds=KINDS) as a:
            for method in (Desk.issue_in_vain, Desk.issue_wrongly, Desk.issue_to_a_meter):
                with pytest.raises(HandlerError):
                    await a.host.call(DESK, method, "n")
            await asyncio.sleep(5)
            assert [] == await filed(a, "n")

    run_virtual(main)


def test_a_crash_after_the_commit_loses_no_message() -> None:
    """The next owner of the sender delivers what the last one has sent."""

    async def main() -> None:
        store = memory()
        async with core(store, kinds=KINDS, lock_id="L") as a:
            await a.host.call(DESK, Desk.issue, ["n"], 5)
            await a.kill()
        async with core(store, kinds=KINDS, lock_id="L") as b:
            await asyncio.sleep(1)
            assert [1, 2, 3, 4, 5] == await filed(b, "n")

    run_virtual(main)


def test_a_message_that_was_delivered_is_known_again() -> None:
    """The owner dies between the effect and the removal: the next delivery changes nothing, and later ones do."""

    async def main() -> None:
        shared = memory()
        # Commits: the issue, the effect, and the removal, which never arrives.
        store = FaultyStore(shared, [Fault(operation="commit", kind=FaultKind.REQUEST_LOST, count=3)])
        async with core(store, kinds=KINDS, lock_id="L") as a:
            await a.host.call(DESK, Desk.issue, ["n"])
            await asyncio.sleep(0.1)
            assert [1] == [message.serial for message in await outbox(shared)]
            await a.kill()
        assert not store.unfired()
        async with core(shared, kinds=KINDS, lock_id="L") as b:
            await asyncio.sleep(1)
            assert [1] == await filed(b, "n")
            assert [] == await outbox(shared)
            await b.host.call(DESK, Desk.issue, ["n"])
            await asyncio.sleep(1)
            assert [1, 2] == await filed(b, "n")

    run_virtual(main)


def test_what_a_receiver_knows_outlives_its_state() -> None:
    """A slip that was filed and shredded is not filed again by a second delivery."""

    async def main() -> None:
        shared = memory()
        store = FaultyStore(shared, [Fault(operation="commit", kind=FaultKind.REQUEST_LOST, count=3)])
        async with core(store, kinds=KINDS, lock_id="L") as a:
            await a.host.call(DESK, Desk.issue, ["n"])
            await asyncio.sleep(0.1)
            shredded = asyncio.ensure_future(a.host.call(office("n"), Office.shred))
            await asyncio.sleep(0.1)
            await a.kill()
            shredded.cancel()
        assert not store.unfired()
        async with core(shared, kinds=KINDS, lock_id="L") as b:
            await b.host.call(office("n"), Office.shred)
            await asyncio.sleep(1)
            assert [] == await filed(b, "n")

    run_virtual(main)


def test_a_receiver_that_fails_is_tried_again_and_the_others_do_not_wait() -> None:
    """What is behind the message waits, so the order holds."""
    in_order = list(range(1, 9))  # By luck alone, each after a wait of its own, eight would hardly arrive so.

    async def main() -> None:
        async with core(memory(), kinds=KINDS) as a:
            await a.host.call(office("n"), Office.set, "broken", True)  # As above.
            await a.host.call(DESK, Desk.issue, ["n", "s"], len(in_order))
            await asyncio.sleep(10)
            assert ([], in_order) == (await filed(a, "n"), await filed(a, "s"))
            await a.host.call(office("n"), Office.set, "broken", False)  # As above.
            await asyncio.sleep(60)
            assert in_order == await filed(a, "n")

    run_virtual(main)


def test_a_message_that_is_refused_becomes_a_dead_letter() -> None:
    """With the reason, and those behind it go on; it survives its sender's memory and next owner."""

    async def main() -> None:
        store = memory()
        async with core(store, kinds=KINDS, lock_id="L") as a:
            await a.host.call(office("n"), Office.set, "closed", True)  # As above.
            await a.host.call(DESK, Desk.issue, ["n"])
            await asyncio.sleep(1)
            await a.host.call(office("n"), Office.set, "closed", False)  # As above.
            await a.host.call(DESK, Desk.issue, ["n"])
            await asyncio.sleep(1)
            assert [2] == await filed(a, "n")
            await a.kill()
        async with core(store, kinds=KINDS, lock_id="L") as b:
            await asyncio.sleep(5)
            dead = await outbox(store)
            assert [(True, True)] == [(message.dead_ms > 0, "ClosedError" in message.error) for message in dead]
            assert [2] == await filed(b, "n")

    run_virtual(main)


def test_a_message_expires() -> None:
    """One that nobody could deliver in time is a dead letter with the last error, and has no effect ever after."""

    async def main() -> None:
        store = memory()
        async with core(store, kinds=KINDS) as a:
            await a.host.call(office("n"), Office.set, "broken", True)  # As above.
            await a.host.call(DESK, Desk.issue_briefly, "n", 60_000)
            await a.host.call(DESK, Desk.issue_to_nobody)
            await asyncio.sleep(90)
            await a.host.call(office("n"), Office.set, "broken", False)  # As above.
            await asyncio.sleep(HOUR_MS / 1000 + 400)
            assert [] == await filed(a, "n")
            errors = sorted(message.error for message in await outbox(store))
            assert ["expired: HandlerError: office/file failed.", "expired: UnavailableError"] == [
                errors[0],
                errors[1][: len("expired: UnavailableError")],
            ]

    run_virtual(main, limit_ms=2 * HOUR_MS)


def test_a_sender_has_at_most_1024_undelivered_messages() -> None:
    """The turn that would send one more fails as a whole; what is delivered makes room."""

    async def main() -> None:
        async with core(memory(), kinds=KINDS) as a:
            await a.host.call(office("n"), Office.set, "broken", True)  # As above.
            await a.host.call(DESK, Desk.issue, ["n"], bounds.MESSAGES_MAX)
            with pytest.raises(TooLargeError):
                await a.host.call(DESK, Desk.issue, ["n"])
            assert a.host.residents.passivate(DESK)
            with pytest.raises(TooLargeError):
                await a.host.call(DESK, Desk.issue, ["n"])
            await a.host.call(office("n"), Office.set, "broken", False)  # As above.
            await asyncio.sleep(600)
            assert bounds.MESSAGES_MAX == len(await filed(a, "n"))
            assert bounds.MESSAGES_MAX + 1 == await a.host.call(DESK, Desk.issue, ["n"])

    run_virtual(main)


def test_a_message_has_at_most_64_kib() -> None:
    """A larger one is refused where it is sent."""

    async def main() -> None:
        async with core(memory(), kinds=KINDS) as a:
            with pytest.raises(TooLargeError):
                await a.host.call(DESK, Desk.issue, ["n"], 1, "x" * bounds.MESSAGE_BYTES_MAX)
            assert 1 == await a.host.call(DESK, Desk.issue, ["n"])

    run_virtual(main)


def test_an_object_that_ends_is_still_heard() -> None:
    """What its last turn sent is delivered."""

    async def main() -> None:
        store = memory()
        async with core(store, kinds=KINDS) as a:
            await a.host.call(DESK, Desk.vanish, "n")
            await asyncio.sleep(1)
            assert [99] == await filed(a, "n")
            assert [] == await outbox(store)

    run_virtual(main)


def test_a_message_that_was_sent_twice_to_the_store_takes_effect_once() -> None:
    """A checkpoint of which nobody knows whether it arrived is stored again with all that it carried."""

    async def main() -> None:
        lost = [Fault(operation="commit", kind=FaultKind.REPLY_LOST, count=count) for count in (1, 2, 3)]
        store = FaultyStore(memory(), lost)
        quick = Address("quick_desk", "acme", "one")
        async with core(store, kinds=KINDS) as a:
            assert 2 == await a.host.call(quick, QuickDesk.issue, ["n"], 2)
            await asyncio.sleep(30)
            assert [1, 2] == await filed(a, "n")
        assert not store.unfired()

    run_virtual(main)


def test_a_message_whose_checkpoint_failed_is_sent_with_the_next() -> None:
    """The store did not take it, and memory is the newer: what it sent goes with the next checkpoint."""

    async def main() -> None:
        lost = [Fault(operation="commit", kind=FaultKind.REQUEST_LOST, count=count) for count in (1, 2, 3)]
        store = FaultyStore(memory(), lost)
        quick = Address("quick_desk", "acme", "one")
        async with core(store, kinds=KINDS) as a:
            assert 2 == await a.host.call(quick, QuickDesk.issue, ["n"], 2)
            await asyncio.sleep(30)
            assert [1, 2] == await filed(a, "n")
        assert not store.unfired()

    run_virtual(main)


def test_messages_survive_a_store_that_went_back_in_time() -> None:
    """What is delivered again is known again, and new messages are not mistaken for old ones."""

    async def main() -> None:
        store = memory()
        async with core(store, kinds=KINDS, lock_id="L") as a:
            await a.host.call(DESK, Desk.issue, ["n"], 3)
            backup = store.snapshot()
            await asyncio.sleep(1)
            await a.host.call(DESK, Desk.issue, ["n"], 2)
            await asyncio.sleep(1)
            assert [1, 2, 3, 4, 5] == await filed(a, "n")
            await a.kill()
        store.restore(backup)
        async with core(store, kinds=KINDS, lock_id="L") as b:
            await asyncio.sleep(1)
            assert [1, 2, 3] == await filed(b, "n")
            await b.host.call(DESK, Desk.issue, ["n"], 1)
            await asyncio.sleep(1)
            assert [1, 2, 3, 4] == await filed(b, "n")

    run_virtual(main)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_to_the_nodes_each_message_takes_effect_once_and_in_order(seed: int) -> None:
    """Owners die at random moments, and commits are lost, late and repeated."""

    async def main() -> None:
        draw = random.Random(seed)
        shared = memory()
        sent = 0
        for life in range(6):
            faults = [
                Fault(operation="commit", kind=draw.choice(list(FaultKind)), count=draw.randrange(1, 30), delay_ms=50)
                for _ in range(6)
            ]
            store = FaultyStore(shared, faults)
            async with core(store, kinds=KINDS, lock_id="L") as a:
                for _ in range(draw.randrange(1, 6)):
                    sent = await _issue(a, sent, draw.randrange(1, 8))
                    await asyncio.sleep(draw.random() * 0.05)
                if life < 5:
                    await a.kill()
                    continue
                await asyncio.sleep(120)
                assert list(range(1, sent + 1)) == await filed(a, "n")
                assert [] == await outbox(shared)

    run_virtual(main)


async def _issue(node: Core, sent: int, count: int) -> int:
    """Send some, and say how many were sent for sure, asking for as long as it is not known."""
    while True:
        try:
            return int(await node.host.call(DESK, Desk.issue, ["n"], count))
        except Exception:  # noqa: BLE001  # Lost, late or refused: the object knows.
            try:
                now = int(await node.host.call(DESK, Desk.issue, [], 0))
            except Exception:  # noqa: BLE001  # As above.
                await asyncio.sleep(0.5)
                continue
            if now > sent:
                return now


def test_a_message_that_cannot_be_read_stays_and_holds_nobody_up() -> None:
    """Another release has written it: the node goes on, and delivers the others."""

    async def main() -> None:
        store = memory()
        async with core(store, kinds=KINDS, lock_id="L") as a:
            await a.host.call(DESK, Desk.issue, ["n"])
            await a.kill()
        shard = store._content.shards[shard_of(DESK.encode(), SHARDS)]
        sent = shard.messages[DESK.encode()]
        for body in (b"", b"\x63"):
            shard.lease.sent += 1
            message_id = shard.lease.sent.to_bytes(16, "big")
            sent[message_id] = OutboxMessage(shard.lease.sent, message_id, body)
        async with core(store, kinds=KINDS, lock_id="L") as b:
            await b.host.call(DESK, Desk.issue, ["s"])
            await asyncio.sleep(1)
            assert ([1], [2]) == (await filed(b, "n"), await filed(b, "s"))
        assert [b"", b"\x63"] == [message.message for message in sent.values()]

    run_virtual(main)


def test_a_message_that_expires_while_it_waits_for_its_turn_is_a_dead_letter() -> None:
    """It has had no effect, so it is not delivered."""

    async def main() -> None:
        store = memory()
        async with core(store, kinds=KINDS) as a:
            resting = asyncio.ensure_future(a.host.call(office("n"), Office.rest, 5))
            await a.host.call(DESK, Desk.issue_briefly, "n", 1_000)
            await asyncio.sleep(10)
            await resting
            assert [] == await filed(a, "n")
            assert ["expired"] == [message.error[:7] for message in await outbox(store)]

    run_virtual(main)


def test_what_is_behind_a_refused_message_waits_until_that_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the next owner would take the refused one for delivered, as later ones have been heard, and drop it."""

    async def main() -> None:
        monkeypatch.setattr(Office, "refused", 1)
        shared = memory()
        store = FaultyStore(shared)
        far = _office_in_another_shard()
        async with core(store, kinds=KINDS, lock_id="L") as a:
            resting = asyncio.ensure_future(a.host.call(office(far), Office.rest, 0.5))
            await a.host.call(DESK, Desk.issue, [far], 2)
            store.next("claim", FaultKind.AWAY)
            a.ownership.suspend([a.ownership.shards[shard_of(DESK.encode(), SHARDS)]])
            await resting
            await asyncio.sleep(0.2)
            await a.kill()
        async with core(shared, kinds=KINDS, lock_id="L") as b:
            await asyncio.sleep(1)
            assert [2] == await filed(b, far)
            assert ["ClosedError"] == [message.error[:11] for message in await outbox(shared)]

    run_virtual(main)


def test_what_was_to_become_of_a_message_is_forgotten_with_its_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another owner has delivered it meanwhile: it is no dead letter because the first one had given it up."""

    async def main() -> None:
        monkeypatch.setattr(Office, "refused", 1)
        shared = memory()
        store = FaultyStore(shared)
        far = _office_in_another_shard()
        async with core(store, kinds=KINDS, lock_id="L") as a:
            resting = asyncio.ensure_future(a.host.call(office(far), Office.rest, 0.5))
            await a.host.call(DESK, Desk.issue, [far])
            store.next("claim", FaultKind.AWAY)
            a.ownership.suspend([a.ownership.shards[shard_of(DESK.encode(), SHARDS)]])
            await resting
            await asyncio.sleep(0.2)
            store.away = True
            monkeypatch.setattr(Office, "refused", 0)
            async with core(shared, node="b", kinds=KINDS, lock_id="L") as b:
                await asyncio.sleep(1)
                assert [1] == await filed(b, far)
                assert [] == await outbox(shared)
                await b.drain()
            store.away = False
            await asyncio.sleep(10)
            assert [] == await outbox(shared)
            assert [1] == await filed(a, far)

    run_virtual(main)


def test_a_message_makes_room_though_its_shard_was_opened_anew_meanwhile() -> None:
    """Its removal is confirmed to whoever opened the shard before; the sender hears of it all the same."""

    async def main() -> None:
        # Commits: the issue, the effect, and the removal.
        store = FaultyStore(memory(), [Fault(operation="commit", kind=FaultKind.REPLY_LOST, count=3)])
        async with core(store, kinds=KINDS) as a:
            await a.host.call(DESK, Desk.issue, ["n"])
            await asyncio.sleep(0.1)
            a.host.courier.opened(a.ownership.shards)
            await asyncio.sleep(5)
            assert [] == await outbox(store)
            assert set() == a.host.residents.by_address[DESK].state.kept.outstanding  # type: ignore[union-attr]  # No native kind.
        assert not store.unfired()

    run_virtual(main)


def _office_in_another_shard() -> str:
    """The name of one that is not in the desk's."""
    desk = shard_of(DESK.encode(), SHARDS)
    return next(name for name in "abcdefgh" if shard_of(office(name).encode(), SHARDS) != desk)
