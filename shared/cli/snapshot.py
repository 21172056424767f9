"""A snapshot of a store as a file: of one moment, taken while nodes go on working, as a replica would get it."""

from pathlib import Path

import msgspec

from shared.cli.opened import PREFIXES
from shared.clock import SystemClock
from shared.errors import ConfigurationError
from shared.storage.archive import Archive, ArchiveError, checked, read_header, written
from shared.storage.codec import FORMAT
from shared.storage.interface import StoreError
from shared.storage.redis.bulk import Bulk
from shared.storage.redis.inspect import StoredConfiguration, inspect, read_configuration

KIND = "backup"
_CHUNK_BYTES = 1024 * 1024
_MAGIC_BYTES = 9  # "REDIS0011", "VALKEY080": whose form a snapshot has, and which.
_NEWEST = {b"REDIS": 11, b"VALKEY": 80}  # That the server that comes along (Valkey 9.1) reads.


class BackupHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The header of a backup: when it was taken, from which server, and what each service had fixed there."""

    taken_ms: int
    server: str
    services: dict[str, StoredConfiguration]


async def take_snapshot(url: str, path: Path) -> None:
    """Write a backup of the store at `url`.

    Raises:
        StoreError: the store gives none.
        ConfigurationError: it is one part of a cluster.
        ArchiveError: the file cannot be written.
    """
    asking, copying = Bulk(url), Bulk(url)
    try:
        facts = await inspect(asking.one, SystemClock())
        if facts.cluster:
            raise ConfigurationError("The store is a Redis Cluster, of which one server has a part only.")
        services = {prefix: await read_configuration(asking.one, prefix) for prefix in PREFIXES}
        taken_ms = int((await asking.one(b"TIME"))[0]) * 1000
        header = BackupHeader(taken_ms=taken_ms, server=facts.server, services=services)
        with written(path, KIND, header) as writer:
            left = await copying.snapshot_size()
            first = b""
            while left:
                chunk = await copying.snapshot_chunk(min(left, _CHUNK_BYTES if first else _MAGIC_BYTES))
                first = first or check_readable(chunk)
                writer.write(chunk)
                left -= len(chunk)
    finally:
        await asking.close()
        await copying.close()


def check_readable(magic: bytes) -> bytes:
    """The first bytes of a snapshot, if what comes along can read the rest: a backup that cannot be restored is none.

    Raises:
        StoreError: it cannot.
    """
    for name, newest in _NEWEST.items():
        form = magic.removeprefix(name)
        if form != magic and form.isdigit() and int(form) <= newest:
            return magic
    said = magic.decode(errors="replace")
    raise StoreError(
        f"The store's snapshots have a form ({said}) that `tenure restore` cannot read: use its own backups."
    )


def read_snapshot(path: Path) -> tuple[Archive, BackupHeader]:
    """A backup, whole, and what it says of itself.

    Raises:
        ArchiveError: it is not one, or holds what this release does not read.
    """
    archive = checked(path, KIND)
    header = read_header(archive, BackupHeader)
    for stored in header.services.values():
        if stored.format not in (0, FORMAT):
            raise ArchiveError(f"{path} holds format {stored.format}; this release reads format {FORMAT}.")
    return archive, header
