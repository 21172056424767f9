"""Bodies that msgspec describes in the OpenAPI document, where no handler's signature does.

A route whose types are known only at the start of a process says them in its option `content`. The
schemas come from the same types that decode and encode, so the document cannot differ from them. They
stand under names of their own, `objects.*`, apart from those of the service.

Source: JSON Schema 2020-12, which is what OpenAPI 3.1 uses.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

CONTENT = "content"
"""Option of a route handler: a `Content`."""

_PREFIX = "objects."
_JSON = "application/json"


class Content(NamedTuple):
    """What a route takes and gives, both as JSON."""

    body: type[msgspec.Struct]
    answer: Any


def describe(operations: Iterable[tuple[dict[str, Any], Content]], schemas: dict[str, Any]) -> None:
    """Put the bodies of `operations` into them, and what they refer to into `schemas`."""
    pairs = list(operations)
    types = [type_ for _, content in pairs for type_ in content]
    described, found = msgspec.json.schema_components(types, ref_template=f"#/components/schemas/{_PREFIX}{{name}}")
    schemas.update({_PREFIX + name: schema for name, schema in found.items()})
    for index, (operation, content) in enumerate(pairs):
        body, answer = described[2 * index : 2 * index + 2]
        required = any(field.required for field in msgspec.structs.fields(content.body))
        operation["requestBody"] = {"required": required, "content": {_JSON: {"schema": body}}}
        operation["responses"] = {"200": {"description": "What it returns.", "content": {_JSON: {"schema": answer}}}}
