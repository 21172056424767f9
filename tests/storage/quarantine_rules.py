"""What a store keeps of objects that blocked their owners, one rule a function. Every store keeps them."""

from shared.storage.interface import LoadOrder
from shared.storage.quarantines import Quarantined, Terms
from tests.storage.bench import LONG_MS, Bench, Rule, native, section, without_room, write
from tests.storage.commit_rules import apply
from tests.storage.lease_rules import own

IN_FORCE = Terms(first_ms=LONG_MS, longest_ms=10 * LONG_MS, memory_ms=LONG_MS, objects_max=3)
OVER = Terms(first_ms=-1, longest_ms=LONG_MS, memory_ms=LONG_MS, objects_max=3)
"""Terms that end before they begin, and are remembered."""
FORGOTTEN = Terms(first_ms=-1, longest_ms=LONG_MS, memory_ms=0, objects_max=3)


def lasting(first_ms: int) -> Terms:
    """Terms like those in force, of another length."""
    return Terms(first_ms=first_ms, longest_ms=10 * LONG_MS, memory_ms=LONG_MS, objects_max=3)


async def a_load_brings_the_quarantine(bench: Bench) -> None:
    """Whoever loads the object, of either form, learns of it; others of the shard are not touched, nor is a stranger told."""
    fence = await own(bench.store)
    await apply(bench.store, fence, [write(a=b"1"), native(b"state", object_id=b"native")])
    begun = [await bench.store.quarantine(0, name, IN_FORCE) for name in (b"object", b"native")]
    orders = [
        LoadOrder(0, fence, b"object"),
        LoadOrder(0, fence, b"native", native=True),
        LoadOrder(0, fence, b"other"),
    ]
    loads = await bench.store.load(orders)
    assert [*begun, None] == [loaded.quarantine for loaded in loads.objects]
    assert loads.now_ms < begun[0].until_ms <= loads.now_ms + LONG_MS
    stranger = type(fence)(fence.epoch, b"nobody")
    assert [None] == [each.quarantine for each in (await bench.store.load([LoadOrder(0, stranger, b"object")])).objects]


async def the_state_stays_as_it_is(bench: Bench) -> None:
    """A quarantine changes nothing that the object has stored, and no lease."""
    fence = await own(bench.store)
    await apply(bench.store, fence, [write(a=b"1")])
    before = await bench.dump()
    await bench.store.quarantine(0, b"object", IN_FORCE)
    after = await bench.dump()
    assert {b"object"} == after.shards[0].quarantines.kept.keys()
    after.shards[0].quarantines = before.shards[0].quarantines
    assert before == after


async def a_term_that_is_not_over_stays(bench: Bench) -> None:
    """The same call twice, or a second owner that dies of the object, does not lengthen it."""
    first = await bench.store.quarantine(0, b"object", IN_FORCE)
    assert 1 == first.count
    assert first == await bench.store.quarantine(0, b"object", IN_FORCE)


async def the_next_term_is_twice_as_long(bench: Bench) -> None:
    """After so many terms that are over, the next one is the first one doubled as often, up to the longest."""
    for count in (1, 2, 3):
        assert count == (await bench.store.quarantine(0, b"object", OVER)).count
    fourth = await bench.store.quarantine(0, b"object", lasting(LONG_MS))
    plain = await bench.store.quarantine(0, b"other", lasting(8 * LONG_MS))
    assert 4 == fourth.count
    assert abs(fourth.until_ms - plain.until_ms) < LONG_MS  # 1, 2, 4, 8.
    await bench.store.quarantine(1, b"object", OVER)
    capped = await bench.store.quarantine(1, b"object", lasting(8 * LONG_MS))
    assert abs(capped.until_ms - plain.until_ms - 2 * LONG_MS) < LONG_MS


async def a_quiet_object_begins_anew(bench: Bench) -> None:
    """What was over for as long as it is remembered counts as never, and a shard without any has nothing stored."""
    await bench.store.quarantine(0, b"object", FORGOTTEN)
    assert 0 not in (await bench.dump()).shards
    await bench.store.quarantine(0, b"object", OVER)
    await bench.store.quarantine(0, b"other", OVER)
    assert 1 == (await bench.store.quarantine(0, b"object", FORGOTTEN)).count
    assert [[]] == list(await bench.store.quarantines([0]))


async def a_shard_remembers_so_many(bench: Bench) -> None:
    """The one whose term ends first makes room for the next."""
    for number in (4, 2, 3, 1):
        await bench.store.quarantine(0, b"object-%d" % number, lasting(number * LONG_MS))
    (rows,) = await bench.store.quarantines([0])
    assert [b"object-1", b"object-3", b"object-4"] == [row.object_id for row in rows]


async def the_list_tells_each_shard_apart(bench: Bench) -> None:
    """By address, over or not, in the order of the shards asked."""
    one = await bench.store.quarantine(1, b"one", IN_FORCE)
    two = await bench.store.quarantine(1, b"a two", OVER)
    assert [[], [Quarantined(b"a two", two), Quarantined(b"one", one)]] == list(await bench.store.quarantines([0, 1]))


async def a_lifted_object_is_as_new(bench: Bench) -> None:
    """A load knows nothing of it any more, the next term is the first one; lifting twice says so."""
    fence = await own(bench.store)
    await bench.store.quarantine(0, b"object", OVER)
    await bench.store.quarantine(0, b"object", IN_FORCE)
    assert await bench.store.lift_quarantine(0, b"object")
    assert not await bench.store.lift_quarantine(0, b"object")
    assert [None] == [each.quarantine for each in (await bench.store.load([LoadOrder(0, fence, b"object")])).objects]
    assert 1 == (await bench.store.quarantine(0, b"object", IN_FORCE)).count


async def a_full_store_quarantines_too(bench: Bench) -> None:
    """An object blocks its owner there as elsewhere; lifting and listing go on."""
    async with without_room(bench):
        begun = await bench.store.quarantine(0, b"object", IN_FORCE)
        assert [[Quarantined(b"object", begun)]] == list(await bench.store.quarantines([0]))
        assert await bench.store.lift_quarantine(0, b"object")


async def commits_go_on(bench: Bench) -> None:
    """The owner of the shard is not disturbed: its next commit and the seq are what they would have been."""
    fence = await own(bench.store)
    await bench.store.quarantine(0, b"object", Terms(first_ms=1, longest_ms=1, memory_ms=1, objects_max=1))
    committed = await bench.store.commit([section(fence, 0, b"c1", [write(a=b"1")])], ttl_ms=LONG_MS, timeout_ms=1_000)
    assert 1 == committed.replies[0].seq


RULES: tuple[Rule, ...] = (
    a_load_brings_the_quarantine,
    the_state_stays_as_it_is,
    a_term_that_is_not_over_stays,
    the_next_term_is_twice_as_long,
    a_quiet_object_begins_anew,
    a_shard_remembers_so_many,
    the_list_tells_each_shard_apart,
    a_lifted_object_is_as_new,
    a_full_store_quarantines_too,
    commits_go_on,
)
