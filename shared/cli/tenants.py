"""`tenure tenant create|list|disable|enable`: straight on the store, since no API key can exist before a tenant."""

import argparse
import asyncio
import sys
from collections.abc import Mapping, Sequence

from shared.cli.listing import as_json, moment, table
from shared.cli.opened import opened_store
from shared.cli.store import node_settings
from shared.clock import SystemClock
from shared.runtime.documents import open_documents
from shared.runtime.provision import KNOWN_WITHIN_S, TenantView, create_tenant, list_tenants, set_tenant_disabled


def create(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Make a tenant and say so."""
    with opened_store(node_settings(environ)) as url:
        asyncio.run(_create(url, arguments.name))
    sys.stdout.write(f"Tenant {arguments.name} is made.\n")
    return 0


def show(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Print all tenants."""
    with opened_store(node_settings(environ)) as url:
        found = asyncio.run(_list(url))
    sys.stdout.write(as_json(found) if arguments.output == "json" else _table(found))
    return 0


def disable(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Shut a tenant's keys out and say so."""
    with opened_store(node_settings(environ)) as url:
        asyncio.run(_set(url, arguments.name, disabled=True))
    sys.stdout.write(f"Tenant {arguments.name} is disabled: every node refuses its keys within {KNOWN_WITHIN_S} s.\n")
    return 0


def enable(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Let a tenant's keys in again and say so."""
    with opened_store(node_settings(environ)) as url:
        asyncio.run(_set(url, arguments.name, disabled=False))
    sys.stdout.write(f"Tenant {arguments.name} is enabled: every node takes its keys within {KNOWN_WITHIN_S} s.\n")
    return 0


async def _create(url: str, name: str) -> None:
    async with open_documents(url) as documents:
        await create_tenant(documents, name, clock=SystemClock())


async def _list(url: str) -> list[TenantView]:
    async with open_documents(url) as documents:
        return list_tenants(documents)


async def _set(url: str, name: str, *, disabled: bool) -> None:
    async with open_documents(url) as documents:
        await set_tenant_disabled(documents, name, disabled=disabled)


def _table(found: Sequence[TenantView]) -> str:
    rows = ((one.name, one.state, moment(one.created_ms), moment(one.changed_ms)) for one in found)
    return table(("NAME", "STATE", "CREATED", "CHANGED"), rows)
