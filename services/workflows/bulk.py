"""The same for many runs: found by what they have in common, and changed one after another.

Each run stands alone: what does not fit one is told in its place and hinders no other. A request changes so many and
says where it ended, so nothing goes on in the background that nobody watches; whoever asks again with the same filter
and no cursor begins with those that are newest now.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from services.workflows.events import AnyEvent, Cancelled, Paused, Resumed, Terminated
from services.workflows.listing import Asked, list_runs
from services.workflows.run import WorkflowRun
from services.workflows.schemas import ChangeRuns, RunNotChanged, RunsChanged
from shared.errors import TenureError
from shared.objects.address import Address
from shared.objects.host import Host

Change = Callable[[Address], Awaitable[Any]]


async def change_runs(host: Host, tenant: str, asked: ChangeRuns) -> RunsChanged:
    """Do to the runs what is asked.

    Raises:
        InvalidInputError: the filter or the cursor cannot be.
        UnavailableError, OverloadedError: as `Listings.find`.
    """
    meant = Asked.of(asked.filter)
    page = await list_runs(host, tenant, meant, cursor=asked.cursor, limit=asked.limit)
    ids = [run.id for run in page.runs]
    if asked.dry_run:
        return RunsChanged(changed=ids, refused=[], next_cursor=page.next_cursor)
    changed, refused = await each_run(tenant, ids, _change_of(host, asked))
    return RunsChanged(changed=changed, refused=refused, next_cursor=page.next_cursor)


async def each_run(tenant: str, ids: list[str], change: Change) -> tuple[list[str], list[RunNotChanged]]:
    """Change one run after another: which were changed, and which were not, and why."""
    changed: list[str] = []
    refused: list[RunNotChanged] = []
    for run_id in ids:
        try:
            await change(Address(WorkflowRun.kind, tenant, run_id))
        except TenureError as error:
            refused.append(RunNotChanged(id=run_id, code=error.code, detail=str(error)))
        else:
            changed.append(run_id)
    return changed, refused


def _change_of(host: Host, asked: ChangeRuns) -> Change:
    """What is done to each run."""
    methods: dict[str, Callable[..., Any]] = {"retry": WorkflowRun.retry_all, "purge": WorkflowRun.purge}
    if (method := methods.get(asked.op)) is not None:
        return lambda run: host.call(run, method)
    events: dict[str, AnyEvent] = {
        "cancel": Cancelled(reason=asked.reason),
        "terminate": Terminated(reason=asked.reason),
        "pause": Paused(),
        "resume": Resumed(),
    }
    event = events[asked.op]
    return lambda run: host.call(run, WorkflowRun.happen, event)
