"""What goes over the wire of operations, which do the same to many runs. Moments are Unix ms of the store's clock."""

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from services.workflows.bounds import OPERATION_IDS_MAX, OPERATION_RUNS_MAX
from services.workflows.schemas import DefinitionName, Reason, RunFilter, RunId, RunNotChanged, StepMap, Version

Op: TypeAlias = Literal["cancel", "terminate", "pause", "resume", "retry", "purge", "migrate"]
Progress: TypeAlias = Literal["running", "done", "stopped"]


class MigrateTo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which version runs are to have."""

    definition: DefinitionName
    version: Version
    step_map: StepMap = {}


class ChangeRuns(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Do the same to many runs: to those that a filter finds, in its order, or to those that are named."""

    op: Op
    filter: RunFilter | None = None
    ids: Annotated[list[RunId], Meta(max_length=OPERATION_IDS_MAX)] | None = None
    """Instead of a filter; each once."""
    limit: Annotated[int, Meta(ge=1, le=OPERATION_RUNS_MAX)] = OPERATION_RUNS_MAX
    """So many runs at most."""
    cursor: str | None = None
    """The `next_cursor` of an operation with the same filter that came to its limit: go on behind it."""
    to: MigrateTo | None = None
    """Of `migrate`. Runs of other definitions are refused."""
    dry_run: bool = False
    """Change nothing, and only count what would be."""
    reason: Reason = ""
    """Of `cancel` and `terminate`."""


class OperationView(msgspec.Struct, frozen=True, kw_only=True):
    """An operation as it is."""

    id: str
    op: Op
    dry_run: bool
    status: Progress
    """`done`: it has come to the end of its runs, or to its limit; `stopped`: somebody has stopped it before."""
    changed: int
    """Runs that were changed, or would be; one that is so already, such as one paused twice, is among them."""
    refused: int
    """Runs that it does not fit, and where it was stopped, runs of which it is not known whether they are changed."""
    errors: list[RunNotChanged]
    """Of the first 20 that it did not fit; and each of which it is not known (`operation.stopped`)."""
    waits_for: str
    """What holds it up at the moment, and will pass by itself; empty where nothing does."""
    started_ms: int
    ended_ms: int | None
    next_cursor: str | None
    """Where it has ended, if there may be more runs behind."""


class OperationList(msgspec.Struct, frozen=True, kw_only=True):
    """Operations, newest first."""

    operations: list[OperationView]
    next_cursor: str | None
