"""Looks at open runs, schedules and operations, some at a time and for ever: none may wait for what will never come.

The machine arms whatever a run waits for, and a test asks so after every event. The auditor is for what nobody thought
of: an alarm that was cancelled by hand, a queue that was deleted or restored from before, a fault of ours. It asks each
run, which sets its alarms anew where they are not as its state says, and has it send again what it waits for and nobody
has: a task that its queue has lost, a child that is gone or whose end was not heard of. Each such run is counted and
logged, since there should be none.
"""

import asyncio
from collections.abc import Iterator
from typing import TypeAlias

from services.workflows.bounds import AUDIT_PAUSE_MS, AUDIT_RUNS
from services.workflows.desk import is_in_queue
from services.workflows.draft import outstanding
from services.workflows.errands import Errand
from services.workflows.intents import SendTask, Sent, StartChild
from services.workflows.operation import RUNNING, Operation
from services.workflows.run import WorkflowRun
from services.workflows.schedule import LISTED, Schedule
from services.workflows.standing import BY_STATUS, ENDED, STATUSES, Look, Status
from shared.errors import NotFoundError, TenureError
from shared.objects.address import Address
from shared.objects.config import Documents
from shared.objects.host import Host
from shared.objects.listings import Cursor
from shared.telemetry import logs

_log = logs.get_logger()
_Audited: TypeAlias = type[WorkflowRun | Schedule | Operation]
_Place: TypeAlias = tuple[_Audited, str, str, str]
"""Which objects of which tenant: by an index, and the value there."""
_OPEN: tuple[Status, ...] = tuple(status for status in STATUSES if status not in ENDED)


class Auditor:
    """The auditor of one node. `tenants` has the documents of tenants."""

    def __init__(self, host: Host, tenants: Documents) -> None:
        self._host = host
        self._tenants = tenants
        self._places = self._all_places()
        self._place: _Place | None = None
        self._after: Cursor | None = None

    async def run(self) -> None:
        """Look at them for ever."""
        while True:
            await asyncio.sleep(AUDIT_PAUSE_MS / 1000)
            try:
                await self.look()
            except TenureError as error:
                _log.warning(logs.STORE_AWAY, error=str(error))

    async def look(self) -> int:
        """Look at the next of them, 20 at most; how many there were. When all have been seen it begins anew.

        Raises:
            TenureError: they cannot be listed now.
        """
        if self._place is None:
            self._place, self._after = next(self._places, None), None
            if self._place is None:
                self._places = self._all_places()
                return 0
        kind, tenant, index, value = self._place
        page = await self._host.listings.find(kind, tenant, index, value, after=self._after, limit=AUDIT_RUNS)
        for row in page.rows:
            await self._audit(kind, row.address)
        self._after = page.after
        if page.after is None:
            self._place = None
        return len(page.rows)

    async def _audit(self, kind: _Audited, address: Address) -> None:
        found: list[str] = []
        try:
            found += await self._host.call(address, kind.audit)
            if kind is WorkflowRun and (lost := await self._lost(address)):
                again = await self._host.call(address, WorkflowRun.send_again, tuple(sent.serial for sent, _ in lost))
                found += [why for sent, why in lost if sent.serial in again]
        except TenureError:
            pass  # It, a queue or a child is away, or was forgotten since; the next round asks again.
        if found:
            self._host.metrics.workflow_repaired()
            _log.error(logs.RUN_REPAIRED, run=str(address), found="; ".join(found))

    async def _lost(self, run: Address) -> list[tuple[Sent, str]]:
        """What the run waits for and has sent, but nobody has; and where it was missed."""
        look: Look = await self._host.call(run, WorkflowRun.look, 0)
        waits = [sent for sent in outstanding(look.run) if isinstance(sent, SendTask | StartChild)]
        errands: list[Errand] = await self._host.call(run, WorkflowRun.errands) if waits else []
        sending, now_ms = {errand.intent.serial for errand in errands}, self._host.store_clock.now_ms()
        lost: list[tuple[Sent, str]] = []
        for sent in waits:
            if sent.serial in sending or (sent.due_ms is not None and sent.due_ms <= now_ms):
                continue
            if isinstance(sent, StartChild):
                if not await self._is_child_there(run, sent):
                    lost.append((sent, f"the child of {sent.path}, {sent.id}, was gone or had not told its end"))
            elif not await is_in_queue(self._host, run, sent):
                lost.append((sent, f"the task of {sent.path} was not in its queue {sent.queue}"))
        return lost

    async def _is_child_there(self, run: Address, call: StartChild) -> bool:
        """Whether the child is open, or is about to tell how it has ended."""
        child = Address(WorkflowRun.kind, run.tenant, call.id)
        try:
            look: Look = await self._host.call(child, WorkflowRun.look, 0)
        except NotFoundError:
            return False
        return look.run.phase != "ended" or bool(await self._host.call(child, WorkflowRun.errands))

    def _all_places(self) -> Iterator[_Place]:
        for tenant in [document.name for document in self._tenants.list_all("tenant")]:
            for status in _OPEN:
                yield WorkflowRun, tenant, BY_STATUS, status
            yield Schedule, tenant, LISTED, ""
            yield Operation, tenant, RUNNING, ""
