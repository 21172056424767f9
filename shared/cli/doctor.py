"""`tenure doctor`: is this set-up sound? Examines the store and asks the services how they are.

Exit code 1 if a check fails, that is, if a node would refuse to start; warnings leave it at 0.
"""

import argparse
import asyncio
import sys
from collections.abc import Mapping, Sequence

import msgspec

from shared.cli.store import node_settings, store_url
from shared.clock import SystemClock
from shared.errors import ConfigurationError
from shared.runtime.local_call import Endpoint, NoAnswerError
from shared.settings import NodeSettings
from shared.storage.interface import StoreError
from shared.storage.redis.inspect import (
    Finding,
    configuration_finding,
    findings,
    holds_leases,
    inspect,
    read_configuration,
)
from shared.storage.redis.store import RedisStore

SERVICES = (("ratelimiter", "rl"), ("workflows", "wf"), ("sessions", "se"))
"""Names, and the prefixes of their keys, in the order of their ports."""
_ASK_TIMEOUT_MS = 2_000


def doctor(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Examine, print what was found, and say by the exit code whether anything fails."""
    found = asyncio.run(_examine(node_settings(environ)))
    render = _json if arguments.output == "json" else _table
    sys.stdout.write(render(found))
    return 1 if any(finding.level == "fail" for finding in found) else 0


async def _examine(settings: NodeSettings) -> list[Finding]:
    try:
        store = RedisStore(store_url(settings), service=SERVICES[0][1])
    except ConfigurationError as exc:
        return [Finding("store", "fail", str(exc)), *await _service_findings(settings, None)]
    try:
        return [*await _store_findings(settings, store), *await _service_findings(settings, store)]
    except StoreError as exc:
        return [Finding("store", "fail", str(exc)), *await _service_findings(settings, None)]
    finally:
        await store.close()


async def _store_findings(settings: NodeSettings, store: RedisStore) -> list[Finding]:
    facts = await inspect(store.command, SystemClock())
    found = findings(facts, declared=settings.durability, strict=settings.durability_strict)
    for name, prefix in SERVICES:
        layout = configuration_finding(await read_configuration(store.command, prefix), shards=settings.shards)
        found.append(msgspec.structs.replace(layout, check=f"{name} layout"))
    return found


async def _service_findings(settings: NodeSettings, store: RedisStore | None) -> list[Finding]:
    return [await _service_finding(settings, store, index, *named) for index, named in enumerate(SERVICES)]


async def _service_finding(
    settings: NodeSettings, store: RedisStore | None, index: int, name: str, prefix: str
) -> Finding:
    """Whether the service is ready, and for this store: a port alone does not tell whose node listens there."""
    admin = Endpoint(settings.admin_host, settings.admin_port + index)
    try:
        answer = await admin.call("GET", "/health/ready", timeout_ms=_ASK_TIMEOUT_MS)
    except NoAnswerError as exc:
        return Finding(name, "warn", str(exc))
    if answer.status != 200:
        reasons = answer.body.decode(errors="replace").strip()
        return Finding(name, "warn", f"{admin.url} is not ready: {reasons}")
    mark = _owner(answer.body)
    if store is None or not mark:
        return Finding(name, "warn", f"{admin.url} is ready, but nobody can tell whether for this store")
    if not await holds_leases(store.command, prefix, shards=settings.shards, mark=mark):
        return Finding(
            name,
            "fail",
            f"{admin.url} is ready, but for another store than this one; set TENURE_DATA_DIR or TENURE_REDIS_URL "
            f"as for that node, or TENURE_ADMIN_PORT to the port of this store's",
        )
    return Finding(name, "ok", f"{admin.url} is ready")


def _owner(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Ready).owner
    except msgspec.MsgspecError:
        return ""


class _Ready(msgspec.Struct):
    owner: str = ""


def _table(found: Sequence[Finding]) -> str:
    width = max(len(finding.check) for finding in found)
    return "".join(f"{finding.level:<4}  {finding.check:<{width}}  {finding.detail}\n" for finding in found)


def _json(found: Sequence[Finding]) -> str:
    return msgspec.json.format(msgspec.json.encode(found)).decode() + "\n"
