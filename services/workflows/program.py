"""The intermediate form of a definition: what the machine runs, whatever language it was written in.

A step is its kind and how it goes on: transitions, variables, errors. Retries, catches, choices, parallels and maps
mean what they mean in the Amazon States Language, so another front end needs no second interpreter. Everything is plain
data; an expression is still text (`{% ... %}` inside a template), and compiled where it is evaluated. A program that
was compiled from a valid definition is complete: every step that is named exists.
"""

from typing import Any, Literal, TypeAlias

import msgspec

from services.workflows.bounds import ENDED_KEPT_MS

Json: TypeAlias = Any
Span: TypeAlias = int | str
"""Milliseconds, or the text of an expression that gives seconds or a duration such as 90s."""


class Template(msgspec.Struct, frozen=True):
    """A value in which text of the form `{% ... %}` is replaced by what it evaluates to."""

    value: Json


class Secret(msgspec.Struct, frozen=True, kw_only=True):
    """A reference to a secret. What it says is known only to whoever sends it."""

    secret: str
    prefix: str = ""


class Retrier(msgspec.Struct, frozen=True, kw_only=True):
    """When and how often a step is tried again after one of `errors`."""

    errors: tuple[str, ...]
    interval_ms: int = 1_000
    rate: float = 2.0
    max_delay_ms: int | None = None
    retries_max: int | None = 3
    """Beside the first try; None is without end."""
    full_jitter: bool = False


class Catcher(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run goes on after one of `errors`."""

    errors: tuple[str, ...]
    next: str
    visits_max: int | None = None
    assign: dict[str, Json] = {}
    output: Template | None = None


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A condition and where it leads."""

    when: str
    next: str
    assign: dict[str, Json] = {}
    output: Template | None = None


class Http(msgspec.Struct, frozen=True, kw_only=True, tag="http"):
    """A call of an address outside."""

    method: str
    url: Json
    headers: dict[str, Json | Secret] = {}
    body: Template | None = None
    callback: bool = False


class Task(msgspec.Struct, frozen=True, kw_only=True, tag="task"):
    """Work for whoever polls a queue."""

    queue: Json
    input: Template | None = None


class ObjectCall(msgspec.Struct, frozen=True, kw_only=True, tag="object"):
    """A call of a public method of an object."""

    kind: Json
    name: Json
    call: str
    args: Json = {}


Action: TypeAlias = Http | Task | ObjectCall


class Reminder(msgspec.Struct, frozen=True, kw_only=True):
    """A call that is made every so often while a wait lasts."""

    every_ms: int
    times: int
    http: Http


class Escalation(msgspec.Struct, frozen=True, kw_only=True):
    """Who gets a wait that has lasted so long, and how long they have at least."""

    after_ms: int
    assign: dict[str, Json]
    extend_ms: int = 0


class Wait(msgspec.Struct, frozen=True, kw_only=True, tag="wait"):
    """A person or a system outside answers."""

    title: Json = ""
    description: Json = ""
    assign: dict[str, Json] = {}
    outcomes: tuple[str, ...] = ()
    result_schema: dict[str, Any] | None = None
    others: tuple[str, ...] = ()
    """Steps of the same block: whoever answered one of them may not answer this."""
    signal: str = ""
    remind: Reminder | None = None
    escalate: tuple[Escalation, ...] = ()


class Sleep(msgspec.Struct, frozen=True, kw_only=True, tag="sleep"):
    """Time passes: a span, or until a moment (milliseconds since 1970, or an expression)."""

    span: Span | None = None
    until: Span | None = None


class Parallel(msgspec.Struct, frozen=True, kw_only=True, tag="parallel"):
    """Blocks that run beside one another, of which `need` must succeed."""

    branches: dict[str, "Block"]
    need: int
    wait_others: bool = False


class Map(msgspec.Struct, frozen=True, kw_only=True, tag="map"):
    """One block for each item of a list, so many at once; 0 is all. So many, or percent of them, may fail."""

    items: Json
    each: "Block"
    concurrency: int = 0
    tolerate: int = 0
    tolerate_percent: int = 0


class Child(msgspec.Struct, frozen=True, kw_only=True, tag="child"):
    """Another run, whose end is waited for."""

    workflow: str
    version: int | None = None
    id: Json = None
    input: Template | None = None


class Pass(msgspec.Struct, frozen=True, kw_only=True, tag="pass"):
    """The template is the result. A step that only chooses is one without a template."""

    result: Template | None = None


class Fail(msgspec.Struct, frozen=True, kw_only=True, tag="fail"):
    """The block ends with this error."""

    error: Json
    cause: Json = ""
    compensate_all: bool = False


class Succeed(msgspec.Struct, frozen=True, kw_only=True, tag="succeed"):
    """The block ends with this output."""

    output: Template


Kind: TypeAlias = Wait | Http | Task | ObjectCall | Sleep | Parallel | Map | Child | Pass | Fail | Succeed


class Compensation(msgspec.Struct, frozen=True, kw_only=True):
    """How a step is undone."""

    action: Action
    retry: tuple[Retrier, ...]
    timeout_ms: int


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What a step does, where it leads, and what becomes of its errors. Without `next` and rules it ends its block."""

    kind: Kind
    next: str | None = None
    rules: tuple[Rule, ...] = ()
    default: str | None = None
    assign: dict[str, Json] = {}
    output: Template | None = None
    retry: tuple[Retrier, ...] = ()
    catch: tuple[Catcher, ...] = ()
    on_exhausted: Literal["stall", "fail"] = "stall"
    timeout: Span | None = None
    heartbeat: Span | None = None
    compensate: Compensation | None = None
    pivot: bool = False
    visits_max: int | None = None


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """Steps of which one runs at a time."""

    start: str
    steps: dict[str, Step]


class Deadline(msgspec.Struct, frozen=True, kw_only=True):
    """When a run has lasted too long, and where it goes on then; without `next` it fails."""

    after: Span
    next: str | None = None


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """A whole definition."""

    name: str
    version: int
    root: Block
    run_id: Json = None
    attributes: dict[str, Json] = {}
    input_schema: dict[str, Any] | None = None
    deadline: Deadline | None = None
    kept_ms: int = ENDED_KEPT_MS
    """How long a run is kept after its end."""
