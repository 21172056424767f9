"""What an operator sees and does, in virtual time: looking changes nothing, doing is a turn like any other."""

import asyncio
from base64 import b64decode
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from shared import bounds
from shared.errors import ConflictError, InvalidInputError, NotFoundError
from shared.objects.address import Address, shard_of
from shared.objects.errors import CommitFailedError, OutcomeUnknownError, UnavailableError
from shared.objects.handler import DurableObject, readonly
from shared.objects.inspection import Inspection
from shared.objects.once import Delivery, KeyedRequest
from shared.objects.parking import Park
from shared.objects.reports import JournalReport
from shared.storage.codec import encode
from shared.storage.interface import ObjectWrite, Section
from shared.storage.listings import Place
from shared.testing.clock import LoopClock, run_virtual
from shared.testing.faults import FaultKind, FaultyStore
from shared.testing.store import MemoryStore
from tests.support.simulated import Core, Counter, Meter, Tally, core

ONE = Address("counter", "acme", "one")
TALLY = Address("tally", "acme", "one")
METER = Address("meter", "acme", "one")
SEEN = Address("seen", "acme", "one")
ROOM = Address("room", "acme", "one")
GIVE_UP_MS = 60_000


class Seen(DurableObject):
    """Something that is nice to know."""

    kind = "seen"

    @readonly
    def note(self, at_ms: int) -> None:
        self.storage.put_soft("at_ms", at_ms)

    @readonly
    def value(self) -> int:
        return self.storage.get("at_ms", int, default=0)

    def wait(self) -> Park:
        return Park("at_ms", self.clock.now_ms() + 60_000)


class Room(DurableObject):
    """Something with a journal."""

    kind = "room"

    def say(self, times: int) -> None:
        for number in range(times):
            self.journal.append(number)

    def trim(self, keep: int) -> None:
        self.journal.trim(keep=keep)


class Watched:
    """A core, its store, and what an operator has of both."""

    def __init__(self, running: Core, store: FaultyStore) -> None:
        self.core, self.host, self.store = running, running.host, store
        self.inspection = Inspection(running.host, store, running.ownership)


def watching(scenario: Callable[[Watched], Awaitable[None]], *, shards: int = 4) -> None:
    async def main() -> None:
        clock = LoopClock(asyncio.get_running_loop())
        store = FaultyStore(MemoryStore(clock, latency_ms=5))
        async with core(store, shards=shards, kinds=[Counter, Tally, Meter, Seen, Room]) as running:
            await scenario(Watched(running, store))
        store.check()

    run_virtual(main, limit_ms=3 * 3_600_000)


async def bury(node: Watched, address: Address = ONE, name: str = "bad") -> None:
    """Let an alarm fail until it is given up."""
    await node.host.call(address, Counter.arm, name, 1_000)
    await asyncio.sleep(3 * GIVE_UP_MS / 1000)
    assert 1 == len(await node.inspection.dead_alarms(after=None, limit=9))


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alarms are given up after a minute, not after a day."""
    monkeypatch.setattr(bounds, "ALARM_GIVE_UP_MS", GIVE_UP_MS)


def test_an_object_is_shown_as_it_is_stored_and_as_it_is_in_memory() -> None:
    """Values with their sizes, alarms, and that nothing of it waits; a look brings nothing into memory."""

    async def scenario(node: Watched) -> None:
        await node.host.call(ONE, Counter.add, 5)
        at_ms = await node.host.call(ONE, Counter.arm, "later", 3_600_000)
        report = await node.inspection.show(ONE)
        assert report.stored is not None
        assert report.resident is not None
        assert {"total": (2, 5)} == {key: (v.size_bytes, v.value) for key, v in report.stored.values.items()}
        assert [("later", at_ms)] == [(alarm.alarm, alarm.due_ms) for alarm in report.stored.alarms]
        assert ("active", 2, 0, None) == (
            report.resident.phase,
            report.resident.turns,
            report.resident.mailbox_depth,
            report.resident.running,
        )
        assert (False, False, False, 0) == (
            report.resident.dirty,
            report.resident.pending,
            report.resident.in_flight,
            report.resident.unconfirmed_turns,
        )
        assert node.host.residents.passivate(ONE)
        assert (await node.inspection.show(ONE)).resident is None

    watching(scenario)


def test_a_running_turn_is_shown_with_what_waits_behind_it() -> None:
    """Its method, since when, and how many calls are in the mailbox."""

    async def scenario(node: Watched) -> None:
        await node.host.call(ONE, Counter.add, 5)
        began_ms = node.host.store_clock.now_ms()
        calls = [asyncio.ensure_future(node.host.call(ONE, Counter.add_slowly, 1)) for _ in range(3)]
        await asyncio.sleep(0.02)
        resident = (await node.inspection.show(ONE)).resident
        assert resident is not None
        assert resident.running is not None
        assert ("add_slowly", None, 2) == (resident.running.method, resident.running.alarm, resident.mailbox_depth)
        assert abs(resident.running.since_ms - began_ms) <= 1
        assert 20 <= resident.running.running_ms <= 50
        await asyncio.gather(*calls)

    watching(scenario)


def test_what_is_not_stored_yet_is_shown() -> None:
    """A checkpointed object is dirty until its wave; then a commit is on its way; then it is clean."""

    async def scenario(node: Watched) -> None:
        await node.host.call(TALLY, Tally.hit)
        before = await node.inspection.show(TALLY)
        assert before.stored is None
        assert before.resident is not None
        assert before.resident.dirty
        await asyncio.sleep(1)
        after = await node.inspection.show(TALLY)
        assert after.stored is not None
        assert after.resident is not None
        assert not after.resident.dirty

    watching(scenario)


def test_callers_that_are_held_and_what_is_remembered_are_shown() -> None:
    """How many, not who or what."""

    async def scenario(node: Watched) -> None:
        waiting = asyncio.ensure_future(node.host.call(SEEN, Seen.wait))
        await asyncio.sleep(0.1)
        for key in ("a", "b"):
            await node.host.call(ONE, Counter.add, 1, once=KeyedRequest(key, Counter.add, [1]))
        expire_at_ms = node.host.store_clock.now_ms() + 60_000
        delivery = Delivery(TALLY.encode(), epoch=1, serial=1, expire_at_ms=expire_at_ms)
        await node.host.call(ONE, Counter.add, 1, once=delivery)
        held, one = await node.inspection.show(SEEN), await node.inspection.show(ONE)
        assert held.resident is not None
        assert one.stored is not None
        assert one.resident is not None
        assert (1, 0) == (held.resident.parked_callers, one.resident.parked_callers)
        assert (2, 1) == (one.stored.remembered_requests, one.stored.remembered_senders)
        waiting.cancel()

    watching(scenario)


def test_a_native_state_is_shown_by_its_bytes() -> None:
    """Only its kind can read it."""

    async def scenario(node: Watched) -> None:
        await node.host.call(METER, Meter.hit, durability="committed")
        stored = (await node.inspection.show(METER)).stored
        assert stored is not None
        assert stored.native is not None
        assert ({}, stored.native.size_bytes) == (stored.values, stored.size_bytes)
        assert b64decode(stored.native.value["$base64"]).endswith(b"\x001")  # Behind the header.

    watching(scenario)


def test_what_is_nowhere_is_not_found() -> None:
    """Neither in the store nor in memory; and no kind of that name."""

    async def scenario(node: Watched) -> None:
        for address in (ONE, Address("nobody", "acme", "one")):
            for ask in (
                node.inspection.show(address),
                node.inspection.journal(address, after=0, limit=9, reverse=False),
                node.inspection.cancel_alarm(address, "x"),
                node.inspection.drop_alarm(address, "x"),
                node.inspection.rearm_alarm(address, "x", due_ms=None),
            ):
                with pytest.raises(NotFoundError):
                    await ask
        with pytest.raises(NotFoundError):
            await node.inspection.evict(Address("nobody", "acme", "one"))
        assert not await node.inspection.evict(Address("counter", "acme", "two"))

    watching(scenario)


def test_an_object_of_another_owner_is_not_shown() -> None:
    """The store is asked under the fence, so what another node may be changing is not taken for the truth."""

    async def scenario(node: Watched) -> None:
        await node.host.call(ONE, Counter.add, 5)
        async with core(node.store, node="b") as other:
            await node.core.ownership.release()
            await other.ownership.claim_missing()
            for ask in (
                node.inspection.show(ONE),
                node.inspection.journal(ONE, after=0, limit=1, reverse=False),
                node.inspection.cancel_alarm(ONE, "x"),
            ):
                with pytest.raises(UnavailableError):
                    await ask

    watching(scenario)


def test_a_journal_is_read_from_both_ends() -> None:
    """Entry by entry, with its number; how long it is stands in the report of its object."""

    async def scenario(node: Watched) -> None:
        shard = node.core.ownership.shards[shard_of(ONE.encode(), 4)]
        entries = [encode(n) for n in range(5)]
        write = ObjectWrite(object_id=ONE.encode(), journal_first=3, journal_appends=entries, journal_keep=4)
        section = Section(shard=shard.index, fence=shard.fence, seq=shard.seq, commit_id=b"c", writes=[write])
        await node.store.commit([section], ttl_ms=6_000, timeout_ms=1_000)
        report = await node.inspection.show(ONE)
        assert report.stored is not None
        assert JournalReport(first=4, last=7, entries=4) == report.stored.journal
        first = await node.inspection.journal(ONE, after=4, limit=2, reverse=False)
        last = await node.inspection.journal(ONE, after=0, limit=2, reverse=True)
        assert [(5, 2, 2), (6, 2, 3)] == [(entry.number, entry.size_bytes, entry.value) for entry in first]
        assert [7, 6] == [entry.number for entry in last]

    watching(scenario)


@pytest.mark.parametrize(("keep", "report"), [(0, (0, 0, 0)), (1, (4, 4, 1)), (3, (2, 4, 3))])
def test_a_journal_that_is_trimmed_while_it_is_looked_at_is_no_longer_than_it_is(
    keep: int, report: tuple[int, int, int]
) -> None:
    """Nobody reads in a report of entries that were gone before the report was."""

    async def scenario(node: Watched) -> None:
        journal = node.store.journal
        asked = []

        async def trimmed(*args: Any, **options: Any) -> Any:
            page = await journal(*args, **options)
            asked.append(page)
            if len(asked) == 1:
                await node.host.call(ROOM, Room.trim, keep)
            return page

        await node.host.call(ROOM, Room.say, 4)
        node.store.journal = trimmed  # type: ignore[method-assign]  # The turn comes between two reads.
        shown = await node.inspection.show(ROOM)
        assert shown.stored is not None
        assert JournalReport(first=report[0], last=report[1], entries=report[2]) == shown.stored.journal

    watching(scenario)


def test_objects_are_listed_over_all_shards() -> None:
    """Those with state, shorter names first, page by page; kinds that nobody lists are refused."""

    async def scenario(node: Watched) -> None:
        names = [f"job-{n}" for n in range(25)]
        await asyncio.gather(*(node.host.call(Address("counter", "acme", name), Counter.add, 1) for name in names))
        await node.host.call(Address("counter", "other", "job-1"), Counter.add, 1)
        await node.host.call(Address("counter", "acme", "none"), Counter.value)
        seen: list[str] = []
        after = b""
        while page := await node.inspection.objects("counter", "acme", prefix="job", after=after, limit=4):
            seen += [address.name for address in page]
            after = page[-1].encode()
        assert sorted(names, key=lambda name: (len(name), name)) == seen
        for kind, error in (("tally", InvalidInputError), ("nobody", NotFoundError)):
            with pytest.raises(error):
                await node.inspection.objects(kind, "acme", prefix="", after=b"", limit=4)

    watching(scenario, shards=16)


def test_alarms_are_listed_by_the_time_they_are_due() -> None:
    """Over all shards, up to a moment, page by page, with their tries."""

    async def scenario(node: Watched) -> None:
        due = {}
        for n, in_ms in enumerate((9_000_000, 7_000_000, 8_000_000)):
            due[f"o{n}"] = await node.host.call(Address("counter", "acme", f"o{n}"), Counter.arm, "x", in_ms)
        await node.host.call(Address("counter", "acme", "o3"), Counter.arm, "bad", 1)
        await asyncio.sleep(1)
        every = await node.inspection.alarms(due_before_ms=None, after=None, limit=9)
        assert ["o3", "o1", "o2", "o0"] == [row.name for _, row in every]
        assert (1, "ValueError: this alarm fails") == (every[0][1].attempts, every[0][1].last_error)
        assert sorted(due.values()) == [place.at_ms for place, _ in every[1:]]
        page = await node.inspection.alarms(due_before_ms=due["o0"], after=every[0][0], limit=9)
        assert ["o1", "o2"] == [row.name for _, row in page]
        assert [] == await node.inspection.alarms(due_before_ms=None, after=Place(10**15, b""), limit=9)

    watching(scenario)


def test_a_cancelled_alarm_does_not_ring() -> None:
    """It is gone from the object and from the listing; a second time it is not found."""

    async def scenario(node: Watched) -> None:
        await node.host.call(ONE, Counter.arm, "x", 1_000)
        await node.inspection.cancel_alarm(ONE, "x")
        assert [] == await node.inspection.alarms(due_before_ms=None, after=None, limit=9)
        await asyncio.sleep(60)
        assert 0 == await node.host.call(ONE, Counter.rings)
        with pytest.raises(NotFoundError):
            await node.inspection.cancel_alarm(ONE, "x")

    watching(scenario)


def test_a_dead_letter_that_is_armed_anew_rings_again() -> None:
    """It leaves the dead ones in the same commit, rings when it is due, and has a whole day of tries again."""

    async def scenario(node: Watched) -> None:
        await bury(node)
        ((_, dead),) = await node.inspection.dead_alarms(after=None, limit=9)
        assert ("bad", "ValueError: this alarm fails") == (dead.alarm, dead.last_error)
        assert dead.dead_ms > dead.first_failed_ms > 0
        in_an_hour_ms = node.host.store_clock.now_ms() + 3_600_000
        assert in_an_hour_ms == await node.inspection.rearm_alarm(ONE, "bad", due_ms=in_an_hour_ms)
        assert [] == await node.inspection.dead_alarms(after=None, limit=9)
        ((_, armed),) = await node.inspection.alarms(due_before_ms=None, after=None, limit=9)
        assert (in_an_hour_ms, 0, "") == (armed.due_ms, armed.attempts, armed.last_error)
        await asyncio.sleep(3_601)
        ((_, retried),) = await node.inspection.alarms(due_before_ms=None, after=None, limit=9)
        assert retried.attempts > 0
        with pytest.raises(NotFoundError):
            await node.inspection.rearm_alarm(ONE, "bad", due_ms=None)

    watching(scenario)


def test_a_dead_letter_that_is_dropped_is_gone() -> None:
    """The rest of the object stays, also over a reload."""

    async def scenario(node: Watched) -> None:
        await node.host.call(ONE, Counter.add, 5)
        await bury(node)
        await node.inspection.drop_alarm(ONE, "bad")
        assert [] == await node.inspection.dead_alarms(after=None, limit=9)
        assert await node.inspection.evict(ONE)
        assert 5 == await node.host.call(ONE, Counter.value)
        with pytest.raises(NotFoundError):
            await node.inspection.drop_alarm(ONE, "bad")

    watching(scenario)


def test_an_alarm_and_a_dead_letter_of_one_name_are_two_things() -> None:
    """Re-arming is refused; cancelling leaves the dead letter, dropping leaves the alarm."""

    async def scenario(node: Watched) -> None:
        await bury(node)
        at_ms = await node.host.call(ONE, Counter.arm, "bad", 3_600_000)
        with pytest.raises(ConflictError):
            await node.inspection.rearm_alarm(ONE, "bad", due_ms=None)
        await node.inspection.cancel_alarm(ONE, "bad")
        assert 1 == len(await node.inspection.dead_alarms(after=None, limit=9))
        assert at_ms == await node.host.call(ONE, Counter.arm, "bad", at_ms - node.host.store_clock.now_ms())
        await node.inspection.drop_alarm(ONE, "bad")
        ((place, _),) = await node.inspection.alarms(due_before_ms=None, after=None, limit=9)
        assert (at_ms, []) == (place.at_ms, await node.inspection.dead_alarms(after=None, limit=9))

    watching(scenario)


def test_eviction_stores_everything_first() -> None:
    """Whatever its kind: a dirty object loses nothing, and what waits in its mailbox goes on to its successor."""

    async def scenario(node: Watched) -> None:
        for address, hit, value in ((TALLY, Tally.hit, Tally.value), (METER, Meter.hit, Meter.value)):
            await node.host.call(address, hit)
            evicting = asyncio.ensure_future(node.inspection.evict(address))
            await asyncio.sleep(0)
            behind = [asyncio.ensure_future(node.host.call(address, hit)) for _ in range(3)]
            assert await evicting
            assert [2, 3, 4] == await asyncio.gather(*behind)
            assert 4 == await node.host.call(address, value)
            assert node.host.turns_of(address) == 4  # Of the successor: three hits and a look.

    watching(scenario)


def test_eviction_stores_soft_writes_too() -> None:
    """Nobody waits for them, but whoever sends an object away wants nothing of it lost."""

    async def scenario(node: Watched) -> None:
        await node.host.call(SEEN, Seen.note, 7)
        resident = (await node.inspection.show(SEEN)).resident
        assert resident is not None
        assert resident.pending
        assert await node.inspection.evict(SEEN)
        assert 7 == await node.host.call(SEEN, Seen.value)

    watching(scenario)


def test_an_object_that_is_never_idle_can_be_evicted() -> None:
    """The turn that evicts takes its place in the mailbox, however many calls come behind it."""

    async def scenario(node: Watched) -> None:
        calls = [asyncio.ensure_future(node.host.call(ONE, Counter.add_slowly, 1)) for _ in range(5)]
        await asyncio.sleep(0)
        evicting = asyncio.ensure_future(node.inspection.evict(ONE))
        await asyncio.sleep(0)
        calls += [asyncio.ensure_future(node.host.call(ONE, Counter.add_slowly, 1)) for _ in range(5)]
        assert await evicting
        assert node.host.turns_of(ONE) <= 1
        await asyncio.gather(*calls)
        assert 10 == await node.host.call(ONE, Counter.value)

    watching(scenario)


def test_an_eviction_that_cannot_be_stored_keeps_the_memory() -> None:
    """The operator hears of it, and a checkpointed object has lost nothing when the store is back."""

    async def scenario(node: Watched) -> None:
        await node.host.call(METER, Meter.hit)
        node.store.next("commit", FaultKind.AWAY)
        node.store.next("commit", FaultKind.AWAY, nth=2)
        node.store.next("commit", FaultKind.AWAY, nth=3)
        with pytest.raises((CommitFailedError, OutcomeUnknownError)):
            await node.inspection.evict(METER)
        assert 2 == await node.host.call(METER, Meter.hit, durability="committed")

    watching(scenario)
