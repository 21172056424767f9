"""What an index keeps of an object, as it is stored: it must be read back for the life of a store."""

import pytest

from shared.bounds import INDEX_SUMMARY_BYTES_MAX
from shared.objects.address import Address
from shared.storage import keys
from shared.storage.codec import UnknownFormatError
from shared.storage.listings import IndexEntry, IndexRow, Place, family, index_record, read_index_record

ENTRY = IndexEntry(tenant="acmé", value="run\0ning\n", sort_ms=-7, summary=b"\0\xff\n")


def test_a_record_is_read_back() -> None:
    """Any text and any bytes, also none."""
    for entry in (ENTRY, IndexEntry(tenant="t", value="", sort_ms=0)):
        assert entry == read_index_record(index_record(b"object", "status", entry))


def test_a_record_is_stored_like_this() -> None:
    """A format byte, a line with the time and the place's length, the place, the member."""
    entry = IndexEntry(tenant="t", value="v", sort_ms=7, summary=b"sum")

    assert b"\x017 5\n\x01t\x01ivosum\x00\x01" == index_record(b"o", "i", entry)
    assert b"\x01t\x01iv" == keys.index_place("t", "i", "v")


def test_an_unknown_format_is_refused() -> None:
    """What a later release wrote is not guessed at."""
    with pytest.raises(UnknownFormatError):
        read_index_record(b"\x02" + index_record(b"o", "i", ENTRY)[1:])


def test_a_summary_has_its_bound() -> None:
    """Longer ones are a bug of whoever writes them."""
    largest = IndexEntry(tenant="t", value="v", sort_ms=0, summary=b"s" * INDEX_SUMMARY_BYTES_MAX)

    assert largest == read_index_record(index_record(b"o", "i", largest))
    with pytest.raises(AssertionError):
        index_record(b"o", "i", IndexEntry(tenant="t", value="v", sort_ms=0, summary=largest.summary + b"s"))


def test_a_row_knows_its_place() -> None:
    """A listing goes on after the very member that is stored."""
    row = IndexRow(5, b"object", b"\0\x06")

    assert row == IndexRow.at(row.place)
    assert Place(5, b"object\0\x06\0\x06") == row.place


def test_a_place_past_an_object_is_behind_each_of_its_rows_and_before_the_next_object() -> None:
    """A listing that goes on there does not see an object again whose summary has changed meanwhile."""
    one, two = Address("run", "acme", "a").encode(), Address("run", "acme", "b").encode()
    past = Place.past(5, one)

    for summary in (b"", b"s", b"\xff" * INDEX_SUMMARY_BYTES_MAX):
        assert IndexRow(5, one, summary).place < past
    assert past < IndexRow(5, two, b"").place
    assert past < IndexRow(6, one, b"").place


def test_a_family_is_what_its_addresses_begin_with() -> None:
    """Kind and tenant are encoded as in an address; the length of the name and the name follow."""
    assert Address("run", "acmé", "job-1").encode() == family("run", "acmé") + b"\0\x05job-1"
