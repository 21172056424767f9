"""What an operator is shown of an object: as it is stored, and as it is in memory. All of it can be told in JSON.

Stored values are MessagePack. What JSON has no word for is told as `{"$base64": ...}` (bytes) or as
`{"$extension": code, "$base64": ...}`; a value of which this release does not know the format is told by its bytes.
"""

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import msgspec

from shared.errors import TenureError
from shared.objects.address import Address, split_address
from shared.objects.messages import Message
from shared.objects.once import REQUEST_MARK, SENDER_MARK
from shared.storage.codec import AlarmRecord, Meta, decode
from shared.storage.interface import NATIVE_FIELD, RECORD_FIELD, Loaded
from shared.storage.listings import IndexEntry, OutboxMessage, OutboxRow

_UNREADABLE = (TenureError, msgspec.MsgspecError, IndexError, UnicodeDecodeError)


class Value(msgspec.Struct, frozen=True):
    """A stored value: its size as it is stored, and what it says."""

    size_bytes: int
    value: Any


class AlarmReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An alarm, armed or dead (then it has `dead_ms`, when it was given up, in listings)."""

    alarm: str
    due_ms: int
    attempts: int = 0
    first_failed_ms: int = 0
    first_error: str = ""
    last_error: str = ""
    dead_ms: int = 0


class AlarmRow(AlarmReport, frozen=True, kw_only=True, omit_defaults=True):
    """An alarm in a listing over all objects."""

    kind: str
    tenant: str
    name: str


class Receiver(msgspec.Struct, frozen=True):
    """Whom a message is for."""

    kind: str
    tenant: str
    name: str


class MessageReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message that nobody has received yet.

    `sent_ms` is 0 if an earlier release sent it, `dead_ms` unless it was given up, with `error`. `unreadable` says
    why this release cannot read it; then there is nothing but its id and its size.
    """

    id: str
    size_bytes: int
    receiver: Receiver | None = None
    method: str = ""
    sent_ms: int = 0
    expire_at_ms: int = 0
    dead_ms: int = 0
    error: str = ""
    unreadable: str = ""


class MessageRow(MessageReport, frozen=True, kw_only=True, omit_defaults=True):
    """A message in a listing over all objects, with its sender."""

    kind: str
    tenant: str
    name: str


class MessageShown(MessageReport, frozen=True, kw_only=True, omit_defaults=True):
    """A message with what it says: its `arguments` in their order, or, where it is `unreadable`, what is `stored`."""

    arguments: list[Any] | None = None
    stored: Any = None


class JournalReport(msgspec.Struct, frozen=True, kw_only=True):
    """How long a journal is; zeros where it is empty."""

    first: int
    last: int
    entries: int


class Stored(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An object as the store has it. A native kind has one value, of its own encoding, and nothing else.

    `unreadable` says why this release cannot read it; then `values` has all of its fields as bytes.
    """

    version: int = 0
    expire_at_ms: int = 0
    size_bytes: int = 0
    values: dict[str, Value] = {}
    native: Value | None = None
    alarms: list[AlarmReport] = []
    dead_alarms: list[AlarmReport] = []
    indexes: dict[str, IndexEntry] = {}
    remembered_requests: int = 0
    remembered_senders: int = 0
    undelivered_messages: int = 0
    dead_messages: int = 0
    journal: JournalReport | None = None
    unreadable: str = ""


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """The turn that runs now: its method, since when (store's clock), and for how long."""

    method: str
    alarm: str | None
    since_ms: int
    running_ms: int


class InMemory(msgspec.Struct, frozen=True, kw_only=True):
    """An object as it is in memory.

    `unconfirmed_turns` have written, and the store has not confirmed it; `dirty`: a checkpoint is due; `pending`:
    changes wait for a commit, be they soft; `in_flight`: a commit is on its way; `waiting_answers` wait for one.
    `parked_callers` wait for the object to change.
    """

    phase: str
    turns: int
    mailbox_depth: int
    running: Running | None
    dirty: bool
    pending: bool
    in_flight: bool
    unconfirmed_turns: int
    waiting_answers: int
    parked_callers: int


class ObjectReport(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of one object."""

    kind: str
    tenant: str
    name: str
    shard: int
    stored: Stored | None
    resident: InMemory | None


class JournalEntry(msgspec.Struct, frozen=True):
    """One entry of a journal."""

    number: int
    size_bytes: int
    value: Any


def stored_report(loaded: Loaded, journal: JournalReport) -> Stored | None:
    """What a load found; None if there is nothing at all."""
    fields = loaded.fields
    native = fields.get(NATIVE_FIELD)
    if native is not None and RECORD_FIELD not in fields:
        return Stored(size_bytes=len(native), native=Value(len(native), _told(native)))
    if not (fields or loaded.outbox or loaded.entries or journal.last):
        return None
    size_bytes = sum(len(field) + len(stored) for field, stored in fields.items())
    try:
        return _read(loaded, journal, size_bytes)
    except _UNREADABLE as exc:
        raw = {_text(field): Value(len(stored), _told(stored)) for field, stored in sorted(fields.items())}
        return Stored(size_bytes=size_bytes, values=raw, journal=journal, unreadable=str(exc))


def _read(loaded: Loaded, journal: JournalReport, size_bytes: int) -> Stored:
    fields = loaded.fields
    meta = decode(fields[RECORD_FIELD], Meta) if RECORD_FIELD in fields else Meta(version=0)
    values = {_text(field[1:]): shown(stored) for field, stored in sorted(fields.items()) if field[:1] == b"k"}
    return Stored(
        version=meta.version,
        expire_at_ms=meta.expire_at_ms,
        size_bytes=size_bytes,
        values=values,
        alarms=_alarms(fields, b"a"),
        dead_alarms=_alarms(fields, b"d"),
        indexes=loaded.indexes,
        remembered_requests=sum(field.startswith(REQUEST_MARK) for field in loaded.entries),
        remembered_senders=sum(field.startswith(SENDER_MARK) for field in loaded.entries),
        undelivered_messages=len(loaded.outbox),
        dead_messages=sum(message_report(sent).dead_ms > 0 for sent in loaded.outbox),
        journal=journal,
    )


def alarm_row(address: Address, alarm: str, due_ms: int, record: bytes | None, *, dead_ms: int = 0) -> AlarmRow:
    """A row of a listing; one whose record is gone or cannot be read still says when it is due."""
    found = AlarmRecord(due_ms=due_ms, serial=0)
    if record is not None:
        try:
            found = decode(record, AlarmRecord)
        except _UNREADABLE as exc:
            found = AlarmRecord(due_ms=due_ms, serial=0, last_error=str(exc))
    return AlarmRow(
        kind=address.kind,
        tenant=address.tenant,
        name=address.name,
        alarm=alarm,
        due_ms=found.due_ms,
        attempts=found.attempts,
        first_failed_ms=found.first_failed_ms,
        first_error=found.first_error,
        last_error=found.last_error,
        dead_ms=dead_ms,
    )


def message_report(sent: OutboxMessage) -> MessageReport:
    """A message as it is stored."""
    identity, size_bytes = sent.message_id.hex(), len(sent.message)
    try:
        message = Message.decode(sent.message)
        receiver = Receiver(*split_address(message.receiver)[0])
    except _UNREADABLE as exc:
        return MessageReport(id=identity, size_bytes=size_bytes, unreadable=str(exc) or type(exc).__name__)
    return MessageReport(
        id=identity,
        size_bytes=size_bytes,
        receiver=receiver,
        method=message.method,
        sent_ms=message.sent_ms,
        expire_at_ms=message.expire_at_ms,
        dead_ms=message.dead_ms,
        error=message.error,
    )


def message_shown(sent: OutboxMessage) -> MessageShown:
    """A message as it is stored, with what it says."""
    report = msgspec.structs.asdict(message_report(sent))
    if report["unreadable"]:
        return MessageShown(**report, stored=_told(sent.message))
    arguments = msgspec.msgpack.decode(Message.decode(sent.message).args)
    return MessageShown(**report, arguments=[_tellable(argument) for argument in arguments])


def message_row(row: OutboxRow) -> MessageRow | None:
    """A row of a listing of dead letters; None for a message that will be delivered or given up."""
    report = message_report(row.sent)
    if not (report.dead_ms or report.unreadable):
        return None
    sender = Address.decode(row.object_id)
    return MessageRow(kind=sender.kind, tenant=sender.tenant, name=sender.name, **msgspec.structs.asdict(report))


def shown(stored: bytes) -> Value:
    """A stored record for people."""
    try:
        value = _tellable(decode(stored, object))
    except _UNREADABLE:
        value = _told(stored)
    return Value(len(stored), value)


def _alarms(fields: Mapping[bytes, bytes], mark: bytes) -> list[AlarmReport]:
    records = ((_text(field[1:]), decode(stored, AlarmRecord)) for field, stored in fields.items() if field[:1] == mark)
    reports = [
        AlarmReport(
            alarm=name,
            due_ms=record.due_ms,
            attempts=record.attempts,
            first_failed_ms=record.first_failed_ms,
            first_error=record.first_error,
            last_error=record.last_error,
        )
        for name, record in records
    ]
    return sorted(reports, key=lambda report: (report.due_ms, report.alarm))


def _tellable(value: Any) -> Any:
    match value:
        case bytes():
            return _told(value)
        case msgspec.msgpack.Ext():
            return {"$extension": value.code, **_told(bytes(value.data))}
        case list():
            return [_tellable(one) for one in value]
        case dict():
            return {key if isinstance(key, str) else repr(key): _tellable(one) for key, one in value.items()}
    return value


def _told(raw: bytes) -> dict[str, str]:
    return {"$base64": b64encode(raw).decode()}


def _text(name: bytes) -> str:
    return name.decode(errors="replace")
