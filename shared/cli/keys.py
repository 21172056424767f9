"""`tenure key create`: prints the new key, alone on stdout so that a script can take it."""

import argparse
import asyncio
import sys
from collections.abc import Mapping

from shared.cli.store import node_settings, store_url
from shared.clock import SystemClock
from shared.runtime.documents import open_documents
from shared.runtime.provision import create_key


def create(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Make a key and print it, this once."""
    text = asyncio.run(_create(store_url(node_settings(environ)), arguments))
    sys.stderr.write("Keep this key: it is not stored and cannot be shown again. Every node knows it within 2 s.\n")
    sys.stdout.write(f"{text}\n")
    return 0


async def _create(url: str, arguments: argparse.Namespace) -> str:
    async with open_documents(url) as documents:
        return await create_key(
            documents,
            arguments.tenant,
            scopes=frozenset(arguments.scope),
            label=arguments.label,
            expires_days=arguments.expires_days,
            clock=SystemClock(),
        )
