"""Index rows on the running core: found when acknowledged, as the object is, and gone with it."""

import asyncio

import pytest

from shared import bounds
from shared.objects.errors import HandlerError, NoRoomError, TooLargeError
from shared.objects.handler import DurableObject
from shared.objects.listings import Found
from shared.testing.faults import FaultKind
from shared.testing.kit import Kit, run_with_kit


class Job(DurableObject):
    """A job, listed by its status and by its owner."""

    kind = "job"

    def enter(self, status: str, at_ms: int = 1, note: bytes = b"") -> None:
        self.storage.put("status", status)
        self.index.set("status", status, at_ms, note)

    def enter_and_fail(self, status: str) -> None:
        self.enter(status)
        raise ValueError("this turn leaves no trace")

    def list_under(self, name: str, value: str, at_ms: int = 1, summary: bytes = b"") -> str | None:
        self.index.set(name, value, at_ms, summary)
        return self.index.value(name)

    def unlist(self, name: str) -> bool:
        return self.index.clear(name)

    def status(self) -> str | None:
        return self.index.value("status")

    async def enter_and_look(self, status: str) -> list[str]:
        self.enter(status)
        page = await self.objects.find(Job, self.address.tenant, "status", status)
        return [found.address.name for found in page.rows]

    async def like_me(self) -> int:
        return await self.objects.count(Job, self.address.tenant, "status", self.index.value("status") or "")

    def vanish(self) -> None:
        self.storage.delete_all()

    def begin_anew(self, status: str) -> None:
        self.storage.delete_all()
        self.enter(status)

    def expire(self, in_ms: int) -> None:
        self.storage.expire_at(self.clock.now_ms() + in_ms)


class Visit(Job):
    """The same, checkpointed."""

    kind = "visit"
    durability = "checkpointed"


class Unlisted(Job):
    """The same, and nobody lists it."""

    kind = "unlisted"
    indexed = False


def run(scenario) -> None:
    """Run a scenario on a kit that knows these kinds."""
    run_with_kit(scenario, kinds=[Job, Visit, Unlisted])


async def listed(kit: Kit, value: str, *, kind: type[DurableObject] = Job, name: str = "status") -> list[str]:
    """The names of acme's objects under a value."""
    return [found.address.name for found in await kit.find(kind, "acme", name, value)]


def stored(kit: Kit) -> list[bytes]:
    """What has state, by the objects and by the index of addresses."""
    shards = kit.store.snapshot().shards.values()
    assert all(shard.index == shard.objects.keys() for shard in shards)
    return [key for shard in shards for key in shard.objects]


def test_an_object_is_found_by_what_it_said_last() -> None:
    """A new value replaces the one before, a new time moves the row, and each index stands alone."""

    async def scenario(kit: Kit) -> None:
        one, two = kit.at(Job, "acme", "one"), kit.at(Job, "acme", "two")
        await one.enter("open", 5, b"first")
        await two.enter("open", 7)
        await one.list_under("owner", "ann")
        assert [Found(one._address, 5, b"first"), Found(two._address, 7, b"")] == await kit.find(
            Job, "acme", "status", "open"
        )
        await one.enter("open", 9)
        assert ["two", "one"] == await listed(kit, "open")
        await one.enter("done")
        assert (["two"], ["one"]) == (await listed(kit, "open"), await listed(kit, "done"))
        assert await one.unlist("status")
        assert not await one.unlist("status")

        assert ([], ["one"]) == (await listed(kit, "done"), await listed(kit, "ann", name="owner"))

    run(scenario)


def test_a_failed_turn_leaves_the_row_as_it_was() -> None:
    """In memory as in the store."""

    async def scenario(kit: Kit) -> None:
        job = kit.at(Job, "acme", "one")
        await job.enter("open")
        with pytest.raises(HandlerError):
            await job.enter_and_fail("done")
        assert "open" == await job.status()
        assert (["one"], []) == (await listed(kit, "open"), await listed(kit, "done"))

        kit.store.full = True
        with pytest.raises(NoRoomError):
            await job.enter("done")
        assert "open" == await job.status()
        assert (["one"], []) == (await listed(kit, "open"), await listed(kit, "done"))

    run(scenario)


def test_a_row_comes_back_with_its_object() -> None:
    """After passivation and after a crash it is known, so it is replaced and counted, not doubled."""

    async def scenario(kit: Kit) -> None:
        job = kit.at(Job, "acme", "one")
        await job.enter("open")
        await kit.evict(job)
        assert "open" == await job.status()
        await kit.kill()
        await job.enter("done")

        assert ([], ["one"]) == (await listed(kit, "open"), await listed(kit, "done"))

    run(scenario)


def test_an_object_that_has_nothing_but_a_row_is_there() -> None:
    """It is found until the row is cleared, and then nothing of it is stored."""

    async def scenario(kit: Kit) -> None:
        job = kit.at(Job, "acme", "one")
        await job.list_under("owner", "ann")
        await kit.evict(job)
        assert ["one"] == await listed(kit, "ann", name="owner")
        assert 1 == sum(len(shard.index) for shard in kit.store.snapshot().shards.values())
        await job.unlist("owner")

        assert [] == await listed(kit, "ann", name="owner")
        assert [] == stored(kit)

    run(scenario)


def test_a_deleted_object_is_found_nowhere() -> None:
    """Deleted alone, or begun anew in the same turn, or expired and swept though nobody has it in memory."""

    async def scenario(kit: Kit) -> None:
        job = kit.at(Job, "acme", "one")
        await job.enter("open")
        await job.list_under("owner", "ann")
        await job.begin_anew("done")
        assert ([], ["one"]) == (await listed(kit, "open"), await listed(kit, "done"))
        assert [] == await listed(kit, "ann", name="owner")
        await job.vanish()
        assert [] == await listed(kit, "done")
        assert [] == stored(kit)

        await job.enter("open")
        await job.expire(1_000)
        await kit.evict(job)
        await kit.advance(900)
        assert ["one"] == await listed(kit, "open")
        await kit.advance(10_000)
        assert [] == await listed(kit, "open")
        assert [] == [shard.rows for shard in kit.store.snapshot().shards.values() if shard.rows]

    run(scenario)


def test_a_turn_that_looks_finds_what_turns_before_it_wrote() -> None:
    """They are stored first, however slow the store is; its own writes are not among them yet."""

    async def scenario(kit: Kit) -> None:
        job = kit.at(Job, "acme", "one")
        kit.faults.next("commit", FaultKind.DELAY, delay_ms=200)
        entered = asyncio.ensure_future(job.enter("open"))
        await asyncio.sleep(0)

        assert 1 == await job.like_me()
        assert [] == await job.enter_and_look("done")
        assert ["one"] == await job.enter_and_look("done")
        await entered

    run(scenario)


def test_a_checkpointed_object_is_found_when_its_checkpoint_is_stored() -> None:
    """And as memory has it after a commit that failed: its rows are written anew with the rest."""

    async def scenario(kit: Kit) -> None:
        visit = kit.at(Visit, "acme", "one")
        await visit.enter("here")
        assert [] == await listed(kit, "here", kind=Visit)
        await kit.advance(400)
        assert ["one"] == await listed(kit, "here", kind=Visit)
        kit.store.full = True
        await visit.enter("left")
        await kit.advance(400)
        assert ["one"] == await listed(kit, "here", kind=Visit)
        kit.store.full = False
        await kit.advance(400)

        assert ([], ["one"]) == (await listed(kit, "here", kind=Visit), await listed(kit, "left", kind=Visit))

    run(scenario)


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (("a/b", "v"), ValueError),
        (("", "v"), ValueError),
        (("n" * (bounds.INDEX_NAME_BYTES_MAX + 1), "v"), TooLargeError),
        (("n", "v" * (bounds.INDEX_VALUE_BYTES_MAX + 1)), TooLargeError),
        (("n", "v", 1, b"s" * (bounds.INDEX_SUMMARY_BYTES_MAX + 1)), TooLargeError),
        (("n", "v", -1), TypeError),
        (("n", "v", 1.5), TypeError),
        (("n", "v", bounds.MOMENT_MS_MAX + 1), TypeError),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_row_has_its_bounds(arguments: tuple[object, ...], cause: type[Exception]) -> None:
    """What is refused is not there; the largest of all that is allowed is found."""

    async def scenario(kit: Kit) -> None:
        job = kit.at(Job, "acme", "one")
        with pytest.raises((HandlerError, TooLargeError)) as refused:
            await job.list_under(*arguments)
        assert cause in (type(refused.value), type(refused.value.__cause__))

        largest = ("n" * bounds.INDEX_NAME_BYTES_MAX, "v" * bounds.INDEX_VALUE_BYTES_MAX)
        await job.list_under(*largest, bounds.MOMENT_MS_MAX, b"s" * bounds.INDEX_SUMMARY_BYTES_MAX)
        (found,) = await kit.find(Job, "acme", *largest)
        assert (bounds.MOMENT_MS_MAX, b"s" * bounds.INDEX_SUMMARY_BYTES_MAX) == (found.sort_ms, found.summary)

    run(scenario)


def test_an_object_has_twenty_rows() -> None:
    """The next one is refused, those that are there can be changed, and one that was cleared makes room."""

    async def scenario(kit: Kit) -> None:
        job = kit.at(Job, "acme", "one")
        for number in range(bounds.INDEX_ROWS_MAX):
            await job.list_under(f"n{number}", "v")
        with pytest.raises(TooLargeError, match="has 21 index rows;"):
            await job.list_under("more", "v")
        assert "w" == await job.list_under("n0", "w")
        await job.unlist("n1")
        await kit.evict(job)

        assert "v" == await job.list_under("more", "v")
        assert (["one"], []) == (await listed(kit, "w", name="n0"), await listed(kit, "v", name="n1"))

    run(scenario)


def test_a_kind_that_nobody_lists_has_no_index() -> None:
    """To use one is a mistake of the author's, and is told so."""

    async def scenario(kit: Kit) -> None:
        with pytest.raises(HandlerError) as failed:
            await kit.at(Unlisted, "acme", "one").enter("open")
        assert "not indexed" in str(failed.value.__cause__)

    run(scenario)
