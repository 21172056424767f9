"""`tenure export FILE` and `tenure import FILE`: objects one by one, into a store with whatever number of shards.

An export is of one moment, as a backup is. An import adds to a store and never changes what is there: an object
that the store has refuses the whole of it before anything is written.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from shared.cli.opened import PREFIXES, opened_store
from shared.cli.operator import printable
from shared.cli.revived import revived
from shared.cli.selection import Selection
from shared.cli.snapshot import read_snapshot, take_snapshot
from shared.cli.store import node_settings
from shared.errors import ConfigurationError
from shared.objects.address import shard_of, split_address
from shared.settings import NodeSettings
from shared.storage import keys
from shared.storage.archive import Archive, ArchiveError, Writer, add_record, checked, read_header, records, written
from shared.storage.codec import FORMAT
from shared.storage.redis import exporting
from shared.storage.redis.bulk import Bulk
from shared.storage.redis.importing import Importer, check_absent, new_documents
from shared.storage.redis.inspect import configuration_finding, fix_configuration, read_configuration
from shared.storage.redis.store import RedisStore
from shared.storage.transfer import KIND, DocumentRecord, ExportHeader, ObjectRecord, Record


def exporting_command(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Write an export."""
    path = Path(arguments.file)
    with tempfile.TemporaryDirectory(prefix="tenure-") as directory:
        draft = Path(directory) / "snapshot"
        with opened_store(node_settings(environ)) as url:
            asyncio.run(take_snapshot(url, draft))
        snapshot, taken = read_snapshot(draft)
        header = ExportHeader(
            taken_ms=taken.taken_ms,
            stored_format=FORMAT,
            services=list(PREFIXES),
            kind=arguments.kind,
            tenant=arguments.tenant,
        )
        with revived(snapshot) as source, written(path, KIND, header) as writer:
            objects, documents = asyncio.run(_export(source, writer, Selection(arguments.kind, arguments.tenant)))
    sys.stdout.write(f"{path} has {objects} objects and {documents} documents. Keep it as safe as the store.\n")
    return 0


def importing_command(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Put an export into the store."""
    settings = node_settings(environ)
    path = Path(arguments.file)
    archive = checked(path, KIND)
    header = read_header(archive, ExportHeader)
    if header.stored_format != FORMAT:
        raise ArchiveError(f"{path} holds format {header.stored_format}; this release reads format {FORMAT}.")
    if not set(header.services) <= set(PREFIXES):
        raise ArchiveError(f"{path} is of services that this release does not have: {', '.join(header.services)}.")
    with opened_store(settings, create=True) as url:
        objects, documents = asyncio.run(
            _import(archive, header, url, settings, with_documents=not arguments.objects_only)
        )
    sys.stdout.write(f"{objects} objects and {documents} documents are imported.\n")
    return 0


async def _export(url: str, writer: Writer, selection: Selection) -> tuple[int, int]:
    store = Bulk(url)
    count = {ObjectRecord: 0, DocumentRecord: 0}

    def add(record: Record) -> None:
        add_record(writer, record)
        count[type(record)] += 1

    try:
        for prefix in PREFIXES:
            async for found in exporting.objects(store, prefix, selection.takes_object):
                add(found)
        for prefix in (*PREFIXES, keys.SHARED):
            async for document in exporting.documents(store, prefix, selection.takes_document):
                add(document)
    finally:
        await store.close()
    selection.check_met()
    return count[ObjectRecord], count[DocumentRecord]


async def _import(
    archive: Archive, header: ExportHeader, url: str, settings: NodeSettings, *, with_documents: bool
) -> tuple[int, int]:
    bulk = Bulk(url)
    stores = {prefix: RedisStore(url, service=prefix) for prefix in header.services}
    try:
        for prefix in header.services:
            finding = configuration_finding(await read_configuration(bulk.one, prefix), shards=settings.shards)
            if finding.level == "fail":
                raise ConfigurationError(f"{finding.detail[:1].upper()}{finding.detail[1:]}.")
        await check_absent(bulk, _records(archive, ObjectRecord), _shard_of(settings), shown=_shown)
        documents = [*_records(archive, DocumentRecord)] if with_documents else []
        fresh = await new_documents(bulk, documents)
        objects = 0
        present = {record.service for record in _records(archive, ObjectRecord)}
        for prefix, store in ((prefix, store) for prefix, store in stores.items() if prefix in present):
            await fix_configuration(bulk.one, prefix, shards=settings.shards)
            objects += await _import_objects(archive, store, prefix, settings)
        for document in fresh:
            store = next(iter(stores.values()))
            await store.document_put(document.prefix, document.field, document.body, expected=0)
        return objects, len(fresh)
    finally:
        await bulk.close()
        for store in stores.values():
            await store.close()


async def _import_objects(archive: Archive, store: RedisStore, prefix: str, settings: NodeSettings) -> int:
    importer = Importer(store, shards=settings.shards, shard_of=_shard_of(settings))
    await importer.claim()
    objects = 0
    try:
        for record in _records(archive, ObjectRecord):
            if record.service == prefix:
                await importer.add(record)
                objects += 1
        await importer.flush()
    finally:
        await importer.release()
    return objects


def _records(archive: Archive, type_: type[ObjectRecord] | type[DocumentRecord]) -> Iterator[Any]:
    return (record for record in records(archive, Record) if isinstance(record, type_))


def _shown(object_id: bytes) -> str:
    return printable(str(split_address(object_id)[0]))


def _shard_of(settings: NodeSettings) -> Callable[[bytes], int]:
    return lambda object_id: shard_of(object_id, settings.shards)
