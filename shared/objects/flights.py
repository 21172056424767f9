"""What one flight of the committer carries: a part for each shard, which stands and falls alone."""

import secrets
from collections.abc import Callable
from typing import NamedTuple

from shared import bounds
from shared.objects.activation import Activation
from shared.objects.ownership import Shard
from shared.storage.interface import Fence, ObjectWrite, Section
from shared.telemetry.context import TraceContext
from shared.telemetry.metrics import CommitOutcome
from shared.telemetry.traces import Started

_OUTCOMES: tuple[CommitOutcome, ...] = ("ok", "full", "fenced", "conflict", "away")  # The worst last.


class Carried(NamedTuple):
    """A write that goes along without its object, under the fence where it was made, and who wants to hear of it."""

    shard: Shard
    fence: Fence
    write: ObjectWrite
    landed: Callable[[bool], object]


class Part:
    """What a flight does to one shard: the writes, and the objects that they cover."""

    __slots__ = ("carried", "covered", "posted", "section", "shard", "writes")

    section: Section

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.writes: list[ObjectWrite] = []
        self.covered: list[Activation] = []
        self.carried: list[Carried] = []
        self.posted = False  # It has messages for the courier.

    def seal(self) -> Section:
        """The section of the part: fenced, numbered, and made repeatable by its commit id."""
        shard = self.shard
        shard.flying = True
        commit_id = secrets.token_bytes(16)
        self.section = Section(
            shard=shard.index, fence=shard.fence, seq=shard.seq, commit_id=commit_id, writes=self.writes
        )
        return self.section


class Flight:
    """What is on its way, or is being gathered: one part a shard."""

    __slots__ = (
        "began",
        "bytes_max",
        "objects",
        "objects_max",
        "outcome",
        "parts",
        "sections",
        "size_bytes",
        "started_ms",
        "trace",
        "worst",
    )

    def __init__(self, started_ms: int) -> None:
        self.parts: dict[Shard, Part] = {}
        self.sections: list[Section] = []
        self.objects = 0
        self.size_bytes = 0
        self.objects_max = bounds.FLIGHT_OBJECTS_MAX
        self.bytes_max = bounds.FLIGHT_BYTES_MAX
        self.started_ms = started_ms
        self.began = Started()
        self.outcome: CommitOutcome = "ok"  # Of the part that did not land last,
        self.worst: CommitOutcome = "ok"  # and of all parts so far.
        self.trace: TraceContext | None = None  # The span of a sampled turn's commit.

    @property
    def full(self) -> bool:
        """Whether it must not grow."""
        return self.objects >= self.objects_max or self.size_bytes >= self.bytes_max

    def make_room(self, part: int) -> None:
        """However full it is, let one `part`-th of a flight more in: what is gathered next has waited for others."""
        self.objects_max = max(self.objects_max, self.objects + bounds.FLIGHT_OBJECTS_MAX // part)
        self.bytes_max = max(self.bytes_max, self.size_bytes + bounds.FLIGHT_BYTES_MAX // part)

    def part(self, shard: Shard) -> Part:
        """The part of `shard`."""
        part = self.parts.get(shard)
        if part is None:
            part = self.parts[shard] = Part(shard)
        return part

    def came_to(self, outcome: CommitOutcome) -> None:
        """A part of it did not simply land."""
        self.outcome = outcome
        self.worst = max(self.worst, outcome, key=_OUTCOMES.index)
