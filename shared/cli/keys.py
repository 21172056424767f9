"""`tenure key create|list|revoke`: a new key stands alone on stdout, for scripts to take; no list shows one."""

import argparse
import asyncio
import sys
from collections.abc import Mapping, Sequence

from shared.cli.listing import as_json, moment, table
from shared.cli.opened import opened_store
from shared.cli.store import node_settings
from shared.clock import SystemClock
from shared.runtime.documents import open_documents
from shared.runtime.provision import KNOWN_WITHIN_S, KeyView, create_key, list_keys, revoke_key


def create(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Make a key and print it, this once."""
    with opened_store(node_settings(environ)) as url:
        text = asyncio.run(_create(url, arguments))
    sys.stderr.write(
        f"Keep this key: it is not stored and cannot be shown again. Every node knows it within {KNOWN_WITHIN_S} s.\n"
    )
    sys.stdout.write(f"{text}\n")
    return 0


def show(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Print the keys of a tenant, or of all; never a key itself."""
    with opened_store(node_settings(environ)) as url:
        found = asyncio.run(_list(url, arguments.tenant))
    sys.stdout.write(as_json(found) if arguments.output == "json" else _table(found))
    return 0


def revoke(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Take a key back for good and say so."""
    with opened_store(node_settings(environ)) as url:
        key_id = asyncio.run(_revoke(url, arguments.tenant, arguments.id))
    sys.stdout.write(
        f"Key {key_id} of tenant {arguments.tenant} is revoked: every node refuses it within {KNOWN_WITHIN_S} s.\n"
    )
    return 0


async def _create(url: str, arguments: argparse.Namespace) -> str:
    async with open_documents(url) as documents:
        return await create_key(
            documents,
            arguments.tenant,
            scopes=frozenset(scope for given in arguments.scope for scope in given.split(",")),
            label=arguments.label,
            expires_days=arguments.expires_days,
            clock=SystemClock(),
        )


async def _list(url: str, tenant: str | None) -> list[KeyView]:
    async with open_documents(url) as documents:
        return list_keys(documents, tenant, clock=SystemClock())


async def _revoke(url: str, tenant: str, id_or_digest: str) -> str:
    async with open_documents(url) as documents:
        return await revoke_key(documents, tenant, id_or_digest)


def _table(found: Sequence[KeyView]) -> str:
    head = ("TENANT", "ID", "DIGEST", "STATE", "SCOPES", "CREATED", "CHANGED", "EXPIRES", "LABEL")
    rows = (
        (
            one.tenant,
            one.id,
            one.digest or "-",
            one.state,
            ",".join(one.scopes) or "-",
            moment(one.created_ms),
            moment(one.changed_ms),
            moment(one.expires_ms),
            one.label,
        )
        for one in found
    )
    return table(head, rows)
