"""What is found across objects and shards, one rule a function."""

from collections.abc import Sequence

from shared.storage.interface import ObjectWrite, Status
from shared.storage.listings import IndexEntry, IndexRow, OutboxRow, Place, family
from tests.storage.bench import Bench, Rule, section
from tests.storage.commit_rules import apply, commit
from tests.storage.lease_rules import own
from tests.storage.part_rules import ALL, FIRST, SECOND, THIRD, running

NAMES = ("b", "a", "job-9", "job-10", "job-11", "jobber", "other-thing", "job" * 100, "jéb", "J")


def encoded(name: str, kind: str = "run", tenant: str = "acme") -> bytes:
    """The stored form of an address."""
    return family(kind, tenant) + len(name.encode()).to_bytes(2, "big") + name.encode()


async def index(bench: Bench, rows: Sequence[tuple[bytes, IndexEntry]], *, shard: int = 0) -> None:
    """Put objects into the index of these rules."""
    fence = await own(bench.store, shard=shard)
    writes = [ObjectWrite(object_id=name, index_sets={"status": row}) for name, row in rows]
    (reply,) = await commit(bench.store, section(fence, 0, b"c1", writes, shard=shard))
    assert Status.OK == reply.status


async def find(
    bench: Bench, shards: Sequence[int], *, after: Place | None = None, rows: int = ALL
) -> list[list[IndexRow]]:
    """Running objects of acme."""
    pages = await bench.store.find(shards, tenant="acme", index="status", value="running", after=after, rows=rows)
    return [list(page) for page in pages]


async def an_index_lists_by_time_then_address(bench: Bench) -> None:
    """Each shard gives a few of its rows with their summaries; other values and tenants are not among them."""
    await index(
        bench,
        [
            (b"b", running(2)),
            (b"\xff", running(2, b"\0\xff")),
            (b"a", running(2, b"")),
            (b"c", running(-1)),
            (b"d", running(value="done")),
            (b"e", IndexEntry(tenant="acm", value="running", sort_ms=1)),
        ],
    )
    await index(bench, [(b"z", running(3))], shard=2)
    expected = [IndexRow(-1, b"c", b"sum"), IndexRow(2, b"a", b""), IndexRow(2, b"b", b"sum")]
    assert [expected, [], [IndexRow(3, b"z", b"sum")]] == await find(bench, [0, 1, 2], rows=3)
    assert [IndexRow(2, b"\xff", b"\0\xff")] == (await find(bench, [0]))[0][3:]


async def a_listing_goes_on_where_it_stopped(bench: Bench) -> None:
    """Row by row, over many of one time, on every shard after the same place: none twice, none left out."""
    names = [b"%c%c" % (high, low) for high in (0, 65, 97, 255) for low in (0, 10, 66, 98, 255)]
    await index(bench, [(name, running(len(name) + name[0] // 90)) for name in names])
    (everything,) = await find(bench, [0])
    assert len(names) == len(everything)
    for rows in (1, 3):
        seen: list[IndexRow] = []
        while page := (await find(bench, [0], after=seen[-1].place if seen else None, rows=rows))[0]:
            seen += page
            assert len(seen) <= len(everything), "a row came again"
        assert everything == seen
    assert [[], []] == await find(bench, [0, 1], after=everything[-1].place)


async def a_listing_goes_on_after_a_row_that_left(bench: Bench) -> None:
    """The place need not be there any more, nor anything of its time."""
    await index(bench, [(b"a", running(1)), (b"b", running(1)), (b"c", running(2))])
    for place, expected in (
        (Place(1, b"az"), [b"b", b"c"]),
        (Place(0, b"z"), [b"a", b"b", b"c"]),
        (Place(1, b"z"), [b"c"]),
        (Place(3, b""), []),
    ):
        assert [expected] == [[row.object_id for row in page] for page in await find(bench, [0], after=place)]


async def a_count_sums_over_shards(bench: Bench) -> None:
    """How many objects have a value, without reading one."""
    await index(bench, [(b"a", running()), (b"b", running()), (b"c", running(value="done"))])
    await index(bench, [(b"d", running())], shard=1)
    count = bench.store.count
    assert 3 == await count([0, 1, 2], tenant="acme", index="status", value="running")
    assert 0 == await count([0, 1], tenant="acme", index="status", value="")
    assert 0 == await count([], tenant="acme", index="status", value="running")


async def objects_are_listed_by_kind_tenant_and_prefix(bench: Bench) -> None:
    """Those whose name begins so, shorter names first; none of another kind or tenant, none without state."""
    fence = await own(bench.store)
    stored = [*map(encoded, NAMES), encoded("job-1", kind="rum"), encoded("job-1", tenant="acmf"), b"\xff"]
    await apply(bench.store, fence, [ObjectWrite(object_id=name, indexed=True) for name in stored])
    for prefix in ("", "j", "job", "job-1", "jobs", "job" * 100, "jé"):
        expected = sorted(encoded(name) for name in NAMES if name.startswith(prefix))
        for rows in (1, 2, ALL):
            seen: list[bytes] = []
            while page := await objects(bench, prefix, seen[-1] if seen else b"", rows):
                seen += page
                assert len(seen) <= len(expected), "an object came again"
            assert expected == seen, prefix


async def objects(bench: Bench, prefix: str, after: bytes, rows: int) -> list[bytes]:
    """Some of acme's runs."""
    found = await bench.store.objects([0, 1], kind="run", tenant="acme", prefix=prefix, after=after, rows=rows)
    assert [] == list(found[1])
    return list(found[0])


async def an_outbox_lists_what_waits(bench: Bench) -> None:
    """Oldest first, whoever sent it, after a number of each shard's own."""
    fences = [await own(bench.store, shard=shard) for shard in range(2)]
    await apply(bench.store, fences[0], [ObjectWrite(object_id=b"b", outbox_adds={THIRD: b"1", FIRST: b"2"})])
    await apply(bench.store, fences[0], [ObjectWrite(object_id=b"a", outbox_adds={SECOND: b"3"})], seq=1)
    (first,) = await bench.store.outbox([(0, 0)], rows=2)
    assert [(b"b", THIRD, b"1"), (b"b", FIRST, b"2")] == [_sent(row) for row in first]
    pages = await bench.store.outbox([(0, first[-1].sent.number), (1, 0), (0, 9)], rows=2)
    assert [[(b"a", SECOND, b"3")], [], []] == [[_sent(row) for row in page] for page in pages]


def _sent(row: OutboxRow) -> tuple[bytes, bytes, bytes]:
    return row.object_id, row.sent.message_id, row.sent.message


async def dead_alarms_are_listed_in_pages(bench: Bench) -> None:
    """By the time they were given up, then name, after a place."""
    fence = await own(bench.store)
    dead = {b"o/b": 1, b"o/bb": 1, b"o/a": 2}
    await apply(bench.store, fence, [ObjectWrite(object_id=b"o", dead_adds=dead)])
    pages = await bench.store.dead_alarms([0, 1], after=None, rows=2)
    assert [[Place(1, b"o/b"), Place(1, b"o/bb")], []] == [list(page) for page in pages]
    (page,) = await bench.store.dead_alarms([0], after=Place(1, b"o/b"), rows=2)
    assert [Place(1, b"o/bb"), Place(2, b"o/a")] == list(page)
    assert [[]] == [list(page) for page in await bench.store.dead_alarms([0], after=None, rows=0)]


async def armed_alarms_are_listed_in_pages(bench: Bench) -> None:
    """By the time they are due, then name, after a place, over all shards in one order."""
    fences = [await own(bench.store, shard=shard) for shard in range(2)]
    await apply(bench.store, fences[0], [ObjectWrite(object_id=b"o", alarm_sets={b"o/b": 1, b"o/bb": 1, b"o/a": 2})])
    await commit(
        bench.store, section(fences[1], 0, b"c", [ObjectWrite(object_id=b"p", alarm_sets={b"p/a": 1})], shard=1)
    )
    pages = await bench.store.armed_alarms([0, 1], after=Place(1, b"o/b"), rows=1)
    assert [[Place(1, b"o/bb")], [Place(1, b"p/a")]] == [list(page) for page in pages]


async def fields_are_read_one_by_one(bench: Bench) -> None:
    """In the order asked; what is not there is None."""
    fence = await own(bench.store)
    await apply(bench.store, fence, [ObjectWrite(object_id=b"o", puts={b"a": b"1", b"b": b""})])
    asked = [(0, b"o", b"b"), (0, b"o", b"c"), (1, b"o", b"a"), (0, b"o", b"a")]
    assert [b"", None, None, b"1"] == list(await bench.store.fields(asked))
    assert [] == list(await bench.store.fields([]))


RULES: tuple[Rule, ...] = (
    an_index_lists_by_time_then_address,
    a_listing_goes_on_where_it_stopped,
    a_listing_goes_on_after_a_row_that_left,
    a_count_sums_over_shards,
    objects_are_listed_by_kind_tenant_and_prefix,
    an_outbox_lists_what_waits,
    dead_alarms_are_listed_in_pages,
    armed_alarms_are_listed_in_pages,
    fields_are_read_one_by_one,
)
