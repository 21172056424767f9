"""A dead letter is seen, sent again once and in order, or dropped; a message that is not dead is nobody's to touch."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from shared import bounds
from shared.errors import ConflictError, NotFoundError
from shared.objects.address import Address, shard_of
from shared.objects.errors import CommitFailedError, DomainError, NoRoomError, TooLargeError, UnavailableError
from shared.objects.handler import DurableObject
from shared.objects.inspection import Inspection
from shared.objects.reports import MessageReport, Receiver
from shared.storage.listings import OutboxMessage
from shared.testing.clock import LoopClock, run_virtual
from shared.testing.faults import FaultKind, FaultyStore
from shared.testing.store import MemoryStore
from tests.support.simulated import Core, Meter, core

DESK = Address("desk", "acme", "one")
OFFICE = Address("office", "acme", "n")
UNKNOWN_ID = b"\0" * 16
SHARDS = 4


class ClosedError(DomainError):
    """The office takes nothing any more."""


class Office(DurableObject):
    """Files what it gets, unless it is closed or broken."""

    kind = "office"

    def file(self, number: int) -> None:
        if self.storage.get("state", str) == "closed":
            raise ClosedError
        if self.storage.get("state", str) == "broken":
            raise ValueError("no paper")
        self.storage.put("filed", (*self.filed(), number))

    def become(self, state: str) -> None:
        self.storage.put("state", state)

    def filed(self) -> tuple[int, ...]:
        return self.storage.get("filed", tuple[int, ...], default=())


class Desk(DurableObject):
    """Sends numbers to the office."""

    kind = "desk"

    def issue(self, *numbers: int) -> None:
        for number in numbers:
            self.send(Office, self.address.tenant, "n").file(number)

    def issue_briefly(self, number: int, ttl_ms: int) -> None:
        self.send(Office, self.address.tenant, "n", ttl_ms=ttl_ms).file(number)

    def note(self, text: str) -> None:
        self.storage.put("text", text)

    def vanish_in(self, in_ms: int) -> None:
        self.storage.expire_at(self.clock.now_ms() + in_ms)


class QuickDesk(Desk):
    """One whose letters are stored with the next checkpoint."""

    kind = "quick_desk"
    durability = "checkpointed"


class Post:
    """A core, its store, and what an operator has of its letters."""

    def __init__(self, running: Core, store: FaultyStore, memory: MemoryStore) -> None:
        self.core, self.host, self.store, self.memory = running, running.host, store, memory
        self.inspection = Inspection(running.host, store, running.ownership)
        self.letters = self.inspection.letters

    async def become(self, state: str) -> None:
        await self.host.call(OFFICE, Office.become, state)

    async def issue(self, *numbers: int, desk: Address = DESK) -> None:
        await self.host.call(desk, Desk.issue, *numbers, durability="committed")
        await asyncio.sleep(0.5)

    async def bury(self, *numbers: int, desk: Address = DESK) -> list[bytes]:
        """Have the office refuse these, and open it again; the ids of the dead letters."""
        await self.become("closed")
        await self.issue(*numbers, desk=desk)
        await self.become("open")
        return await self.dead()

    async def dead(self) -> list[bytes]:
        found, spot = await self.letters.dead(after=None, limit=1_000)
        assert spot is None
        return [bytes.fromhex(row.id) for row in found]

    async def filed(self) -> list[int]:
        return list(await self.host.call(OFFICE, Office.filed))

    def misread(self, body: bytes) -> bytes:
        """Put a message into the desk's outbox that another release has sent."""
        shard = self.memory._content.shards[shard_of(DESK.encode(), SHARDS)]
        shard.lease.sent += 1
        message_id = shard.lease.sent.to_bytes(16, "big")
        sent = shard.messages.setdefault(DESK.encode(), {})
        sent[message_id] = OutboxMessage(shard.lease.sent, message_id, body)
        return message_id


def posting(scenario: Callable[[Post], Awaitable[None]]) -> None:
    async def main() -> None:
        memory = MemoryStore(LoopClock(asyncio.get_running_loop()), latency_ms=5)
        store = FaultyStore(memory)
        async with core(store, shards=SHARDS, kinds=[Desk, QuickDesk, Office, Meter]) as running:
            await scenario(Post(running, store, memory))
        store.check()

    run_virtual(main, limit_ms=3_600_000)


def test_what_nobody_has_received_is_shown() -> None:
    """To whom, which method, when it was sent and given up, why, and how large; messages under way too."""

    async def scenario(post: Post) -> None:
        began_ms = post.host.store_clock.now_ms()
        (dead_id,) = await post.bury(1)
        await post.become("broken")
        await post.issue(2)
        dead, alive = await post.letters.sent(DESK)
        assert (dead_id.hex(), Receiver("office", "acme", "n"), "file") == (dead.id, dead.receiver, dead.method)
        assert began_ms <= dead.sent_ms < dead.dead_ms <= post.host.store_clock.now_ms()
        assert dead.error.startswith("ClosedError: ")
        assert (0, "") == (alive.dead_ms, alive.error)
        assert bounds.MESSAGE_TTL_MS == pytest.approx(alive.expire_at_ms - alive.sent_ms, abs=100)
        assert 0 < alive.size_bytes < dead.size_bytes
        stored = (await post.inspection.show(DESK)).stored
        assert stored is not None
        assert (2, 1) == (stored.undelivered_messages, stored.dead_messages)
        assert [] == await post.letters.sent(OFFICE)

    posting(scenario)


@pytest.mark.parametrize("desk", [DESK, Address("quick_desk", "acme", "one")])
def test_a_letter_that_is_sent_again_arrives_once_behind_those_sent_since(desk: Address) -> None:
    """It is a message of its own, and the dead one is gone with the same commit."""

    async def scenario(post: Post) -> None:
        (letter,) = await post.bury(1, desk=desk)
        await post.issue(2, desk=desk)
        await post.become("broken")
        await post.issue(3, desk=desk)
        new_id = await post.letters.resend(desk, letter)
        await post.issue(4, desk=desk)
        assert letter != new_id
        assert new_id.hex() == (await post.letters.sent(desk))[1].id
        await post.become("open")
        await asyncio.sleep(60)
        assert [2, 3, 1, 4] == await post.filed()
        assert ([], []) == (await post.dead(), await post.letters.sent(desk))
        with pytest.raises(NotFoundError):
            await post.letters.resend(desk, letter)

    posting(scenario)


def test_a_letter_that_is_sent_again_twice_at_once_arrives_once() -> None:
    """The second turn sees what the first one did."""

    async def scenario(post: Post) -> None:
        (letter,) = await post.bury(1)
        orders = [post.letters.resend(DESK, letter), post.letters.resend(DESK, letter), post.letters.drop(DESK, letter)]
        outcomes = await asyncio.gather(*orders, return_exceptions=True)
        assert [bytes, NotFoundError, NotFoundError] == [type(outcome) for outcome in outcomes]
        await asyncio.sleep(5)
        assert [1] == await post.filed()

    posting(scenario)


def test_a_letter_that_is_sent_again_has_a_new_day() -> None:
    """One that had expired is not given up at once; one that is refused again is a dead letter again."""

    async def scenario(post: Post) -> None:
        await post.become("broken")
        await post.host.call(DESK, Desk.issue_briefly, 1, 60_000)
        await asyncio.sleep(90)
        (expired,) = await post.dead()
        await post.letters.resend(DESK, expired)
        await asyncio.sleep(300)
        assert [] == await post.dead()
        await post.become("closed")
        await asyncio.sleep(600)
        (refused,) = await post.dead()
        assert (True, []) == (refused != expired, await post.filed())

    posting(scenario)


def test_a_dropped_letter_is_gone() -> None:
    """From the store and from what its sender counts; the other one stays, over an eviction too."""

    async def scenario(post: Post) -> None:
        first, second = await post.bury(1, 2)
        await post.letters.drop(DESK, first)
        assert [second] == await post.dead()
        assert {second} == post.host.residents.by_address[DESK].state.kept.outstanding  # type: ignore[union-attr]  # No native kind.
        assert await post.inspection.evict(DESK)
        await post.letters.drop(DESK, second)
        assert [] == await post.dead()
        await asyncio.sleep(60)
        assert [] == await post.filed()

    posting(scenario)


def test_a_message_that_is_not_dead_is_not_touched() -> None:
    """However often somebody asks while it is delivered, it takes effect once."""

    async def scenario(post: Post) -> None:
        await post.become("broken")
        await post.issue(1)
        (alive,) = await post.letters.sent(DESK)
        for order in (post.letters.resend, post.letters.drop):
            with pytest.raises(ConflictError):
                await order(DESK, bytes.fromhex(alive.id))
        await post.become("open")
        while await post.letters.sent(DESK):
            for order in (post.letters.resend, post.letters.drop):
                with pytest.raises((ConflictError, NotFoundError)):  # By then it may have been delivered.
                    await order(DESK, bytes.fromhex(alive.id))
            await asyncio.sleep(0.003)
        with pytest.raises(NotFoundError):
            await post.letters.drop(DESK, bytes.fromhex(alive.id))
        assert ([1], []) == (await post.filed(), await post.dead())

    posting(scenario)


def test_a_message_that_cannot_be_read_can_be_dropped_and_not_sent_again() -> None:
    """It is listed as such, also among the dead ones, as nobody here will deliver it."""

    async def scenario(post: Post) -> None:
        odd = post.misread(b"\x63later")
        (report,) = await post.letters.sent(DESK)
        assert MessageReport(id=odd.hex(), size_bytes=6, unreadable=report.unreadable) == report
        assert "99" in report.unreadable
        shown = await post.letters.show(DESK, odd)
        assert ({"$base64": "Y2xhdGVy"}, None) == (shown.stored, shown.arguments)
        with pytest.raises(NotFoundError):
            await post.letters.show(DESK, UNKNOWN_ID)
        assert [odd] == await post.dead()
        with pytest.raises(ConflictError):
            await post.letters.resend(DESK, odd)
        await post.letters.drop(DESK, odd)
        assert [] == await post.letters.sent(DESK)

    posting(scenario)


def test_dead_letters_of_all_shards_are_listed_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once, whatever is under way between them; a page looks at so many messages and says where it stopped."""
    monkeypatch.setattr(bounds, "MESSAGE_ROWS", 4)
    monkeypatch.setattr(bounds, "LETTER_SCAN_ROWS", 8)

    async def scenario(post: Post) -> None:
        desks = [Address("desk", "acme", f"{number}") for number in range(8)]
        await post.become("closed")
        for desk in desks:
            await post.issue(1, 2, 3, desk=desk)
        await post.become("broken")
        for desk in desks:
            await post.issue(*range(9), desk=desk)
        rows, spot = [], None
        pages: list[int] = []
        while not pages or spot is not None:
            page, spot = await post.letters.dead(after=spot, limit=5)
            pages.append(len(page))
            rows += page
        assert sorted(3 * [desk.name for desk in desks]) == sorted(row.name for row in rows)
        assert 24 == len({row.id for row in rows})
        assert max(pages) == 5
        assert 0 in pages, "a page of messages that are all under way"

    posting(scenario)


def test_a_full_outbox_and_an_absent_sender_do_not_stop_an_operator() -> None:
    """With 1,024 dead letters nothing can be sent, but one can be sent again; an object that has ended still can."""

    async def scenario(post: Post) -> None:
        await post.become("closed")
        await post.issue(*range(bounds.MESSAGES_MAX))
        await asyncio.sleep(30)
        await post.become("open")
        with pytest.raises(TooLargeError):
            await post.issue(0)
        found, _ = await post.letters.dead(after=None, limit=2)
        first, second = [bytes.fromhex(row.id) for row in found]
        await post.letters.resend(DESK, first)
        await asyncio.sleep(5)
        assert 1 == len(await post.filed())
        await post.host.call(DESK, Desk.note, "x")
        await post.host.call(DESK, Desk.vanish_in, 1_000)
        await asyncio.sleep(30)
        await post.letters.drop(DESK, second)
        assert bounds.MESSAGES_MAX - 2 == len(await post.letters.sent(DESK))

    posting(scenario)


def test_a_change_that_the_store_refuses_leaves_the_letter() -> None:
    """The operator is told, and may try again; in a full store a letter can be dropped, and not sent again."""

    async def scenario(post: Post) -> None:
        first, second = await post.bury(1, 2)
        post.memory.full = True
        with pytest.raises(NoRoomError):
            await post.letters.resend(DESK, first)
        assert [first, second] == await post.dead()
        await post.letters.drop(DESK, second)
        post.memory.full = False
        await post.letters.resend(DESK, first)
        await asyncio.sleep(5)
        assert ([1], []) == (await post.filed(), await post.dead())

    posting(scenario)


@pytest.mark.parametrize("lost", [FaultKind.REQUEST_LOST, FaultKind.REPLY_LOST])
def test_a_commit_in_doubt_sends_a_letter_again_once(lost: FaultKind) -> None:
    """The answer waits until the store has told whether it has the new message."""

    async def scenario(post: Post) -> None:
        (letter,) = await post.bury(1)
        post.store.next("commit", lost)
        await post.letters.resend(DESK, letter)
        await asyncio.sleep(10)
        assert ([1], []) == (await post.filed(), await post.dead())

    posting(scenario)


def test_a_store_that_does_not_answer_changes_nothing() -> None:
    """The turn waits for 5 s, and then its caller is told; afterwards the letter is as it was."""

    async def scenario(post: Post) -> None:
        (letter,) = await post.bury(1)
        post.store.away = True
        with pytest.raises((UnavailableError, CommitFailedError)):
            await post.letters.resend(DESK, letter)
        post.store.away = False
        await asyncio.sleep(10)
        assert [letter] == await post.dead()
        await post.letters.resend(DESK, letter)
        await asyncio.sleep(5)
        assert [1] == await post.filed()

    posting(scenario)


def test_what_has_no_such_letter_is_not_found() -> None:
    """Neither an object that never sent any, nor a native kind, nor one that is not here."""

    async def scenario(post: Post) -> None:
        for address in (DESK, Address("meter", "acme", "one"), Address("nobody", "acme", "one")):
            for order in (post.letters.resend, post.letters.drop):
                with pytest.raises(NotFoundError):
                    await order(address, UNKNOWN_ID)
        with pytest.raises(NotFoundError):
            await post.letters.sent(Address("nobody", "acme", "one"))
        assert [] == await post.letters.sent(Address("meter", "acme", "one"))

    posting(scenario)


def test_an_owner_that_dies_after_it_was_told_to_send_again_has_done_it() -> None:
    """The next one delivers the new message, and does not know the dead one any more."""

    async def main() -> None:
        memory = MemoryStore(LoopClock(asyncio.get_running_loop()), latency_ms=5)
        store = FaultyStore(memory)
        kinds = [Desk, Office]
        async with core(store, shards=SHARDS, kinds=kinds, lock_id="L") as running:
            post = Post(running, store, memory)
            (letter,) = await post.bury(1)
            await post.become("broken")
            await post.letters.resend(DESK, letter)
            await running.kill()
        async with core(store, shards=SHARDS, kinds=kinds, lock_id="L") as running:
            post = Post(running, store, memory)
            await post.become("open")
            await asyncio.sleep(60)
            assert ([1], []) == (await post.filed(), await post.dead())

    run_virtual(main)
