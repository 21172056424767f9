"""Shapes of values that contain others: lists, mappings, records with known members, and choices between shapes."""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

import msgspec

from services.workflows.problems import Place, Problems
from services.workflows.shapes import Shape, Text, kind_of


class ListOf(msgspec.Struct, frozen=True, kw_only=True):
    """A list of things of one shape."""

    item: Shape
    least: int = 0
    most: int = 100

    def takes(self, value: Any) -> bool:
        """Whether it is a list."""
        return isinstance(value, list)

    def check(self, value: Any, at: Place, problems: Problems) -> None:
        """Note the problems of every item."""
        if not isinstance(value, list):
            problems.add(at, f"Here stands a list, not {kind_of(value)}")
            return
        if not self.least <= len(value) <= self.most:
            problems.add(at, f"This list has {self.least} to {self.most} items, not {len(value)}")
        for number, item in enumerate(value):
            self.item.check(item, at / number, problems)

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        return {"type": "array", "items": self.item.schema(), "minItems": self.least, "maxItems": self.most}


class MapOf(msgspec.Struct, frozen=True, kw_only=True):
    """Things of one shape by name."""

    name: Text
    item: Shape
    least: int = 0
    most: int = 100

    def takes(self, value: Any) -> bool:
        """Whether it is a mapping."""
        return isinstance(value, dict)

    def check(self, value: Any, at: Place, problems: Problems) -> None:
        """Note the problems of every name and item."""
        if not isinstance(value, dict):
            problems.add(at, f"Here stands a mapping, not {kind_of(value)}")
            return
        if not self.least <= len(value) <= self.most:
            problems.add(at, f"This mapping has {self.least} to {self.most} members, not {len(value)}")
        for name, item in value.items():
            self.name.check(name, at / name, problems)
            self.item.check(item, at / name, problems)

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        return {
            "type": "object",
            "propertyNames": self.name.schema(),
            "additionalProperties": self.item.schema(),
            "minProperties": self.least,
            "maxProperties": self.most,
        }


class Field(msgspec.Struct, frozen=True):
    """A member of a record."""

    shape: Shape
    note: str = ""
    required: bool = False


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A mapping with known members. Of each group in `one_of`, exactly one member is there."""

    what: str
    fields: dict[str, Field]
    one_of: tuple[tuple[str, ...], ...] = ()

    def takes(self, value: Any) -> bool:
        """Whether it is a mapping."""
        return isinstance(value, dict)

    def check(self, value: Any, at: Place, problems: Problems) -> None:
        """Note unknown and missing members, and the problems of the others."""
        if not isinstance(value, dict):
            problems.add(at, f"Here stands {self.what}, not {kind_of(value)}")
            return
        for name, item in value.items():
            if name in self.fields:
                self.fields[name].shape.check(item, at / name, problems)
            else:
                problems.add(
                    at / name, f"{self.what[0].upper()}{self.what[1:]} has no {name!r}{_hint(name, self.fields)}"
                )
        for name, field in self.fields.items():
            if field.required and name not in value:
                problems.add(at, f"{self.what[0].upper()}{self.what[1:]} needs {name!r}")
        for group in self.one_of:
            there = [name for name in group if name in value]
            if len(there) != 1:
                found = f"both {' and '.join(there)}" if there else "none"
                problems.add(
                    at, f"{self.what[0].upper()}{self.what[1:]} has exactly one of {', '.join(group)}; here is {found}"
                )

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        members = {name: field.shape.schema() | _described(field) for name, field in self.fields.items()}
        required = [name for name, field in self.fields.items() if field.required]
        stated: dict[str, Any] = {"type": "object", "properties": members, "additionalProperties": False}
        if required:
            stated["required"] = required
        if self.one_of:
            stated["allOf"] = [{"oneOf": [{"required": [name]} for name in group]} for group in self.one_of]
        return stated


class Either(msgspec.Struct, frozen=True):
    """The first of several shapes whose type fits."""

    shapes: tuple[Shape, ...]
    what: str

    def takes(self, value: Any) -> bool:
        """Whether any takes it."""
        return any(shape.takes(value) for shape in self.shapes)

    def check(self, value: Any, at: Place, problems: Problems) -> None:
        """Note the problems that the fitting shape has with it."""
        for shape in self.shapes:
            if shape.takes(value):
                shape.check(value, at, problems)
                return
        problems.add(at, f"Here stands {self.what}, not {kind_of(value)}")

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        return {"anyOf": [shape.schema() for shape in self.shapes]}


class Named(msgspec.Struct, frozen=True):
    """A shape that stands in the schema once and is referred to, so that it can contain itself."""

    name: str
    find: Callable[[], Shape]

    def takes(self, value: Any) -> bool:
        """Whether the named shape takes it."""
        return self.find().takes(value)

    def check(self, value: Any, at: Place, problems: Problems) -> None:
        """Note what the named shape notes."""
        self.find().check(value, at, problems)

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        return {"$ref": f"#/$defs/{self.name}"}


def _hint(name: str, known: dict[str, Field]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _described(field: Field) -> dict[str, Any]:
    return {"description": field.note} if field.note else {}
