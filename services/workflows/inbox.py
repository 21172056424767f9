"""The inbox: what people are asked, found by whom it is for. One object for each wait that is given to somebody.

The object is no more than an entry in an index: whom the wait is for, and where it stands. What is shown is read from
the run when it is looked at, so a claim or a new deadline is never seen late. An entry whose wait is over is passed
over until it is taken away, which is an errand of its run.
"""

import asyncio
from typing import ClassVar

import msgspec

from services.workflows.intents import AskFor
from services.workflows.run import WorkflowRun
from services.workflows.standing import Look
from services.workflows.state import Activity
from shared.bounds import MOMENT_MS_MAX
from shared.errors import NotFoundError
from shared.objects.address import Address
from shared.objects.handler import DurableObject
from shared.objects.host import Host
from shared.objects.listings import Cursor

EVERYBODY = "all"
"""The index of all that is given to somebody; the others are `user` and `group`."""
_ENTRY = "entry"


class Entry(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Where a wait stands, and whom it is for. `due_ms` is 0 where it has no timeout."""

    run: str
    path: str
    serial: int
    assign: tuple[tuple[str, str], ...]
    due_ms: int


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A wait in somebody's inbox, as its run has it."""

    run: str
    definition: str
    activity: Activity
    shown: AskFor


class InboxEntry(DurableObject):
    """One wait that is given to somebody. The address's name says the run and the serial of what is shown."""

    kind: ClassVar[str] = "inbox"

    def show(self, entry: Entry) -> None:
        """Be found by whom the wait is for, the most urgent first; also again, when it is given to others."""
        self.storage.put(_ENTRY, entry)
        summary = msgspec.msgpack.encode(entry.serial)
        assign = dict(entry.assign)
        for name in ("user", "group"):
            if name in assign:
                self.index.set(name, assign[name], entry.due_ms or MOMENT_MS_MAX, summary)
            else:
                self.index.clear(name)
        self.index.set(EVERYBODY, EVERYBODY, entry.due_ms or MOMENT_MS_MAX, summary)

    def take_away(self) -> None:
        """The wait is over."""
        self.storage.delete_all()

    def entry(self) -> Entry | None:
        """Where the wait stands; None where it is over."""
        kept: Entry | None = self.storage.get(_ENTRY, Entry)
        return kept


async def show_wait(host: Host, run: Address, shown: AskFor) -> None:
    """Put the wait into the inbox of whom it is given to. A wait that is given to nobody is in none."""
    entry = Entry(
        run=run.name,
        path=shown.path,
        serial=shown.serial,
        assign=tuple(sorted(shown.assign.items())),
        due_ms=shown.due_ms or 0,
    )
    if entry.assign:
        await host.call(_address(run, shown.serial), InboxEntry.show, entry)


async def take_away_wait(host: Host, run: Address, shown: AskFor) -> None:
    """The wait is over: take it out of the inbox."""
    if shown.assign:
        await host.call(_address(run, shown.serial), InboxEntry.take_away)


class InboxPage(msgspec.Struct, frozen=True, kw_only=True):
    """Waits, the most urgent first, and where the next page begins."""

    asked: list[Asked]
    after: Cursor | None


async def read_inbox(host: Host, tenant: str, index: str, value: str, *, after: Cursor | None, limit: int) -> InboxPage:
    """What is in somebody's inbox, as the runs have it now.

    Raises:
        TenureError: as `Listings.find` and `Host.call`.
    """
    page = await host.listings.find(InboxEntry, tenant, index, value, after=after, limit=limit)
    found = await asyncio.gather(*(_asked(host, row.address) for row in page.rows))
    asked = [one for one in found if one is not None and _is_for(one.shown, index, value)]
    return InboxPage(asked=asked, after=page.after)


async def _asked(host: Host, item: Address) -> Asked | None:
    entry: Entry | None = await host.call(item, InboxEntry.entry)
    if entry is None:
        return None
    try:
        look: Look = await host.call(Address(WorkflowRun.kind, item.tenant, entry.run), WorkflowRun.look, 0)
    except NotFoundError:
        return None
    scope = look.run.scopes.get(entry.path.rpartition("/")[0])
    activity = None if scope is None else scope.activity
    if activity is None or activity.serial != entry.serial or not isinstance(activity.sent, AskFor):
        return None
    return Asked(run=entry.run, definition=look.run.definition, activity=activity, shown=activity.sent)


def _is_for(shown: AskFor, index: str, value: str) -> bool:
    """Whether the wait is still for whom it was found; it may have been given to others since."""
    return index == EVERYBODY or shown.assign.get(index) == value


def _address(run: Address, serial: int) -> Address:
    return Address(InboxEntry.kind, run.tenant, f"{run.name}#{serial}")
