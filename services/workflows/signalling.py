"""Signals by what they are about: to the open runs that have an attribute, or to one that begins with the signal.

Where there is no open run, the signal goes to the id that the new one will have, and that object says in one turn
whether it begins: so of two signals at once one begins a run, and none is lost.
"""

from hashlib import blake2b
from typing import NamedTuple

import msgspec

from services.workflows.beginning import Beginning, program_of, run_id_of
from services.workflows.book import DefinitionBook
from services.workflows.bounds import BULK_RUNS_MAX
from services.workflows.events import Signalled
from services.workflows.listing import Asked, list_runs
from services.workflows.machine import check_payload
from services.workflows.run import WorkflowRun
from services.workflows.schemas import RunFilter, RunList, RunNotChanged, RunsChanged, SignalRuns, StartIfNone
from shared.errors import InvalidInputError, NotFoundError, TenureError
from shared.objects.address import Address
from shared.objects.host import Host
from shared.objects.once import KeyedRequest


class _Fresh(NamedTuple):
    """A run that would begin, and with what."""

    run: Address
    beginning: Beginning


async def signal_runs(host: Host, book: DefinitionBook, tenant: str, asked: SignalRuns, key: str | None) -> RunsChanged:
    """Send the signal to every open run that is meant, 100 at most; with a key, once to each.

    Raises:
        NotFoundError: none is meant, and one was required; or there is no definition of which one could begin.
        PayloadTooLargeError: no run would take it.
        InvalidInputError: the attribute or the cursor cannot be, or a run cannot begin so.
        TenureError: as `WorkflowRun.start_or_signal`, for a run that is to begin.
        UnavailableError, OverloadedError: as `Listings.find`.
    """
    check_payload(asked.payload)
    if asked.start_if_none is not None and asked.cursor is not None:
        raise InvalidInputError("Whoever goes on from a page knows that there are runs", "$.start_if_none")
    fresh = None if asked.start_if_none is None else _fresh(host, book, tenant, asked, asked.start_if_none)
    page = await _open_runs(host, tenant, asked)
    event = Signalled(name=asked.name, payload=asked.payload, ttl_ms=asked.ttl_ms)
    once = None if key is None else KeyedRequest(key, WorkflowRun.happen, (event,))
    at_once = None if key is None else KeyedRequest(key, WorkflowRun.start_or_signal, (asked,))
    if fresh is not None and not page.runs:
        begun: bool = await host.call(fresh.run, WorkflowRun.start_or_signal, fresh.beginning, event, once=at_once)
        name = fresh.run.name
        return RunsChanged(changed=[name], refused=[], next_cursor=None, started=name if begun else None)
    if asked.require_match and not page.runs:
        raise NotFoundError("open run that this is about")

    async def send(run: Address) -> None:
        if fresh is not None and run == fresh.run:  # A repeat: it may be the one that this has begun.
            await host.call(run, WorkflowRun.start_or_signal, fresh.beginning, event, once=at_once)
        else:
            await host.call(run, WorkflowRun.happen, event, once=once)

    changed: list[str] = []
    refused: list[RunNotChanged] = []
    for run_id in [run.id for run in page.runs]:
        try:
            await send(Address(WorkflowRun.kind, tenant, run_id))
        except TenureError as error:
            refused.append(RunNotChanged(id=run_id, code=error.code, detail=str(error)))
        else:
            changed.append(run_id)
    return RunsChanged(changed=changed, refused=refused, next_cursor=page.next_cursor)


async def _open_runs(host: Host, tenant: str, asked: SignalRuns) -> RunList:
    """A page of the runs that are meant; where a run might begin, the first that is not empty."""
    wanted = Asked.of(RunFilter(definition=asked.definition, attribute=asked.attribute), at="$")
    wanted = msgspec.structs.replace(wanted, open_only=True)
    page = await list_runs(host, tenant, wanted, cursor=asked.cursor, limit=BULK_RUNS_MAX)
    while asked.start_if_none is not None and not page.runs and page.next_cursor is not None:
        page = await list_runs(host, tenant, wanted, cursor=page.next_cursor, limit=BULK_RUNS_MAX)
    return page


def _fresh(host: Host, book: DefinitionBook, tenant: str, asked: SignalRuns, start: StartIfNone) -> _Fresh:
    """The run that would begin."""
    definition = book.definition(tenant, asked.definition, start.version)
    program, now_ms = program_of(definition.text, definition.version), host.store_clock.now_ms()
    run_id = start.id or run_id_of(program, start.input, now_ms=now_ms) or _id_about(asked)
    beginning = Beginning(
        text=definition.text,
        version=definition.version,
        input=start.input,
        attributes=dict([asked.attribute]),
    )
    return _Fresh(Address(WorkflowRun.kind, tenant, run_id), beginning)


def _id_about(asked: SignalRuns) -> str:
    """The same for the same definition and attribute."""
    about = blake2b("\0".join(asked.attribute).encode(errors="surrogatepass"), digest_size=16).hexdigest()
    return f"{asked.definition}-{about}"
