"""What a commit does to journal, index rows, entries and messages of an object, one rule a function."""

from shared.storage.interface import Entry, Fence, JournalPage, Loaded, LoadOrder, ObjectWrite, Status
from shared.storage.listings import IndexEntry, OutboxMessage
from tests.storage.bench import Bench, Rule, section, write
from tests.storage.commit_rules import FAR_MS, apply, commit
from tests.storage.lease_rules import own

PAST_MS = 1_000
FIRST, SECOND, THIRD = b"1" * 16, b"2" * 16, b"\xff\r\n\0" * 4
"""Ids of messages."""
ALL = 100
"""More rows than a rule writes."""


def running(sort_ms: int = 7, summary: bytes = b"sum", value: str = "running") -> IndexEntry:
    """A row of the index that these rules use."""
    return IndexEntry(tenant="acme", value=value, sort_ms=sort_ms, summary=summary)


def parts(object_id: bytes = b"object") -> ObjectWrite:
    """A write that uses every part."""
    return ObjectWrite(
        object_id=object_id,
        puts={b"a": b"1"},
        journal_first=1,
        journal_appends=[b"one", b"two"],
        index_sets={"status": running()},
        entries={b"request": Entry(b"reply", FAR_MS)},
        outbox_adds={FIRST: b"hello"},
    )


async def load(bench: Bench, fence: Fence, object_id: bytes = b"object") -> Loaded:
    """The object as its owner reads it."""
    (loaded,) = (await bench.store.load([LoadOrder(0, fence, object_id)])).objects
    return loaded


async def journal(bench: Bench, fence: Fence, *, after: int = 0, rows: int = ALL, reverse: bool = False) -> JournalPage:
    """Entries of the object's journal."""
    return await bench.store.journal(0, fence, b"object", after=after, rows=rows, reverse=reverse)


async def parts_are_written_and_read_together(bench: Bench) -> None:
    """One commit writes state and every part; a load gives all but the journal back."""
    fence = await own(bench.store)
    await apply(bench.store, fence, [parts(), write(b"other", b=b"2")])
    expected = Loaded(
        1,
        {b"a": b"1"},
        indexes={"status": running()},
        entries={b"request": Entry(b"reply", FAR_MS)},
        outbox=[OutboxMessage(1, FIRST, b"hello")],
    )
    assert expected == await load(bench, fence)
    assert JournalPage(1, [(1, b"one"), (2, b"two")]) == await journal(bench, fence)
    assert Loaded(1, {b"b": b"2"}) == await load(bench, fence, b"other")


async def a_fenced_commit_writes_no_part(bench: Bench) -> None:
    """A former owner, and one whose seq is wrong, change none of the parts."""
    fence = await own(bench.store)
    before = await bench.dump()
    for owner, seq in ((Fence(fence.epoch, b"two"), 0), (fence, 7)):
        (reply,) = await commit(bench.store, section(owner, seq, b"c1", [parts()]))
        assert Status.OK != reply.status
    assert before == await bench.dump()


async def a_journal_counts_on(bench: Bench) -> None:
    """Entries keep their numbers, and one that the journal has passed is not appended again."""
    fence = await own(bench.store)
    await apply(bench.store, fence, [parts()])
    again = ObjectWrite(object_id=b"object", journal_first=2, journal_appends=[b"two again", b"three"])
    await apply(bench.store, fence, [again, write(b"after", a=b"1")], seq=1)
    assert [(1, b"one"), (2, b"two"), (3, b"three")] == list((await journal(bench, fence)).entries)
    assert b"after" in (await bench.dump()).shards[0].objects


async def a_journal_keeps_what_it_is_told(bench: Bench) -> None:
    """Entries below `journal_keep` are dropped; numbers go on even if none is left."""
    fence = await own(bench.store)
    await apply(bench.store, fence, [parts()])
    third = ObjectWrite(object_id=b"object", journal_first=3, journal_appends=[b"three"], journal_keep=2)
    await apply(bench.store, fence, [third], seq=1)
    assert [(2, b"two"), (3, b"three")] == list((await journal(bench, fence)).entries)
    await apply(bench.store, fence, [ObjectWrite(object_id=b"object", journal_keep=9)], seq=2)
    again = ObjectWrite(object_id=b"object", journal_first=3, journal_appends=[b"three again", b"four"])
    await apply(bench.store, fence, [again], seq=3)
    assert [(4, b"four")] == list((await journal(bench, fence)).entries)


async def a_journal_is_read_in_pages(bench: Bench) -> None:
    """Oldest first after a number, or newest first before one, a few at a time."""
    fence = await own(bench.store)
    entries = [b"%d" % number for number in range(1, 13)]
    await apply(bench.store, fence, [ObjectWrite(object_id=b"object", journal_first=1, journal_appends=entries)])
    pages = [
        await journal(bench, fence, rows=2),
        await journal(bench, fence, after=9, rows=2),
        await journal(bench, fence, after=12),
        await journal(bench, fence, rows=2, reverse=True),
        await journal(bench, fence, after=3, reverse=True),
        await journal(bench, fence, after=1, reverse=True),
    ]
    assert [[1, 2], [10, 11], [], [12, 11], [2, 1], []] == [[n for n, _ in page.entries] for page in pages]


async def a_journal_is_read_by_its_owner(bench: Bench) -> None:
    """Another token and another epoch read nothing."""
    fence = await own(bench.store)
    await apply(bench.store, fence, [parts()])
    for wrong in (Fence(fence.epoch, b"two"), Fence(fence.epoch - 1, b"one")):
        assert JournalPage(-1, []) == await journal(bench, wrong)


async def an_index_has_one_row_of_an_object(bench: Bench) -> None:
    """A new summary, time or value replaces the row before; a clear takes it away, other indexes stay."""
    fence = await own(bench.store)
    other = {"owner": IndexEntry(tenant="acme", value="ann", sort_ms=1)}
    rows = [running(), running(summary=b"new"), running(sort_ms=9), running(value="done")]
    for seq, row in enumerate(rows):
        await apply(bench.store, fence, [ObjectWrite(object_id=b"o", index_sets={"status": row, **other})], seq=seq)
        assert {"status": row, **other} == (await load(bench, fence, b"o")).indexes
        stored = (await bench.dump()).shards[0].rows
        assert [1, row.sort_ms] == sorted(at for members in stored.values() for at in members.values())
    clear = ObjectWrite(object_id=b"o", index_clears=["status", "unknown"])
    await apply(bench.store, fence, [clear], seq=len(rows))
    assert other == (await load(bench, fence, b"o")).indexes
    assert 1 == len((await bench.dump()).shards[0].rows)


async def clear_takes_the_rows_along(bench: Bench) -> None:
    """What is cleared is in no index; journal, entries and messages stay."""
    fence = await own(bench.store)
    await apply(bench.store, fence, [parts()])
    before = (await bench.dump()).shards[0]
    await apply(bench.store, fence, [ObjectWrite(object_id=b"object", clear=True, puts={b"b": b"2"})], seq=1)
    shard = (await bench.dump()).shards[0]
    assert ({b"object": {b"b": b"2"}}, {}) == (shard.objects, shard.rows)
    assert (before.journals, before.entries, before.messages) == (shard.journals, shard.entries, shard.messages)


async def gone_leaves_no_part(bench: Bench) -> None:
    """Journal and index rows go with the object; messages are still to be delivered, and what it remembers stays so."""
    fence = await own(bench.store)
    await apply(bench.store, fence, [parts(), ObjectWrite(object_id=b"object", index_sets={"second": running()})])
    gone = parts()
    gone.gone, gone.puts, gone.outbox_adds, gone.entries = True, {}, {SECOND: b"bye"}, {b"last": Entry(b"", FAR_MS)}
    await apply(bench.store, fence, [gone], seq=1)
    shard = (await bench.dump()).shards[0]
    assert ({}, {}, {}) == (shard.objects, shard.journals, shard.rows)
    assert {b"request", b"last"} == (await load(bench, fence)).entries.keys()
    assert [FIRST, SECOND] == [row.sent.message_id for row in shard.outbox()]


async def a_sweep_leaves_no_part(bench: Bench) -> None:
    """An expired object is deleted by who never saw it, but for what it remembers; one that has not expired stays."""
    fence = await own(bench.store)
    for name, expire_at_ms in ((b"old", 100), (b"young", 101)):
        full = parts(name)
        full.expire_at_ms, full.outbox_adds = expire_at_ms, {}
        await apply(bench.store, fence, [full], seq=expire_at_ms - 100)
    sweeps = [ObjectWrite(object_id=name, sweep=True, expire_at_ms=100) for name in (b"old", b"young")]
    await apply(bench.store, fence, sweeps, seq=2)
    shard = (await bench.dump()).shards[0]
    assert [[b"young"]] * 2 == [list(found) for found in (shard.objects, shard.journals)]
    assert {b"old", b"young"} == shard.entries.keys()
    assert [1] == [len(members) for members in shard.rows.values()]


async def a_sweep_spares_who_waits_to_be_heard(bench: Bench) -> None:
    """An expired object with a message to deliver stays as it is, until the message is removed."""
    fence = await own(bench.store)
    full = parts()
    full.expire_at_ms = 100
    await apply(bench.store, fence, [full])
    sweep = ObjectWrite(object_id=b"object", sweep=True, expire_at_ms=100)
    await apply(bench.store, fence, [sweep], seq=1)
    assert {b"a": b"1"} == (await load(bench, fence)).fields
    removed = ObjectWrite(object_id=b"object", outbox_removes=[FIRST])
    await apply(bench.store, fence, [removed, sweep], seq=2)
    assert Loaded(3, {}, entries=full.entries) == await load(bench, fence)


async def entries_are_kept_until_they_expire(bench: Bench) -> None:
    """A load gives those that have not expired, and drops the others in the store too."""
    fence = await own(bench.store)
    mixed = {b"old": Entry(b"1", PAST_MS), b"new": Entry(b"2:3", FAR_MS), b"newer": Entry(b"", FAR_MS + 1)}
    await apply(bench.store, fence, [ObjectWrite(object_id=b"object", entries=mixed)])
    assert mixed.keys() == (await bench.dump()).shards[0].entries[b"object"].kept.keys()
    del mixed[b"old"]
    assert mixed == (await load(bench, fence)).entries
    stored = (await bench.dump()).shards[0].entries[b"object"]
    assert (mixed, FAR_MS + 1) == (stored.kept, stored.ends_ms)


async def entries_expire_without_a_load(bench: Bench) -> None:
    """The latest expiry counts for all: nothing stays for ever, and nothing leaves early."""
    fence = await own(bench.store)
    for seq, expire_at_ms in enumerate((FAR_MS, PAST_MS)):
        entry = {b"%d" % seq: Entry(b"", expire_at_ms)}
        await apply(bench.store, fence, [ObjectWrite(object_id=b"far", entries=entry)], seq=seq)
    past = ObjectWrite(object_id=b"past", entries={b"r": Entry(b"", PAST_MS)})
    await apply(bench.store, fence, [past], seq=2)
    stored = (await bench.dump()).shards[0].entries
    assert [(b"far", FAR_MS)] == [(name, kept.ends_ms) for name, kept in stored.items()]


async def an_entry_can_be_removed_or_replaced(bench: Bench) -> None:
    """The last one written under a field counts."""
    fence = await own(bench.store)
    first = {name: Entry(b"1", FAR_MS) for name in (b"a", b"b", b"c")}
    await apply(bench.store, fence, [ObjectWrite(object_id=b"object", entries=first)])
    second = ObjectWrite(
        object_id=b"object", entry_removes=[b"a", b"b"], entries={b"b": Entry(b"2", FAR_MS), b"d": Entry(b"3", FAR_MS)}
    )
    await apply(bench.store, fence, [second], seq=1)
    kept = (await load(bench, fence)).entries
    assert {b"b": b"2", b"c": b"1", b"d": b"3"} == {name: entry.value for name, entry in kept.items()}


async def messages_keep_the_order_of_sending(bench: Bench) -> None:
    """Whatever their ids; numbers go on after a removal, and each object gets its own back."""
    fence = await own(bench.store)
    await apply(bench.store, fence, [ObjectWrite(object_id=b"object", outbox_adds={THIRD: b"1", FIRST: b"2:"})])
    await apply(bench.store, fence, [ObjectWrite(object_id=b"other", outbox_adds={FIRST: b"3"})], seq=1)
    later = ObjectWrite(object_id=b"object", outbox_removes=[FIRST], outbox_adds={SECOND: b"4"})
    await apply(bench.store, fence, [later], seq=2)
    assert [OutboxMessage(1, THIRD, b"1"), OutboxMessage(4, SECOND, b"4")] == (await load(bench, fence)).outbox
    assert [OutboxMessage(3, FIRST, b"3")] == (await load(bench, fence, b"other")).outbox
    last = ObjectWrite(object_id=b"object", outbox_removes=[THIRD, SECOND])
    other = ObjectWrite(object_id=b"other", outbox_removes=[FIRST, SECOND])
    await apply(bench.store, fence, [last, other], seq=3)
    shard = (await bench.dump()).shards[0]
    assert ({}, 4) == (shard.messages, shard.lease.sent)


async def numbers_of_messages_outlive_their_owner(bench: Bench) -> None:
    """The next owner's messages come after those of the one before."""
    for token in (b"one", b"two"):
        fence = await own(bench.store, token)
        seq = int(token == b"two")
        await apply(
            bench.store, fence, [ObjectWrite(object_id=b"object", outbox_adds={token * 5 + b"!": b""})], seq=seq
        )
        await bench.store.release([(0, fence)])
    assert [1, 2] == [row.sent.number for row in (await bench.dump()).shards[0].outbox()]


RULES: tuple[Rule, ...] = (
    parts_are_written_and_read_together,
    a_fenced_commit_writes_no_part,
    a_journal_counts_on,
    a_journal_keeps_what_it_is_told,
    a_journal_is_read_in_pages,
    a_journal_is_read_by_its_owner,
    an_index_has_one_row_of_an_object,
    clear_takes_the_rows_along,
    gone_leaves_no_part,
    a_sweep_leaves_no_part,
    a_sweep_spares_who_waits_to_be_heard,
    entries_are_kept_until_they_expire,
    entries_expire_without_a_load,
    an_entry_can_be_removed_or_replaced,
    messages_keep_the_order_of_sending,
    numbers_of_messages_outlive_their_owner,
)
