"""Many runs at once: change those that a filter finds, as an operation; signal those that are about something."""

import re
import secrets
from collections.abc import Sequence

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from services.workflows.beginning import program_of
from services.workflows.book import DefinitionBook, UnknownDefinitionError
from services.workflows.bounds import OPERATIONS_OPEN_MAX
from services.workflows.listing import Asked
from services.workflows.migrating import check_targets
from services.workflows.operation import LISTED, RUNNING, Operation, OperationLook, next_cursor
from services.workflows.operation_schemas import ChangeRuns, MigrateTo, OperationList, OperationView
from services.workflows.records import Kept
from services.workflows.refusals import (
    RunExistsError,
    TooManyOperationsError,
    UnmappableStepError,
    WrongAnswerError,
)
from services.workflows.routes.access import ADMIN, READ, SIGNAL_PROBLEMS, WRITE, TheRuns, kept_of, made_of_key
from services.workflows.run import WorkflowRun
from services.workflows.schemas import RunsChanged, SignalRuns
from services.workflows.signalling import signal_runs
from shared.errors import InvalidInputError, NotFoundError
from shared.http.auth import Caller, require
from shared.http.calls import KEYED_PROBLEMS, AnyRequest, idempotency_key
from shared.http.cursors import PageCursor, PageLimit, read_cursor
from shared.objects.address import Address
from shared.objects.errors import TooLargeError

_OPERATION = "/v1/operations/{operation_id:str}"
_ID = re.compile(r"[0-9a-f]{32}")


@post(
    "/v1/bulk",
    status_code=202,
    guards=[require(ADMIN)],
    problems=(*KEYED_PROBLEMS, TooLargeError, TooManyOperationsError, UnknownDefinitionError, UnmappableStepError),
    response_description="It has begun, or had before under the same `Idempotency-Key`.",
    durable=True,
    of_object=True,
    repeatable=True,
    tags=["runs"],
)
async def change_many(
    credential: Caller,
    runs: TheRuns,
    book: NamedDependency[DefinitionBook],
    data: JSONBody[ChangeRuns],
    request: AnyRequest,
) -> Response[OperationView]:
    """Begin to do the same to many runs, and say under which path to see how far it is. `dry_run` changes none."""
    _check(data, credential.tenant)
    operation = Address(Operation.kind, credential.tenant, _id_of(request, credential.tenant))
    open_now = await runs.host.listings.count(Operation, credential.tenant, RUNNING, "")
    try:
        kept = None if data.to is None else _target(book, credential.tenant, data.to)
    except UnknownDefinitionError:
        if await runs.call(request, operation, Operation.look_if_there) is None:
            raise
        kept = None  # It has begun before the version was deleted, and keeps it.
    look = await runs.call(request, operation, Operation.begin, data, open_now < OPERATIONS_OPEN_MAX, kept)
    return Response(_view(operation, look), headers={"location": f"/v1/operations/{operation.name}"})


@get(_OPERATION, guards=[require(READ)], of_object=True, tags=["runs"])
async def get_operation(
    credential: Caller, runs: TheRuns, operation_id: FromPath[str], request: AnyRequest
) -> OperationView:
    """How far an operation is. It is kept for a week after its end."""
    operation = _address(credential, operation_id)
    return _view(operation, await runs.call(request, operation, Operation.look))


@get("/v1/operations", guards=[require(READ)], tags=["runs"])
async def list_operations(
    credential: Caller, runs: TheRuns, request: AnyRequest, cursor: PageCursor = None, limit: PageLimit = 100
) -> OperationList:
    """Operations, newest first."""
    look, tenant = Operation.look_if_there, credential.tenant
    found, after = await runs.listed(request, Operation, look, index=LISTED, tenant=tenant, cursor=cursor, limit=limit)
    return OperationList(operations=[_view(*each) for each in found], next_cursor=after)


@post(
    _OPERATION + "/stop",
    status_code=200,
    guards=[require(ADMIN)],
    problems=KEYED_PROBLEMS,
    durable=True,
    of_object=True,
    tags=["runs"],
)
async def stop_operation(
    credential: Caller, runs: TheRuns, operation_id: FromPath[str], request: AnyRequest
) -> OperationView:
    """Change no more runs. Those that are changed stay so."""
    operation = _address(credential, operation_id)
    return _view(operation, await runs.call(request, operation, Operation.stop))


@post(
    "/v1/signals",
    status_code=202,
    guards=[require(WRITE)],
    problems=(
        *SIGNAL_PROBLEMS,
        NotFoundError,
        RunExistsError,
        UnknownDefinitionError,
        WrongAnswerError,
    ),
    durable=True,
    repeatable=True,
    tags=["runs"],
)
async def signal_many(
    credential: Caller,
    runs: TheRuns,
    book: NamedDependency[DefinitionBook],
    data: JSONBody[SignalRuns],
    request: AnyRequest,
) -> RunsChanged:
    """Send a signal to the open runs that are about something, without knowing their ids; or begin one with it."""
    return await signal_runs(runs.host, book, credential.tenant, data, idempotency_key(request))


def _check(order: ChangeRuns, tenant: str) -> None:
    """Say nothing where there can be such an operation.

    Raises:
        InvalidInputError: there cannot, with the place of what is wrong.
    """
    if (order.op == "migrate") != (order.to is not None):
        raise InvalidInputError("To migrate and only that needs to know to which version", "$.to")
    if (order.filter is None) == (order.ids is None):
        raise InvalidInputError("The runs are found by a filter or named one by one: one of the two", "$.filter")
    if order.filter is not None:
        Asked.of(order.filter)
        read_cursor(order.cursor, WorkflowRun.kind, tenant)
    elif order.cursor is not None:
        raise InvalidInputError("Runs that are named are in no pages", "$.cursor")
    elif (again := _named_again(order.ids or ())) is not None:
        raise InvalidInputError("This run is named before", f"$.ids[{again}]")


def _target(book: DefinitionBook, tenant: str, to: MigrateTo) -> Kept:
    """What runs are migrated to.

    Raises:
        UnknownDefinitionError: there is no such version.
        UnmappableStepError: the map leads to a step that it does not have.
    """
    kept = kept_of(book, tenant, to.definition, to.version)
    check_targets(to.step_map, program_of(kept.text, kept.version))
    return kept


def _named_again(ids: Sequence[str]) -> int | None:
    """The first place of one that stands before it, too; None where there is none."""
    seen: set[str] = set()
    for at, one in enumerate(ids):
        if one in seen:
            return at
        seen.add(one)
    return None


def _id_of(request: AnyRequest, tenant: str) -> str:
    """The id of the operation: the same for the same `Idempotency-Key`, else a random one."""
    key = idempotency_key(request)
    return secrets.token_hex(16) if key is None else made_of_key(tenant, key)


def _address(credential: Caller, operation_id: str) -> Address:
    """The operation that the path names.

    Raises:
        NotFoundError: none has such an id.
    """
    if _ID.fullmatch(operation_id) is None:
        raise NotFoundError("such operation")
    return Address(Operation.kind, credential.tenant, operation_id)


def _view(operation: Address, look: OperationLook) -> OperationView:
    order, standing = look.order, look.standing
    return OperationView(
        id=operation.name,
        op=order.op,
        dry_run=order.dry_run,
        status=standing.status,
        changed=standing.changed,
        refused=standing.refused,
        errors=list(standing.errors),
        waits_for=standing.waits_for,
        started_ms=standing.started_ms,
        ended_ms=standing.ended_ms,
        next_cursor=next_cursor(order, standing),
    )


HANDLERS = (change_many, get_operation, list_operations, stop_operation, signal_many)
