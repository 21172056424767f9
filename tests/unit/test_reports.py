"""What is stored of an object can always be told in JSON, whatever it is, and by whichever release it was written."""

import msgspec

from shared.objects.address import Address
from shared.objects.reports import JournalReport, Stored, alarm_row, shown, stored_report
from shared.storage.codec import AlarmRecord, Meta, encode
from shared.storage.interface import Entry, Loaded
from shared.storage.listings import OutboxMessage

NOTHING = JournalReport(first=0, last=0, entries=0)
LATER = b"\x02later"


def test_values_are_told_as_json_tells_them() -> None:
    """Bytes and extensions have a form of their own, keys become texts, moments are RFC 3339."""
    value = {"text": "ä", 7: [None, True, 1.5, 2**63], b"k": b"\0\xff", "ext": msgspec.msgpack.Ext(5, b"x")}
    told = shown(encode(value))

    assert len(encode(value)) == told.size_bytes
    assert {
        "text": "ä",
        "7": [None, True, 1.5, 2**63],
        "b'k'": {"$base64": "AP8="},
        "ext": {"$extension": 5, "$base64": "eA=="},
    } == msgspec.json.decode(msgspec.json.encode(told.value))


def test_what_cannot_be_read_is_told_by_its_bytes() -> None:
    """A format of a later release, something cut short, or nothing at all."""
    for stored in (LATER, b"\x01\xc4\x05a", b""):
        assert set(shown(stored).value) == {"$base64"}


def test_an_object_of_a_later_release_is_shown_by_its_fields() -> None:
    """Its record, or that of an alarm, says which; nothing of it is hidden or guessed."""
    for fields in ({b"#": LATER, b"ka": b"\x01\x01"}, {b"#": encode(Meta(version=1)), b"ax": LATER}):
        report = stored_report(Loaded(1, fields), NOTHING)
        assert report is not None
        assert "format 2" in report.unreadable
        assert {name.decode() for name in fields} == report.values.keys()


def test_what_is_beside_the_fields_is_counted() -> None:
    """An object of which only a message waits is there too; one without anything is not."""
    message = OutboxMessage(1, b"i" * 16, b"hello")
    entries = {name: Entry(b"v", 9) for name in (b"rone", b"rtwo", b"sender")}
    report = stored_report(Loaded(1, {}, entries=entries, outbox=[message]), NOTHING)

    assert Stored(remembered_requests=2, remembered_senders=1, undelivered_messages=1, journal=NOTHING) == report
    assert stored_report(Loaded(1, {}), NOTHING) is None


def test_a_row_without_its_record_says_when_it_is_due() -> None:
    """It ended between two questions, or it cannot be read."""
    address = Address("k", "t", "n")
    record = encode(AlarmRecord(due_ms=5, serial=1, attempts=2, last_error="no"))

    assert (5, 2, "no") == _told(alarm_row(address, "x", 4, record))
    assert (4, 0, "") == _told(alarm_row(address, "x", 4, None))
    assert (4, 0) == _told(alarm_row(address, "x", 4, LATER))[:2]


def _told(row: msgspec.Struct) -> tuple[object, ...]:
    values = msgspec.structs.asdict(row)
    return values["due_ms"], values["attempts"], values["last_error"]
