"""What is done to many runs, as each of them is told it."""

from typing import TypeAlias

import msgspec

from services.workflows.events import AnyEvent, Cancelled, Paused, Resumed, Terminated
from services.workflows.operation_schemas import ChangeRuns


class RetryAll(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Try again all that has stalled."""


class Purge(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Forget the run, which has ended."""


Change: TypeAlias = AnyEvent | RetryAll | Purge


def change_of(order: ChangeRuns) -> Change:
    """What is done to each run."""
    changes: dict[str, Change] = {
        "cancel": Cancelled(reason=order.reason),
        "terminate": Terminated(reason=order.reason),
        "pause": Paused(),
        "resume": Resumed(),
        "retry": RetryAll(),
        "purge": Purge(),
    }
    return changes[order.op]
