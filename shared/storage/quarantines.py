"""What the store keeps of objects that blocked their owner: each is refused for a while, and longer each time.

A record is written by a process that is about to die, and read with every load of the object, so that the next owner
refuses it instead of dying too. It is advice about running the object and touches nothing that the object has stored.
So, unlike every other write, it is not fenced: what was seen stays true if the shard has a new owner meanwhile, and a
record that comes late can cost the object one term and nothing else.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from shared.storage.codec import FORMAT, UnknownFormatError


class Quarantine(msgspec.Struct, frozen=True):
    """How many terms an object has had, and when the last of them ends or ended, by the store's clock."""

    count: int
    until_ms: int

    @classmethod
    def stored(cls, record: bytes) -> "Quarantine":
        """The record as it is stored: format byte, count, end.

        Raises:
            UnknownFormatError: another release wrote it.
        """
        if record[:1] != bytes((FORMAT,)):
            raise UnknownFormatError(record[0] if record else 0)
        count, _, until_ms = record[1:].partition(b" ")
        return cls(int(count), int(until_ms))


class Quarantined(msgspec.Struct, frozen=True):
    """An object with its record."""

    object_id: bytes
    record: Quarantine


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """How long the terms are: the first, the longest, each the double of the one before it.

    One that has ended is remembered for `memory_ms`; a shard remembers `objects_max`, those longest that end last.
    """

    first_ms: int
    longest_ms: int
    memory_ms: int
    objects_max: int


class QuarantineStore(Protocol):
    """Records of objects that blocked their owner."""

    async def quarantine(self, shard: int, object_id: bytes, terms: Terms) -> Quarantine:
        """Begin the next term of an object; a term that has not ended is left as it is. A full store does it too."""
        ...

    async def quarantines(self, shards: Sequence[int]) -> Sequence[Sequence[Quarantined]]:
        """What is remembered of each shard, by address. Not fenced."""
        ...

    async def lift_quarantine(self, shard: int, object_id: bytes) -> bool:
        """Forget the object's record; say whether there was one."""
        ...
