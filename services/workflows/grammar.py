"""The language of definitions, as data: which members a definition and each kind of step has, and what they look like.

Together with services/workflows/clauses.py this is the one place where the form of the language is written down:
validation reads it, and docs/reference/workflow-definition.schema.json is made of it. What has a counterpart in the
Amazon States Language means what it means there (docs/reference/workflow-definitions.md says how the two correspond).
"""

from typing import Any

from services.workflows.bounds import (
    ATTRIBUTES_MAX,
    BRANCHES_MAX,
    ENDED_KEPT_MS_MIN,
    ESCALATIONS_MAX,
    MAP_ITEMS_MAX,
    REMINDERS_MAX,
    STEPS_MAX,
)
from services.workflows.clauses import (
    ANY,
    ASSIGN,
    CATCH,
    CLAUSES,
    COMPENSATE,
    HTTP,
    NAME,
    OBJECT,
    PROSE,
    RETRY,
    RULE,
    SCHEMA,
    SPAN,
    STEP_NAME,
    TEXT,
    VARIABLE,
    VISITS,
)
from services.workflows.problems import Place, Problems
from services.workflows.shapes import Duration, Expression, Flag, Moment, Number, Shape, Text, kind_of
from services.workflows.structures import Either, Field, ListOf, MapOf, Named, Record

KINDS = (
    "wait",
    "http",
    "task",
    "sleep",
    "sleep_until",
    "parallel",
    "map",
    "child",
    "object",
    "pass",
    "fail",
    "succeed",
)
"""What makes a step what it is. A step with none of these but a `choice` only chooses."""

BLOCK = Named("block", lambda: _BLOCK)
STEP = Named("step", lambda: _STEP)


def _step(kind: str, shape: Shape, *more: dict[str, Field]) -> Record:
    parts = ({kind: Field(shape, required=True), "comment": Field(PROSE)}, *more)
    fields = {name: field for part in parts for name, field in part.items()}
    return Record(what=f"a {kind} step", fields=fields, one_of=(("next", "end", "choice"),) if "next" in fields else ())


_GOING_ON = {
    "next": Field(STEP_NAME, "The step after this."),
    "end": Field(Flag(only=True), "This is the last step of its block."),
    "choice": Field(ListOf(item=RULE, least=1, most=50), "The first rule that is true says where it goes on."),
    "default": Field(STEP_NAME, "Where it goes on if no rule is true."),
    "assign_vars": Field(MapOf(name=VARIABLE, item=ANY), "Variables, all evaluated before any is assigned."),
    "output": Field(ANY, "What the next step gets; the result if not given."),
    "max_visits": Field(VISITS, "How often this step may be entered."),
}
_HANDLING = {
    "retry": Field(RETRY, "The first retrier for an error decides. [] retries nothing."),
    "catch": Field(CATCH, "What an error leads to that is not retried (any more)."),
    "on_exhausted": Field(
        Text(words=("stall", "fail")), "An error that nobody handles stalls the step, as an incident, or fails the run."
    ),
}
_EFFECT = {
    **_HANDLING,
    "timeout": Field(SPAN, "Of each attempt."),
    "compensate": Field(COMPENSATE, "How to undo it; recorded with its completion."),
    "pivot": Field(Flag(), "From here on forward only: what was recorded to undo is dropped."),
}
_INPUT = {"input": Field(ANY)}

STEPS: dict[str, Record] = {
    "wait": _step(
        "wait",
        Record(
            what="a wait",
            fields={
                "title": Field(TEXT, "What is to be done."),
                "description": Field(TEXT),
                "assign": Field(ASSIGN),
                "outcomes": Field(
                    ListOf(item=STEP_NAME, least=1, most=20), "Of which the answer names one, as $outcome."
                ),
                "result_schema": Field(SCHEMA, "What the answer looks like."),
                "forbid_same_user_as": Field(
                    ListOf(item=STEP_NAME, least=1, most=10), "Whoever did one of these may not do this."
                ),
                "signal": Field(NAME, "A signal of this name ends the wait; it may have come before."),
            },
        ),
        _GOING_ON,
        _EFFECT,
        {
            "remind": Field(
                Record(
                    what="a reminder",
                    fields={
                        "every": Field(Duration(), required=True),
                        "max": Field(Number(least=1, most=REMINDERS_MAX), required=True),
                        "do": Field(
                            Record(what="an action", fields={"http": Field(HTTP, required=True)}), required=True
                        ),
                    },
                ),
                "Does something now and then while the wait lasts.",
            ),
            "escalate": Field(
                ListOf(
                    item=Record(
                        what="an escalation",
                        fields={
                            "after": Field(Duration(), "Since the wait began.", required=True),
                            "assign": Field(ASSIGN, "Who gets it.", required=True),
                            "extend": Field(Duration(), "They have at least this long before the timeout."),
                        },
                    ),
                    least=1,
                    most=ESCALATIONS_MAX,
                )
            ),
        },
    ),
    "http": _step("http", HTTP, _GOING_ON, _EFFECT),
    "task": _step(
        "task", TEXT, _GOING_ON, _EFFECT, _INPUT, {"heartbeat": Field(SPAN, "A worker is lost that is silent so long.")}
    ),
    "sleep": _step("sleep", SPAN, _GOING_ON),
    "sleep_until": _step("sleep_until", Either((Expression(), Moment()), "a moment or an expression"), _GOING_ON),
    "parallel": _step(
        "parallel",
        Record(
            what="a parallel",
            fields={
                "branches": Field(MapOf(name=STEP_NAME, item=BLOCK, least=1, most=BRANCHES_MAX), required=True),
                "join": Field(
                    Either(
                        (
                            Text(words=("all", "any")),
                            Record(
                                what="a join",
                                fields={"count": Field(Number(least=1, most=BRANCHES_MAX), required=True)},
                            ),
                        ),
                        "all, any or {count: n}",
                    ),
                    "How many branches must succeed. all if not given.",
                ),
                "on_failure": Field(Text(words=("cancel_others", "wait_others")), "cancel_others if not given."),
            },
        ),
        _GOING_ON,
        _HANDLING,
        {"pivot": _EFFECT["pivot"]},
    ),
    "map": _step(
        "map",
        Record(
            what="a map",
            fields={
                "items": Field(
                    Either((Expression(), ListOf(item=ANY, most=MAP_ITEMS_MAX)), "a list or an expression"),
                    required=True,
                ),
                "concurrency": Field(
                    Number(most=MAP_ITEMS_MAX), "How many items at once; 0, as if not given, for all."
                ),
                "tolerate": Field(
                    Either(
                        (
                            Number(most=MAP_ITEMS_MAX),
                            Text(pattern=r"^(?:100|[0-9]{1,2})%$", what="a number or a percentage"),
                        ),
                        "a number or a percentage",
                    ),
                    "How many items may fail; their result is null. 0 if not given.",
                ),
            },
        ),
        {"each": Field(BLOCK, "What is done for each $item.", required=True)},
        _GOING_ON,
        _HANDLING,
        {"pivot": _EFFECT["pivot"]},
    ),
    "child": _step(
        "child",
        Record(
            what="a child",
            fields={
                "workflow": Field(NAME, "Its definition.", required=True),
                "version": Field(Number(least=1, most=2**31), "The newest when it starts, if not given."),
                "id": Field(TEXT, "Its run id; made of this run's and the step's if not given."),
            },
        ),
        _GOING_ON,
        _EFFECT,
        _INPUT,
    ),
    "object": _step("object", OBJECT, _GOING_ON, _EFFECT),
    "pass": _step("pass", ANY, _GOING_ON, {"pivot": _EFFECT["pivot"]}),
    "choice": _step(
        "choice",
        _GOING_ON["choice"].shape,
        {name: _GOING_ON[name] for name in ("default", "assign_vars", "output", "max_visits")},
    ),
    "fail": _step(
        "fail",
        Record(what="a failure", fields={"error": Field(TEXT, "Its name.", required=True), "cause": Field(ANY)}),
        {"compensate_all": Field(Flag(), "Undo what was recorded, last first.")},
    ),
    "succeed": _step("succeed", ANY),
}


class _AnyStep:
    """A step of any kind. Which members it has depends on its kind."""

    def takes(self, value: Any) -> bool:
        """Whether it is a mapping."""
        return isinstance(value, dict)

    def check(self, value: Any, at: Place, problems: Problems) -> None:
        """Note that it is of no kind or of several, and what is wrong with it as one of its kind."""
        if not isinstance(value, dict):
            problems.add(at, f"Here stands a step, not {kind_of(value)}")
            return
        kinds = kinds_of(value)
        if len(kinds) != 1:
            found = f"this is {' and '.join(kinds)}" if kinds else "this has none of them"
            problems.add(at, f"A step is one of {', '.join(STEPS)}; {found}")
        if kinds:
            STEPS[kinds[0]].check(value, at, problems)

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        return {"oneOf": [{"$ref": f"#/$defs/{kind}_step"} for kind in STEPS]}


def kinds_of(step: dict[str, Any]) -> list[str]:
    """The kinds that the step claims to be; of a right one exactly one."""
    return [kind for kind in KINDS if kind in step] or [kind for kind in ("choice",) if kind in step]


_STEP: Shape = _AnyStep()
_BLOCK_FIELDS = {
    "start": Field(STEP_NAME, "The first step.", required=True),
    "steps": Field(MapOf(name=STEP_NAME, item=STEP, least=1, most=STEPS_MAX), required=True),
}
_BLOCK: Record = Record(what="a block", fields=_BLOCK_FIELDS)
DEFINITION = Record(
    what="a definition",
    fields={
        "workflow": Field(NAME, "The name of the definition.", required=True),
        "version": Field(Number(least=1, most=2**31)),
        "description": Field(PROSE),
        "run_id": Field(TEXT, "The id of a run that is started without one, from $input."),
        "attributes": Field(
            MapOf(name=VARIABLE, item=TEXT, most=ATTRIBUTES_MAX), "What runs are found by, from $input."
        ),
        "input_schema": Field(SCHEMA),
        "deadline": Field(
            Record(
                what="a deadline",
                fields={
                    "after": Field(SPAN, "Since the start.", required=True),
                    "next": Field(STEP_NAME, "Else the run fails."),
                },
            )
        ),
        "retention": Field(
            Duration(least_ms=ENDED_KEPT_MS_MIN),
            "How long a run is kept after its end, a minute at least. P30D if not given.",
        ),
        "retry_default": Field(RETRY, "For task, http and object steps without a `retry`."),
        "on_exhausted": Field(Text(words=("stall", "fail")), "For steps that do not say. stall if not given."),
        **_BLOCK_FIELDS,
    },
)


def language_schema() -> dict[str, Any]:
    """The form of the language as JSON Schema, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Workflow definition",
        **DEFINITION.schema(),
        "$defs": {
            "block": _BLOCK.schema(),
            "step": _STEP.schema(),
            **{clause.name: clause.find().schema() for clause in CLAUSES},
            **{f"{kind}_step": record.schema() for kind, record in STEPS.items()},
        },
    }
