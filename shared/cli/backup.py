"""`tenure backup FILE` and `tenure restore FILE`: the whole store as it was at one moment, there and back.

A restore takes the store back in time. Nodes that have seen what was written since say so, and count it; where all
were stopped nobody can know, so the command says it to whoever runs it.
"""

import argparse
import asyncio
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from shared.cli.opened import PREFIXES, opened_store
from shared.cli.revived import revived
from shared.cli.snapshot import read_snapshot, take_snapshot
from shared.cli.store import node_settings
from shared.errors import ConfigurationError, ConflictError
from shared.storage.redis.bulk import Bulk
from shared.storage.redis.exporting import counted
from shared.storage.redis.restoring import holders, is_empty, restore


def backup(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Write a backup."""
    path = Path(arguments.file)
    with opened_store(node_settings(environ)) as url:
        asyncio.run(take_snapshot(url, path))
    sys.stdout.write(f"{path} has {path.stat().st_size} bytes. It holds all that the store holds: keep it as safe.\n")
    return 0


def restoring(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Put a backup into the store."""
    settings = node_settings(environ)
    archive, header = read_snapshot(Path(arguments.file))
    with opened_store(settings, create=True) as url:
        asyncio.run(_check(url, replace=arguments.replace, live=arguments.live))
        with revived(archive) as source:
            objects, documents = asyncio.run(_restore(source, url))
    taken = datetime.fromtimestamp(header.taken_ms / 1000, UTC).isoformat().replace("+00:00", "Z")
    sys.stdout.write(
        f"{objects} objects and {documents} documents (tenants, API keys, policies, profiles) are restored.\n"
        f"The store is as it was at {taken}: what was acknowledged after that is gone.\n"
        "Nodes that were running report it (store.rolled_back); if none was, nobody but you can know.\n"
    )
    shards = {stored.shards for stored in header.services.values() if stored.shards}
    if shards - {settings.shards}:
        sys.stdout.write(f"Its nodes need TENURE_SHARDS={max(shards)}.\n")
    return 0


async def _check(url: str, *, replace: bool, live: bool) -> None:
    """Raises unless the store may be written over."""
    store = Bulk(url)
    try:
        role = (await store.one(b"ROLE"))[0]
        if role != b"master":
            raise ConfigurationError("The store is a replica; TENURE_REDIS_URL must name the primary.")
        if not replace and not await is_empty(store, PREFIXES):
            raise ConflictError("The store is not empty. With --replace all that is in it gives way to the backup.")
        found = await holders(store, PREFIXES)
        if found and not live:
            named = ", ".join(f"{holder.node} ({holder.shards} shards)" for holder in found)
            raise ConflictError(
                f"Nodes work on the store: {named}. Stop them, or with --live take their shards from them and "
                "let them go on with what is restored."
            )
    finally:
        await store.close()


async def _restore(source_url: str, target_url: str) -> tuple[int, int]:
    source, target = Bulk(source_url), Bulk(target_url)
    try:
        await restore(source, target, PREFIXES)
        return await counted(source, PREFIXES)
    finally:
        await source.close()
        await target.close()
