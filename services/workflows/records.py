"""What a run keeps beside its state: its definition, how often it has changed, who waits for it, how it is found.

Index rows that are as they were are not written, so a turn costs the rows that it changes.
"""

from collections.abc import Mapping

import msgspec

from services.workflows.errands import Parent
from services.workflows.standing import SOMETIMES, Status, attribute_index, rows_of, status_of
from services.workflows.state import Run
from shared.objects.index import Index
from shared.objects.state import ObjectState
from shared.telemetry.context import current_traceparent

HEAD = "head"
"""The key under which every change of the run writes."""
_DEFINITION, _PARENT, _ATTRIBUTES, _TRACE = "definition", "parent", "attributes", "trace"


class Kept(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """The definition of the run: its text as JSON, and its version."""

    text: str
    version: int


class Head(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """How often the run has changed, and what a listing says of it. `resends`: how often errands were sent again."""

    seq: int
    status: Status
    resends: int = 0


class Records:
    """The records of one run, in its storage and its indexes."""

    def __init__(self, storage: ObjectState, index: Index) -> None:
        self._storage = storage
        self._index = index

    @property
    def kept(self) -> Kept | None:
        """Its definition; None where there is no run."""
        return self._storage.get(_DEFINITION, Kept)

    @property
    def head(self) -> Head:
        """How often it has changed."""
        head: Head = self._storage.get(HEAD, Head, default=Head(seq=0, status="running"))
        return head

    @property
    def parent(self) -> Parent | None:
        """Who has started it and waits for its end."""
        return self._storage.get(_PARENT, Parent)

    @property
    def attributes(self) -> dict[str, str]:
        """What it is found by."""
        stored = self._storage.get(_ATTRIBUTES, bytes, default=b"{}")
        return msgspec.json.decode(stored, type=dict[str, str])

    @property
    def trace(self) -> str:
        """The span in which it was started, as a `traceparent`; empty if that was not sampled."""
        return self._storage.get(_TRACE, str, default="")

    def begin(self, kept: Kept, attributes: Mapping[str, str], parent: Parent | None) -> None:
        """Those of a run that begins. Of one that had the id before, the definition, parent and attributes go."""
        for name in self.attributes.keys() - attributes.keys():
            self._index.clear(attribute_index(name))
        self._storage.put(_DEFINITION, kept)
        self._put(_ATTRIBUTES, msgspec.json.encode(attributes) if attributes else None)
        self._put(_PARENT, parent)
        self._put(_TRACE, current_traceparent() or None)

    def report_to(self, parent: Parent) -> None:
        """Another attempt of the step that has started it waits for its end."""
        self._storage.put(_PARENT, parent)

    def keep(self, kept: Kept) -> None:
        """The run has another version of its definition."""
        self._storage.put(_DEFINITION, kept)

    def count_resend(self) -> int:
        """Errands are sent again; how often they were before."""
        head = self.head
        self._storage.put(HEAD, msgspec.structs.replace(head, resends=head.resends + 1))
        return head.resends

    def change(self, run: Run) -> None:
        """Count the change, and bring the index up to date."""
        status = status_of(run)
        self._storage.put(HEAD, Head(seq=self.head.seq + 1, status=status))
        rows = rows_of(run, status, self.attributes)
        for name in SOMETIMES:
            if name not in rows:
                self._index.clear(name)
        for name, row in rows.items():
            self._index.set(name, row.value, row.sort_ms, msgspec.msgpack.encode(row.summary))

    def _put(self, key: str, value: object) -> None:
        if value is None:
            self._storage.delete(key)
        else:
            self._storage.put(key, value)
