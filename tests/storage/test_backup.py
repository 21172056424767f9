"""Backup, restore, export and import against real servers: everything comes back, or nothing is touched."""

import argparse
import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from shared.cli.main import parser
from shared.cli.selection import Selection
from shared.cli.snapshot import check_readable
from shared.errors import ConfigurationError, ConflictError, NotFoundError, TenureError
from shared.objects.address import Address, shard_of
from shared.objects.config import Documents
from shared.runtime.provision import create_tenant
from shared.storage import keys
from shared.storage.archive import ArchiveError, checked, records
from shared.storage.codec import AlarmRecord, Meta, encode
from shared.storage.interface import ClaimOrder, Entry, Fence, ObjectWrite, Section, Status, StoreError
from shared.storage.listings import IndexEntry
from shared.storage.lockfile import lock_directory
from shared.storage.redis import restoring
from shared.storage.redis.inspect import configuration_finding, fix_configuration, read_configuration
from shared.storage.redis.store import RedisStore
from shared.storage.transfer import Record
from shared.testing.clock import ManualClock
from shared.testing.shard import Lease, Shard
from shared.testing.store import Snapshot
from shared.testing.valkey import Valkey, start_valkey
from tests.storage.bench import LONG_MS, SERVICE, ValkeyBench

SHARDS = 4
FAR_MS = 4_000_000_000_000
T = TypeVar("T")

RICH = Address("job", "acme", "rich").encode()
PLAIN = Address("job", "other", "plain").encode()
NATIVE = Address("meter", "acme", "n").encode()
MORTAL = Address("meter", "acme", "m").encode()
TRIMMED = Address("log", "acme", "trimmed").encode()
SENDER = Address("log", "acme", "sender").encode()

WRITES = (
    ObjectWrite(
        object_id=RICH,
        indexed=True,
        expire_at_ms=FAR_MS,
        puts={
            b"#": encode(Meta(version=3)),
            b"ktext": encode("hello"),
            b"aring": encode(AlarmRecord(due_ms=FAR_MS, serial=1)),
            b"ddead": encode(AlarmRecord(due_ms=5, serial=2, last_error="no")),
        },
        alarm_sets={RICH + b"ring": FAR_MS},
        dead_adds={RICH + b"dead": 77},
        index_sets={"status": IndexEntry(tenant="acme", value="open", sort_ms=9, summary=b"\0\xff")},
        entries={b"request": Entry(b"answer", FAR_MS), b"other": Entry(b"", FAR_MS + 1)},
        outbox_adds={b"1" * 16: b"first", b"0" * 16: b"second"},
        journal_first=1,
        journal_appends=[b"one", b"two", b"three"],
        journal_keep=2,
    ),
    ObjectWrite(object_id=PLAIN, indexed=True, puts={b"#": encode(Meta(version=1)), b"kx": b"\x01\xc4\x02\0\xff"}),
    ObjectWrite(object_id=TRIMMED, journal_first=1, journal_appends=[b"one", b"two"], journal_keep=3),
    ObjectWrite(object_id=SENDER, outbox_adds={b"2" * 16: b"only a message"}),
    ObjectWrite(object_id=NATIVE, native=b"state", expire_at_ms=0),
    ObjectWrite(object_id=MORTAL, native=b"", expire_at_ms=FAR_MS),
)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """The data directory of the store that is copied."""
    return tmp_path / "data"


@pytest.fixture
def server(data_dir: Path) -> Iterator[Valkey]:
    """A running store with an object of every sort, and documents."""
    with start_valkey(data_dir, durable=True) as running:
        with_store(running, _fill)
        yield running


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a copy is written."""
    return tmp_path / "copy"


def tenure(*argv: object, data_dir: Path, **environ: str) -> int:
    """A command, in this process."""
    arguments: argparse.Namespace = parser().parse_args([str(word) for word in argv])
    module, _, function = arguments.command.partition(":")
    here = {"TENURE_DATA_DIR": str(data_dir), "TENURE_SHARDS": str(SHARDS), **environ}
    code: int = getattr(import_module(module), function)(arguments, here)
    return code


def with_store(server: Valkey, work: Callable[[RedisStore], Awaitable[T]]) -> T:
    """Work with the store of a running server."""

    async def run() -> T:
        store = RedisStore(server.url, service=SERVICE)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


async def _fill(store: RedisStore) -> None:
    await fix_configuration(store.command, SERVICE, shards=SHARDS)
    for write in WRITES:
        await _commit(store, write)
    for prefix in (keys.SHARED, SERVICE):
        documents = Documents(store, prefix, ManualClock())
        for name in ("a", "b", "gone"):
            await documents.put("thing", "acme", name, name.encode(), expected=None)
        await documents.put("thing", "other", "c", b"line\nline", expected=None)
        await documents.delete("thing", "acme", "gone", expected=None)


async def _commit(store: RedisStore, write: ObjectWrite) -> None:
    shard, token = shard_of(write.object_id, SHARDS), secrets.token_bytes(24)
    claims = await store.claim([ClaimOrder(shard=shard)], token=token, node="n", lock_id="", ttl_ms=LONG_MS)
    lease = claims.leases[0]
    section = Section(
        shard=shard, fence=Fence(lease.epoch, token), seq=lease.seq, commit_id=b"c%d" % lease.seq, writes=[write]
    )
    (reply,) = (await store.commit([section], ttl_ms=LONG_MS, timeout_ms=5_000)).replies
    assert Status.OK is reply.status
    await store.release([(shard, section.fence)])


async def _dump(store: RedisStore) -> Snapshot:
    configuration = keys.configuration(SERVICE)
    fixed = await store.command("HGETALL", configuration)
    await store.command("DEL", configuration)  # The dump knows the keys of shards and of documents only.
    try:
        return await ValkeyBench(store).dump()
    finally:
        if fixed:
            await store.command("HSET", configuration, *fixed)


def content(server: Valkey) -> Snapshot:
    """All that is stored, and of leases only what belongs to the content."""
    stored = with_store(server, _dump)
    for shard in stored.shards.values():
        shard.lease = Lease(seq=shard.lease.seq, sent=shard.lease.sent)
    return stored


def exported(path: Path) -> list[Any]:
    """The records of an export, in an order that does not depend on shards."""
    return sorted(records(checked(path, "export"), Record), key=msgspec.msgpack.encode)


# Backup and restore.


def test_a_backup_brings_everything_back(server: Valkey, data_dir: Path, file: Path, tmp_path: Path) -> None:
    """State, journals, alarms, dead letters, index rows, entries, messages, documents: into a directory that was not there."""
    expected = content(server)
    assert 0 == tenure("backup", file, data_dir=data_dir)
    assert 0 == tenure("restore", file, data_dir=tmp_path / "new")
    with start_valkey(tmp_path / "new", durable=True) as restored:
        assert expected == content(restored)
        configuration = with_store(restored, lambda store: read_configuration(store.command, SERVICE))
        assert "ok" == configuration_finding(configuration, shards=SHARDS).level


def test_no_former_owner_can_write_to_what_is_restored(
    server: Valkey, data_dir: Path, file: Path, tmp_path: Path
) -> None:
    """Its token is not there any more, and epochs are above any before; whoever comes next may claim at once."""
    tenure("backup", file, data_dir=data_dir)
    before = with_store(server, _dump)
    tenure("restore", file, data_dir=tmp_path / "new")
    shard = shard_of(RICH, SHARDS)
    old = before.shards[shard].lease

    async def late(store: RedisStore) -> Status:
        fence = Fence(old.epoch, old.token)
        late = Section(shard=shard, fence=fence, seq=old.seq, commit_id=b"late", writes=[ObjectWrite(object_id=RICH)])
        return (await store.commit([late], ttl_ms=1, timeout_ms=5_000)).replies[0].status

    with start_valkey(tmp_path / "new", durable=True) as restored:
        after = with_store(restored, _dump)
        assert all(after.shards[n].lease.epoch > before.shards[n].lease.epoch for n in before.shards)
        assert Status.FENCED is with_store(restored, late)
        with_store(restored, lambda store: _commit(store, WRITES[1]))


def test_a_store_that_is_not_empty_is_refused(server: Valkey, data_dir: Path, file: Path) -> None:
    """Unless it is told to give way: then nothing of what it had is left."""
    tenure("backup", file, data_dir=data_dir)
    expected = content(server)
    with_store(server, lambda store: _commit(store, ObjectWrite(object_id=b"\x01k\x01t\x00\x01n", puts={b"a": b"1"})))
    changed = content(server)
    with pytest.raises(ConflictError, match="--replace"):
        tenure("restore", file, data_dir=data_dir)
    assert changed == content(server)
    assert 0 == tenure("restore", file, "--replace", data_dir=data_dir)
    assert expected == content(server)


def test_a_store_under_a_live_node_is_refused(server: Valkey, data_dir: Path, file: Path) -> None:
    """Unless the node's shards are to be taken from it; then it is fenced from there on."""
    tenure("backup", file, data_dir=data_dir)
    expected = content(server)

    async def claim(store: RedisStore) -> Fence:
        claims = await store.claim([ClaimOrder(shard=1)], token=b"live", node="node-a", lock_id="", ttl_ms=LONG_MS)
        return Fence(claims.leases[0].epoch, b"live")

    fence = with_store(server, claim)
    with pytest.raises(ConflictError, match=r"node-a \(1 shards\)"):
        tenure("restore", file, "--replace", data_dir=data_dir)
    assert 0 == tenure("restore", file, "--replace", "--live", data_dir=data_dir)
    assert expected == content(server)
    renewals = with_store(server, lambda store: store.renew([(1, fence)], ttl_ms=1))
    assert [-1] == list(renewals.seqs)


def test_a_restore_that_did_not_end_is_told(
    server: Valkey, data_dir: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No node starts on what is half, none can claim a shard, and another restore mends it."""
    tenure("backup", file, data_dir=data_dir)
    expected = content(server)

    async def away(*_: object) -> None:
        raise StoreError("the store is away")

    monkeypatch.setattr(restoring, "_COPIES", {b"hash": away, b"zset": away, b"stream": away})
    with pytest.raises(StoreError):
        tenure("restore", file, "--replace", data_dir=data_dir)
    monkeypatch.undo()
    configuration = with_store(server, lambda store: read_configuration(store.command, SERVICE))
    finding = configuration_finding(configuration, shards=SHARDS)
    assert ("fail", True) == (finding.level, "--replace" in finding.detail)
    claims = with_store(
        server,
        lambda store: store.claim(
            [ClaimOrder(shard=n) for n in range(SHARDS)], token=b"t", node="n", lock_id="", ttl_ms=1
        ),
    )
    touched = {shard_of(write.object_id, SHARDS) for write in WRITES}
    assert not any(claims.leases[n].granted for n in touched)
    tenure("restore", file, "--replace", "--live", data_dir=data_dir)
    assert expected == content(server)


def test_a_broken_file_touches_nothing(server: Valkey, data_dir: Path, file: Path, tmp_path: Path) -> None:
    """Cut short, of another command, of a later format, of nobody: refused before the store is asked anything."""
    tenure("backup", file, data_dir=data_dir)
    tenure("export", tmp_path / "export", data_dir=data_dir)
    expected = content(server)
    (tmp_path / "cut").write_bytes(file.read_bytes()[:-100])
    (tmp_path / "foreign").write_bytes(b"REDIS0011" + bytes(99))
    for name in ("cut", "foreign", "export", "none"):
        with pytest.raises(ArchiveError):
            tenure("restore", tmp_path / name, "--replace", "--live", data_dir=data_dir)
    for name in ("cut", "foreign", "copy", "none"):
        with pytest.raises(ArchiveError):
            tenure("import", tmp_path / name, data_dir=data_dir)
    assert expected == content(server)


def test_a_backup_overwrites_nothing(server: Valkey, data_dir: Path, file: Path) -> None:
    """Neither a file nor what somebody has put there meanwhile."""
    file.write_text("precious")
    with pytest.raises(ArchiveError, match="not overwritten"):
        tenure("backup", file, data_dir=data_dir)
    assert "precious" == file.read_text()


def test_a_stopped_store_is_started_for_its_copy(data_dir: Path, file: Path, tmp_path: Path) -> None:
    """And stopped again; but not where a launcher works on the directory, and not where there is none."""
    with start_valkey(data_dir, durable=True) as server:
        with_store(server, _fill)
        expected = content(server)
    assert 0 == tenure("backup", file, data_dir=data_dir)
    tenure("restore", file, data_dir=tmp_path / "new")
    with start_valkey(tmp_path / "new", durable=True) as restored:
        assert expected == content(restored)
    with lock_directory(data_dir), pytest.raises(ConfigurationError, match="in use"):
        tenure("backup", tmp_path / "other", data_dir=data_dir)
    with pytest.raises(ConfigurationError, match="No store is in"):
        tenure("backup", tmp_path / "other", data_dir=tmp_path / "none")


def test_a_store_that_gives_no_snapshot_says_so(server: Valkey, tmp_path: Path, file: Path) -> None:
    """As a hosted one may; its own words are passed on, and no file is left."""
    server.command("ACL", "SETUSER", "limited", "on", ">secret", "~*", "+@all", "-sync")
    url = server.url.replace("unix://", "unix://limited:secret@")
    with pytest.raises(StoreError, match=r"no snapshot.*sync"):
        tenure("backup", file, data_dir=tmp_path, TENURE_REDIS_URL=url)
    assert not file.exists()


@pytest.mark.parametrize("magic", [b"REDIS0012", b"VALKEY081", b"REDIS", b"VALKEYxyz", b"", b"\xff" * 9])
def test_a_snapshot_that_could_not_be_restored_is_refused(magic: bytes) -> None:
    """A newer server's is not taken at all; those of servers up to ours are."""
    with pytest.raises(StoreError, match="use its own backups"):
        check_readable(magic)
    assert [b"REDIS0009", b"REDIS0011", b"VALKEY080"] == [
        *map(check_readable, (b"REDIS0009", b"REDIS0011", b"VALKEY080"))
    ]


# Export and import.


@pytest.mark.parametrize("shards", [1, 7])
def test_an_export_comes_back_with_other_shards(
    server: Valkey, data_dir: Path, file: Path, tmp_path: Path, shards: int
) -> None:
    """Every object and every document, whatever the number of shards; exported again it is the same."""
    there, with_shards = tmp_path / "new", {"TENURE_SHARDS": str(shards)}
    assert 0 == tenure("export", file, data_dir=data_dir)
    assert 0 == tenure("import", file, data_dir=there, **with_shards)
    assert 0 == tenure("export", tmp_path / "again", data_dir=there, **with_shards)
    assert len(WRITES) + 6 == len(exported(file))
    assert exported(file) == exported(tmp_path / "again")


def test_an_import_with_as_many_shards_is_what_was_there(
    server: Valkey, data_dir: Path, file: Path, tmp_path: Path
) -> None:
    """Down to the keys, but for what belongs to a store: numbers of commits and of messages, versions of documents."""

    def timeless(stored: Snapshot) -> Any:
        for shard in stored.shards.values():
            shard.lease = Lease()
            for sent in shard.messages.values():
                ordered = sorted(sent.values())
                sent.update({m.message_id: msgspec.structs.replace(m, number=n) for n, m in enumerate(ordered)})
        return {number: shard for number, shard in stored.shards.items() if shard != Shard()}

    expected = timeless(content(server))
    tenure("export", file, data_dir=data_dir)
    tenure("import", file, data_dir=tmp_path / "new")
    with start_valkey(tmp_path / "new", durable=True) as imported:
        assert expected == timeless(content(imported))


def test_an_export_can_be_of_one_tenant_or_kind(server: Valkey, data_dir: Path, tmp_path: Path) -> None:
    """A tenant's with its documents, a kind's without any."""
    tenure("export", tmp_path / "tenant", "--tenant", "other", data_dir=data_dir)
    tenure("export", tmp_path / "kind", "--kind", "meter", data_dir=data_dir)
    found = exported(tmp_path / "tenant")
    assert {PLAIN, b"thing\0other\0c"} == {getattr(r, "object_id", None) or r.field for r in found}
    assert 3 == len(found)
    assert {NATIVE, MORTAL} == {record.object_id for record in exported(tmp_path / "kind")}


@pytest.mark.parametrize(
    ("selection", "said"),
    [
        (("--kind", "metre"), "There is no object of the kind 'metre'; the store has the kinds 'job', 'log', 'meter'."),
        (("--tenant", "acne"), "There is no tenant 'acne'; the store has the tenants 'acme', 'empty', 'other'."),
    ],
    ids=["kind", "tenant"],
)
def test_an_export_of_what_is_not_there_is_refused(
    server: Valkey, data_dir: Path, file: Path, selection: tuple[str, str], said: str
) -> None:
    """A misspelt kind or tenant is told, with what there is, and makes no empty file; a tenant of nothing is no mistake."""

    async def add(store: RedisStore) -> None:
        await create_tenant(Documents(store, keys.SHARED, ManualClock()), "empty", clock=ManualClock())

    with_store(server, add)
    with pytest.raises(NotFoundError) as refused:
        tenure("export", file, *selection, data_dir=data_dir)
    assert (said, False) == (str(refused.value), file.exists())
    assert 0 == tenure("export", file, "--kind", "job", "--tenant", "empty", data_dir=data_dir)
    assert [] == exported(file)


def test_a_store_without_objects_says_so_of_an_export(data_dir: Path, file: Path) -> None:
    """And of many names a sentence has ten."""
    with start_valkey(data_dir, durable=True), pytest.raises(NotFoundError, match="the store has no kinds"):
        tenure("export", file, "--kind", "job", data_dir=data_dir)
    selection = Selection("", "zoe")
    for number in range(12):
        selection.takes_document(b"tenant\0t%02d\0t%02d" % (number, number))
    with pytest.raises(NotFoundError, match="'t09' and 2 more"):
        selection.check_met()


def test_a_restore_says_what_it_has_brought_back(
    server: Valkey, data_dir: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In objects and documents, which people know, and not in keys of the store."""
    tenure("backup", file, data_dir=data_dir)
    tenure("restore", file, data_dir=tmp_path / "new")
    assert f"{len(WRITES)} objects and 6 documents (tenants, API keys, policies, profiles) are restored.\n" in (
        capsys.readouterr().out
    )


def test_an_import_never_changes_what_is_there(server: Valkey, data_dir: Path, file: Path, tmp_path: Path) -> None:
    """One object that the store has refuses all; a document only if it says something else."""
    tenure("export", file, data_dir=data_dir)
    expected = content(server)
    with pytest.raises(ConflictError, match=r"has the object \w+/\w+/\w+ already, and 5 more .* Nothing was imported"):
        tenure("import", file, data_dir=data_dir)
    assert expected == content(server)

    there = tmp_path / "new"
    with start_valkey(there, durable=True) as target:

        async def put(store: RedisStore) -> None:
            documents = Documents(store, SERVICE, ManualClock())
            await documents.put("thing", "acme", "a", b"a", expected=None)
            await documents.put("thing", "acme", "b", b"another", expected=None)

        with_store(target, put)
        before = content(target)
        with pytest.raises(ConflictError, match="thing/acme/b"):
            tenure("import", file, data_dir=there)
        assert before == content(target)
        assert 0 == tenure("import", file, "--objects-only", data_dir=there)
        assert before.documents == content(target).documents
        assert RICH in content(target).shards[shard_of(RICH, SHARDS)].objects


def test_an_import_waits_for_no_node(server: Valkey, data_dir: Path, file: Path, tmp_path: Path) -> None:
    """A shard that is owned refuses it, and gives back those that were taken; so does another number of shards."""
    tenure("export", file, data_dir=data_dir)
    there = tmp_path / "new"
    with start_valkey(there, durable=True) as target:
        with_store(target, lambda store: fix_configuration(store.command, SERVICE, shards=SHARDS))
        with pytest.raises(ConfigurationError, match=r"set up with 4 shards.* set TENURE_SHARDS=4\."):
            tenure("import", file, data_dir=there, TENURE_SHARDS="5")
        claim = with_store(
            target,
            lambda store: store.claim([ClaimOrder(shard=2)], token=b"t", node="node-a", lock_id="", ttl_ms=LONG_MS),
        )
        with pytest.raises(ConflictError, match="node-a"):
            tenure("import", file, data_dir=there)
        with_store(target, lambda store: store.release([(2, Fence(claim.leases[0].epoch, b"t"))]))
        assert 0 == tenure("import", file, data_dir=there)


def test_a_large_journal_is_imported_in_pieces(server: Valkey, data_dir: Path, file: Path, tmp_path: Path) -> None:
    """More than one commit takes, and more objects than one flight takes; all of it arrives, in order."""
    large = ObjectWrite(object_id=RICH, journal_first=4, journal_appends=[b"%06d" % n * 10_000 for n in range(40)])
    with_store(server, lambda store: _commit(store, large))

    async def many(store: RedisStore) -> None:
        for shard in range(SHARDS):
            names = [Address("many", "acme", f"{n}").encode() for n in range(1_200)]
            mine = [
                ObjectWrite(object_id=name, puts={b"kx": b"1"}) for name in names if shard_of(name, SHARDS) == shard
            ]
            token = secrets.token_bytes(24)
            claims = await store.claim([ClaimOrder(shard=shard)], token=token, node="n", lock_id="", ttl_ms=LONG_MS)
            fence = Fence(claims.leases[0].epoch, token)
            order = Section(shard=shard, fence=fence, seq=claims.leases[0].seq, commit_id=b"many", writes=mine)
            (reply,) = (await store.commit([order], ttl_ms=LONG_MS, timeout_ms=5_000)).replies
            assert Status.OK is reply.status
            await store.release([(shard, fence)])

    with_store(server, many)
    tenure("export", file, data_dir=data_dir)
    tenure("import", file, data_dir=tmp_path / "new", TENURE_SHARDS="3")
    tenure("export", tmp_path / "again", data_dir=tmp_path / "new", TENURE_SHARDS="3")
    assert exported(file) == exported(tmp_path / "again")
    with pytest.raises(TenureError):
        tenure("import", file, data_dir=tmp_path / "new", TENURE_SHARDS="3")
