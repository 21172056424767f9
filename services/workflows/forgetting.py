"""A run that has ended is kept as long as its definition says, then forgotten, and for a week known to be gone.

What is left of it meanwhile is none of its data: which serials and keys it had, so that a run that gets its id has none
of them.
"""

from services.workflows.bounds import GONE_KEPT_MS
from services.workflows.opening import Before, before_of
from services.workflows.state import Run
from shared.objects.state import ObjectState

FORGET = "forget"
"""The alarm that rings when it has been kept long enough."""
_GONE = "gone"


def forget(storage: ObjectState, run: Run, *, now_ms: int) -> Before:
    """Drop all of the run, its history and its index rows too; what is left of it."""
    before = before_of(run)
    storage.delete_all()
    storage.put(_GONE, before)
    storage.expire_at(now_ms + GONE_KEPT_MS)
    return before


def traces_of(storage: ObjectState) -> Before | None:
    """What is left of a run that was here; None where there is one, or nothing is known of any."""
    return storage.get(_GONE, Before)


def make_way(storage: ObjectState) -> None:
    """Another run begins here."""
    storage.delete(_GONE)
