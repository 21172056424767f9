"""How a run stands, as it is seen and listed: its status, and the rows of the indexes in which it is found.

Listings go upwards, and people look for the newest first: so rows are sorted by what is left of all time.
"""

from typing import Literal, TypeAlias

import msgspec

from services.workflows.errands import Parent
from services.workflows.liveness import incidents
from services.workflows.state import Run
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


class Summary(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What a listing shows of a run."""

    version: int
    status: Status
    definition: str = ""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """A run as it is seen: `seq` rises with every change."""

    run: Run
    seq: int
    status: Status
    attributes: dict[str, str]
    parent: Parent | None = None


def rows_of(run: Run, status: Status, attributes: dict[str, str]) -> dict[str, str]:
    """By the name of the index, the value under which the run is found there."""
    rows = {ALL: ALL, BY_STATUS: status, BY_DEFINITION: run.definition, BY_BOTH: f"{run.definition}/{status}"}
    if incidents(run):
        rows[INCIDENT] = "open"
    return rows | {attribute_index(name): value for name, value in attributes.items()}


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
