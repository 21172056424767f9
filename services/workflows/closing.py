"""Ends what is under way: a scope with everything below it, or the whole run."""

from services.workflows.draft import Draft, activity_of, is_effect
from services.workflows.program import Json
from services.workflows.state import ROOT, Ending, Failure, Scope
from services.workflows.undoing import record_undo, undo_next


def drop_below(draft: Draft, scope: Scope, how: str) -> None:
    """End every branch and item below the scope, and what is below those."""
    for child in draft.children_of(scope):
        drop(draft, child, how)


def drop(draft: Draft, scope: Scope, how: str) -> None:
    """End the scope and everything below it."""
    give_up(draft, scope, how)
    del draft.scopes[scope.path]


def give_up(draft: Draft, scope: Scope, how: str) -> None:
    """End what the scope is doing. What may have happened meanwhile is recorded to be undone."""
    if scope.activity is None:
        return
    drop_below(draft, scope, how)
    note_unsure(draft, scope)
    draft.withdraw(scope, how)
    draft.record("step.withdrawn", activity_of(scope).path, {"why": how})


def note_unsure(draft: Draft, scope: Scope) -> None:
    """Record how the step is undone if it may have happened."""
    activity = activity_of(scope)
    in_flight = is_effect(activity.sent) and activity.phase in {"called", "accepted"}
    if in_flight or activity.unsure:
        record_undo(draft, scope, known=False)


def end_run(draft: Draft, ending: Ending, *, undo: bool) -> None:
    """The run ends so; if wished, after everything that was recorded is undone. Its variables stay, for a reset."""
    give_up(draft, draft.scopes[ROOT], ending.status)
    draft.put(draft.scopes[ROOT], activity=None, ready=None)
    draft.timers = []
    draft.reminders = {}
    draft.queue.clear()
    draft.ending = ending
    draft.phase = "undoing"
    if not undo:
        draft.undo = []
    undo_next(draft)


def fail_run(draft: Draft, failure: Failure) -> None:
    """The run fails."""
    end_run(draft, Ending(status="failed", failure=failure), undo=failure.undo)


def succeed_run(draft: Draft, output: Json) -> None:
    """The run ends well."""
    end_run(draft, Ending(status="succeeded", output=output), undo=False)
