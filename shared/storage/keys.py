"""Every key of the store, one function each. No other module writes one.

All keys of a shard carry one hash tag, so that a shard lives in one Cluster slot and the fence
and the write can be one script. `service` is the short prefix of a service ("rl").
"""

from typing import NamedTuple

SHARED = "tenure"
"""The prefix of what all services share: tenants and API keys."""


def lease(service: str, shard: int) -> bytes:
    """Who owns the shard (hash): `{rl:17}:lease`."""
    return b"{%b:%d}:lease" % (service.encode(), shard)


def state(service: str, shard: int, object_id: bytes) -> bytes:
    """One object (hash): `{rl:17}:o:<encoded address>`."""
    return b"{%b:%d}:o:%b" % (service.encode(), shard, object_id)


def native(service: str, shard: int, object_id: bytes) -> bytes:
    """One object whose kind encodes it itself (string with the store's own expiry): `{rl:17}:n:<encoded address>`."""
    return b"{%b:%d}:n:%b" % (service.encode(), shard, object_id)


def alarms(service: str, shard: int) -> bytes:
    """Alarms by due time of the store's clock, in ms (sorted set): `{rl:17}:al`."""
    return b"{%b:%d}:al" % (service.encode(), shard)


def dead_alarms(service: str, shard: int) -> bytes:
    """Alarms that were given up, by the time of it (sorted set): `{rl:17}:dead`."""
    return b"{%b:%d}:dead" % (service.encode(), shard)


def index(service: str, shard: int) -> bytes:
    """Encoded addresses of the objects that have state (sorted set, all scores 0): `{rl:17}:ix`."""
    return b"{%b:%d}:ix" % (service.encode(), shard)


def expiries(service: str, shard: int) -> bytes:
    """Objects by the time they may be deleted, in ms (sorted set): `{rl:17}:xp`."""
    return b"{%b:%d}:xp" % (service.encode(), shard)


def journal(service: str, shard: int, object_id: bytes) -> bytes:
    """The journal of one object (stream, entry n has the id n-0): `{rl:17}:j:<encoded address>`."""
    return b"{%b:%d}:j:%b" % (service.encode(), shard, object_id)


def entries(service: str, shard: int, object_id: bytes) -> bytes:
    """What one object remembers for a while (hash that expires with its last field): `{rl:17}:e:<encoded address>`."""
    return b"{%b:%d}:e:%b" % (service.encode(), shard, object_id)


def messages(service: str, shard: int, object_id: bytes) -> bytes:
    """What one object has sent and nobody has received yet, "number:message" (hash): `{rl:17}:m:<encoded address>`."""
    return b"{%b:%d}:m:%b" % (service.encode(), shard, object_id)


def outbox(service: str, shard: int) -> bytes:
    """Encoded addresses of senders with the ids of their messages, by number (sorted set): `{rl:17}:ob`."""
    return b"{%b:%d}:ob" % (service.encode(), shard)


def index_rows(service: str, shard: int, place: bytes) -> bytes:
    """The objects that have one value of one index, by a time in ms (sorted set): `{rl:17}:i:<index_place>`."""
    return b"{%b:%d}:i:%b" % (service.encode(), shard, place)


def index_place(tenant: str, name: str, value: str) -> bytes:
    """(tenant, index, value) as part of a key: tenant and index behind one length byte each, 255 bytes at most."""
    tenant_bytes, name_bytes = tenant.encode(), name.encode()
    return b"%c%b%c%b%b" % (len(tenant_bytes), tenant_bytes, len(name_bytes), name_bytes, value.encode())


def quarantine(service: str, shard: int) -> bytes:
    """Objects that blocked their owner, and until when they are refused (hash): `{rl:17}:q`."""
    return b"{%b:%d}:q" % (service.encode(), shard)


def configuration(service: str) -> bytes:
    """What is fixed for the life of a store (hash): `{rl:m}:cfg`."""
    return b"{%b:m}:cfg" % service.encode()


def documents(prefix: str) -> tuple[bytes, bytes, bytes]:
    """Replicated documents, their change log by revision, the newest revision: `{rl:m}:docs`, ..."""
    tag = prefix.encode()
    return b"{%b:m}:docs" % tag, b"{%b:m}:docs:log" % tag, b"{%b:m}:docs:rev" % tag


class KeyParts(NamedTuple):
    """What a key of a service says: its shard (None: of the whole service), which of the above it is, and whose."""

    shard: int | None
    part: bytes
    rest: bytes


def pattern(service: str) -> bytes:
    """Matches every key of a service, or of what all services share, and no other."""
    return b"{%b:*" % service.encode()


def parts(service: str, key: bytes) -> KeyParts | None:
    """What a key that matches `pattern` says; None if it is none of ours."""
    tag, closed, name = key.removeprefix(b"{%b:" % service.encode()).partition(b"}:")
    part, _, rest = name.partition(b":")
    if not closed or not (tag == b"m" or tag.isdigit()):
        return None
    return KeyParts(None, name, b"") if tag == b"m" else KeyParts(int(tag), part, rest)
