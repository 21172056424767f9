"""What is done to many runs, as each of them is told it."""

from typing import TypeAlias

import msgspec

from services.workflows.events import AnyEvent, Cancelled, Paused, Resumed, Terminated
from services.workflows.operation_schemas import ChangeRuns
from services.workflows.records import Kept


class RetryAll(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Try again all that has stalled."""


class Purge(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Forget the run, which has ended."""


class Migrate(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Have the run go on with another version of its definition."""

    kept: Kept
    step_map: dict[str, str] = {}


Change: TypeAlias = AnyEvent | RetryAll | Purge | Migrate


def change_of(order: ChangeRuns, kept: Kept | None) -> Change:
    """What is done to each run. `kept` is the definition that it is to have."""
    if kept is not None and order.to is not None:
        return Migrate(kept=kept, step_map=order.to.step_map)
    changes: dict[str, Change] = {
        "cancel": Cancelled(reason=order.reason),
        "terminate": Terminated(reason=order.reason),
        "pause": Paused(),
        "resume": Resumed(),
        "retry": RetryAll(),
        "purge": Purge(),
    }
    return changes[order.op]
