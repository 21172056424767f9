"""The Litestar application of a service, made one way: strict in, problems out, nothing open by default.

What a service hands over is its routes, its dependencies and the errors of its own; what it gets
is an application in which every route needs a credential, every body is decoded strictly, every
error is a problem document, every response carries the security headers and the request id, and
every request is counted under its route template, never under its path. The application serves no
documentation: `openapi_json` gives the document, and the admin listener shows it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, cast

from litestar import Litestar, Request, Response
from litestar.di import Provide
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotAuthorizedException,
    NotFoundException,
    ValidationException,
)
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.types import Message, Scope

from shared.errors import InvalidInputError, NotFoundError, UnauthenticatedError
from shared.http.answers import telling_fields
from shared.http.arrival import arrival_of, response_headers
from shared.http.asgi import ASGIApp
from shared.http.auth import Authenticate, KeyRing, provide_admission, provide_credential
from shared.http.decoding import StrictRequest
from shared.http.errors import MethodNotAllowedError
from shared.http.faults import report_fault
from shared.http.methods import allow_of, options_routes
from shared.http.observe import UNROUTED, Observe, method_label
from shared.http.openapi import ClosedStructs, complete, encode_document
from shared.http.parameters import check_parameters, learn_parameters
from shared.http.problem import ProblemTable, Rows
from shared.http.tracing import traced
from shared.telemetry.traces import Tracer

_DOCUMENT = "openapi_document"


def create_app(
    *,
    title: str,
    version: str,
    description: str = "",
    route_handlers: Sequence[HTTPRouteHandler],
    keys: KeyRing,
    problems: Rows | None = None,
    dependencies: Mapping[str, Provide] | None = None,
    tracer: Tracer | None = None,
    observe: Observe | None = None,
    stopwatch: Callable[[], float] = time.perf_counter,
    durability: int | None = None,
) -> Litestar:
    """The application of one service.

    `problems` are rows for errors of the service's own; pass the same table to the `Guard` if a
    fast lane raises them. Handlers may ask for the dependencies `credential` and `admission`. `observe` is told of
    every response, with the seconds since the guard saw the request. `durability` is the level that
    answers to writes name (`shared.http.answers`); None: they name none.
    """
    table = ProblemTable(problems)

    def build(openapi_config: OpenAPIConfig | None) -> Litestar:
        return Litestar(
            route_handlers=[*options_routes(route_handlers), *route_handlers],
            dependencies={
                "credential": Provide(provide_credential, sync_to_thread=False),
                "admission": Provide(provide_admission(keys), sync_to_thread=False),
                **(dependencies or {}),
            },
            guards=[Authenticate(keys)],
            before_request=check_parameters,
            middleware=[traced(tracer)] if tracer is not None and tracer.enabled else [],
            exception_handlers={Exception: _answer_with(table)},
            before_send=[_finish_with(observe, stopwatch, durability)],
            request_class=StrictRequest,
            openapi_config=openapi_config,
            plugins=[ClosedStructs()],
            logging_config=None,
            debug=False,
        )

    def document() -> dict[str, Any]:
        # A twin is asked, because an application that can describe itself also serves the description.
        described = build(
            OpenAPIConfig(title=title, version=version, description=description or None, use_handler_docstrings=True)
        )
        return complete(described.openapi_schema.to_schema(), described, table)

    app = build(None)
    learn_parameters(app)
    app.state[_DOCUMENT] = document
    return app


def asgi(app: Litestar) -> ASGIApp:
    """The application as plain ASGI, for the guard and for fast lanes: Litestar types its scopes in its own way."""
    return cast("ASGIApp", app)


def openapi_json(app: Litestar) -> bytes:
    """The OpenAPI 3.1 document of an application of `create_app`: the same bytes for the same routes."""
    return encode_document(app.state[_DOCUMENT]())


def as_tenure_error(error: Exception) -> Exception:
    """The error of ours that says what one of Litestar's says; any other error is returned as it is."""
    match error:
        case ValidationException():
            return _invalid(error)
        case NotFoundException():
            return NotFoundError("such path; the admin port shows those that there are, at /docs")
        case MethodNotAllowedException():
            allow = (error.headers or {}).get("allow", "")
            return MethodNotAllowedError(allow_of(allow.split(", ")))
        case NotAuthorizedException():
            return UnauthenticatedError()
        case HTTPException(status_code=status) if status < 500:
            return InvalidInputError(error.detail)
    return error


def _invalid(error: ValidationException) -> InvalidInputError:
    extra = error.extra
    first = extra[0] if isinstance(extra, list) and extra else None
    if not isinstance(first, dict):
        if "data" in error.detail:
            return InvalidInputError("A body is required", "$")
        return InvalidInputError("A parameter is not valid")
    source, key = first.get("source", "body"), first.get("key", "")
    if key == "data":
        return InvalidInputError("A body is required", "$")
    source = source.value if isinstance(source, Enum) else source
    where = f"{source}.{key.replace('_', '-') if source == 'header' else key}"
    return InvalidInputError(first.get("message", "This value is not valid"), where)


def _answer_with(table: ProblemTable) -> Callable[[Request[Any, Any, Any], Exception], Response[bytes]]:
    """The handler of every exception: log what is our fault, tell the rest."""

    def answer(request: Request[Any, Any, Any], exc: Exception) -> Response[bytes]:
        error = as_tenure_error(exc)
        arrival = arrival_of(request.scope)
        problem = table.problem(error, request_id=arrival.request_id, trace_id=arrival.trace_id)
        if problem.status == 500:
            report_fault(error, arrival, method=request.method, route=request.scope.get("path_template", UNROUTED))
        headers = {name.decode(): value.decode() for name, value in problem.headers}
        media_type = headers.pop("content-type")
        return Response(problem.body(), status_code=problem.status, headers=headers, media_type=media_type)

    return answer


def _finish_with(
    observe: Observe | None, stopwatch: Callable[[], float], durability: int | None
) -> Callable[[Message, Scope], Any]:
    """The hook on every message sent: add the fields that all responses carry, count what is complete."""

    async def finish(message: Message, scope: Scope) -> None:
        arrival = arrival_of(scope)
        if message["type"] == "http.response.start":
            arrival.status = message["status"]
            handler: Any = scope.get("route_handler")  # Not there where no route was found, whatever its type says.
            options = {} if handler is None else handler.opt
            told = telling_fields(options, arrival, seconds=stopwatch() - arrival.started_s, durability=durability)
            message["headers"] = [*message["headers"], *told, *response_headers(arrival)]
        elif message["type"] == "http.response.body" and not message.get("more_body") and observe is not None:
            route = scope.get("path_template", UNROUTED)
            observe(
                method_label(str(scope.get("method"))),
                route,
                arrival.status,
                stopwatch() - arrival.started_s,
                arrival.trace,
            )

    return finish
