"""Definitions: put, look at, validate, try a step."""

import msgspec
from litestar import Response, delete, get, post, put
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody

from services.workflows.book import Definition, DefinitionBook, UnknownDefinitionError
from services.workflows.definition import define, read_json
from services.workflows.definition_schemas import (
    DefinitionIsValid,
    DefinitionList,
    DefinitionSummary,
    DefinitionView,
    StepTried,
    TryStep,
)
from services.workflows.definitions import DefinitionExistsError, Definitions, checked
from services.workflows.problems import DefinitionError
from services.workflows.refusals import NotWaitingError, PayloadTooLargeError, UnknownStepError, WrongAnswerError
from services.workflows.routes.access import ADMIN, READ, TheRuns
from services.workflows.trying import try_step
from shared.http.arrival import arrival_of
from shared.http.auth import Caller, require
from shared.http.calls import AnyRequest
from shared.objects.errors import TooLargeError
from shared.storage.interface import StoreFullError

Shelf = NamedDependency[Definitions]
Book = NamedDependency[DefinitionBook]
_TEXT = "A definition, as YAML or JSON: docs/reference/workflow-definitions.md, and its JSON Schema beside it."
_CREATED = {201: ResponseSpec(data_container=DefinitionView, description="It is new.", generate_examples=False)}


@put(
    "/v1/definitions/{name:str}/versions/{version:int}",
    guards=[require(ADMIN)],
    problems=(DefinitionError, DefinitionExistsError, TooLargeError, StoreFullError),
    text_body=_TEXT,
    responses=_CREATED,
    response_description="It was put before, as it is.",
    durable=True,
    tags=["definitions"],
)
async def put_definition(
    *, credential: Caller, shelf: Shelf, book: Book, name: FromPath[str], version: FromPath[int], request: AnyRequest
) -> Response[DefinitionView]:
    """Keep a version of a definition for good. What is wrong with it is told whole, each problem with its place."""
    arrival = arrival_of(request.scope)
    media_type = arrival.fields.get(b"content-type", b"")
    definition, created = await shelf.put(credential.tenant, name, version, arrival.body, media_type)
    return Response(_view(definition, book, credential.tenant), status_code=201 if created else 200)


@get("/v1/definitions", guards=[require(READ)], tags=["definitions"], sync_to_thread=False)
def list_definitions(credential: Caller, book: Book) -> DefinitionList:
    """All definitions of the tenant, by name."""
    tenant = credential.tenant
    return DefinitionList(
        definitions=[DefinitionSummary(name=name, versions=book.versions(tenant, name)) for name in book.names(tenant)]
    )


@get("/v1/definitions/{name:str}", guards=[require(READ)], tags=["definitions"], sync_to_thread=False)
def get_definition(credential: Caller, book: Book, name: FromPath[str]) -> DefinitionView:
    """The newest version of a definition: that with the highest number."""
    return _view(book.definition(credential.tenant, name), book, credential.tenant)


@get(
    "/v1/definitions/{name:str}/versions/{version:int}",
    guards=[require(READ)],
    tags=["definitions"],
    sync_to_thread=False,
)
def get_definition_version(
    credential: Caller, book: Book, name: FromPath[str], version: FromPath[int]
) -> DefinitionView:
    """A version of a definition."""
    return _view(book.definition(credential.tenant, name, version), book, credential.tenant)


@delete(
    "/v1/definitions/{name:str}/versions/{version:int}",
    guards=[require(ADMIN)],
    problems=(UnknownDefinitionError,),
    durable=True,
    tags=["definitions"],
)
async def delete_definition(credential: Caller, shelf: Shelf, name: FromPath[str], version: FromPath[int]) -> None:
    """Forget a version. No run can be started from it any more; those that were keep it themselves."""
    await shelf.delete(credential.tenant, name, version)


@post(
    "/v1/definitions/validate",
    status_code=200,
    guards=[require(READ)],
    problems=(DefinitionError,),
    text_body=_TEXT,
    tags=["definitions"],
    sync_to_thread=False,
)
def validate_definition(request: AnyRequest) -> DefinitionIsValid:
    """Say whether a definition could be put, and if not, everything that is wrong with it."""
    arrival = arrival_of(request.scope)
    source, _, _ = checked(arrival.body, arrival.fields.get(b"content-type", b""))
    return DefinitionIsValid(name=source.tree["workflow"], steps=len(source.tree["steps"]))


@post(
    "/v1/definitions/test-step",
    status_code=200,
    guards=[require(READ)],
    problems=(DefinitionError, UnknownStepError, NotWaitingError, WrongAnswerError, PayloadTooLargeError),
    tags=["definitions"],
    sync_to_thread=False,
)
def test_step(runs: TheRuns, data: JSONBody[TryStep]) -> StepTried:
    """Try one step of a definition with an answer that is given, and see what it would send and where it leads."""
    program = define(read_json(msgspec.json.encode(data.definition).decode()))
    return try_step(program, data, now_ms=runs.host.store_clock.now_ms())


def _view(definition: Definition, book: DefinitionBook, tenant: str) -> DefinitionView:
    return DefinitionView(
        name=definition.name,
        version=definition.version,
        changed_ms=definition.changed_ms,
        versions=book.versions(tenant, definition.name),
        media_type=definition.media_type,
        source=definition.source,
    )


HANDLERS = (
    put_definition,
    list_definitions,
    get_definition,
    get_definition_version,
    delete_definition,
    validate_definition,
    test_step,
)
