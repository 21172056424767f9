"""What an author writes into the storage of an object: whole, or with a typed refusal that changes nothing."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Struct

from shared import bounds
from shared.objects.errors import TooLargeError
from shared.objects.state import ObjectState
from shared.storage.interface import RECORD_FIELD

LARGEST = b"v" * (bounds.VALUE_BYTES_MAX - 10)


class Thawed(Struct):
    """Could be changed behind the store's back."""

    value: int = 0


def empty() -> ObjectState:
    """The storage of an object that is not there yet."""
    return ObjectState.load({}, now_ms=0)


def test_many_keys_are_written_together() -> None:
    """They are read back in the turn, and one commit carries them."""
    storage = empty()
    storage.put_many({"a": 1, "b": ("x",)})

    assert (1, ("x",)) == (storage.get("a", int), storage.get("b", tuple[str]))
    storage.end_turn()
    write = storage.take(b"o", indexed=True)
    assert write is not None
    assert {RECORD_FIELD, b"ka", b"kb"} == write.puts.keys()


def test_nothing_to_write_writes_nothing() -> None:
    """A turn that puts no key needs no commit."""
    storage = empty()
    storage.put_many({})

    assert not storage.overlay_used


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"b": 1, "c": [1]}, TypeError),
        ({"b": 1, "c": Thawed()}, TypeError),
        ({"b": 1, "k" * (bounds.KEY_BYTES_MAX + 1): 1}, TooLargeError),
        ({"b": 1, "c": b"v" * bounds.VALUE_BYTES_MAX}, TooLargeError),
        ({f"b{number}": LARGEST for number in range(5)}, TooLargeError),
        ({f"b{number}": number for number in range(bounds.TURN_KEYS_MAX)}, TooLargeError),
    ],
    ids=["mutable", "thawed", "key", "value", "turn", "keys"],
)
def test_what_does_not_fit_writes_none_of_it(values: dict[str, Any], error: type[Exception]) -> None:
    """Neither the key that is refused nor those beside it; what the turn wrote before stands."""
    storage = empty()
    storage.put("a", 0)
    with pytest.raises(error):
        storage.put_many(values)

    assert ["a"] == storage.list()


@pytest.mark.parametrize("write", [ObjectState.put, lambda storage, key, value: storage.put_many({key: value})])
def test_a_turn_has_its_bound(write: Callable[[ObjectState, str, bytes], None]) -> None:
    """Four values of the largest size fit, the fifth is refused by name, and a small one still fits."""
    storage = empty()
    for number in range(4):
        write(storage, f"{number}", LARGEST)
    with pytest.raises(TooLargeError, match="The turn has"):
        write(storage, "5", LARGEST)
    write(storage, "6", b"")

    assert ["0", "1", "2", "3", "6"] == storage.list()
