"""Finding runs: by status, definition, step and one attribute, newest first, or by when they are due; in pages.

One filter is served by an index; what else is asked for is looked at in the rows that it finds, at most 10,000 of them
a page, so a page may be short although there are more. What no index serves is refused.
"""

from collections.abc import Iterable

import msgspec

from services.workflows.beginning import is_attribute_name
from services.workflows.bounds import LISTING_SCAN_ROWS
from services.workflows.run import WorkflowRun
from services.workflows.schemas import IncidentList, IncidentView, RunCount, RunFilter, RunList, RunSummary, Sort
from services.workflows.standing import (
    ALL,
    BY_BOTH,
    BY_DEFINITION,
    BY_STATUS,
    BY_STEP,
    DUE,
    ENDED,
    INCIDENT,
    OPEN,
    STATUSES,
    Look,
    Status,
    Summary,
    attribute_index,
)
from services.workflows.views import incident_views, summary_of, summary_view
from shared.bounds import INDEX_VALUE_BYTES_MAX
from shared.errors import InvalidInputError, NotFoundError
from shared.http.cursors import read_cursor, written_cursor
from shared.objects.host import Host
from shared.objects.listings import Cursor, Found

_ATTRIBUTE = "attr."
_ROWS = 500


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What runs are asked for, and in which order."""

    status: Status | None = None
    definition: str | None = None
    version: int | None = None
    attribute: tuple[str, str] | None = None
    step: str | None = None
    due_before: int | None = None
    sort: Sort = "-created"
    open_only: bool = False

    @classmethod
    def of(cls, wanted: RunFilter, *, sort: Sort | None = None, at: str = "$.filter") -> "Asked":
        """What a filter says; `at` is where it stands.

        Raises:
            InvalidInputError: no index serves this, or it is what no run can have: a name of an attribute, or a length.
        """
        order: Sort = sort or ("-created" if wanted.due_before is None else "due")
        if wanted.attribute is not None and not is_attribute_name(wanted.attribute[0]):
            raise InvalidInputError("No attribute has such a name", f"{at}.{_ATTRIBUTE}{wanted.attribute[0]}")
        if wanted.attribute is not None and (wanted.step is not None or order == "due"):
            detail = "Runs are found by an attribute, or by a step or a moment"
            raise InvalidInputError(detail, f"{at}.{_ATTRIBUTE}{wanted.attribute[0]}")
        if wanted.step is not None and wanted.definition is None:
            raise InvalidInputError("A step is one of a definition, which is not named", f"{at}.step")
        if wanted.version is not None and wanted.definition is None:
            raise InvalidInputError("A version is one of a definition, which is not named", f"{at}.version")
        if wanted.due_before is not None and order != "due":
            raise InvalidInputError("What is due is found in the order in which it is due", "sort")
        asked = cls(
            status=wanted.status,
            definition=wanted.definition,
            version=wanted.version,
            attribute=wanted.attribute,
            step=wanted.step,
            due_before=wanted.due_before,
            sort=order,
        )
        if len(asked.index()[1].encode()) > INDEX_VALUE_BYTES_MAX:
            raise InvalidInputError("No run has anything so long", f"{at}.{_longest(wanted)}")
        return asked

    def index(self) -> tuple[str, str]:
        """The index that serves it, and the value there."""
        if self.sort == "due":
            return DUE, OPEN
        if self.attribute is not None:
            return attribute_index(self.attribute[0]), self.attribute[1]
        if self.step is not None:
            return BY_STEP, f"{self.definition}/{self.step}"
        if self.status is not None and self.definition is not None:
            return BY_BOTH, f"{self.definition}/{self.status}"
        if self.definition is not None:
            return BY_DEFINITION, self.definition
        return (BY_STATUS, self.status) if self.status is not None else (ALL, ALL)

    def takes(self, row: Summary) -> bool:
        """Whether the row is what is asked for, as far as it shows."""
        if self.status not in (None, row.status) or self.definition not in (None, row.definition):
            return False
        if self.version not in (None, row.version) or (self.open_only and row.status in ENDED):
            return False
        return self.sort != "due" or self.step in (None, row.step)

    def ends_before(self, row: Found) -> bool:
        """Whether neither this row nor any behind it is asked for."""
        return self.due_before is not None and row.sort_ms >= self.due_before


def _longest(wanted: RunFilter) -> str:
    """What of a filter is too long for any index."""
    if wanted.attribute is not None:
        return f"{_ATTRIBUTE}{wanted.attribute[0]}"
    return "definition" if wanted.step is None else "step"


def attribute_in(query: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
    """The attribute that a query names, `attr.<name>=<value>`.

    Raises:
        InvalidInputError: it names two.
    """
    named = [(name.removeprefix(_ATTRIBUTE), value) for name, value in query if name.startswith(_ATTRIBUTE)]
    if len(named) > 1:
        raise InvalidInputError("Runs are found by one attribute at a time", f"query.{_ATTRIBUTE}{named[1][0]}")
    return named[0] if named else None


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
            if asked.ends_before(row):
                return RunList(runs=found, next_cursor=None)
            if asked.takes(summary := summary_of(row)):
                found.append(summary_view(row, summary))
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
    page = await host.listings.find(WorkflowRun, tenant, INCIDENT, OPEN, after=after, limit=limit)
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
