"""Finding runs: by status, definition and one attribute, newest first, in pages.

One filter is served by an index; what else is asked for is looked at in the rows that it finds, at most 10,000 of them
a page, so a page may be short although there are more.
"""

from collections.abc import Iterable, Sequence

import msgspec

from services.workflows.beginning import is_attribute_name
from services.workflows.bounds import LISTING_SCAN_ROWS
from services.workflows.run import WorkflowRun
from services.workflows.schemas import IncidentList, IncidentView, RunCount, RunList, RunSummary
from services.workflows.standing import (
    ALL,
    BY_BOTH,
    BY_DEFINITION,
    BY_STATUS,
    INCIDENT,
    STATUSES,
    Look,
    Status,
    attribute_index,
)
from services.workflows.views import incident_views, summary_view
from shared.errors import InvalidInputError, NotFoundError
from shared.http.cursors import read_cursor, written_cursor
from shared.objects.host import Host
from shared.objects.listings import Cursor, Found

_ATTRIBUTE = "attr."
_ROWS = 500


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What runs are asked for."""

    status: Status | None = None
    definition: str | None = None
    attribute: tuple[str, str] | None = None

    @classmethod
    def of(cls, query: Iterable[tuple[str, str]], *, status: Status | None, definition: str | None) -> "Asked":
        """With the attribute that a query names.

        Raises:
            InvalidInputError: it names two.
        """
        named = [(name.removeprefix(_ATTRIBUTE), value) for name, value in query if name.startswith(_ATTRIBUTE)]
        return cls.by(named, status=status, definition=definition)

    @classmethod
    def by(cls, named: Sequence[tuple[str, str]], *, status: Status | None, definition: str | None) -> "Asked":
        """With these attributes, of which there may be one.

        Raises:
            InvalidInputError: there are two, or it has a name that none can have.
        """
        if len(named) > 1:
            raise InvalidInputError("Runs are found by one attribute at a time", f"query.{_ATTRIBUTE}{named[1][0]}")
        if named and not is_attribute_name(named[0][0]):
            raise InvalidInputError("No attribute has such a name", f"query.{_ATTRIBUTE}{named[0][0]}")
        return cls(status=status, definition=definition, attribute=named[0] if named else None)

    def index(self) -> tuple[str, str]:
        """The index that serves it, and the value there."""
        if self.attribute is not None:
            return attribute_index(self.attribute[0]), self.attribute[1]
        if self.status is not None and self.definition is not None:
            return BY_BOTH, f"{self.definition}/{self.status}"
        if self.definition is not None:
            return BY_DEFINITION, self.definition
        return (BY_STATUS, self.status) if self.status is not None else (ALL, ALL)

    def takes(self, row: RunSummary) -> bool:
        """Whether the row is what is asked for, as far as it shows."""
        return self.status in (None, row.status) and self.definition in (None, row.definition)


async def list_runs(host: Host, tenant: str, asked: Asked, *, cursor: str | None, limit: int) -> RunList:
    """A page of runs.

    Raises:
        InvalidInputError: the cursor is none, or an attribute that cannot be one.
        UnavailableError, OverloadedError: as `Listings.find`.
    """
    index, value = asked.index()
    after = read_cursor(cursor, WorkflowRun.kind, tenant)
    found: list[RunSummary] = []
    seen = 0
    while True:
        page = await host.listings.find(WorkflowRun, tenant, index, value, after=after, limit=_ROWS)
        for row in page.rows:
            after = Cursor(row.sort_ms, row.address)
            if asked.takes(shown := summary_view(row)):
                found.append(shown)
                if len(found) == limit:
                    return RunList(runs=found, next_cursor=_cursor_of(row))
        seen += len(page.rows)
        if page.after is None:
            return RunList(runs=found, next_cursor=None)
        if seen >= LISTING_SCAN_ROWS:
            return RunList(runs=found, next_cursor=_cursor_of(page.rows[-1]))


async def count_runs(host: Host, tenant: str, definition: str | None) -> RunCount:
    """How many runs there are of each status.

    Raises:
        UnavailableError, OverloadedError: as `Listings.count`.
    """
    counts: dict[str, int] = {}
    for status in STATUSES:
        index, value = Asked(status=status, definition=definition).index()
        counts[status] = await host.listings.count(WorkflowRun, tenant, index, value)
    return RunCount(counts=counts, total=sum(counts.values()))


async def count_by_definition(host: Host, tenant: str, names: Iterable[str]) -> RunCount:
    """How many runs there are of each of these definitions.

    Raises:
        UnavailableError, OverloadedError: as `Listings.count`.
    """
    counts = {name: await host.listings.count(WorkflowRun, tenant, BY_DEFINITION, name) for name in names}
    return RunCount(counts=counts, total=sum(counts.values()))


async def list_incidents(host: Host, tenant: str, *, cursor: str | None, limit: int) -> IncidentList:
    """The incidents of at most `limit` runs.

    Raises:
        InvalidInputError: the cursor is none.
        TenureError: as `Listings.find` and `Host.call`.
    """
    after = read_cursor(cursor, WorkflowRun.kind, tenant)
    page = await host.listings.find(WorkflowRun, tenant, INCIDENT, "open", after=after, limit=limit)
    found: list[IncidentView] = []
    for row in page.rows:
        try:
            look: Look = await host.call(row.address, WorkflowRun.look, 0)
        except NotFoundError:
            continue  # It was forgotten since.
        found += incident_views(look)
    return IncidentList(incidents=found, next_cursor=None if page.after is None else _cursor_of(page.rows[-1]))


def _cursor_of(row: Found) -> str:
    return written_cursor(Cursor(row.sort_ms, row.address))
