"""Read-only turns and soft writes: seen at once, waited for by nobody, stored before long."""

import asyncio

import pytest

from shared import bounds
from shared.objects.address import Address
from shared.objects.errors import HandlerError, NoRoomError
from shared.objects.handler import DurableObject, readonly
from shared.objects.host import NOT_NOW
from shared.testing.faults import FaultKind
from shared.testing.kit import Kit, Ref, run_with_kit


class Person(DurableObject):
    """Somebody, and when they were last seen."""

    kind = "person"

    def rename(self, name: str) -> None:
        self.storage.put("name", name)

    @readonly
    def see(self, at: int) -> str | None:
        self.storage.put_soft("seen", at)
        return self.storage.get("name", str)

    @readonly
    def seen(self) -> int:
        return self.storage.get("seen", int, default=0)

    def see_and_rename(self, at: int, name: str) -> None:
        self.storage.put_soft("seen", at)
        self.storage.put("name", name)

    @readonly
    async def read_slowly(self, ms: int) -> int:
        await asyncio.sleep(ms / 1000)
        return self.storage.get("seen", int, default=0)

    def say_aloud(self) -> None:
        self.storage.put("said", True)

    def forget(self) -> None:
        self.storage.delete_all()

    def begin_anew(self, name: str) -> None:
        self.storage.delete_all()
        self.storage.put("name", name)

    def expire(self, in_ms: int) -> None:
        self.storage.expire_at(self.clock.now_ms() + in_ms)

    @readonly
    def see_and_fail(self, at: int) -> None:
        self.storage.put_soft("seen", at)
        raise ValueError("this turn leaves no trace")

    @readonly
    def write(self) -> None:
        self.storage.put_soft("seen", -1)
        self.storage.put("name", "written")

    @readonly
    async def commit_a_write(self) -> None:
        self.storage.put("name", "written")
        await self.commit()

    @readonly
    def say(self) -> None:
        self.journal.append("written")

    @readonly
    def arm(self) -> None:
        self.alarms.set("a", at_ms=self.clock.now_ms())


class Guest(Person):
    """The same, checkpointed."""

    kind = "guest"
    durability = "checkpointed"


def run(scenario, *, latency_ms: int = 2) -> None:
    """Run a scenario with a person."""

    async def main(kit: Kit) -> None:
        await scenario(kit, kit.at(Person, "acme", "ann"))

    run_with_kit(main, kinds=[Person, Guest], latency_ms=latency_ms)


def test_a_soft_write_is_seen_at_once_and_stored_within_half_a_minute() -> None:
    """Its answer does not wait for the store, nor does that of a later read."""

    async def scenario(kit: Kit, person: Ref) -> None:
        await person.rename("Ann")
        commits = kit.faults.calls["commit"]
        assert "Ann" == await person.see(5)
        assert 5 == await person.seen()
        await kit.advance(bounds.SOFT_MS - 1_000)
        assert commits == kit.faults.calls["commit"]
        assert {"name": "Ann"} == kit.stored(person)
        await kit.advance(6_000)

        assert {"name": "Ann", "seen": 5} == kit.stored(person)
        assert commits + 1 == kit.faults.calls["commit"]

    run(scenario)


def test_the_next_commit_carries_what_is_soft() -> None:
    """Of a turn after it, or of the very turn; of one key the later write counts, whichever it is."""

    async def scenario(kit: Kit, person: Ref) -> None:
        await person.see(5)
        await person.rename("Ann")
        assert {"name": "Ann", "seen": 5} == kit.stored(person)
        await person.see_and_rename(6, "Bea")
        assert {"name": "Bea", "seen": 6} == kit.stored(person)

        kit.faults.next("commit", FaultKind.DELAY, delay_ms=200)
        calls = [asyncio.ensure_future(person.rename("Cea"))]
        await asyncio.sleep(0.05)
        calls += [asyncio.ensure_future(person.rename("Dea")), asyncio.ensure_future(person.see(7))]
        await asyncio.gather(*calls)
        assert {"name": "Dea", "seen": 7} == kit.stored(person)

    run(scenario)


def test_a_crash_loses_what_is_soft_and_nothing_else() -> None:
    """A drain, an eviction and a checkpoint do not lose it."""

    async def scenario(kit: Kit, person: Ref) -> None:
        await person.rename("Ann")
        await person.see(5)
        await kit.kill()
        assert 0 == await person.seen()
        assert "Ann" == await person.see(6)
        await kit.evict(person)
        assert 6 == await person.seen()
        await person.see(7)
        await kit.restart()
        assert 7 == await person.seen()

    run(scenario)


def test_an_object_that_leaves_while_its_soft_write_is_on_its_way_is_read_after_it() -> None:
    """Its successor waits for the store's verdict, as after any commit."""

    async def scenario(kit: Kit, person: Ref) -> None:
        await person.rename("Ann")
        await kit.evict(person)
        await person.see(5)
        kit.faults.next("commit", FaultKind.DELAY, delay_ms=200)
        await kit.evict(person)

        assert 5 == await person.seen()
        assert {"name": "Ann", "seen": 5} == kit.stored(person)

    run(scenario)


def test_a_failed_turn_drops_its_soft_writes() -> None:
    """In memory, and in what is stored later."""

    async def scenario(kit: Kit, person: Ref) -> None:
        await person.see(5)
        with pytest.raises(HandlerError):
            await person.see_and_fail(6)
        assert 5 == await person.seen()
        await kit.evict(person)

        assert {"seen": 5} == kit.stored(person)

    run(scenario)


def test_a_soft_write_that_the_store_refuses_with_others_is_gone_from_memory_too() -> None:
    """What memory shows is what the store has."""

    async def scenario(kit: Kit, person: Ref) -> None:
        await person.rename("Ann")
        await person.see(5)
        kit.store.full = True
        with pytest.raises(NoRoomError):
            await person.rename("Bea")

        assert 0 == await person.seen()

    run(scenario)


def test_a_full_store_that_refuses_what_is_soft_turns_nobody_away() -> None:
    """A turn that runs meanwhile ends as it would have, the object stays, and what was refused is stored later."""

    async def scenario(kit: Kit, person: Ref) -> None:
        await person.rename("Ann")
        await person.see(5)
        kit.store.full = True
        await kit.advance(bounds.SOFT_MS - 100)
        kit.faults.next("commit", FaultKind.DELAY, delay_ms=200)
        reading = asyncio.ensure_future(person.read_slowly(900))
        await kit.advance(800)
        assert 5 == await reading
        await person.see(6)
        commits = kit.faults.calls["commit"]
        kit.store.full = False
        await kit.advance(bounds.SOFT_MS + 5_000)
        assert commits < kit.faults.calls["commit"]
        assert {"name": "Ann", "seen": 6} == kit.stored(person)
        await person.rename("Bea")
        await kit.evict(person)
        assert ("Bea", 6) == (await person.see(7), 6)

    run(scenario)


def test_after_a_refusal_the_next_commit_knows_what_the_store_has() -> None:
    """A new object is listed, and nothing is left of what had expired."""

    async def scenario(kit: Kit, person: Ref) -> None:
        stranger = kit.at(Person, "acme", "bea")
        await person.rename("Ann")
        await person.expire(1_000)
        await kit.advance(1_000)
        kit.store.full = True
        for one in (person, stranger):
            await one.see(5)
        await kit.advance(bounds.SOFT_MS + 1_000)
        kit.store.full = False
        for one in (person, stranger):
            await one.say_aloud()

        shards = range(len(kit.node.ownership.shards))
        listed = await kit.store.objects(shards, kind="person", tenant="acme", prefix="", after=b"", rows=9)
        assert {"ann", "bea"} == {Address.decode(row).name for rows in listed for row in rows}
        for one in (person, stranger):
            assert {"said": True, "seen": 5} == kit.stored(one)
            await kit.evict(one)
            assert 5 == await one.seen()

    run(scenario)


def test_what_is_deleted_while_the_store_refuses_it_stays_deleted() -> None:
    """The deletion is stored, and nothing soft of before with what comes after it."""

    async def scenario(kit: Kit, person: Ref) -> None:
        await person.rename("Ann")
        await person.see(5)
        kit.store.full = True
        commits = kit.faults.calls["commit"]
        while commits == kit.faults.calls["commit"]:
            await kit.advance(20)
        beginning = asyncio.ensure_future(person.begin_anew("Bea"))
        await kit.advance(120)  # It is refused, and does not know yet.
        kit.store.full = False
        await beginning
        assert {"name": "Bea"} == kit.stored(person)

    run(scenario, latency_ms=200)


def test_a_full_store_keeps_no_idle_object_in_memory() -> None:
    """What was soft is lost with it, as in a crash."""

    async def scenario(kit: Kit, person: Ref) -> None:
        await person.rename("Ann")
        await person.see(5)
        kit.store.full = True
        await kit.advance(bounds.OBJECT_IDLE_MS + bounds.SOFT_MS + 5_000)
        assert 0 == kit.node.host.objects_resident
        kit.store.full = False
        assert 0 == await person.seen()

    run(scenario)


def test_what_is_deleted_or_has_expired_takes_its_soft_writes_along() -> None:
    """Nothing of them is stored later."""

    async def scenario(kit: Kit, person: Ref) -> None:
        await person.rename("Ann")
        await person.see(5)
        await person.forget()
        assert 0 == await person.seen()
        await person.see(5)
        await person.begin_anew("Bea")
        assert {"name": "Bea"} == kit.stored(person)
        await person.expire(1_000)
        await person.see(6)
        await kit.advance(1_000)
        assert 0 == await person.seen()
        await kit.advance(bounds.SOFT_MS + 5_000)

        assert {} == kit.stored(person)

    run(scenario)


def test_the_fast_way_takes_soft_writes() -> None:
    """A checkpointed kind answers at once; it is no reason for a checkpoint."""

    async def scenario(kit: Kit, _: Ref) -> None:
        guest = kit.at(Guest, "acme", "bob")
        await guest.rename("Bob")
        await kit.advance(400)
        assert "Bob" == kit.node.host.try_now(guest._address, Guest.see, 5)
        assert 5 == kit.node.host.try_now(guest._address, Guest.seen)
        await kit.advance(5_000)
        assert {"name": "Bob"} == kit.stored(guest)
        await guest.rename("Rob")
        await kit.advance(400)
        assert {"name": "Rob", "seen": 5} == kit.stored(guest)

    run(scenario)


def test_many_soft_writes_are_stored_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that wait for the store do not wait for all of them."""
    monkeypatch.setattr(bounds, "SOFT_OBJECTS", 2)

    async def scenario(kit: Kit, _: Ref) -> None:
        people = [kit.at(Person, "acme", f"{number}") for number in range(6)]
        for person in people:
            await person.rename("Ann")
        await asyncio.gather(*(person.see(5) for person in people))
        stored = []
        for wait_ms in (bounds.SOFT_MS + 20, bounds.SOFT_PAUSE_MS, bounds.SOFT_PAUSE_MS):
            await kit.advance(wait_ms)
            stored.append(sum("seen" in kit.stored(person) for person in people))

        assert [2, 4, 6] == stored

    run(scenario)


@pytest.mark.parametrize("kind", [Person, Guest])
@pytest.mark.parametrize("method", ["write", "commit_a_write", "say", "arm"])
def test_a_readonly_turn_writes_nothing_else(kind: type[Person], method: str) -> None:
    """It fails, and leaves no trace: neither of what it may write nor of what it may not."""

    async def scenario(kit: Kit, _: Ref) -> None:
        ref = kit.at(kind, "acme", "ann")
        await ref.rename("Ann")
        await kit.advance(400)
        with pytest.raises(HandlerError) as failed:
            await getattr(ref, method)()
        assert "@readonly" in str(failed.value.__cause__)
        if method != "commit_a_write" and kind is Guest:
            with pytest.raises(HandlerError):
                assert NOT_NOW is not kit.node.host.try_now(ref._address, getattr(Guest, method))

        assert ("Ann", 0) == (await ref.see(0), await ref.seen())
        await kit.evict(ref)
        assert ({"name": "Ann", "seen": 0}, {}, {}) == (kit.stored(ref), kit.journal(ref), kit.alarms(ref))

    run(scenario)
