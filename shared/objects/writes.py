"""The write of one commit, made of what finished turns of an object have written since the last one."""

from shared.objects.changes import Changes
from shared.storage.codec import Meta, encode
from shared.storage.interface import RECORD_FIELD, ObjectWrite


def departure(object_id: bytes, pending: Changes) -> ObjectWrite:
    """The write after which nothing of the object is left but what it keeps past its end."""
    names = sorted(pending.touched_alarms())
    write = ObjectWrite(object_id=object_id, gone=True, alarm_removes=[object_id + name.encode() for name in names])
    if pending.kept is not None:
        pending.kept.add_to(write)
    return write


def add_values(write: ObjectWrite, pending: Changes, meta: Meta) -> None:
    """Add the object's record, its parts and its keys; what is cleared has none that would have to be deleted."""
    write.puts[RECORD_FIELD] = encode(meta)
    if pending.parts is not None:
        pending.parts.add_to(write)
    if pending.kept is not None:
        pending.kept.add_to(write)
    for key, stored in pending.values.items():
        if stored is not None:
            write.puts[b"k" + key.encode()] = stored
        elif not write.clear:
            write.deletes.append(b"k" + key.encode())


def add_alarms(write: ObjectWrite, pending: Changes) -> None:
    """Add alarms that were set, ended or given up. Those that were dropped are taken out first; some are set again."""
    for name, record in pending.alarms.items():
        encoded = name.encode()
        if record is not None:
            write.puts[b"a" + encoded] = encode(record)
            write.alarm_sets[write.object_id + encoded] = record.due_ms
            continue
        write.alarm_removes.append(write.object_id + encoded)
        if not write.clear:
            write.deletes.append(b"a" + encoded)
            if name not in pending.dead:
                write.deletes.append(b"d" + encoded)
    for name in pending.dropped_alarms:
        write.alarm_removes.append(write.object_id + name.encode())
        if not write.clear and name not in pending.dead:
            write.deletes.append(b"d" + name.encode())
    for name, (record, at_ms) in pending.dead.items():
        write.puts[b"d" + name.encode()] = encode(record)
        write.dead_adds[write.object_id + name.encode()] = at_ms
