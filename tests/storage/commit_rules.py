"""What a commit may do, one rule a function. Every store keeps them; a broken script breaks at least one."""

from collections.abc import Sequence

from shared.storage.interface import (
    NATIVE_FIELD,
    Fence,
    LoadOrder,
    ObjectWrite,
    Section,
    SectionReply,
    Status,
    Store,
    StoreInDoubtError,
)
from tests.storage.bench import LONG_MS, Bench, Rule, native, section, write
from tests.storage.lease_rules import OVER_MS, claim, own

FAR_MS = 10**14
EVERYTHING = ObjectWrite(
    object_id=b"object",
    indexed=True,
    expire_at_ms=5,
    puts={b"a": b"1"},
    deletes=[b"b"],
    alarm_sets={b"object/x": 7},
    alarm_removes=[b"object/y"],
    dead_adds={b"object/z": 9},
)


async def commit(store: Store, *sections: Section, ttl_ms: int = LONG_MS) -> list[SectionReply]:
    """One flight."""
    return list((await store.commit(sections, ttl_ms=ttl_ms, timeout_ms=5_000)).replies)


async def apply(store: Store, fence: Fence, writes: Sequence[ObjectWrite], *, seq: int = 0) -> None:
    """One commit to shard 0 that has to succeed."""
    (reply,) = await commit(store, section(fence, seq, b"commit-%d" % seq, writes))
    assert (Status.OK, seq + 1) == (reply.status, reply.seq)


async def a_commit_writes_everything(bench: Bench) -> None:
    """State, index, expiry and alarms are written together, and seq goes up by one."""
    fence = await own(bench.store)
    await apply(bench.store, fence, [write(b=b"0", c=b"3"), EVERYTHING])
    shard = (await bench.dump()).shards[0]
    assert {b"object": {b"a": b"1", b"c": b"3"}} == shard.objects
    assert {b"object/x": 7} == shard.alarms
    assert {b"object/z": 9} == shard.dead_alarms
    assert ({b"object"}, {b"object": 5}) == (shard.index, shard.expiries)
    assert (1, b"commit-0") == (shard.lease.seq, shard.lease.commit_id)


async def another_token_is_fenced(bench: Bench) -> None:
    """A commit under another token writes nothing, though its epoch and seq be right."""
    fence = await own(bench.store, b"one")
    before = await bench.dump()
    (reply,) = await commit(bench.store, section(Fence(fence.epoch, b"two"), 0, b"c1", [EVERYTHING]))
    assert Status.FENCED == reply.status
    assert before == await bench.dump()


async def another_epoch_is_fenced(bench: Bench) -> None:
    """A commit under another epoch writes nothing, though its token and seq be right."""
    fence = await own(bench.store, b"one")
    before = await bench.dump()
    for epoch in (fence.epoch - 1, fence.epoch + 1):
        (reply,) = await commit(bench.store, section(Fence(epoch, b"one"), 0, b"c1", [EVERYTHING]))
        assert Status.FENCED == reply.status
    assert before == await bench.dump()


async def a_former_owner_is_fenced(bench: Bench) -> None:
    """After a claim the former owner writes nothing, and reads who is the predecessor of the new one."""
    old = await own(bench.store, b"one", ttl_ms=OVER_MS)
    await own(bench.store, b"two")
    before = await bench.dump()
    (reply,) = await commit(bench.store, section(old, 0, b"c1", [EVERYTHING]))
    assert SectionReply(status=Status.FENCED, seq=0, previous_token=b"one") == reply
    assert before == await bench.dump()


async def a_shard_nobody_claimed_is_fenced(bench: Bench) -> None:
    """Without a lease there is nothing to prove, and nothing is written."""
    (reply,) = await commit(bench.store, section(Fence(0, b""), 0, b"c1", [EVERYTHING]))
    assert Status.FENCED == reply.status
    assert {} == (await bench.dump()).shards


async def the_same_commit_is_applied_once(bench: Bench) -> None:
    """A commit that is sent again succeeds and writes nothing again; its seq stays what it was."""
    fence = await own(bench.store)
    first = section(fence, 0, b"c1", [write(a=b"1"), EVERYTHING])
    (reply,) = await commit(bench.store, first)
    before = await bench.dump()
    again = section(fence, 0, b"c1", [write(a=b"other", b=b"new")])
    assert [reply] == await commit(bench.store, again)
    assert before.shards[0].objects == (await bench.dump()).shards[0].objects
    assert (Status.OK, 1) == (reply.status, reply.seq)


async def another_seq_is_a_conflict(bench: Bench) -> None:
    """A commit whose seq is behind or ahead of the store's writes nothing and is told the right one."""
    fence = await own(bench.store)
    await apply(bench.store, fence, [write(a=b"1")])
    before = await bench.dump()
    for seq in (0, 2):
        (reply,) = await commit(bench.store, section(fence, seq, b"c2", [EVERYTHING]))
        assert (Status.CONFLICT, 1) == (reply.status, reply.seq)
    assert before == await bench.dump()


async def sections_stand_alone(bench: Bench) -> None:
    """Fenced and conflicting sections of a flight leave the others as they are."""
    fences = [await own(bench.store, b"one", shard=number) for number in range(4)]
    flight = [section(fence, 0, b"c%d" % n, [write(a=b"1")], shard=n) for n, fence in enumerate(fences)]
    flight[1] = section(Fence(fences[1].epoch, b"two"), 0, b"c1", [write(a=b"1")], shard=1)
    flight[2] = section(fences[2], 7, b"c2", [write(a=b"1")], shard=2)
    replies = await commit(bench.store, *flight)
    assert [Status.OK, Status.FENCED, Status.CONFLICT, Status.OK] == [reply.status for reply in replies]
    shards = (await bench.dump()).shards
    assert [1, 0, 0, 1] == [len(shards[number].objects) for number in range(4)]


async def sections_of_one_shard_follow_each_other(bench: Bench) -> None:
    """Two commits to one shard may travel in one flight."""
    fence = await own(bench.store)
    replies = await commit(
        bench.store, section(fence, 0, b"c1", [write(a=b"1")]), section(fence, 1, b"c2", [write(a=b"2")])
    )
    assert [1, 2] == [reply.seq for reply in replies]
    assert {b"a": b"2"} == (await bench.dump()).shards[0].objects[b"object"]


async def a_commit_extends_the_lease(bench: Bench) -> None:
    """Applying a commit, or recognizing it, renews the lease; a conflict does not."""
    for token, seq, ok in ((b"one", 0, True), (b"three", 0, True), (b"four", 5, False)):
        fence = await own(bench.store, token, ttl_ms=OVER_MS)
        await commit(bench.store, section(fence, seq, b"c%d" % seq))
        assert ok is not (await claim(bench.store, b"two")).granted
        await bench.store.release([(0, fence)])


async def large_writes_arrive_whole(bench: Bench) -> None:
    """Lists longer than a Lua call takes are written in parts, in one step."""
    fence, count = await own(bench.store), 9_001
    names = [b"%05d" % n for n in range(count)]
    large = ObjectWrite(
        object_id=b"large",
        puts={name: name + b"!" for name in names},
        alarm_sets={name: n for n, name in enumerate(names)},
        dead_adds={name: -n for n, name in enumerate(names)},
    )
    await apply(bench.store, fence, [large])
    shard = (await bench.dump()).shards[0]
    assert large.puts == shard.objects[b"large"]
    assert (large.alarm_sets, large.dead_adds) == (shard.alarms, shard.dead_alarms)
    await apply(bench.store, fence, [ObjectWrite(object_id=b"large", deletes=names, alarm_removes=names)], seq=1)
    shard = (await bench.dump()).shards[0]
    assert ({}, {}, {}) == (shard.objects, shard.alarms, shard.dead_alarms)


async def a_removed_alarm_is_nowhere(bench: Bench) -> None:
    """Removing an alarm takes it off the dead ones too; giving it up, or setting it anew, adds it afterwards."""
    fence = await own(bench.store)
    await apply(bench.store, fence, [ObjectWrite(object_id=b"o", alarm_sets={b"x": 1}, dead_adds={b"x": 1, b"y": 1})])
    removed = ObjectWrite(object_id=b"o", alarm_removes=[b"x", b"y"], dead_adds={b"y": 2})
    await apply(bench.store, fence, [removed], seq=1)
    shard = (await bench.dump()).shards[0]
    assert ({}, {b"y": 2}) == (shard.alarms, shard.dead_alarms)
    revived = ObjectWrite(object_id=b"o", alarm_removes=[b"y"], alarm_sets={b"y": 3})
    await apply(bench.store, fence, [revived], seq=2)
    shard = (await bench.dump()).shards[0]
    assert ({b"y": 3}, {}) == (shard.alarms, shard.dead_alarms)


async def clear_replaces_an_object(bench: Bench) -> None:
    """With `clear` only what this write puts remains; index and expiry stay."""
    fence = await own(bench.store)
    await apply(bench.store, fence, [EVERYTHING])
    await apply(bench.store, fence, [ObjectWrite(object_id=b"object", clear=True, puts={b"n": b"1"})], seq=1)
    shard = (await bench.dump()).shards[0]
    assert {b"object": {b"n": b"1"}} == shard.objects
    assert ({b"object"}, {b"object": 5}) == (shard.index, shard.expiries)


async def gone_leaves_nothing(bench: Bench) -> None:
    """With `gone` state, index and expiry of an object disappear; others stay."""
    fence = await own(bench.store)
    other = ObjectWrite(object_id=b"other", indexed=True, expire_at_ms=5, puts={b"a": b"1"})
    await apply(bench.store, fence, [EVERYTHING, other])
    gone = ObjectWrite(object_id=b"object", gone=True, indexed=True, expire_at_ms=0, alarm_removes=[b"object/x"])
    await apply(bench.store, fence, [gone], seq=1)
    shard = (await bench.dump()).shards[0]
    assert ([b"other"], {}) == (list(shard.objects), shard.alarms)
    assert ({b"other"}, {b"other": 5}) == (shard.index, shard.expiries)


async def an_expiry_stays_moves_or_ends(bench: Bench) -> None:
    """-1 leaves the expiry as it is, a time sets it, 0 removes it."""
    fence = await own(bench.store)
    seen = []
    for seq, expire_at_ms in enumerate((5, -1, 8, 0)):
        await apply(bench.store, fence, [ObjectWrite(object_id=b"o", expire_at_ms=expire_at_ms)], seq=seq)
        seen.append((await bench.dump()).shards[0].expiries.get(b"o"))
    assert [5, 5, 8, None] == seen


async def a_sweep_spares_what_has_not_expired(bench: Bench) -> None:
    """An object whose expiry was moved past the sweep's, or that has none, stays as it is."""
    fence = await own(bench.store)
    writes = [ObjectWrite(object_id=b"o", indexed=True, expire_at_ms=101, puts={b"a": b"1"}), write(b"never", a=b"1")]
    await apply(bench.store, fence, writes)
    before = (await bench.dump()).shards[0]
    sweeps = [ObjectWrite(object_id=name, sweep=True, expire_at_ms=100) for name in (b"o", b"never")]
    await apply(bench.store, fence, sweeps, seq=1)
    shard = (await bench.dump()).shards[0]
    assert (before.objects, before.index, before.expiries) == (shard.objects, shard.index, shard.expiries)


async def a_sweep_deletes_what_has_expired(bench: Bench) -> None:
    """An object whose stored expiry is not after the sweep's leaves nothing behind."""
    fence = await own(bench.store)
    await apply(bench.store, fence, [ObjectWrite(object_id=b"o", indexed=True, expire_at_ms=100, puts={b"a": b"1"})])
    await apply(bench.store, fence, [ObjectWrite(object_id=b"o", sweep=True, expire_at_ms=100)], seq=1)
    shard = (await bench.dump()).shards[0]
    assert ({}, set(), {}) == (shard.objects, shard.index, shard.expiries)


async def due_alarms_come_oldest_first(bench: Bench) -> None:
    """Alarms due by a time, a few of each shard asked, in order; the others stay unseen."""
    fence = await own(bench.store)
    await apply(bench.store, fence, [ObjectWrite(object_id=b"o", alarm_sets={b"c": 30, b"b": 20, b"a": 20, b"d": 40})])
    due = await bench.store.due_alarms([(0, 0), (1, 0)], until_ms=30, rows=2)
    assert [[(b"a", 20), (b"b", 20)], []] == [list(rows) for rows in due.rows]
    due = await bench.store.due_alarms([(0, 0)], until_ms=30, rows=9)
    assert [(b"a", 20), (b"b", 20), (b"c", 30)] == list(due.rows[0])
    due = await bench.store.due_alarms([(0, 21), (0, 20), (0, 31)], until_ms=30, rows=1)
    assert [[(b"c", 30)], [(b"a", 20)], []] == [list(rows) for rows in due.rows]


async def expired_objects_are_those_of_the_past(bench: Bench) -> None:
    """What may be deleted is judged by the store's own clock."""
    fence = await own(bench.store)
    times = {b"past": 1_000, b"older": 900, b"future": 10**14}
    await apply(bench.store, fence, [ObjectWrite(object_id=o, expire_at_ms=at) for o, at in times.items()])
    expired = await bench.store.expired([(0, 0), (0, 1)], rows=9)
    assert [[(b"older", 900), (b"past", 1_000)], [(b"past", 1_000)]] == [list(rows) for rows in expired.rows]


async def a_number_that_no_store_takes_spoils_its_flight_alone(bench: Bench) -> None:
    """An expiry of too many digits is refused before anything is written, not in the middle of it."""
    fences = [await own(bench.store, shard=shard) for shard in range(2)]
    before = await bench.dump()
    for spoilt in (
        native(b"one", expire_at_ms=2**64),
        ObjectWrite(object_id=b"object", expire_at_ms=10**16),
        ObjectWrite(object_id=b"object", alarm_sets={b"x": -(10**15)}),
    ):
        refused = False
        try:
            await commit(
                bench.store,
                section(fences[0], 0, b"c1", [write(a=b"1")]),
                section(fences[1], 0, b"c1", [spoilt], shard=1),
            )
        except StoreInDoubtError:
            refused = True
        assert (True, before) == (refused, await bench.dump())
    await apply(bench.store, fences[0], [write(a=b"1")])


async def a_native_state_is_replaced_whole(bench: Bench) -> None:
    """The last one written counts, with its own expiry; a removal leaves nothing."""
    fence = await own(bench.store)
    await apply(bench.store, fence, [native(b"one", expire_at_ms=FAR_MS)])
    assert {b"object": (b"one", FAR_MS)} == (await bench.dump()).shards[0].natives
    await apply(bench.store, fence, [native(b"two"), native(b"three", object_id=b"other")], seq=1)
    assert {b"object": (b"two", 0), b"other": (b"three", 0)} == (await bench.dump()).shards[0].natives
    await apply(bench.store, fence, [native(b"")], seq=2)
    assert {b"other": (b"three", 0)} == (await bench.dump()).shards[0].natives


async def a_native_state_is_absent_past_its_expiry(bench: Bench) -> None:
    """Neither a load nor a look at the store finds what has expired."""
    fence = await own(bench.store)
    await apply(
        bench.store, fence, [native(b"old", expire_at_ms=1), native(b"new", expire_at_ms=FAR_MS, object_id=b"new")]
    )
    loads = await bench.store.load([LoadOrder(0, fence, name, native=True) for name in (b"object", b"new", b"absent")])
    assert [{}, {NATIVE_FIELD: b"new"}, {}] == [loaded.fields for loaded in loads.objects]
    assert {b"new"} == (await bench.dump()).shards[0].natives.keys()


async def native_and_other_state_are_apart(bench: Bench) -> None:
    """A flight may carry both; an object's fields are not touched by a native state of the same name."""
    fence = await own(bench.store)
    await apply(bench.store, fence, [native(b"n"), write(a=b"1"), native(b"m", object_id=b"other")])
    shard = (await bench.dump()).shards[0]
    assert ({b"object": {b"a": b"1"}}, [(b"n", 0), (b"m", 0)]) == (shard.objects, list(shard.natives.values()))


RULES: tuple[Rule, ...] = (
    a_native_state_is_replaced_whole,
    a_native_state_is_absent_past_its_expiry,
    native_and_other_state_are_apart,
    a_commit_writes_everything,
    another_token_is_fenced,
    another_epoch_is_fenced,
    a_former_owner_is_fenced,
    a_shard_nobody_claimed_is_fenced,
    the_same_commit_is_applied_once,
    another_seq_is_a_conflict,
    sections_stand_alone,
    sections_of_one_shard_follow_each_other,
    a_commit_extends_the_lease,
    large_writes_arrive_whole,
    a_removed_alarm_is_nowhere,
    clear_replaces_an_object,
    gone_leaves_nothing,
    an_expiry_stays_moves_or_ends,
    a_sweep_spares_what_has_not_expired,
    a_sweep_deletes_what_has_expired,
    due_alarms_come_oldest_first,
    expired_objects_are_those_of_the_past,
    a_number_that_no_store_takes_spoils_its_flight_alone,
)
