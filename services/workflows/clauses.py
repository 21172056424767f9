"""What steps are made of: names, calls, secrets, retriers, catchers, rules, schemas of answers.

As data, like services/workflows/grammar.py, which puts them together.
"""

from services.workflows.bounds import RETRIES_MAX, VISITS_MAX
from services.workflows.shapes import Duration, Expression, Flag, Number, Template, Text
from services.workflows.structures import Either, Field, ListOf, MapOf, Named, Record

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

STEP_NAME = Text(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$", what="a name of letters, digits, _ and -", length_max=64)
VARIABLE = Text(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$", what="a name of letters, digits and _", length_max=64)
NAME = Text(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", what="a name of letters, digits, . _ and -", length_max=64)
ERROR = Text(pattern=r"^(?:\*|[A-Za-z][A-Za-z0-9._-]{0,127})$", what="the name of an error, or *", length_max=128)
HEADER = Text(pattern=r"^[A-Za-z0-9-]{1,64}$", what="the name of a header field", length_max=64)
PROSE = Text(length_max=2_000)
TEXT = Template(text=True)
ANY = Template()
SPAN = Either((Expression(), Duration()), "a duration such as 90s or P10D, or an expression")
VISITS = Number(least=1, most=VISITS_MAX)

SCHEMA = Named("schema", lambda: _SCHEMA)
HTTP = Named("http_call", lambda: _HTTP)
OBJECT = Named("object_call", lambda: _OBJECT)
RETRIER = Named("retrier", lambda: _RETRIER)
CATCHER = Named("catcher", lambda: _CATCHER)
RULE = Named("rule", lambda: _RULE)
COMPENSATE = Named("compensation", lambda: _COMPENSATE)
CLAUSES = (SCHEMA, HTTP, OBJECT, RETRIER, CATCHER, RULE, COMPENSATE)

_TYPES = Text(words=("object", "array", "string", "number", "integer", "boolean", "null"))
_SIZE = Number(most=1_000_000)
_LIMIT = Number(least=-(2**53), most=2**53, fractions=True)
_SCHEMA: Record = Record(
    what="a schema",
    fields={
        "type": Field(Either((_TYPES, ListOf(item=_TYPES, least=1, most=7)), "a type or a list of them")),
        "enum": Field(ListOf(item=ANY, least=1)),
        "const": Field(ANY),
        "required": Field(ListOf(item=Text(length_max=256))),
        "properties": Field(MapOf(name=Text(length_max=256), item=SCHEMA)),
        "additionalProperties": Field(Flag()),
        "items": Field(SCHEMA),
        "minItems": Field(_SIZE),
        "maxItems": Field(_SIZE),
        "minLength": Field(_SIZE),
        "maxLength": Field(_SIZE),
        "minimum": Field(_LIMIT),
        "maximum": Field(_LIMIT),
        "title": Field(PROSE),
        "description": Field(PROSE),
    },
)

SECRET = Record(
    what="a secret",
    fields={
        "secret": Field(
            NAME, "The name of a secret of the tenant. Its value never stands in a definition or a run.", required=True
        ),
        "prefix": Field(Text(length_max=32), "What stands before it, such as 'Bearer '."),
    },
)
ASSIGN = Record(
    what="an assignment",
    fields={"user": Field(TEXT, "Who is to do it."), "group": Field(TEXT, "Of whom anyone may do it.")},
    one_of=(("user", "group"),),
)
_HTTP: Record = Record(
    what="an http call",
    fields={
        **{method: Field(TEXT, f"{method} this URL.") for method in METHODS},
        "body": Field(ANY, "Sent as JSON."),
        "headers": Field(MapOf(name=HEADER, item=Either((SECRET, TEXT), "text, an expression or a secret"), most=20)),
        "callback": Field(Flag(), "202 means: the answer comes later, to the address that the call names."),
    },
    one_of=(METHODS,),
)
_OBJECT: Record = Record(
    what="an object call",
    fields={
        "type": Field(TEXT, "The kind of the object.", required=True),
        "id": Field(TEXT, "Its name.", required=True),
        "call": Field(NAME, "The public method.", required=True),
        "args": Field(MapOf(name=VARIABLE, item=ANY), "Its arguments by name."),
    },
)
_RETRIER: Record = Record(
    what="a retrier",
    fields={
        "errors": Field(ListOf(item=ERROR, least=1, most=20), "Which errors it is for.", required=True),
        "interval": Field(Duration(), "Before the first retry. 1s if not given."),
        "rate": Field(Number(least=1, most=100, fractions=True), "What each wait is longer than the one before. 2."),
        "max_delay": Field(Duration(), "No wait is longer."),
        "attempts": Field(
            Either((Text(words=("unlimited",)), Number(most=RETRIES_MAX)), "a number of retries or unlimited"),
            "How many retries, beside the first try. 3 if not given.",
        ),
        "jitter": Field(Text(words=("none", "full")), "full: each wait is drawn between 0 and its length."),
    },
)
_CATCHER: Record = Record(
    what="a catcher",
    fields={
        "errors": Field(ListOf(item=ERROR, least=1, most=20), "Which errors it is for.", required=True),
        "next": Field(STEP_NAME, "Where the run goes on.", required=True),
        "max_visits": Field(VISITS, "Only while `next` was visited less often than this."),
        "assign_vars": Field(MapOf(name=VARIABLE, item=ANY), "Variables from $error."),
        "output": Field(ANY, "What the next step gets; $error if not given."),
    },
)
_RULE: Record = Record(
    what="a rule",
    fields={
        "when": Field(Expression(), "The condition; true or false.", required=True),
        "next": Field(STEP_NAME, "Where the run goes on if it is true.", required=True),
        "assign_vars": Field(MapOf(name=VARIABLE, item=ANY)),
        "output": Field(ANY),
    },
)
RETRY = ListOf(item=RETRIER, most=10)
CATCH = ListOf(item=CATCHER, most=10)
_COMPENSATE: Record = Record(
    what="a compensation",
    fields={
        "task": Field(TEXT, "A task for workers of this queue."),
        "http": Field(HTTP),
        "object": Field(OBJECT),
        "input": Field(ANY, "Of the task. $result is null where nobody knows whether the step happened."),
        "retry": Field(RETRY),
        "timeout": Field(Duration()),
    },
    one_of=(("task", "http", "object"),),
)
