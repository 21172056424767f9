"""Whether a value is as a schema says, for the part of JSON Schema that definitions may use (clauses.py has the list).

Patterns and references are not among them: neither a value nor a schema from outside can make this slow or reach
elsewhere.
"""

from collections.abc import Iterator
from typing import Any

from services.workflows.program import Json

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}
Found = Iterator[tuple[str, str]]


def mismatches(schema: dict[str, Any], value: Json, at: str = "") -> Found:
    """Every place where the value is not as the schema says, as a JSON pointer, with what it should be."""
    allowed = schema.get("type", [])
    allowed = [allowed] if isinstance(allowed, str) else allowed
    if allowed and not any(_is(value, name) for name in allowed):
        yield at, f"This is {' or '.join(allowed)}"
        return
    if "enum" in schema and not any(_same(value, one) for one in schema["enum"]):
        yield at, f"This is one of {schema['enum']}"
    if "const" in schema and not _same(value, schema["const"]):
        yield at, f"This is {schema['const']!r}"
    if isinstance(value, dict):
        yield from _members(schema, value, at)
    elif isinstance(value, list):
        yield from _sized(schema, "Items", "items", len(value), at)
        for number, item in enumerate(value):
            yield from mismatches(schema.get("items", {}), item, f"{at}/{number}")
    elif isinstance(value, str):
        yield from _sized(schema, "Length", "characters", len(value), at)
    elif _is(value, "number"):
        yield from _limited(schema, value, at)


def _members(schema: dict[str, Any], value: dict[str, Json], at: str) -> Found:
    known = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield at, f"{name!r} is missing"
    for name, item in value.items():
        place = f"{at}/{name.replace('~', '~0').replace('/', '~1')}"
        if name in known:
            yield from mismatches(known[name], item, place)
        elif schema.get("additionalProperties") is False:
            yield place, f"{name!r} is not known"


def _sized(schema: dict[str, Any], what: str, unit: str, size: int, at: str) -> Found:
    if size < schema.get(f"min{what}", 0):
        yield at, f"This has at least {schema[f'min{what}']} {unit}"
    if size > schema.get(f"max{what}", size):
        yield at, f"This has at most {schema[f'max{what}']} {unit}"


def _limited(schema: dict[str, Any], value: float, at: str) -> Found:
    if value < schema.get("minimum", value):
        yield at, f"This is at least {schema['minimum']}"
    if value > schema.get("maximum", value):
        yield at, f"This is at most {schema['maximum']}"


def _is(value: Json, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[name])


def _same(one: Json, other: Json) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
