"""No run is stuck silently. Says of a run where that would not be so; of a right one, nothing."""

from collections.abc import Iterator

from services.workflows.state import Activity, Run, Scope, Undo


def stuck(run: Run) -> tuple[str, ...]:
    """Every place where an open run waits for nothing that will come, as sentences.

    Each scope has a step that is ready, or one that has been sent, is shown, has a timer, has stalled (an incident),
    or has branches under way. The alarm is the earliest timer. A paused run waits for whoever resumes it.
    """
    if run.phase == "ended":
        return ()
    return tuple(_of_alarm(run)) + tuple(_of_undo(run) if run.phase == "undoing" else _of_scopes(run))


def incidents(run: Run) -> tuple[Activity | Undo, ...]:
    """The steps and compensations that wait for somebody who helps."""
    ones: list[Activity | Undo] = [scope.activity for scope in run.scopes.values() if scope.activity]
    return tuple(one for one in (*ones, *run.undo) if one.phase == "stalled")


def _of_alarm(run: Run) -> Iterator[str]:
    due_ms = min((timer.due_ms for timer in run.timers), default=None)
    wanted_ms = None if run.paused else due_ms
    if run.alarm_ms != wanted_ms:
        yield f"the alarm is at {run.alarm_ms}, and the earliest timer at {wanted_ms}"


def _of_undo(run: Run) -> Iterator[str]:
    if not run.undo:
        yield "the run is being undone, and nothing is left to undo"
    elif run.undo[0].phase == "recorded" and not run.paused:
        yield f"{run.undo[0].path} was not begun"
    elif run.undo[0].phase in {"backing_off", "called", "accepted"} and not _has_timer(run, run.undo[0].serial):
        yield f"{run.undo[0].path} has no timer"


def _of_scopes(run: Run) -> Iterator[str]:
    if not run.scopes:
        yield "the run is open, and nothing is under way"
    for scope in run.scopes.values():
        if scope.activity is None:
            yield from _of_ready(run, scope)
        elif not _waits(run, scope, scope.activity):
            yield f"{scope.activity.path} is {scope.activity.phase}, and nothing will come"


def _of_ready(run: Run, scope: Scope) -> Iterator[str]:
    if scope.ready is None:
        yield f"the block {scope.path!r} has no step"
    elif not run.paused and not any(timer.what == "continue" for timer in run.timers):
        yield f"{scope.ready} of the block {scope.path!r} is ready, and nobody will enter it"


def _waits(run: Run, scope: Scope, activity: Activity) -> bool:
    match activity.phase:
        case "called" | "accepted" | "waiting":
            return activity.sent is not None
        case "sleeping" | "backing_off":
            return _has_timer(run, activity.serial)
        case "joining":
            return any(child.parent == scope.path for child in run.scopes.values())
        case _:
            return activity.failure is not None


def _has_timer(run: Run, serial: int) -> bool:
    return any(timer.serial == serial for timer in run.timers)
