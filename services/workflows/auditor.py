"""Looks at open runs, some at a time and for ever: none may wait for what will never come.

The machine arms whatever a run waits for, and a test asks so after every event. The auditor is for what nobody thought
of: an alarm that was cancelled by hand, a fault of ours. It asks each run, which sets its alarms anew where they are
not as its state says; each such run is counted and logged, since there should be none.
"""

import asyncio
from collections.abc import Iterator

from services.workflows.bounds import AUDIT_PAUSE_MS, AUDIT_RUNS
from services.workflows.run import WorkflowRun
from services.workflows.standing import BY_STATUS, ENDED, STATUSES, Status
from shared.errors import TenureError
from shared.objects.address import Address
from shared.objects.config import Documents
from shared.objects.host import Host
from shared.objects.listings import Cursor
from shared.telemetry import logs

_log = logs.get_logger()
_OPEN: tuple[Status, ...] = tuple(status for status in STATUSES if status not in ENDED)


class Auditor:
    """The auditor of one node. `tenants` has the documents of tenants."""

    def __init__(self, host: Host, tenants: Documents) -> None:
        self._host = host
        self._tenants = tenants
        self._places = self._all_places()
        self._place: tuple[str, Status] | None = None
        self._after: Cursor | None = None

    async def run(self) -> None:
        """Look at runs for ever."""
        while True:
            await asyncio.sleep(AUDIT_PAUSE_MS / 1000)
            try:
                await self.look()
            except TenureError as error:
                _log.warning(logs.STORE_AWAY, error=str(error))

    async def look(self) -> int:
        """Look at the next open runs, 20 at most; how many there were. When all have been seen it begins anew.

        Raises:
            TenureError: they cannot be listed now.
        """
        if self._place is None:
            self._place, self._after = next(self._places, None), None
            if self._place is None:
                self._places = self._all_places()
                return 0
        tenant, status = self._place
        page = await self._host.listings.find(
            WorkflowRun, tenant, BY_STATUS, status, after=self._after, limit=AUDIT_RUNS
        )
        for row in page.rows:
            await self._audit(row.address)
        self._after = page.after
        if page.after is None:
            self._place = None
        return len(page.rows)

    async def _audit(self, run: Address) -> None:
        try:
            found: tuple[str, ...] = await self._host.call(run, WorkflowRun.audit)
        except TenureError:
            return  # It is away, or was forgotten since; the next round asks again.
        if found:
            self._host.metrics.workflow_repaired()
            _log.error(logs.RUN_REPAIRED, run=str(run), found="; ".join(found))

    def _all_places(self) -> Iterator[tuple[str, Status]]:
        tenants = [document.name for document in self._tenants.list_all("tenant")]
        return ((tenant, status) for tenant in tenants for status in _OPEN)
