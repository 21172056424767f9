"""Shapes of values: each checks a value, noting every problem with its place, and states itself as JSON Schema.

Here are the simple ones; services/workflows/structures.py has those that contain others. A language that is written
down in shapes (services/workflows/grammar.py) has its validation and its published schema from one source, so the two
cannot disagree. What a schema cannot say (that a step exists, that a variable is assigned) is in
services/workflows/checks.py.
"""

import re
from typing import Any, Protocol

import msgspec

from services.workflows.durations import DURATION_PATTERN, duration_ms, moment_ms
from services.workflows.expressions import BadExpressionError, compile_expression
from services.workflows.problems import Place, Problems

EXPRESSION_PATTERN = r"^\{%[\s\S]*%\}$"
_NAMES = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}


def kind_of(value: Any) -> str:
    """What an author would call the value."""
    return "nothing" if value is None else _NAMES[type(value)]


def is_expression(value: Any) -> bool:
    """Whether the value is text of the form `{% ... %}`, as a whole: nothing is replaced inside of other text."""
    return isinstance(value, str) and value.startswith("{%") and value.endswith("%}") and len(value) >= 4


def source_of(text: str) -> str:
    """The expression inside `{% %}`."""
    return text[2:-2].strip()


class Shape(Protocol):
    """What a value has to look like."""

    def takes(self, value: Any) -> bool:
        """Whether the value is of the right type, so that its other problems are worth telling."""

    def check(self, value: Any, at: Place, problems: Problems) -> None:
        """Note every problem of the value."""

    def schema(self) -> dict[str, Any]:
        """The same as JSON Schema (2020-12)."""


class Text(msgspec.Struct, frozen=True, kw_only=True):
    """Text of a form."""

    pattern: str = ""
    what: str = "text"
    length_max: int = 2_048
    words: tuple[str, ...] = ()
    """If given, it is one of these."""

    def takes(self, value: Any) -> bool:
        """Whether it is text."""
        return isinstance(value, str)

    def check(self, value: Any, at: Place, problems: Problems) -> None:
        """Note what is wrong with its form."""
        if not isinstance(value, str):
            problems.add(at, f"Here stands {self._wanted()}, not {kind_of(value)}")
        elif (self.words and value not in self.words) or (self.pattern and not re.fullmatch(self.pattern, value)):
            problems.add(at, f"{value[:80]!r} is not {self._wanted()}")
        elif len(value) > self.length_max:
            problems.add(at, f"This has at most {self.length_max} characters")

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        if self.words:
            return {"enum": list(self.words)}
        return {"type": "string", "maxLength": self.length_max} | ({"pattern": self.pattern} if self.pattern else {})

    def _wanted(self) -> str:
        return "one of " + ", ".join(self.words) if self.words else self.what


class Number(msgspec.Struct, frozen=True, kw_only=True):
    """A number within limits; a whole one unless `fractions`."""

    least: int = 0
    most: int
    fractions: bool = False

    def takes(self, value: Any) -> bool:
        """Whether it is a number; flags are none."""
        return isinstance(value, int | float) and not isinstance(value, bool)

    def check(self, value: Any, at: Place, problems: Problems) -> None:
        """Note a number that is out of its limits."""
        whole = "" if self.fractions else "whole "
        right = self.takes(value) and (self.fractions or isinstance(value, int))
        if not right:
            problems.add(at, f"Here stands a {whole}number, not {kind_of(value)}")
        elif not self.least <= value <= self.most:
            problems.add(at, f"This is from {self.least} to {self.most}, not {value}")

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        return {"type": "number" if self.fractions else "integer", "minimum": self.least, "maximum": self.most}


class Flag(msgspec.Struct, frozen=True, kw_only=True):
    """True or false; with `only`, nothing but that."""

    only: bool | None = None

    def takes(self, value: Any) -> bool:
        """Whether it is a flag."""
        return isinstance(value, bool)

    def check(self, value: Any, at: Place, problems: Problems) -> None:
        """Note what is no flag."""
        if not isinstance(value, bool) or (self.only is not None and value is not self.only):
            problems.add(at, f"Here stands {'true or false' if self.only is None else str(self.only).lower()}")

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        return {"type": "boolean"} if self.only is None else {"const": self.only}


class Duration(msgspec.Struct, frozen=True):
    """A span such as `90s` or `P10D`, of so many milliseconds at least."""

    least_ms: int = 0

    def takes(self, value: Any) -> bool:
        """Whether it is text that is no expression."""
        return isinstance(value, str) and not is_expression(value)

    def check(self, value: Any, at: Place, problems: Problems) -> None:
        """Note what is no duration."""
        if not isinstance(value, str):
            problems.add(at, f"Here stands a duration such as 90s or P10D, not {kind_of(value)}")
            return
        try:
            if duration_ms(value) < self.least_ms:
                problems.add(at, f"Here stands a duration of at least {self.least_ms // 1_000}s")
        except ValueError as error:
            problems.add(at, str(error))

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        return {"type": "string", "pattern": DURATION_PATTERN}


class Moment(msgspec.Struct, frozen=True):
    """A moment as ISO 8601, with its offset."""

    def takes(self, value: Any) -> bool:
        """Whether it is text that is no expression."""
        return isinstance(value, str) and not is_expression(value)

    def check(self, value: Any, at: Place, problems: Problems) -> None:
        """Note what is no moment."""
        try:
            moment_ms(value)
        except (TypeError, ValueError):
            problems.add(at, "Here stands a moment such as 2026-03-01T09:00:00+01:00, or an expression")

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        return {"type": "string", "pattern": r"^[0-9]{4}-?[0-9]{2}-?[0-9]{2}[T ].*(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)$"}


class Expression(msgspec.Struct, frozen=True):
    """Text of the form `{% ... %}` with JSONata inside."""

    def takes(self, value: Any) -> bool:
        """Whether it has that form."""
        return is_expression(value)

    def check(self, value: Any, at: Place, problems: Problems) -> None:
        """Note what is no expression, and where in it."""
        if not is_expression(value):
            problems.add(at, "Here stands an expression: {% ... %}")
            return
        try:
            compile_expression(source_of(value))
        except BadExpressionError as error:
            problems.add(at, str(error))

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        return {"type": "string", "pattern": EXPRESSION_PATTERN}


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """Any value; text in it of the form `{% ... %}` is replaced by what it evaluates to.

    With `text`, it is text or an expression itself.
    """

    text: bool = False

    def takes(self, value: Any) -> bool:
        """Whether it can be one."""
        return isinstance(value, str) if self.text else True

    def check(self, value: Any, at: Place, problems: Problems) -> None:
        """Note every bad expression in it."""
        if self.text and not isinstance(value, str):
            problems.add(at, f"Here stands text or an expression, not {kind_of(value)}")
        for where, expression in expressions_in(value, at):
            Expression().check(expression, where, problems)

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        return {"type": "string"} if self.text else {}


def expressions_in(value: Any, at: Place) -> list[tuple[Place, str]]:
    """Every text of the form `{% ... %}` in the value, with its place."""
    if is_expression(value):
        return [(at, value)]
    if isinstance(value, dict):
        return [found for name, item in value.items() for found in expressions_in(item, at / name)]
    if isinstance(value, list):
        return [found for number, item in enumerate(value) for found in expressions_in(item, at / number)]
    return []
