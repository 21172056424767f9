"""Runs as the API shows them, made of what the run object answers."""

from collections.abc import Iterable, Sequence

import msgspec

from services.workflows.incident_ids import incident_id
from services.workflows.intents import AskFor
from services.workflows.keeping import Happened
from services.workflows.liveness import incidents
from services.workflows.schemas import (
    EndView,
    HistoryLine,
    HistoryPage,
    IncidentView,
    RunSummary,
    RunView,
    StepView,
    WaitView,
)
from services.workflows.standing import Look, Summary, deadline_ms_of, started_ms_at
from services.workflows.state import ROOT, Activity, Ending, Undo
from services.workflows.values import error_seen
from shared.objects.journal import JournalEntry
from shared.objects.listings import Found


def run_view(look: Look) -> RunView:
    """All that is shown of a run."""
    run = look.run
    root = run.scopes.get(ROOT)
    activities = [scope.activity for scope in run.scopes.values() if scope.activity is not None]
    undoing = [undo for undo in run.undo if undo.phase != "recorded"]
    return RunView(
        id=run.id,
        definition=run.definition,
        version=run.version,
        status=look.status,
        seq=look.seq,
        generation=run.generation,
        started_ms=run.started_ms,
        deadline_ms=deadline_ms_of(run),
        input=run.input,
        attributes=look.attributes,
        variables={} if root is None else root.variables,
        steps=[*(_step(activity) for activity in activities), *(_undo(undo) for undo in undoing)],
        signals=[signal.name for signal in run.mailbox],
        kept_until_ms=look.kept_until_ms,
        end=None if run.ending is None else _end(run.ending),
        parent=(look.parent.run or None) if look.parent is not None else None,
        schedule=(look.parent.schedule or None) if look.parent is not None else None,
    )


def summary_of(found: Found) -> Summary:
    """What a row of a listing says of its run."""
    return msgspec.msgpack.decode(found.summary, type=Summary)


def summary_view(found: Found, summary: Summary) -> RunSummary:
    """A row of a listing, as the API shows it."""
    return RunSummary(
        id=found.address.name,
        definition=summary.definition,
        version=summary.version,
        status=summary.status,
        started_ms=summary.started_ms or started_ms_at(found.sort_ms),
    )


def history_page(entries: Sequence[JournalEntry], limit: int) -> HistoryPage:
    """Entries of the journal, each of which has the lines of one turn."""
    lines = [line for entry in entries for line in _lines(entry.value)]
    return HistoryPage(lines=lines, next_cursor=entries[-1].position if len(entries) == limit else None)


def history_page_back(entries: Sequence[JournalEntry]) -> HistoryPage:
    """The same of entries that come newest first."""
    lines = [line for entry in entries for line in reversed(list(_lines(entry.value)))]
    more = bool(entries) and entries[-1].position > 1
    return HistoryPage(lines=lines, next_cursor=entries[-1].position if more else None)


def incident_views(look: Look) -> list[IncidentView]:
    """What of the run waits for somebody who helps."""
    run = look.run
    return [
        IncidentView(
            id=incident_id(run.id, one.path, one.serial),
            run=run.id,
            definition=run.definition,
            step=one.path,
            error=_failure(one),
        )
        for one in incidents(run)
    ]


def _lines(happened: Happened) -> Iterable[HistoryLine]:
    for line in happened.lines:
        data = msgspec.json.decode(line.data) if line.data else None
        yield HistoryLine(at_ms=happened.at_ms, event=line.event, step=line.path, data=data)


def _step(activity: Activity) -> StepView:
    asked = activity.sent
    return StepView(
        path=activity.path,
        phase=activity.phase,
        serial=activity.serial,
        attempt=activity.attempt,
        entered_ms=activity.entered_ms,
        due_ms=activity.due_ms,
        wait=_wait(asked, activity.claimed_by) if isinstance(asked, AskFor) else None,
        worker=activity.worker,
        progress=activity.progress,
        error=_failure(activity),
    )


def _wait(asked: AskFor, claimed_by: str) -> WaitView:
    return WaitView(
        title=asked.title,
        description=asked.description,
        assign=asked.assign,
        outcomes=list(asked.outcomes),
        claimed_by=claimed_by,
    )


def _undo(undo: Undo) -> StepView:
    return StepView(path=undo.path, phase=undo.phase, serial=undo.serial, attempt=undo.attempt, error=_failure(undo))


def _failure(one: Activity | Undo) -> dict[str, object] | None:
    return None if one.failure is None else error_seen(one.failure)


def _end(ending: Ending) -> EndView:
    error = None if ending.failure is None else error_seen(ending.failure)
    return EndView(status=ending.status, output=ending.output, error=error)
