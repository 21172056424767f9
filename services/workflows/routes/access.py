"""What routes share: who may call them, the run that a path names, and how that run is called."""

import re
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from typing import Any, TypeAlias

from litestar import post
from litestar.di import NamedDependency
from litestar.params import FromPath

from services.workflows.book import DefinitionBook
from services.workflows.bounds import WAIT_S_MAX
from services.workflows.events import AnyEvent
from services.workflows.paths import name_in
from services.workflows.records import Kept
from services.workflows.refusals import (
    MailboxFullError,
    NotWaitingError,
    PayloadTooLargeError,
    RunClosedError,
    RunGoneError,
    RunTooLargeError,
    WrongAnswerError,
)
from services.workflows.run import WorkflowRun
from services.workflows.schemas import RunChanged
from shared.bounds import HANDLER_DEADLINE_MS
from shared.errors import InvalidInputError, PreconditionFailedError
from shared.http.arrival import arrival_of
from shared.http.auth import Caller
from shared.http.calls import KEYED_PROBLEMS, AnyRequest, call_for, idempotency_key
from shared.http.cursors import read_cursor, written_cursor
from shared.objects.address import Address
from shared.objects.handler import DurableObject
from shared.objects.host import Host
from shared.objects.once import KeyedRequest

READ = "workflows:read"
WRITE = "workflows:write"
WORK = "workflows:work"
ADMIN = "workflows:admin"

EVENT_PROBLEMS = (*KEYED_PROBLEMS, PreconditionFailedError, RunClosedError, RunGoneError, RunTooLargeError)
ANSWER_PROBLEMS = (*EVENT_PROBLEMS, NotWaitingError, PayloadTooLargeError, WrongAnswerError)
SIGNAL_PROBLEMS = (*EVENT_PROBLEMS, MailboxFullError, PayloadTooLargeError)

change = partial(post, status_code=200, durable=True, of_object=True, repeatable=True)
"""A route that changes one run: answered when that is stored, and safe to repeat under its `Idempotency-Key`."""

_TAG = re.compile(rb'"s([0-9]{1,15})"')
_WAIT = re.compile(rb"(?:^|[,;\s])wait=([0-9]{1,9})(?:$|[,;\s])", re.IGNORECASE)


class Runs:
    """Calls runs for requests: answers say how often the run has run, and a key makes a call take effect once."""

    def __init__(self, host: Host) -> None:
        self.host = host

    async def call(self, request: AnyRequest, run: Address, method: Callable[..., Any], *args: Any) -> Any:
        """The reply of the run.

        Raises:
            TenureError: as `Host.call`.
        """
        return await call_for(request, self.host, run, method, *args)

    async def call_once(self, request: AnyRequest, run: Address, method: Callable[..., Any], *args: Any) -> Any:
        """The reply of an object that changes; the call takes effect once for each `Idempotency-Key`.

        Raises:
            TenureError: as `Host.call`.
        """
        key = idempotency_key(request)
        once = None if key is None else KeyedRequest(key, method, args)
        return await call_for(request, self.host, run, method, *args, once=once)

    async def wait(
        self, request: AnyRequest, run: Address, method: Callable[..., Any], until_ms: int, *args: Any
    ) -> Any:
        """The reply of the run, for which the caller waits until that moment at most.

        Raises:
            TenureError: as `Host.call`.
        """
        left_ms = max(0, until_ms - self.host.store_clock.now_ms())
        patience_ms = left_ms + HANDLER_DEADLINE_MS
        return await call_for(request, self.host, run, method, until_ms, *args, patience_ms=patience_ms)

    async def listed(
        self,
        request: AnyRequest,
        kind: type[DurableObject],
        look: Callable[..., Any],
        *,
        index: str,
        tenant: str,
        cursor: str | None,
        limit: int,
    ) -> tuple[list[tuple[Address, Any]], str | None]:
        """A page of the tenant's objects of a kind that `index` has, with how they look, and the cursor of the next.

        One that has gone meanwhile, whose look is None, is left out.

        Raises:
            TenureError: as `read_cursor`, `Listings.find`, `Host.call`.
        """
        page = await self.host.listings.find(
            kind, tenant, index, "", after=read_cursor(cursor, kind.kind, tenant), limit=limit
        )
        looks = [(row.address, await self.call(request, row.address, look)) for row in page.rows]
        found = [each for each in looks if each[1] is not None]
        return found, None if page.after is None else written_cursor(page.after)

    async def change(self, request: AnyRequest, run: Address, event: AnyEvent) -> RunChanged:
        """Let the event happen, once for each `Idempotency-Key`; with `If-Match`, to the run as it was seen alone.

        Raises:
            TenureError: as `WorkflowRun.happen`.
        """
        status = await self.call_once(request, run, WorkflowRun.happen, event, seen_seq(request))
        return RunChanged(id=run.name, status=status)


TheRuns: TypeAlias = NamedDependency[Runs]
TheRun: TypeAlias = NamedDependency[Address]
"""The run that the path names."""


def provide_run(credential: Caller, run_id: FromPath[str]) -> Address:
    """The run of the caller's tenant that the path names.

    Raises:
        InvalidInputError: the segment is no name.
    """
    return Address(WorkflowRun.kind, credential.tenant, name_in(run_id, "run_id"))


def kept_of(book: DefinitionBook, tenant: str, name: str, version: int) -> Kept:
    """A version of a definition, as a run keeps it.

    Raises:
        UnknownDefinitionError: there is none.
    """
    definition = book.definition(tenant, name, version)
    return Kept(text=definition.text, version=definition.version)


def made_of_key(tenant: str, key: str) -> str:
    """What stands in an id for an idempotency key of the tenant: the same for the same."""
    return blake2b(f"{tenant}\0{key}".encode(), digest_size=16).hexdigest()


def seen_seq(request: AnyRequest) -> int | None:
    """Of `If-Match`, the `seq` of the run as the caller has seen it; None where any will do.

    Raises:
        InvalidInputError: it is no entity tag of a run.
    """
    given = arrival_of(request.scope).fields.get(b"if-match", b"*").strip()
    if given == b"*":
        return None
    tag = _TAG.fullmatch(given)
    if tag is None:
        raise InvalidInputError('This must be * or an entity tag like "s3"', "header.if-match")
    return int(tag[1])


def preferred_wait_s(request: AnyRequest) -> int:
    """Of `Prefer: wait=N` (RFC 7240), how many seconds the caller would wait for the end of the run; 0: none.

    A preference that is none of ours, or more than we do, is passed over or cut, as the RFC says.
    """
    given = arrival_of(request.scope).fields.get(b"prefer", b"")
    found = _WAIT.search(given)
    return min(int(found[1]), WAIT_S_MAX) if found is not None else 0
