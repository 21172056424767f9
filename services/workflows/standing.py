"""How a run stands, as it is seen and listed: its status, and the rows of the indexes in which it is found.

Listings go upwards, and people look for the newest first: so rows are sorted by what is left of all time.
"""

from typing import Literal, NamedTuple, TypeAlias

import msgspec

from services.workflows.errands import Parent
from services.workflows.liveness import incidents
from services.workflows.state import ROOT, Run
from shared.bounds import MOMENT_MS_MAX

Status: TypeAlias = Literal[
    "scheduled", "running", "paused", "stalled", "undoing", "succeeded", "failed", "cancelled", "terminated"
]
STATUSES: tuple[Status, ...] = (
    "scheduled",
    "running",
    "paused",
    "stalled",
    "undoing",
    "succeeded",
    "failed",
    "cancelled",
    "terminated",
)
ENDED: frozenset[Status] = frozenset({"succeeded", "failed", "cancelled", "terminated"})
ALL, BY_STATUS, BY_DEFINITION, BY_BOTH, INCIDENT = "all", "status", "definition", "both", "incident"
"""The indexes in which runs are listed, newest first. Of `BY_BOTH` the value is `definition/status`."""
BY_STEP, DUE = "step", "due"
"""Of open runs alone: by `definition/step`, newest first; and all that have a moment to come, the earliest first."""
SOMETIMES = (INCIDENT, BY_STEP, DUE)
"""The indexes in which a run is found at some times and not at others."""
OPEN = "open"
"""The one value in the indexes of incidents and of what is due."""


class Summary(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What a listing shows of a run."""

    version: int
    status: Status
    definition: str = ""
    step: str = ""
    """In the indexes `BY_STEP` and `DUE` alone, as the next one."""
    started_ms: int = 0


class Row(NamedTuple):
    """Where a run is found in one index, and what is shown of it there."""

    value: str
    sort_ms: int
    summary: Summary


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """A run as it is seen: `seq` rises with every change."""

    run: Run
    seq: int
    status: Status
    attributes: dict[str, str]
    parent: Parent | None = None
    kept_until_ms: int | None = None
    """When it will be forgotten, once it has ended."""


def rows_of(run: Run, status: Status, attributes: dict[str, str]) -> dict[str, Row]:
    """By the name of the index, the row of the run there."""
    values = {ALL: ALL, BY_STATUS: status, BY_DEFINITION: run.definition, BY_BOTH: f"{run.definition}/{status}"}
    values |= {attribute_index(name): value for name, value in attributes.items()}
    if incidents(run):
        values[INCIDENT] = OPEN
    summary = Summary(version=run.version, status=status, definition=run.definition)
    rows = {name: Row(value, place_of(run), summary) for name, value in values.items()}
    step, due_ms = step_of(run), due_ms_of(run)
    more = msgspec.structs.replace(summary, step=step, started_ms=run.started_ms)
    if step:
        rows[BY_STEP] = Row(f"{run.definition}/{step}", place_of(run), more)
    if due_ms is not None:
        rows[DUE] = Row(OPEN, due_ms, more)
    return rows


def step_of(run: Run) -> str:
    """The step that the run itself is at, not one in a branch; empty where it is at none."""
    root = run.scopes.get(ROOT)
    return root.activity.step if run.phase == "open" and root is not None and root.activity is not None else ""


def due_ms_of(run: Run) -> int | None:
    """When a step of the run times out, wakes or is tried again, or its deadline is over: the earliest of these."""
    if run.phase != "open":
        return None
    activities = (scope.activity for scope in run.scopes.values() if scope.activity is not None)
    due = [one.due_ms for one in activities if one.due_ms is not None and one.phase != "stalled"]
    deadline_ms = deadline_ms_of(run)
    return min([*due, *([] if deadline_ms is None else [deadline_ms])], default=None)


def deadline_ms_of(run: Run) -> int | None:
    """When the run has lasted too long; None where nothing says so any more."""
    return next((timer.due_ms for timer in run.timers if timer.what == "deadline"), None)


def place_of(run: Run) -> int:
    """The run's place in every listing."""
    return MOMENT_MS_MAX - run.started_ms


def started_ms_at(place: int) -> int:
    """When the run of that place was started."""
    return MOMENT_MS_MAX - place


def attribute_index(name: str) -> str:
    """The index in which runs are found by an attribute."""
    return f"attr.{name}"


def status_of(run: Run) -> Status:
    """What a listing says of the run: how it ended, or what it is at. One that needs help is stalled, or paused."""
    if run.phase == "ended" and run.ending is not None:
        return run.ending.status
    if run.paused:
        return "paused"
    if incidents(run):
        return "stalled"
    if run.begins_ms and not run.entries and run.phase == "open":
        return "scheduled"
    return "undoing" if run.phase == "undoing" else "running"
