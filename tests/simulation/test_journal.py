"""Journals on the running core: part of the turn, read while commits are under way, bounded, and gone with their object."""

import asyncio

import pytest

from shared import bounds
from shared.objects.errors import (
    CommitFailedError,
    HandlerError,
    NoRoomError,
    OutcomeUnknownError,
    TooLargeError,
    UnavailableError,
)
from shared.objects.handler import DurableObject, readonly
from shared.testing.faults import FaultKind
from shared.testing.kit import Kit, Ref, run_with_kit

Entries = list[tuple[int, str]]


class Room(DurableObject):
    """What was said, as a journal."""

    kind = "room"

    def say(self, *words: str) -> list[int]:
        return [self.journal.append(word) for word in words]

    async def say_and_read(self, word: str) -> Entries:
        self.journal.append(word)
        return await self.read()

    def say_and_fail(self, word: str) -> None:
        self.journal.append(word)
        raise ValueError("this turn leaves no trace")

    @readonly
    async def read(self, after: int = 0, limit: int = 100) -> Entries:
        return [(entry.position, entry.value) for entry in await self.journal.read(after, limit, type_=str)]

    async def say_as_the_lease_ends(self, word: str) -> Entries:
        self.journal.append(word)
        await asyncio.sleep(8)
        return await self.read()

    def keep(self, newest: int) -> None:
        self.journal.trim(keep=newest)

    def drop_before(self, position: int) -> None:
        self.journal.trim(before=position)

    @readonly
    def extent(self) -> tuple[int, int, int]:
        return self.journal.first, self.journal.last, len(self.journal)

    async def work_off(self, more: str) -> list[str]:
        """Page by page: drop what was read, say more, and store that."""
        done: list[str] = []
        while page := await self.journal.read(0, 2, type_=str):
            done += [entry.value for entry in page]
            self.journal.trim(before=page[-1].position + 1)
            if more:
                self.journal.append(more[0])
            await self.commit()
            more = more[1:]
        return done

    async def read_while_trimming(self, before: int) -> Entries:
        """A page that was asked for before, and is found after a trim was stored."""
        reading = asyncio.ensure_future(self.read(0, 2))
        await asyncio.sleep(0)
        self.journal.trim(before=before)
        await self.commit()
        return await reading

    def vanish(self) -> None:
        self.storage.delete_all()

    def begin_anew(self, word: str) -> int:
        self.storage.delete_all()
        return self.journal.append(word)

    def expire(self, in_ms: int) -> None:
        self.storage.expire_at(self.clock.now_ms() + in_ms)


class Feed(Room):
    """The same, checkpointed."""

    kind = "feed"
    durability = "checkpointed"


def run(scenario, *, limit_ms: int = 3_600_000) -> None:
    """Run a scenario with a room."""

    async def main(kit: Kit) -> None:
        await scenario(kit, kit.at(Room, "acme", "one"))

    run_with_kit(main, kinds=[Room, Feed], limit_ms=limit_ms)


def test_a_turn_reads_its_own_entries_and_those_before() -> None:
    """What is stored and what is only in memory come as one, in order."""

    async def scenario(kit: Kit, room: Ref) -> None:
        assert [1, 2] == await room.say("a", "b")
        assert [(1, "a"), (2, "b"), (3, "c")] == await room.say_and_read("c")
        assert {1: "a", 2: "b", 3: "c"} == kit.journal(room)

    run(scenario)


def test_a_failed_turn_leaves_no_entry() -> None:
    """Its position is given to the next one, in memory as in the store."""

    async def scenario(kit: Kit, room: Ref) -> None:
        await room.say("a")
        with pytest.raises(HandlerError):
            await room.say_and_fail("lost")

        assert [(1, "a"), (2, "b")] == await room.say_and_read("b")
        assert {1: "a", 2: "b"} == kit.journal(room)

    run(scenario)


def test_a_read_sees_what_no_commit_has_confirmed_and_its_answer_waits_for_it() -> None:
    """While the store is slow, entries on their way and entries that wait are read in order; the answer leaves stored."""

    async def scenario(kit: Kit, room: Ref) -> None:
        await room.say("stored")
        kit.faults.next("commit", FaultKind.DELAY, delay_ms=200)
        said = [asyncio.ensure_future(room.say("on its way"))]
        await asyncio.sleep(0.05)
        said.append(asyncio.ensure_future(room.say("waiting")))
        read = asyncio.ensure_future(room.read())
        await asyncio.sleep(0.05)
        assert {1: "stored"} == kit.journal(room)
        assert not read.done()

        assert [(1, "stored"), (2, "on its way"), (3, "waiting")] == await read
        assert [[2], [3]] == await asyncio.gather(*said)
        assert {1: "stored", 2: "on its way", 3: "waiting"} == kit.journal(room)

    run(scenario)


def test_a_journal_is_read_in_pages() -> None:
    """After a position, a few at a time, whether entries are stored or not; nothing is behind the last."""

    async def scenario(kit: Kit, room: Ref) -> None:
        await room.say(*"abcde")
        pages = [await room.read(after, 2) for after in (0, 2, 4, 5, 9)]

        assert [[(1, "a"), (2, "b")], [(3, "c"), (4, "d")], [(5, "e")], [], []] == pages
        assert [] == await room.read(0, 0)

    run(scenario)


def test_pages_go_on_over_what_is_trimmed_and_appended_between_them() -> None:
    """Behind the last entry that was read is the next that there is, in memory or stored; each comes once."""

    async def scenario(kit: Kit, room: Ref) -> None:
        await room.say(*"abcdef")
        assert [(1, "a"), (2, "b")] == await room.read(0, 2)
        await room.drop_before(5)
        assert [7] == await room.say("g")
        assert [(5, "e"), (6, "f")] == await room.read(2, 2)
        await room.drop_before(7)
        assert [(7, "g")] == await room.read(6, 2)
        await room.keep(0)
        assert [] == await room.read(7, 2)
        await room.say("h")
        assert [(8, "h")] == await room.read(7, 2)

    run(scenario)


def test_a_turn_works_off_its_journal_page_by_page() -> None:
    """While it trims, appends and commits between two pages: everything once, in order."""

    async def scenario(kit: Kit, room: Ref) -> None:
        await room.say(*"abcde")
        assert list("abcdefg") == await room.work_off("fg")
        assert {} == kit.journal(room)

    run(scenario)


def test_a_page_that_is_trimmed_before_it_is_found_is_the_next_one() -> None:
    """An empty page would say that there are no more entries."""

    async def scenario(kit: Kit, room: Ref) -> None:
        await room.say(*"abcdef")
        kit.faults.next("journal", FaultKind.DELAY, delay_ms=200)
        assert [(4, "d"), (5, "e")] == await room.read_while_trimming(4)
        kit.faults.check()

    run(scenario)


def test_an_entry_that_is_stored_before_a_page_is_found_comes_once() -> None:
    """It was in memory when the page was asked for, and is in the store when that answers."""

    async def scenario(kit: Kit, room: Ref) -> None:
        await room.say("a")
        kit.faults.next("commit", FaultKind.DELAY, delay_ms=100)
        kit.faults.next("journal", FaultKind.DELAY, delay_ms=200)
        said = asyncio.ensure_future(room.say("b"))
        await asyncio.sleep(0.05)
        assert [(1, "a"), (2, "b")] == await room.read(0, 5)
        assert [2] == await said
        kit.faults.check()

    run(scenario)


def test_pages_go_on_over_a_gap() -> None:
    """What an older store has lost of a checkpointed journal hides nothing that was said later."""

    async def scenario(kit: Kit, room: Ref) -> None:
        feed = kit.at(Feed, "acme", "one")
        await kit.node.call(feed._address, Feed.say, "a", "b", durability="committed")
        before = kit.store.snapshot()
        await kit.node.call(feed._address, Feed.say, *"cdef", durability="committed")
        kit.store.restore(before)
        with pytest.raises(OutcomeUnknownError):
            await kit.node.call(feed._address, Feed.say, "g", durability="committed")
        await kit.advance(2_000)
        assert {1: "a", 2: "b", 7: "g"} == kit.journal(feed)
        assert [8] == await feed.say("h")

        assert [(1, "a"), (2, "b")] == await feed.read(0, 2)
        assert [(7, "g"), (8, "h")] == await feed.read(2, 2)

    run(scenario)


def test_a_read_gives_no_more_than_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the caller asks for."""
    monkeypatch.setattr(bounds, "JOURNAL_READ_ENTRIES", 3)

    async def scenario(kit: Kit, room: Ref) -> None:
        await room.say(*"abcde")

        assert 3 == len(await room.read(0, 100))

    run(scenario)


def test_where_a_journal_stands_is_known_after_a_reload() -> None:
    """First and last position and length outlive passivation and a crash, even if no entry is left."""

    async def scenario(kit: Kit, room: Ref) -> None:
        await room.say(*"abcde")
        await room.keep(2)
        await kit.evict(room)
        assert (4, 5, 2) == await room.extent()
        await room.drop_before(6)
        await kit.kill()
        assert (6, 5, 0) == await room.extent()
        assert {} == kit.journal(room)

        assert [6] == await room.say("f")
        assert [(6, "f")] == await room.read()

    run(scenario)


def test_a_deleted_object_has_no_journal() -> None:
    """Nothing of it is stored; while the object is in memory positions go on, so that no entry is taken for an old one."""

    async def scenario(kit: Kit, room: Ref) -> None:
        await room.say(*"abc")
        await room.vanish()
        assert {} == kit.journal(room)
        assert [] == await room.read()
        assert [4] == await room.say("d")
        assert 5 == await room.begin_anew("e")
        assert [(5, "e")] == await room.read()
        assert {5: "e"} == kit.journal(room)
        await room.vanish()
        await kit.evict(room)

        assert [1] == await room.say("anew")

    run(scenario)


def test_a_journal_expires_with_its_object() -> None:
    """Past the expiry it is empty, whether swept or not, and the store keeps nothing."""

    async def scenario(kit: Kit, room: Ref) -> None:
        await room.say(*"abc")
        await room.expire(1_000)
        await kit.advance(1_000)
        assert [] == await room.read()
        assert [(4, "d")] == await room.say_and_read("d")
        assert {4: "d"} == kit.journal(room)
        await room.expire(1_000)
        await kit.evict(room)
        await kit.advance(10_000)

        assert {} == kit.journal(room)

    run(scenario)


def test_a_journal_has_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many entries and bytes, and no entry over the size of a value; a trim makes room."""
    monkeypatch.setattr(bounds, "JOURNAL_ENTRIES_MAX", 3)
    monkeypatch.setattr(bounds, "JOURNAL_BYTES_MAX", 20_000)
    monkeypatch.setattr(bounds, "VALUE_BYTES_MAX", 15_000)

    async def scenario(kit: Kit, room: Ref) -> None:
        await room.say(*"abc")
        with pytest.raises(TooLargeError, match="The journal has 4 entries;"):
            await room.say("d")
        await room.keep(0)
        with pytest.raises(TooLargeError, match="The entry"):
            await room.say("x" * 15_000)
        await room.say("x" * 11_000)
        with pytest.raises(TooLargeError, match="The journal has"):
            await room.say("x" * 11_000)
        assert ["x" * 11_000] == list(kit.journal(room).values())
        await room.keep(0)
        await room.say("x" * 11_000)

        assert (5, 5, 1) == await room.extent()

    run(scenario)


def test_a_turn_appends_so_many_entries_and_bytes() -> None:
    """They count as what the turn writes."""

    async def scenario(kit: Kit, room: Ref) -> None:
        with pytest.raises(TooLargeError, match="The turn has 1001 entries of its journal;"):
            await room.say(*("x" for _ in range(bounds.TURN_KEYS_MAX + 1)))
        with pytest.raises(TooLargeError, match="The turn has"):
            await room.say(*("x" * 100_000 for _ in range(6)))

        assert {} == kit.journal(room)

    run(scenario)


@pytest.mark.parametrize("wrong", [{}, {"keep": 1, "before": 1}, {"keep": -1}, {"before": -1}], ids=str)
def test_a_trim_says_what_to_drop(wrong: dict[str, int]) -> None:
    """One number, from 0 on; anything else is a mistake of the author's."""

    class Trimmer(DurableObject):
        kind = "trimmer"

        def trim(self) -> None:
            self.journal.trim(**wrong)

    async def scenario(kit: Kit) -> None:
        with pytest.raises(HandlerError) as failed:
            await kit.at(Trimmer, "acme", "one").trim()
        assert isinstance(failed.value.__cause__, ValueError)

    run_with_kit(scenario, kinds=[Trimmer])


def test_a_read_waits_for_the_store_a_while() -> None:
    """Short trouble is not seen; after 5 s the turn fails, and its entry is not there."""

    async def scenario(kit: Kit, room: Ref) -> None:
        await room.say("a")
        kit.faults.next("journal", FaultKind.REPLY_LOST)
        kit.faults.next("journal", FaultKind.AWAY, nth=2)
        assert [(1, "a")] == await room.read()

        for nth in range(1, 27):
            kit.faults.next("journal", FaultKind.AWAY, nth=nth)
        with pytest.raises(UnavailableError):
            await room.say_and_read("b")
        kit.faults.check()
        assert [(1, "a")] == await room.read()

    run(scenario)


def test_a_former_owner_cannot_read() -> None:
    """The store refuses it: its turn fails, and its entry is not there."""

    async def scenario(kit: Kit, room: Ref) -> None:
        await room.say("a")
        late = asyncio.ensure_future(room.say_as_the_lease_ends("late"))
        await asyncio.sleep(0.1)
        former = await kit.pause()
        await room.say("b")
        former.process.resume()
        with pytest.raises((CommitFailedError, UnavailableError)):
            await late

        assert {1: "a", 2: "b"} == kit.journal(room)

    run(scenario)


def test_a_read_notices_that_the_store_went_back_in_time() -> None:
    """What it would see is not what was acknowledged: the turn fails, and the next one reads what is stored."""

    async def scenario(kit: Kit, room: Ref) -> None:
        await room.say("a")
        before = kit.store.snapshot()
        await room.say("b")
        kit.store.restore(before)
        with pytest.raises(CommitFailedError):
            await room.read()

        assert [(1, "a")] == await room.read()

    run(scenario)


def test_a_checkpointed_journal_is_kept_over_a_failed_commit() -> None:
    """Memory has what the store did not take, reads show it, and the next checkpoint brings it, under the same positions."""

    async def scenario(kit: Kit, room: Ref) -> None:
        feed = kit.at(Feed, "acme", "one")
        await feed.say("a", "b")
        await kit.evict(feed)
        kit.store.full = True
        await feed.say("c")
        with pytest.raises(OutcomeUnknownError):
            await kit.node.call(feed._address, Feed.say, "d", durability="committed")
        assert [(3, "c"), (4, "d")] == await feed.read(2)
        kit.store.full = False
        await feed.keep(3)
        await kit.evict(feed)

        assert {2: "b", 3: "c", 4: "d"} == kit.journal(feed)
        assert [(2, "b"), (3, "c"), (4, "d")] == await feed.read()

    run(scenario)


def test_a_full_store_takes_a_trim() -> None:
    """What only drops entries makes room, so it is not refused."""

    async def scenario(kit: Kit, room: Ref) -> None:
        await room.say(*"abc")
        kit.store.full = True
        with pytest.raises(NoRoomError):
            await room.say("d")
        await room.keep(1)

        assert {3: "c"} == kit.journal(room)

    run(scenario)


def test_a_late_copy_of_a_commit_cannot_follow_what_was_read_of_a_store_that_went_back() -> None:
    """The load that notices it fences the shard anew; else the copy would run under our own token, behind our back."""

    async def scenario(kit: Kit, room: Ref) -> None:
        before = kit.store.snapshot()
        kit.faults.next("commit", FaultKind.DELAY, delay_ms=1_500)
        assert [1] == await room.say("lost with the store")
        kit.store.restore(before)
        await kit.evict(room)
        assert [] == await room.read()
        await kit.advance(1_500)

        assert [1] == await room.say("a")
        assert {1: "a"} == kit.journal(room)
        assert [(1, "a")] == await room.read()

    run(scenario)


def test_a_load_waits_until_the_shard_is_fenced_anew() -> None:
    """A claim that fails, or whose answer is lost, is made again, and then the object is read."""

    async def scenario(kit: Kit, room: Ref) -> None:
        await room.say("a")
        before = kit.store.snapshot()
        for trouble in (FaultKind.AWAY, FaultKind.REPLY_LOST):
            await room.say("b")
            await kit.evict(room)
            kit.store.restore(before)
            kit.faults.next("claim", trouble)

            assert [(1, "a")] == await room.read()

    run(scenario)
