"""What a store without memory left still does, one rule a function: everything but growing."""

from shared.storage.interface import (
    JOURNAL_FIELD,
    RECORD_FIELD,
    ClaimOrder,
    Entry,
    Fence,
    LoadOrder,
    ObjectWrite,
    Status,
    StoreFullError,
)
from tests.storage.bench import LONG_MS, Bench, Rule, section, without_room, write
from tests.storage.commit_rules import EVERYTHING, FAR_MS, apply, commit
from tests.storage.lease_rules import own
from tests.storage.part_rules import FIRST, SECOND, parts, running

GONE = ObjectWrite(object_id=b"object", gone=True, alarm_removes=[b"object/x"])
KEY_REMOVED = ObjectWrite(object_id=b"object", puts={b"#": b"record"}, deletes=[b"a"])


async def a_full_store_takes_no_new_state(bench: Bench) -> None:
    """The section is answered as refused and writes nothing; the same one is taken once there is room again."""
    fence = await own(bench.store)
    before = await bench.dump()
    for growing in (
        write(a=b"1"),
        EVERYTHING,
        ObjectWrite(object_id=b"o", alarm_sets={b"o/x": 1}),
        ObjectWrite(object_id=b"o"),
        ObjectWrite(object_id=b"o", journal_first=1, journal_appends=[b"one"], journal_keep=1),
        ObjectWrite(object_id=b"o", index_sets={"status": running()}, index_clears=["status"]),
        ObjectWrite(object_id=b"o", entries={b"e": Entry(b"", FAR_MS)}, entry_removes=[b"e"]),
        ObjectWrite(object_id=b"o", outbox_adds={SECOND: b""}, outbox_removes=[FIRST]),
    ):
        async with without_room(bench):
            (reply,) = await commit(bench.store, section(fence, 0, b"c1", [growing]))
        assert (Status.FULL, 0) == (reply.status, reply.seq)
        assert before == await bench.dump()
    (reply,) = await commit(bench.store, section(fence, 0, b"c1", [write(a=b"1")]))
    assert (Status.OK, 1) == (reply.status, reply.seq)


async def a_full_store_takes_removals(bench: Bench) -> None:
    """A key, a whole object and an expired one can be removed, or a full store would stay full."""
    fence = await own(bench.store)
    await apply(bench.store, fence, [write(a=b"1"), write(b"old", a=b"1"), EVERYTHING])
    sweep = ObjectWrite(object_id=b"object", sweep=True, expire_at_ms=5)
    async with without_room(bench):
        await apply(bench.store, fence, [KEY_REMOVED], seq=1)
        await apply(bench.store, fence, [ObjectWrite(object_id=b"old", gone=True)], seq=2)
        await apply(bench.store, fence, [sweep], seq=3)
    shard = (await bench.dump()).shards[0]
    assert ({}, 4) == (shard.objects, shard.lease.seq)


async def a_full_store_takes_parts_away(bench: Bench) -> None:
    """Old journal entries, index rows, answers and messages that were delivered make room."""
    fence = await own(bench.store)
    await apply(bench.store, fence, [parts()])
    removals = [
        ObjectWrite(object_id=b"object", journal_keep=3, puts={RECORD_FIELD: b"record", JOURNAL_FIELD: b"mark"}),
        ObjectWrite(object_id=b"object", index_clears=["status"]),
        ObjectWrite(object_id=b"object", entry_removes=[b"request"]),
        ObjectWrite(object_id=b"object", outbox_removes=[FIRST]),
    ]
    async with without_room(bench):
        for seq, removal in enumerate(removals, 1):
            await apply(bench.store, fence, [removal], seq=seq)
    shard = (await bench.dump()).shards[0]
    assert ({}, {}, {}, {}) == (shard.journals[b"object"].entries, shard.rows, shard.entries, shard.messages)


async def a_full_store_can_be_searched(bench: Bench) -> None:
    """Journals, indexes, objects, outbox and dead alarms answer as ever."""
    store = bench.store
    fence = await own(store)
    await apply(store, fence, [parts(), EVERYTHING])
    search = {"tenant": "acme", "index": "status", "value": "running"}
    async with without_room(bench):
        assert 2 == len((await store.journal(0, fence, b"object", after=0, rows=9)).entries)
        assert 1 == len((await store.find([0], **search, after=None, rows=9))[0])
        assert 1 == await store.count([0], **search)
        assert not (await store.objects([0], kind="run", tenant="acme", prefix="", after=b"", rows=9))[0]
        assert 1 == len((await store.outbox([(0, 0)], rows=9))[0])
        assert 1 == len((await store.dead_alarms([0], after=None, rows=9))[0])
        assert 1 == len((await store.armed_alarms([0], after=None, rows=9))[0])
        assert [b"1"] == list(await store.fields([(0, b"object", b"a")]))


async def sections_of_a_full_store_stand_alone(bench: Bench) -> None:
    """One flight: what only removes is applied, what grows beside it is refused."""
    fences = [await own(bench.store, shard=shard) for shard in range(2)]
    await apply(bench.store, fences[0], [write(a=b"1")])
    async with without_room(bench):
        replies = await commit(
            bench.store,
            section(fences[0], 1, b"c1", [GONE]),
            section(fences[1], 0, b"c1", [write(a=b"1")], shard=1),
        )
    assert [Status.OK, Status.FULL] == [reply.status for reply in replies]
    assert {} == (await bench.dump()).shards[0].objects


async def a_section_of_a_full_store_is_refused_whole(bench: Bench) -> None:
    """A removal beside a write that grows is not applied either; made again by itself, it is."""
    fence = await own(bench.store)
    await apply(bench.store, fence, [write(a=b"1")])
    before = await bench.dump()
    async with without_room(bench):
        (reply,) = await commit(bench.store, section(fence, 1, b"c1", [GONE, write(b"other", a=b"1")]))
        assert (Status.FULL, before) == (reply.status, await bench.dump())
        await apply(bench.store, fence, [GONE], seq=1)
    assert {} == (await bench.dump()).shards[0].objects


async def a_full_store_tells_first_what_matters_more(bench: Bench) -> None:
    """A commit that was applied is a success, one under a lost lease fenced, one out of order a conflict."""
    fence = await own(bench.store)
    await commit(bench.store, section(fence, 0, b"c1", [write(a=b"1")]))
    async with without_room(bench):
        for owner, seq, commit_id, expected in (
            (fence, 0, b"c1", Status.OK),
            (Fence(fence.epoch, b"two"), 1, b"c2", Status.FENCED),
            (fence, 7, b"c2", Status.CONFLICT),
        ):
            (reply,) = await commit(bench.store, section(owner, seq, commit_id, [write(a=b"2")]))
            assert expected == reply.status


async def a_full_store_keeps_leases_and_reads(bench: Bench) -> None:
    """Claims, renewals, loads, look-ups and releases go on: a lack of memory must not cost the owner too."""
    store = bench.store
    fence = await own(store)
    await apply(store, fence, [write(a=b"1")])
    async with without_room(bench):
        assert [1] == list((await store.renew([(0, fence)], ttl_ms=LONG_MS)).seqs)
        (claimed,) = (await store.claim([ClaimOrder(shard=1)], token=b"t", node="n", lock_id="", ttl_ms=1)).leases
        (loaded,) = (await store.load([LoadOrder(0, fence, b"object")])).objects
        assert (True, {b"a": b"1"}) == (claimed.granted, loaded.fields)
        assert [[], []] == [list(rows) for rows in (await store.due_alarms([(0, 0), (1, 0)], until_ms=9, rows=9)).rows]
        assert [[]] == [list(rows) for rows in (await store.expired([(0, 0)], rows=9)).rows]
        assert not (await store.documents_since("rl", 0)).documents
        await store.release([(0, fence)])
    assert not (await bench.dump()).shards[0].lease.active


async def a_full_store_takes_no_documents_but_deletes_them(bench: Bench) -> None:
    """The refusal says why, and nothing has changed; what is deleted stays deleted."""
    put = bench.store.document_put
    await put("rl", b"d", b"1", expected=0)
    async with without_room(bench):
        try:
            written = await put("rl", b"d", b"2", expected=1)
        except StoreFullError:
            written = (False, 1)
        assert (False, 1) == written
        assert (True, 0) == await put("rl", b"d", None, expected=1)
    (document,) = (await bench.store.documents_since("rl", 0)).documents
    assert (2, None) == (document.version, document.body)


RULES: tuple[Rule, ...] = (
    a_full_store_takes_no_new_state,
    a_full_store_takes_removals,
    a_full_store_takes_parts_away,
    a_full_store_can_be_searched,
    sections_of_a_full_store_stand_alone,
    a_section_of_a_full_store_is_refused_whole,
    a_full_store_tells_first_what_matters_more,
    a_full_store_keeps_leases_and_reads,
    a_full_store_takes_no_documents_but_deletes_them,
)
