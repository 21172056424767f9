"""What the generated OpenAPI document lacks, put in: closed schemas, credentials, and every problem.

Litestar describes routes, parameters and bodies; it does not know that unknown fields are refused,
that every route needs a credential, or that errors are problem documents. A route names errors
beyond the usual ones with `problems=(SomeError, ...)` in its decorator.

Sources: OpenAPI 3.1.0; RFC 9457.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from litestar import Litestar
from litestar.handlers.base import BaseRouteHandler
from litestar.openapi.spec import Schema
from litestar.plugins import OpenAPISchemaPlugin
from litestar.routes import HTTPRoute
from litestar.typing import FieldDefinition

from shared.bounds import REQUEST_KEY_BYTES_MAX
from shared.errors import ForbiddenError, InvalidInputError, NotFoundError, TenureError, UnauthenticatedError
from shared.http.answers import FIELDS
from shared.http.auth import ANONYMOUS, BY_GATEWAY, BY_SESSION, GATEWAY_KEY, required_scopes
from shared.http.contents import CONTENT, describe
from shared.http.errors import BodyTimeoutError, UnsupportedMediaTypeError
from shared.http.problem import MEDIA_TYPE, TYPE_PREFIX, ProblemTable
from shared.objects.errors import HandlerError, OverloadedError, TooLargeError, UnavailableError

REPEATABLE = "repeatable"
"""Option of a route handler: it takes effect once for each `Idempotency-Key`."""
TEXT_BODY = "text_body"
"""Option of a route handler: what its body is, as JSON or YAML text that the handler reads itself."""
PROBLEMS = "problems"
"""Option of a route handler: error classes it can answer with, besides the usual ones."""

_IDEMPOTENCY_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key and request take effect once in 24 h, and get the same answer.",
    "schema": {"type": "string", "minLength": 1, "maxLength": REQUEST_KEY_BYTES_MAX},
}
_EVERYWHERE = (InvalidInputError, HandlerError, OverloadedError, UnavailableError)
_WITH_CREDENTIAL = (UnauthenticatedError, ForbiddenError)
_WITH_BODY = (BodyTimeoutError, TooLargeError, UnsupportedMediaTypeError)

_PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "description": "An error (RFC 9457). `code` is for programs and stable; `detail` is for people.",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "description": f"`{TYPE_PREFIX}` and the code."},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "where": {"type": "string", "description": "The place of bad input, as a JSON path or `query.name`."},
        "scope": {"type": "string", "description": "The scope that the credential lacks."},
        "size_max": {"type": "integer", "description": "The bound that was passed."},
        "retry_after_ms": {"type": "integer", "minimum": 1, "description": "When to ask again."},
        "started": {"type": "boolean", "description": "False: the request surely had no effect."},
        "outcome": {"type": "string", "enum": ["unknown"], "description": "The request may have had its effect."},
        "request_id": {"type": "string"},
        "trace_id": {"type": "string"},
    },
}
_SECURITY_SCHEMES: dict[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key: `Authorization: Bearer tnk_...`."},
    "gateway": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Tenure-Key",
        "description": "An API key, set by a gateway that overwrites what its client sent.",
    },
}
_SESSION_SCHEME: dict[str, Any] = {
    "type": "http",
    "scheme": "bearer",
    "description": "A session token: `Authorization: Bearer tns_...`, or the cookie of it.",
}
assert _SECURITY_SCHEMES["gateway"]["name"].lower().encode() == GATEWAY_KEY


class ClosedStructs(OpenAPISchemaPlugin):
    """Adds `additionalProperties: false` to the schemas of structs that refuse unknown fields."""

    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        """Structs that refuse unknown fields, alone and not in a union."""
        return (
            not field_definition.is_union
            and field_definition.is_subclass_of(msgspec.Struct)
            and field_definition.type_.__struct_config__.forbid_unknown_fields
        )

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:
        """The schema that the next plugin in line makes, closed."""
        line = [plugin for plugin in schema_creator.plugins if plugin is not self]
        other = next(plugin for plugin in line if schema_creator.plugin_supports_field(plugin, field_definition))
        schema: Schema = other.to_openapi_schema(field_definition=field_definition, schema_creator=schema_creator)
        schema.additional_properties = False
        return schema


def complete(document: dict[str, Any], app: Litestar, table: ProblemTable) -> dict[str, Any]:
    """The document of `app` with credentials and problems on every operation."""
    components = document.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = _PROBLEM_SCHEMA
    components["securitySchemes"] = _SECURITY_SCHEMES
    components["responses"] = {
        "Problem": {
            "description": "An error.",
            "content": {MEDIA_TYPE.decode(): {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    }
    operations = list(_operations(document, app))
    if any(BY_SESSION in handler.opt for _, handler, _ in operations):
        components["securitySchemes"] = {**_SECURITY_SCHEMES, "session": _SESSION_SCHEME}
    contents = [(operation, handler.opt[CONTENT]) for operation, handler, _ in operations if CONTENT in handler.opt]
    describe(contents, components["schemas"])
    for operation, handler, path in operations:
        _complete_operation(operation, handler, table, by_name="{" in path)
    _mend(document)
    return document


def _operations(document: dict[str, Any], app: Litestar) -> Iterator[tuple[dict[str, Any], BaseRouteHandler, str]]:
    """Every operation of the document, with its handler and its path."""
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            operations = document.get("paths", {}).get(route.path_format, {})
            for method, (handler, _) in route.route_handler_map.items():
                if (operation := operations.get(str(method).lower())) is not None:
                    yield operation, handler, route.path_format


def _mend(schema: Any) -> None:
    """Say what Litestar means where it says something else.

    It writes the bounds of integers as fractions, 1000.0 for 1000; and of the items of a `tuple[X, ...]` that they are
    exactly one of X and anything, which nothing is that is an X.
    """
    for key, value in schema.items() if isinstance(schema, dict) else enumerate(schema):
        if isinstance(value, float) and value.is_integer():
            schema[key] = int(value)
        elif isinstance(value, dict) and len(value.get("oneOf", ())) == 2 and value["oneOf"][1] == {}:
            schema[key] = value["oneOf"][0]
        if isinstance(schema[key], (dict, list)):
            _mend(schema[key])


def _complete_operation(
    operation: dict[str, Any], handler: BaseRouteHandler, table: ProblemTable, *, by_name: bool
) -> None:
    errors: list[type[TenureError]] = [*_EVERYWHERE, *handler.opt.get(PROBLEMS, ())]
    if handler.opt.get(ANONYMOUS):
        operation["security"] = []
    elif handler.opt.get(BY_SESSION):
        operation["security"] = [{"session": []}]
    else:
        scheme = "gateway" if handler.opt.get(BY_GATEWAY) else "bearer"
        operation["security"] = [{scheme: sorted(required_scopes(handler))}]
        errors += _WITH_CREDENTIAL
    if (text := handler.opt.get(TEXT_BODY)) is not None:
        operation["requestBody"] = {
            "required": True,
            "description": text,
            "content": {"application/yaml": {"schema": {"type": "string"}}, "application/json": {"schema": {}}},
        }
    if "requestBody" in operation:
        errors += _WITH_BODY
    if by_name:
        errors.append(NotFoundError)
    if handler.opt.get(REPEATABLE):
        operation.setdefault("parameters", []).append(_IDEMPOTENCY_KEY)
    responses = operation.setdefault("responses", {})
    told = {
        name: field for option, fields in FIELDS.items() if handler.opt.get(option) for name, field in fields.items()
    }
    for status, response in responses.items():
        if told and status.startswith("2"):
            response["headers"] = {**response.get("headers", {}), **told}
    for status, titles in _by_status(errors, table).items():
        responses[str(status)] = {"$ref": "#/components/responses/Problem", "description": "; ".join(titles)}


def _by_status(errors: Iterable[type[TenureError]], table: ProblemTable) -> dict[int, list[str]]:
    """Per status, what the errors that have it are called, as "Title (`code`)"."""
    found: dict[int, list[str]] = {}
    for error in errors:
        row = table.row(error)
        named = f"{row.title} (`{error.code}`)"
        if named not in (names := found.setdefault(row.status, [])):
            names.append(named)
    return found


def encode_document(document: dict[str, Any]) -> bytes:
    """Indented JSON in a fixed order, for a file under version control."""
    return msgspec.json.format(msgspec.json.encode(document, order="deterministic"), indent=2) + b"\n"
