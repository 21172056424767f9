"""What expressions see, and what templates become.

Names are those of docs/reference/workflow-definitions.md. `$states` is that of the Amazon States Language.
"""

from typing import Any

import msgspec

from services.workflows.bounds import (
    DURATION_MS_MAX,
    PAYLOAD_BYTES_MAX,
    STEP_EXPRESSIONS_MS_MAX,
)
from services.workflows.draft import Draft
from services.workflows.durations import duration_ms, moment_ms
from services.workflows.expressions import ExpressionError, UndefinedError, compile_expression, evaluate
from services.workflows.program import Json, Span, Template
from services.workflows.shapes import is_expression, source_of
from services.workflows.state import Failure, Run, Scope
from shared.clock import rfc3339

_SEEDS = 2**31


class StepError(Exception):
    """What a step cannot go on with; it becomes the step's failure and leaves the machine no other way."""

    def __init__(self, error: str, cause: Json) -> None:
        super().__init__(f"{error}: {cause}")
        self.failure = Failure(error=error, cause=cause)


class Values:
    """Evaluates for one scope at one moment."""

    def __init__(self, draft: Draft, scope: Scope, **more: Json) -> None:
        self._draft = draft
        self.limit_ms = STEP_EXPRESSIONS_MS_MAX
        """What expressions of this transition may have taken before the next one is refused."""
        self._now_ms = draft.now_ms
        self._seed = int(draft.around.draw * _SEEDS)
        self.bindings = _bindings(draft, scope) | more

    def render(self, value: Json, *, lenient: bool = False) -> Json:
        """The template with every expression replaced by its value. `lenient` takes null for what is undefined.

        Raises:
            StepError: an expression failed, or the whole is too large.
        """
        rendered = self._render(value, lenient=lenient)
        if rendered is not value:
            check_size(rendered)
        return rendered

    def template(self, template: Template | None, default: Json = None) -> Json:
        """What the template becomes, or the default if there is none."""
        return default if template is None else self.render(template.value)

    def assign(self, templates: dict[str, Json]) -> dict[str, Json]:
        """The values of variables, all evaluated before any is assigned."""
        return {name: self.render(value) for name, value in templates.items()}

    def text(self, value: Json) -> str:
        """The template, which has to become text."""
        rendered = self.render(value)
        if not isinstance(rendered, str):
            raise StepError("expression.failed", f"{value!r} gives no text, but {rendered!r:.80}")
        return rendered

    def condition(self, expression: str) -> bool:
        """The value of a condition, which has to be true or false."""
        value = self.render(expression)
        if not isinstance(value, bool):
            raise StepError("expression.failed", f"{expression!r} is neither true nor false, but {value!r:.80}")
        return value

    def span_ms(self, span: Span) -> int:
        """How long a span is. An expression gives seconds, or a duration such as 90s."""
        if isinstance(span, int):
            return span
        value = self.render(span)
        try:
            span_ms = duration_ms(value) if isinstance(value, str) else round(float(value) * 1_000)
        except (TypeError, ValueError, OverflowError) as error:
            raise StepError("expression.failed", f"{span!r} is no duration: {value!r:.80}") from error
        if isinstance(value, bool) or not 0 <= span_ms <= DURATION_MS_MAX:
            raise StepError("expression.failed", f"{span!r} is no duration: {value!r:.80}")
        return span_ms

    def moment_ms(self, moment: Span) -> int:
        """Which moment it is. An expression gives it as ISO 8601."""
        if isinstance(moment, int):
            return moment
        value = self.render(moment)
        try:
            return min(moment_ms(value), self._now_ms + DURATION_MS_MAX)
        except (TypeError, ValueError) as error:
            raise StepError("expression.failed", f"{moment!r} is no moment: {value!r:.80}") from error

    def _render(self, value: Json, *, lenient: bool) -> Json:
        if isinstance(value, str):
            return self._evaluate(value, lenient=lenient) if is_expression(value) else value
        if isinstance(value, dict) and value:
            return {name: self._render(item, lenient=lenient) for name, item in value.items()}
        if isinstance(value, list) and value:
            return [self._render(item, lenient=lenient) for item in value]
        return value

    def _evaluate(self, text: str, *, lenient: bool) -> Json:
        if self._draft.expressions_ms > self.limit_ms:
            raise StepError("expression.limit", "The expressions of this step take too long together")
        stopwatch_ms = self._draft.around.stopwatch_ms
        began_ms = stopwatch_ms()
        try:
            compiled = compile_expression(source_of(text))
            return evaluate(compiled, self.bindings, now_ms=self._now_ms, seed=self._seed)
        except UndefinedError as error:
            if lenient:
                return None
            raise StepError(error.code, str(error)) from error
        except ExpressionError as error:
            raise StepError(error.code, str(error)) from error
        finally:
            self._draft.expressions_ms += stopwatch_ms() - began_ms


def check_size(value: Json) -> None:
    """Refuse a value that is too large to be kept.

    Raises:
        StepError: it is.
    """
    size = len(msgspec.json.encode(value))
    if size > PAYLOAD_BYTES_MAX:
        raise StepError("payload.too_large", f"A value has at most {PAYLOAD_BYTES_MAX} bytes of JSON; this has {size}.")


def error_seen(failure: Failure) -> dict[str, Json]:
    """The failure as `$error`."""
    return {"error": failure.error, "cause": failure.cause, "step": failure.step, "data": failure.data}


def variables_of(draft: Draft, scope: Scope) -> dict[str, Json]:
    """What the scope can read: its own variables and those of the scopes around it."""
    if scope.parent is None:
        return scope.variables
    return variables_of(draft, draft.scopes[scope.parent]) | scope.variables


def _bindings(draft: Draft, scope: Scope) -> dict[str, Any]:
    run, activity = draft.run, scope.activity
    step_input = activity.input if activity else scope.value
    around: Scope | None = scope
    while around is not None and around.index is None:
        around = draft.scopes[around.parent] if around.parent is not None else None
    bound = variables_of(draft, scope) | {
        "input": run.input,
        "result": scope.value,
        "outcome": scope.outcome,
        "error": scope.error,
        "env": draft.around.env,
        "run": _run_seen(run),
        "states": {"input": step_input, "context": _context(run, scope, around)},
    }
    if around is not None:
        bound |= {"item": around.item, "index": around.index}
    return bound


def with_result(values: Values, result: Json, outcome: str | None) -> Values:
    """The same, once the step has its result."""
    values.bindings |= {"result": result, "outcome": outcome}
    values.bindings["states"] = values.bindings["states"] | {"result": result}
    return values


def with_error(values: Values, failure: Failure) -> Values:
    """The same, once the step has failed."""
    values.bindings["error"] = error_seen(failure)
    seen = {"Error": failure.error, "Cause": failure.cause}
    values.bindings["states"] = values.bindings["states"] | {"errorOutput": seen}
    return values


def _run_seen(run: Run) -> dict[str, Json]:
    return {
        "id": run.id,
        "definition": run.definition,
        "version": run.version,
        "started_at": rfc3339(run.started_ms),
    }


def _context(run: Run, scope: Scope, around: Scope | None) -> dict[str, Json]:
    """The context object of the Amazon States Language."""
    activity = scope.activity
    context: dict[str, Json] = {
        "Execution": {"Id": run.id, "Name": run.id, "Input": run.input, "StartTime": rfc3339(run.started_ms)},
        "StateMachine": {"Id": f"{run.definition}:{run.version}", "Name": run.definition},
    }
    if activity:
        context["State"] = {
            "Name": activity.step,
            "EnteredTime": rfc3339(activity.entered_ms),
            "RetryCount": activity.attempt - 1,
        }
    if around is not None:
        context["Map"] = {"Item": {"Index": around.index, "Value": around.item}}
    return context
