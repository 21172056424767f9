"""A section of a commit as keys and arguments of the commit script, whose header says their order."""

from collections.abc import Collection, Mapping
from typing import Any

from shared.storage import keys
from shared.storage.interface import INDEX_FIELD, ObjectWrite, Section
from shared.storage.listings import index_record

_NATIVE, _NATIVE_GONE, _PARTS = 32 + 16, 32 + 2, 64


def add_section(section: Section, service: str, names: list[bytes], args: list[Any]) -> None:
    """Add what the script needs for `section` to its keys (`names`) and arguments."""
    shard = section.shard
    names += (
        keys.lease(service, shard),
        keys.alarms(service, shard),
        keys.dead_alarms(service, shard),
        keys.index(service, shard),
        keys.expiries(service, shard),
    )
    args += (section.fence.epoch, section.fence.token, section.seq, section.commit_id, len(section.writes))
    for write in section.writes:
        if write.native is not None:
            names.append(keys.native(service, shard, write.object_id))
            args += (write.object_id, _NATIVE_GONE if write.gone else _NATIVE, write.expire_at_ms, write.native)
            continue
        names.append(keys.state(service, shard, write.object_id))
        if write.has_parts:
            _add_write(write, _PARTS, args)
            _add_part_names(service, shard, write.object_id, names)
            _add_parts(write, args)
        else:
            _add_write(write, 0, args)


def _add_write(write: ObjectWrite, parts: int, args: list[Any]) -> None:
    flags = parts + write.clear + 2 * write.gone + 4 * write.sweep + 8 * write.indexed + 16 * write.needs_room
    args += (write.object_id, flags, write.expire_at_ms)
    _add_pairs(write.puts, args)
    _add_list(write.deletes, args)
    _add_pairs(write.alarm_sets, args)
    _add_list(write.alarm_removes, args)
    _add_pairs(write.dead_adds, args)


def _add_part_names(service: str, shard: int, object_id: bytes, names: list[bytes]) -> None:
    names += (
        keys.journal(service, shard, object_id),
        keys.entries(service, shard, object_id),
        keys.messages(service, shard, object_id),
        keys.outbox(service, shard),
        keys.index_rows(service, shard, b""),
    )


def _add_parts(write: ObjectWrite, args: list[Any]) -> None:
    args += (write.journal_keep, write.journal_first)
    _add_list(write.journal_appends, args)
    _add_list([INDEX_FIELD + name.encode() for name in write.index_clears], args)
    args.append(len(write.index_sets))
    for name, row in write.index_sets.items():
        args += (INDEX_FIELD + name.encode(), index_record(write.object_id, name, row))
    _add_list(write.entry_removes, args)
    args.append(len(write.entries))
    for field, entry in write.entries.items():
        args += (field, entry.expire_at_ms, entry.value)
    _add_list(write.outbox_removes, args)
    _add_pairs(write.outbox_adds, args)


def _add_list(values: Collection[bytes], args: list[Any]) -> None:
    args.append(len(values))
    args += values


def _add_pairs(pairs: Mapping[bytes, Any], args: list[Any]) -> None:
    args.append(len(pairs))
    for pair in pairs.items():
        args += pair
