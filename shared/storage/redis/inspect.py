"""Whether a server can be the store: what it says about itself, judged by pure rules.

A node refuses to start on what would lose data silently: a server that evicts keys, is older than
7.0, is a replica or a cluster, or was set up with another shard count or format. It warns of what
weakens a promise. `tenure doctor` prints the same findings.

Eviction and persistence are read from INFO, which hosted stores allow; only the fsync policy needs
CONFIG. Where that is forbidden the operator may declare a durability level instead.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

import msgspec

from shared.bounds import CLOCK_SKEW_MS_MAX
from shared.clock import Clock
from shared.storage import keys
from shared.storage.codec import FORMAT
from shared.storage.interface import StoreError, owner_mark

VERSION_MIN = (7, 0)
_TIME_SAMPLES = 3

Command = Callable[..., Awaitable[Any]]
"""Sends one command and returns the reply, as bytes and lists: `RedisStore.command`."""
Level = Literal["ok", "warn", "fail"]


class StoreFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says about itself."""

    server: str
    version: tuple[int, ...]
    """The Redis version whose commands it has; Valkey names both."""
    role: str
    cluster: bool
    eviction: str
    aof: bool
    fsync: str
    """`always`, `everysec` or `no`; empty where the server does not tell."""
    replicas: int
    skew_ms: int
    """The server's clock minus ours."""

    @property
    def fsynced(self) -> bool:
        """Whether a write is on the server's disk before it is answered."""
        return self.aof and self.fsync == "always"


class StoredConfiguration(msgspec.Struct, frozen=True):
    """What is fixed for the life of a store; zeros where nothing is stored yet."""

    format: int
    shards: int


class Finding(msgspec.Struct, frozen=True):
    """The result of one check. On `fail` no node starts."""

    check: str
    level: Level
    detail: str


async def inspect(command: Command, clock: Clock) -> StoreFacts:
    """Ask the server.

    Raises:
        StoreError: it does not answer.
    """
    fsync = await _fsync_policy(command)
    info = _parsed(await command(b"INFO"))
    version = info.get("redis_version", "0")
    name = info.get("server_name", "redis")
    return StoreFacts(
        server=f"{name} {info.get(f'{name}_version', version)}",
        version=_version(version),
        role=info.get("role", "master"),
        cluster=info.get("cluster_enabled") == "1",
        eviction=info.get("maxmemory_policy", ""),
        aof=info.get("aof_enabled") == "1",
        fsync=fsync,
        replicas=int(info.get("connected_slaves", "0")),
        skew_ms=await _skew_ms(command, clock),
    )


async def read_configuration(command: Command, service: str) -> StoredConfiguration:
    """What the first node of `service` (its key prefix) has fixed."""
    stored = await command(b"HMGET", keys.configuration(service), b"format", b"shards")
    return StoredConfiguration(*(int(value or 0) for value in stored))


async def holds_leases(command: Command, service: str, *, shards: int, mark: str) -> bool:
    """Whether the process of this `owner_mark` owns shards of `service` here, or was the last to own one."""
    for shard in range(shards):
        token = await command(b"HGET", keys.lease(service, shard), b"token")
        if token is not None and owner_mark(token) == mark:
            return True
    return False


async def fix_configuration(command: Command, service: str, *, shards: int) -> StoredConfiguration:
    """Fix format and shard count unless they are fixed already; returns what is stored now."""
    stored = await read_configuration(command, service)
    if stored.format and stored.shards:
        return stored  # A full store refuses even a write that would change nothing.
    key = keys.configuration(service)
    await command(b"HSETNX", key, b"format", FORMAT)
    await command(b"HSETNX", key, b"shards", shards)
    return await read_configuration(command, service)


def findings(facts: StoreFacts, *, declared: str = "", strict: bool = False) -> list[Finding]:
    """The judgement on a server.

    `declared` is the durability level that the operator vouches for, empty if none. `strict`
    turns doubts about durability into refusals.
    """
    return [
        _version_finding(facts),
        _role_finding(facts),
        _eviction_finding(facts),
        _durability_finding(facts, declared, strict=strict),
        _skew_finding(facts),
    ]


def durability_reached(facts: StoreFacts, *, declared: str = "") -> int:
    """The level that a confirmed write has: 0 executed, 1 on the disk of the server, as found or vouched for.

    Levels 2 and 3 also want a replica's word. This release does not wait for one, so none reaches them.
    """
    vouched_for = facts.aof and not facts.fsync and declared in ("1", "3")
    return int(facts.fsynced or vouched_for)


def problems(facts: StoreFacts, *, declared: str = "", strict: bool = False) -> list[Finding]:
    """The findings that are not fine, failures first."""
    found = [finding for finding in findings(facts, declared=declared, strict=strict) if finding.level != "ok"]
    return sorted(found, key=lambda finding: finding.level != "fail")


def configuration_finding(stored: StoredConfiguration, *, shards: int) -> Finding:
    """Whether a node with `shards` shards can work on what is stored."""
    check = "stored layout"
    if stored == StoredConfiguration(0, 0):
        return Finding(check, "ok", "nothing is stored yet")
    if stored.format == 0:
        return Finding(
            check, "fail", "a restore of this store was begun and has not ended; run `tenure restore --replace`"
        )
    if stored.format != FORMAT:
        return Finding(check, "fail", f"the store holds format {stored.format}; this release reads format {FORMAT}")
    if stored.shards != shards:
        return Finding(
            check,
            "fail",
            f"the store was set up with {stored.shards} shards, but TENURE_SHARDS is {shards}; "
            f"set TENURE_SHARDS={stored.shards}",
        )
    return Finding(check, "ok", f"format {stored.format}, {stored.shards} shards")


def _version_finding(facts: StoreFacts) -> Finding:
    least = ".".join(map(str, VERSION_MIN))
    if facts.version < VERSION_MIN:
        return Finding("version", "fail", f"the store is {facts.server}, but {least} or later is needed")
    return Finding("version", "ok", facts.server)


def _role_finding(facts: StoreFacts) -> Finding:
    if facts.cluster:
        return Finding("role", "fail", "the store is a Redis Cluster, which is not supported")
    if facts.role != "master":
        return Finding("role", "fail", "the store is a replica; TENURE_REDIS_URL must name the primary")
    return Finding("role", "ok", f"primary with {facts.replicas} replicas")


def _eviction_finding(facts: StoreFacts) -> Finding:
    if facts.eviction == "noeviction":
        return Finding("eviction", "ok", "noeviction")
    if not facts.eviction:
        return Finding("eviction", "warn", "the store does not tell its maxmemory-policy; it must be noeviction")
    return Finding(
        "eviction",
        "fail",
        f"the store's maxmemory-policy is {facts.eviction}, which drops data under pressure; set it to noeviction",
    )


def _durability_finding(facts: StoreFacts, declared: str, *, strict: bool) -> Finding:
    """Levels: 0 executed, 1 on disk, 2 on a replica, 3 both. Without a declaration the disk is asked for."""
    check = "durability"
    doubt: Level = "fail" if strict else "warn"
    level = f"level {durability_reached(facts, declared=declared)}"
    if declared in ("2", "3"):
        detail = f"{level}: replicas are not waited for, so level {declared}, which is declared, is not reached"
        return Finding(check, doubt, detail)
    if declared == "0":
        return Finding(check, "ok", f"{level}; level 0 is declared to be enough")
    if not facts.aof:
        return Finding(
            check, doubt, f"{level}: the store keeps no append-only file: its crash loses acknowledged writes"
        )
    if not facts.fsync and declared:
        return Finding(check, "ok", f"{level}, declared, not verified")
    if not facts.fsync:
        detail = f"{level}: the store does not tell its appendfsync; declare the level in TENURE_DURABILITY"
        return Finding(check, doubt, detail)
    if facts.fsync != "always":
        return Finding(
            check, doubt, f"{level}: appendfsync is {facts.fsync}: a crash of the store loses its last writes"
        )
    return Finding(check, "ok", f"{level}: append-only file, written out before every answer")


def _skew_finding(facts: StoreFacts) -> Finding:
    detail = f"the store's clock is {facts.skew_ms:+d} ms from this machine's"
    if abs(facts.skew_ms) > CLOCK_SKEW_MS_MAX:
        return Finding("clock", "warn", f"{detail}; more than {CLOCK_SKEW_MS_MAX} ms needs a time service")
    return Finding("clock", "ok", detail)


async def _fsync_policy(command: Command) -> str:
    try:
        reply = await command(b"CONFIG", b"GET", b"appendfsync")
    except StoreError:
        return ""  # Forbidden. If the store is away, the next command says so.
    return reply[1].decode() if len(reply) == 2 else ""


async def _skew_ms(command: Command, clock: Clock) -> int:
    """The difference of the clocks by the quickest of a few questions: the least room for error."""
    samples = []
    for _ in range(_TIME_SAMPLES):
        sent_ms = clock.now_ms()
        seconds, micros = await command(b"TIME")
        received_ms = clock.now_ms()
        store_ms = int(seconds) * 1000 + int(micros) // 1000
        samples.append((received_ms - sent_ms, store_ms - (sent_ms + received_ms) // 2))
    return min(samples, key=lambda sample: sample[0])[1]


def _parsed(info: bytes) -> Mapping[str, str]:
    pairs = (line.partition(":") for line in info.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in pairs if colon}


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())
