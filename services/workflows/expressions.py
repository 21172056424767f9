"""JSONata, behind two functions: compile a source, evaluate what was compiled against bound values.

An expression is given by whoever writes a definition and runs on the event loop of a node, so every
evaluation ends: by steps first, which are the same on every machine, by time as the net under them, by
depth, and by the size of what it makes. It reads what is bound and nothing else, and it has no clock and no dice
of its own: `$now()`, `$millis()` and `$random()` answer from what is handed in, so an evaluation repeats.

Left out of JSONata on purpose: `$eval`, as in the Amazon States Language. A string that a stranger sent would become
code that no validation has seen.

The engine is `jlens`, named nowhere else. tests/data/jsonata holds it to the official suite of the language, less the
deviations that are listed there. Numbers are doubles, so integers are exact up to 2^53. A compilation costs about
6 us and is kept; an evaluation about 2 us, and 300 ns more for each value that the expression reads of what is bound.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeAlias

import msgspec
from jlens import Expression, JlensError

from services.workflows.bounds import (
    EXPRESSION_ARRAY_MAX,
    EXPRESSION_BYTES_MAX,
    EXPRESSION_DEPTH_MAX,
    EXPRESSION_MS_MAX,
    EXPRESSION_STEPS_MAX,
    EXPRESSIONS_KEPT,
    PAYLOAD_BYTES_MAX,
)
from shared.errors import TenureError

_ERROR = re.compile(r"\$error(?![A-Za-z0-9_]|\s*\()")
"""`$error` is a function of the language, and in definitions a value as well: it is the function where it is called."""

Json: TypeAlias = Any
"""What JSON can say, as `msgspec.json.decode` gives it."""

_LIMIT_CODES = {"D1011": "depth", "D1012": "time", "U1001": "size", "U1006": "steps"}  # What the engine calls them.


class ExpressionError(TenureError):
    """An expression has no value.

    `position` counts characters of `source` from 0; -1 where no place is known. `reason` is the language's own code,
    such as `T2001`; empty where it has none.
    """

    code = "expression"

    def __init__(self, detail: str, *, source: str, position: int = -1, reason: str = "") -> None:
        super().__init__(f"{detail} (at character {position} of {source!r})" if position >= 0 else detail)
        self.detail = detail
        self.source = source
        self.position = position
        self.reason = reason


class BadExpressionError(ExpressionError):
    """The source is no expression of the language, or too long."""

    code = "expression.bad"


class EvaluationError(ExpressionError):
    """The expression failed on these values."""

    code = "expression.failed"


class UndefinedError(EvaluationError):
    """The expression names what is not there. The language has no value for that, and neither has JSON."""

    code = "expression.undefined"


class ExpressionLimitError(ExpressionError):
    """The evaluation was stopped: it would take more `limit` (depth, time, size or steps) than it may."""

    code = "expression.limit"

    def __init__(self, detail: str, *, source: str, position: int, reason: str, limit: str) -> None:
        super().__init__(detail, source=source, position=position, reason=reason)
        self.limit = limit


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one evaluation may take."""

    steps: int = EXPRESSION_STEPS_MAX
    time_ms: int = EXPRESSION_MS_MAX
    depth: int = EXPRESSION_DEPTH_MAX
    items: int = EXPRESSION_ARRAY_MAX
    """Of any array on the way."""
    string_bytes: int = PAYLOAD_BYTES_MAX
    """Of any string on the way."""
    result_bytes: int = PAYLOAD_BYTES_MAX


class Compiled(msgspec.Struct, frozen=True, kw_only=True):
    """An expression that can be evaluated any number of times."""

    source: str
    names: frozenset[str]
    """The bound values that it reads, and what is not bound and therefore undefined; without `$`."""
    engine: Expression
    reads: dict[str, Any]
    """Of each name, the members that are read, or True for all."""


_LIMITS = Limits()


@lru_cache(maxsize=EXPRESSIONS_KEPT)
def compile_expression(source: str) -> Compiled:
    """The expression that `source` states, without the `{% %}` around it.

    Raises:
        BadExpressionError: it is not well formed, too long, or calls `$eval`.
    """
    if len(source.encode(errors="replace")) > EXPRESSION_BYTES_MAX:
        raise BadExpressionError(f"An expression has at most {EXPRESSION_BYTES_MAX} bytes", source=source[:64])
    try:
        engine = Expression(source)
    except JlensError as error:
        raise BadExpressionError(str(error), source=source, position=_place(error), reason=error.code) from error
    except UnicodeEncodeError as error:
        raise BadExpressionError(
            "Half of a surrogate pair is no character", source=source, position=error.start
        ) from error
    found = engine.reads()
    if found.get("everyBinding"):
        raise BadExpressionError("$eval is not offered", source=source, position=source.find("$eval"))
    reads = found["bindings"]
    if _ERROR.search(source):
        reads["error"] = True
    return Compiled(source=source, names=frozenset(reads), engine=engine, reads=reads)


def is_bindable(name: str) -> bool:
    """Whether `$name` may be bound. A function of the language may not be hidden, and would be found in its place."""
    return name in compile_expression(f"${name}").names


def evaluate(
    compiled: Compiled,
    bindings: Mapping[str, Json],
    *,
    now_ms: int,
    seed: int = 0,
    limits: Limits = _LIMITS,
    document: str | None = None,
) -> Json:
    """The value of the expression where `$name` is `bindings[name]`. Of `bindings` only what is read is looked at.

    `now_ms` is what `$now()` says and `seed` decides `$random()`. `document` is JSON text for `$` itself, which
    definitions leave undefined.

    Raises:
        UndefinedError: the value is not there. `null` is a value.
        ExpressionLimitError: it would take too much.
        EvaluationError: anything else that failed.
    """
    bound = {name: _cut(bindings[name], read) for name, read in compiled.reads.items() if name in bindings}
    try:
        text = compiled.engine.evaluate_json(
            document,
            bound,
            timeout=limits.time_ms / 1000,
            max_steps=limits.steps,
            max_depth=limits.depth,
            max_array_length=limits.items,
            max_string_length=limits.string_bytes,
            max_result_size=limits.result_bytes,
            now=now_ms,
            seed=seed,
        )
    except JlensError as error:
        raise _failure(error, compiled.source) from error
    except (TypeError, ValueError) as error:  # Nested too deeply, or no JSON.
        raise EvaluationError(str(error), source=compiled.source) from error
    if text is None:
        raise UndefinedError("The expression has no value here", source=compiled.source)
    return msgspec.json.decode(text)


def _cut(value: Json, read: Any) -> Json:
    """The members of `value` that are read: to hand over the rest would cost more than the evaluation."""
    if isinstance(read, dict) and isinstance(value, dict):
        return {name: value[name] for name in read if name in value}
    return value


def _place(error: JlensError) -> int:
    return -1 if error.position is None else error.position


def _failure(error: JlensError, source: str) -> ExpressionError:
    limit = _LIMIT_CODES.get(error.code)
    if limit:
        return ExpressionLimitError(str(error), source=source, position=_place(error), reason=error.code, limit=limit)
    return EvaluationError(str(error), source=source, position=_place(error), reason=error.code)
