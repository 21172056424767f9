"""What goes over the wire: requests are closed structs, decoded strictly; answers are open to new fields.

Moments are Unix milliseconds of the store's clock.
"""

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from services.workflows.beginning import Reuse
from services.workflows.bounds import ATTRIBUTES_MAX, DURATION_MS_MAX, RUN_ID_BYTES_MAX, STEPS_MAX
from services.workflows.program import Json
from services.workflows.standing import Status
from shared.bounds import LISTING_ROWS_MAX, MOMENT_MS_MAX

DefinitionName = Annotated[str, Meta(min_length=1, max_length=64)]
Version = Annotated[int, Meta(ge=1, le=2**31)]
RunId = Annotated[str, Meta(min_length=1, max_length=RUN_ID_BYTES_MAX, description="At most 256 bytes in UTF-8.")]
Person = Annotated[str, Meta(max_length=256, description="Who it is, as the caller says.")]
Reason = Annotated[str, Meta(max_length=2_000)]
Serial = Annotated[
    int, Meta(ge=0, description="The attempt that is answered, as the run shows it; 0: whichever it is.")
]
StepName = Annotated[str, Meta(min_length=1, max_length=512)]


Sort: TypeAlias = Literal["-created", "due"]


class StartRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Start a run. Without an id it has the one that its definition makes, else one made of the `Idempotency-Key`."""

    definition: DefinitionName
    version: Version | None = None
    """The newest if not given."""
    id: RunId | None = None
    input: Json = None
    attributes: Annotated[dict[str, str], Meta(max_length=ATTRIBUTES_MAX)] = {}
    """Beside those of the definition; these count more."""
    start_at_ms: Annotated[int, Meta(ge=0, le=MOMENT_MS_MAX)] = 0
    """When the first step is entered, Unix ms; until then it is `scheduled`, takes signals, and can be cancelled."""
    delay_ms: Annotated[int, Meta(ge=0, le=DURATION_MS_MAX)] = 0
    """The same from now on."""
    deadline_at_ms: Annotated[int, Meta(ge=0, le=MOMENT_MS_MAX)] = 0
    """When the run has lasted too long, Unix ms; of this and what its definition says the earlier counts."""
    deadline_after_ms: Annotated[int, Meta(ge=0, le=DURATION_MS_MAX)] = 0
    """The same from its beginning on."""
    on_conflict: Literal["fail", "use_existing", "terminate_existing"] = "fail"
    """What to do where there is a run of the id that was started otherwise: refuse, answer with that one, or have it
    terminated if it is open, which needs `workflows:admin`. The same start once more is never a conflict."""
    reuse: Reuse = "never"
    """Whether a new run may take the id of one that has ended: never, where that did not succeed, or always."""


SignalTtl = Annotated[
    int, Meta(ge=0, le=DURATION_MS_MAX, description="How long a wait may still take it, ms; 0: as long as the run is.")
]


class Because(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why."""

    reason: Reason = ""


class RestartRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new run with the definition, input and attributes of this one."""

    id: RunId | None = None
    """Of the new run; a random one if not given."""
    version: Version | None = None
    """Of the definition; the same as before if not given."""


class RunFilter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which runs are meant: all that is said holds for each of them."""

    status: Status | None = None
    definition: DefinitionName | None = None
    version: Version | None = None
    """Of the definition, with that."""
    attribute: tuple[str, str] | None = None
    """A name and a value. It does not go with a step or a moment."""
    step: StepName | None = None
    """The step of the run itself, not one in a branch, at which it is; with its definition."""
    due_before: Annotated[int, Meta(ge=0, le=MOMENT_MS_MAX)] | None = None
    """Open runs of which a step times out, wakes or is tried again, or the deadline is over, before then: Unix ms."""


class SearchRuns(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Find runs."""

    filter: RunFilter = RunFilter()
    sort: Sort | None = None
    """`-created`, newest first, or `due`, the earliest first: of what `due_before` is about. If not given, as the
    filter has it."""
    cursor: str | None = None
    limit: Annotated[int, Meta(ge=1, le=LISTING_ROWS_MAX)] = 100


class StartIfNone(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The run that a signal begins where it finds none. It has the attribute by which the signal looks for runs."""

    id: RunId | None = None
    """If not given, the one that its definition makes, else one made of the attribute: so of two signals at once one
    begins the run, and both are sent to it."""
    version: Version | None = None
    """The newest if not given."""
    input: Json = None


class SignalRuns(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A signal to the open runs of a definition that have an attribute: by what it is about, and not by their ids."""

    definition: DefinitionName
    attribute: tuple[str, str]
    """A name and a value, such as `["order", "o-17"]`."""
    name: Annotated[str, Meta(min_length=1, max_length=512)]
    payload: Json = None
    cursor: str | None = None
    ttl_ms: SignalTtl = 0
    start_if_none: StartIfNone | None = None
    """Begin a run where no open one is meant, with the signal, as one change. Not together with a cursor."""
    require_match: bool = False
    """Refuse, with 404, where no run is meant."""


class ResetRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Go on at a step of the run itself, as a new visit of it."""

    to_step: StepName
    keep_signals: bool = False


StepMap = Annotated[
    dict[StepName, StepName],
    Meta(
        max_length=STEPS_MAX,
        description="Steps of the run itself, each with the one of the other version at which it goes on: the run "
        "gives up what it is at, and enters that as a new visit. Without one it goes on where it is.",
    ),
]


class MigrateRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Go on with another version of the definition."""

    version: Version
    step_map: StepMap = {}
    dry_run: bool = False
    """Only say whether it can."""


class SendSignal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the signal carries."""

    payload: Json = None
    ttl_ms: SignalTtl = 0


class CompleteStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The step is done."""

    result: Json = None
    outcome: Annotated[str, Meta(max_length=64)] = ""
    by: Person = ""
    serial: Serial = 0


class FailStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The step is not done."""

    error: Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z][A-Za-z0-9._-]*$")]
    cause: Json = ""
    data: Json = None
    retry_after_ms: Annotated[int, Meta(ge=0, le=3_600_000)] = 0
    serial: Serial = 0


class CallBack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The answer to a call that was accepted: a result, or an error."""

    result: Json = None
    error: Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z][A-Za-z0-9._-]*$")] | None = None
    cause: Json = ""
    data: Json = None


class SkipStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Take the step as done, with this result."""

    result: Json = None


class ClaimStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Take a wait for oneself; an empty name gives it back."""

    by: Person


class AssignStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Give a wait to others: a user or a group."""

    user: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    group: Annotated[str, Meta(min_length=1, max_length=256)] | None = None


class WaitView(msgspec.Struct, frozen=True, kw_only=True):
    """What a person is asked."""

    title: str
    description: str
    assign: dict[str, str]
    outcomes: list[str]
    claimed_by: str


class StepView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A step under way, or one that is being undone (`path!undo`)."""

    path: str
    phase: str
    """`called`: sent and not answered; `accepted`: the answer comes later; `waiting`, `sleeping`, `backing_off` until
    `due_ms`; `joining`: its branches are under way; `stalled`: an incident."""
    serial: int
    attempt: int = 1
    entered_ms: int | None = None
    due_ms: int | None = None
    wait: WaitView | None = None
    worker: str = ""
    progress: Json = None
    error: Json = None
    """Of the last attempt: `error`, `cause`, `step`, `data`."""


class EndView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the run has ended, or will have once it is undone."""

    status: str
    output: Json = None
    error: Json = None


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """A run as it is."""

    id: str
    definition: str
    version: int
    status: Status
    seq: int
    """Rises with every change; the entity tag says it too."""
    generation: int
    started_ms: int
    deadline_ms: int | None
    """When it has lasted too long, if anything says so."""
    input: Json
    attributes: dict[str, str]
    variables: dict[str, Json]
    """Of the run itself."""
    steps: list[StepView]
    signals: list[str]
    """Names of those that no wait has taken yet."""
    end: EndView | None
    kept_until_ms: int | None
    """When a run that has ended is forgotten."""
    parent: str | None
    """The run that waits for this one."""
    schedule: str | None = None
    """The schedule that has started it."""


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A run as a listing shows it."""

    id: str
    definition: str
    version: int
    status: Status
    started_ms: int


class RunList(msgspec.Struct, frozen=True, kw_only=True):
    """Runs, in the order that was asked for. With a `next_cursor` there may be more, even where this page is short."""

    runs: list[RunSummary]
    next_cursor: str | None


class RunCount(msgspec.Struct, frozen=True, kw_only=True):
    """How many runs there are, by status or by definition. Each number is of one moment, the whole is not."""

    counts: dict[str, int]
    total: int


class HistoryLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened."""

    at_ms: int
    event: str
    step: str = ""
    data: Json = None


class HistoryPage(msgspec.Struct, frozen=True, kw_only=True):
    """What happened, in the order that was asked for. With a `next_cursor` there may be more."""

    lines: list[HistoryLine]
    next_cursor: int | None


class RunChanged(msgspec.Struct, frozen=True, kw_only=True):
    """The status after the change."""

    id: str
    status: Status


class RunNotChanged(msgspec.Struct, frozen=True, kw_only=True):
    """A run that was not changed, and why."""

    id: str
    code: str
    detail: str


class RunsChanged(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the runs. With a `next_cursor` there may be more: ask again with it."""

    changed: list[str]
    refused: list[RunNotChanged]
    next_cursor: str | None
    started: str | None = None
    """The run among them that a signal has begun."""


class IncidentView(msgspec.Struct, frozen=True, kw_only=True):
    """A step that waits for somebody who helps: resolve it, or end the run."""

    id: str
    """Of this one alone: when the step stalls again, that is another incident."""
    run: str
    definition: str
    step: str
    error: Json


class ResolveIncident(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a step goes on that has stalled."""

    action: Literal["retry", "skip"]
    """`retry`: the same visit with the same key, and with fresh retries; `skip`: it is taken as done."""
    result: Json = None
    """Of a step that is skipped."""


class IncidentList(msgspec.Struct, frozen=True, kw_only=True):
    """Incidents of open runs, those of the newest runs first."""

    incidents: list[IncidentView]
    next_cursor: str | None


class InboxItem(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody is asked. It is answered at the step of the run; the serial says which visit is meant."""

    run: str
    definition: str
    step: str
    serial: int
    title: str
    description: str
    assign: dict[str, str]
    outcomes: list[str]
    claimed_by: str
    since_ms: int
    due_ms: int | None


class InboxList(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked, the most urgent first. With a `next_cursor` there may be more, even where this page is short."""

    items: list[InboxItem]
    next_cursor: str | None
