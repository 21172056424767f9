"""Puts the content of one store into another, key by key, so that nobody takes half of it for the whole.

While it is written, every lease of the store is held under a token that nobody has and the store says that it is
being restored: no node starts on it, and one that runs loses its shards at its next word to the store. In the end
each lease is free, under an epoch above any before and that token, with the number of its last commit from then. So
whoever has seen a later number knows that the store went back in time.
"""

import secrets
from collections.abc import Sequence
from itertools import chain
from typing import Any

import msgspec

from shared.storage import keys
from shared.storage.redis.bulk import Bulk

_FOR_EVER_MS = 2**53 - 1
_KEYS, _PIECE = 200, 1_000
_SMALL = (b"listpack", b"ziplist")  # How a server keeps a hash of a few short fields.
_NODE = b"tenure restore"
Commands = list[Sequence[Any]]


class Holder(msgspec.Struct, frozen=True):
    """Who holds leases that have not run out, and how many."""

    node: str
    shards: int


async def is_empty(store: Bulk, services: Sequence[str]) -> bool:
    """Whether nothing of ours is stored."""
    for service in (*services, keys.SHARED):
        async for _ in store.keys(keys.pattern(service)):
            return False
    return True


async def holders(store: Bulk, services: Sequence[str]) -> list[Holder]:
    """The nodes that own shards at this moment."""
    seconds, micros = await store.one(b"TIME")
    now_ms = int(seconds) * 1000 + int(micros) // 1000
    held: dict[str, int] = {}
    for service in services:
        leases = await _leases(store, service)
        for state, expires, node in await store.all([(b"HMGET", key, b"state", b"expires", b"node") for key in leases]):
            if state == b"active" and now_ms < int(expires) < _FOR_EVER_MS:
                held[node.decode()] = held.get(node.decode(), 0) + 1
    return [Holder(node, shards) for node, shards in sorted(held.items())]


async def restore(source: Bulk, target: Bulk, services: Sequence[str]) -> None:
    """Replace everything of ours in `target` by what is in `source`, which stands still.

    Raises:
        StoreError: it did not end. The target says so to whoever starts on it, until a restore has ended.
    """
    token = secrets.token_bytes(24)
    for service in services:
        await _close(source, target, service, token)
    for service in (*services, keys.SHARED):
        await _clear(target, service)
    for service in (*services, keys.SHARED):
        await _copy(source, target, service)
    for service in services:
        await _open(source, target, service, token)


async def _close(source: Bulk, target: Bulk, service: str, token: bytes) -> None:
    """Hold every lease that there is, or will be."""
    configuration = keys.configuration(service)
    leases = sorted({*await _leases(source, service), *await _leases(target, service)})
    shards = await source.one(b"HGET", configuration, b"shards")
    if shards is not None:
        await target.one(b"HSET", configuration, b"format", 0, b"shards", shards)
    epochs = await target.all([(b"HGET", key, b"epoch") for key in leases])
    await target.all(
        [
            _lease(key, int(old or 0) + 1, token, expires_ms=_FOR_EVER_MS)
            for key, old in zip(leases, epochs, strict=True)
        ]
    )


async def _clear(target: Bulk, service: str) -> None:
    async for found in target.keys(keys.pattern(service)):
        doomed = [key for key in found if not _stays(service, key)]
        if doomed:
            await target.one(b"UNLINK", *doomed)


async def _copy(source: Bulk, target: Bulk, service: str) -> None:
    copied: set[bytes] = set()
    async for found in source.keys(keys.pattern(service)):
        fresh = [key for key in found if not _stays(service, key) and key not in copied]
        copied.update(fresh)
        for at in range(0, len(fresh), _KEYS):
            await _copy_keys(source, target, fresh[at : at + _KEYS])


async def _copy_keys(source: Bulk, target: Bulk, found: Sequence[bytes]) -> None:
    asks = ((b"TYPE",), (b"OBJECT", b"ENCODING"), (b"PEXPIRETIME",))
    replies = [await source.all([(*ask, key) for key in found]) for ask in asks]
    known = list(zip(found, *replies, strict=True))
    await _copy_at_once(source, target, [key for key, type_, _, _ in known if type_ == b"string"], b"GET", b"SET")
    small = [key for key, type_, encoding, _ in known if type_ == b"hash" and encoding in _SMALL]
    await _copy_at_once(source, target, small, b"HGETALL", b"HSET")
    for key, type_, encoding, _ in known:
        if type_ in _COPIES and not (type_ == b"hash" and encoding in _SMALL):
            await _COPIES[type_](source, target, key)
    await target.all([(b"PEXPIREAT", key, expiry) for key, _, _, expiry in known if expiry > 0])


async def _copy_at_once(source: Bulk, target: Bulk, found: Sequence[bytes], read: bytes, write: bytes) -> None:
    """Copy what is small enough to be read whole; what has expired meanwhile is left out."""
    values = zip(found, await source.all([(read, key) for key in found]), strict=True)
    flat = ((key, [value] if isinstance(value, bytes) else value) for key, value in values)
    await target.all([(write, key, *cells) for key, cells in flat if cells])


async def _copy_hash(source: Bulk, target: Bulk, key: bytes) -> None:
    cursor = b"0"
    while True:
        cursor, flat = await source.one(b"HSCAN", key, cursor, b"COUNT", _PIECE)
        for at in range(0, len(flat), 2 * _PIECE):
            await target.one(b"HSET", key, *flat[at : at + 2 * _PIECE])
        if cursor == b"0":
            return


async def _copy_sorted_set(source: Bulk, target: Bulk, key: bytes) -> None:
    start = 0
    while flat := await source.one(b"ZRANGE", key, start, start + _PIECE - 1, b"WITHSCORES"):
        scored = [cell for pair in zip(flat[1::2], flat[::2], strict=True) for cell in pair]
        await target.one(b"ZADD", key, *scored)
        start += _PIECE


async def _copy_stream(source: Bulk, target: Bulk, key: bytes) -> None:
    about = await source.one(b"XINFO", b"STREAM", key)
    last = dict(zip(about[::2], about[1::2], strict=True))[b"last-generated-id"]
    start = b"-"
    while entries := await source.one(b"XRANGE", key, start, b"+", b"COUNT", _PIECE):
        await target.all([(b"XADD", key, number, *fields) for number, fields in entries])
        start = b"(" + entries[-1][0]
    if start == b"-":  # All of it was trimmed: only its last number is left, and counts.
        await target.all([(b"XADD", key, last, b"e", b""), (b"XTRIM", key, b"MAXLEN", 0)])
    await target.one(b"XSETID", key, last)


_COPIES = {b"hash": _copy_hash, b"zset": _copy_sorted_set, b"stream": _copy_stream}


async def _open(source: Bulk, target: Bulk, service: str, token: bytes) -> None:
    """Free every lease of the source, forget all others, and say that the store can be used."""
    seconds, _ = await target.one(b"TIME")
    leases = await _leases(source, service)
    kept = await source.all([(b"HMGET", key, b"epoch", b"seq", b"sent") for key in leases])
    old = await target.all([(b"HGET", key, b"epoch") for key in leases])
    gone = [key for key in await _leases(target, service) if key not in set(leases)]
    commands: Commands = [(b"UNLINK", *gone)] if gone else []
    for key, (epoch, seq, sent), held in zip(leases, kept, old, strict=True):
        above = max(int(epoch), int(held or 0), int(seconds) * 1000) + 1
        numbers = (b"seq", seq or 0) + ((b"sent", sent) if sent is not None else ())
        commands += [(b"MULTI",), (b"DEL", key), (*_lease(key, above, token, expires_ms=0), *numbers), (b"EXEC",)]
    await target.all(commands)
    configuration = keys.configuration(service)
    fields = await source.one(b"HGETALL", configuration)
    if fields:
        await target.one(b"HSET", configuration, *fields)
    else:
        await target.one(b"DEL", configuration)


def _lease(key: bytes, epoch: int, token: bytes, *, expires_ms: int) -> tuple[Any, ...]:
    """The command that gives a shard to nobody: held while it has an expiry, free to be claimed without one."""
    fields: dict[bytes, Any] = {
        b"epoch": epoch,
        b"token": token,
        b"node": _NODE,
        b"lock": b"",
        b"expires": expires_ms,
        b"state": b"active" if expires_ms else b"free",
        b"ptoken": b"",
        b"pcid": b"",
    }
    return (b"HSET", key, *chain.from_iterable(fields.items()))


async def _leases(store: Bulk, service: str) -> list[bytes]:
    found: set[bytes] = set()
    async for some in store.keys(keys.pattern(service)):
        found.update(key for key in some if _is_lease(service, key))
    return sorted(found)


def _is_lease(service: str, key: bytes) -> bool:
    parts = keys.parts(service, key)
    return parts is not None and (parts.shard is not None) and parts.part == b"lease"


def _stays(service: str, key: bytes) -> bool:
    return _is_lease(service, key) or key == keys.configuration(service)
