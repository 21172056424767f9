"""Which errors a handler is for, and whether handlers are written so that each can act.

Names of errors are paths: `timeout` is also `timeout.heartbeat`, `http` is also `http.503`, `http.5xx` every status of
that class. `*` is every error but those that say that the definition or its data must change, as `States.ALL` does not
match `States.DataLimitExceeded` in the Amazon States Language.
"""

import re
from collections.abc import Iterable
from typing import Any

from services.workflows.grammar import kinds_of
from services.workflows.problems import Place, Problems
from services.workflows.trees import Found, items_of, mapping, mappings_of

NOT_FOR_ALL = frozenset({"payload.too_large", "run.too_long"})
_STATUS_CLASS = re.compile(r"(.+)\.([1-5])xx")
_WITHOUT_EFFECT = {"pass", "choice", "sleep", "sleep_until", "succeed", "fail"}


def matches(patterns: Iterable[str], error: str) -> bool:
    """Whether a handler for `patterns` is for `error`."""
    return any(_matches(pattern, error) for pattern in patterns)


def _matches(pattern: str, error: str) -> bool:
    if pattern == "*":
        return error not in NOT_FOR_ALL
    status_class = _STATUS_CLASS.fullmatch(pattern)
    if status_class:
        return re.fullmatch(rf"{re.escape(status_class[1])}\.{status_class[2]}[0-9][0-9]", error) is not None
    return error == pattern or error.startswith(f"{pattern}.")


def check_handlers(handlers: list[Found], problems: Problems) -> None:
    """Note handlers of one list that stand in one another's way."""
    for number, handler in enumerate(handlers):
        errors = [found for found in items_of(handler.value, "errors", handler.at) if isinstance(found.value, str)]
        for found in errors:
            if found.value == "*" and len(errors) > 1:
                problems.add(found.at, "* stands alone: it is every error")
            if found.value == "*" and number + 1 < len(handlers):
                problems.add(found.at, "* stands in the last one: those behind it could never act")


def check_pivot(step: dict[str, Any], at: Place, *, outermost: bool, problems: Problems) -> None:
    """Note a pivot from which the run could not go forward."""
    if step.get("pivot") is not True:
        return
    if not outermost:
        problems.add(at / "pivot", "A pivot is a step of the run itself, not of a branch")
    if step.get("on_exhausted") == "fail":
        problems.add(at / "on_exhausted", "Behind a pivot a run goes on or waits for help; it cannot fail here")
    if not set(kinds_of(step)) & _WITHOUT_EFFECT and not any(
        _endless(found.value) for found in mappings_of(step, "retry", at)
    ):
        problems.add(at, "A pivot retries without end: {errors: ['*'], attempts: unlimited}")


def _endless(retrier: dict[str, Any]) -> bool:
    return "*" in (retrier.get("errors") or ()) and mapping(retrier).get("attempts") == "unlimited"
