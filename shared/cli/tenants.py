"""`tenure tenant create NAME`: straight into the store, since no API key can exist before it."""

import argparse
import asyncio
import sys
from collections.abc import Mapping

from shared.cli.store import node_settings, store_url
from shared.clock import SystemClock
from shared.runtime.documents import open_documents
from shared.runtime.provision import create_tenant


def create(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Make a tenant and say so."""
    asyncio.run(_create(store_url(node_settings(environ)), arguments.name))
    sys.stdout.write(f"Tenant {arguments.name} is made.\n")
    return 0


async def _create(url: str, name: str) -> None:
    async with open_documents(url) as documents:
        await create_tenant(documents, name, clock=SystemClock())
