"""The run object: one run of a definition, hosted on the object core.

Guarantees:

- An event counts whole or not at all: the state, the history, the alarms, the index rows and the errands are one
  commit, and the caller is told after it. A run that is loaded after a crash goes on where its last commit left it.
- Started once: of one name there is one run, however often it is started. Whoever allows it can have another take the
  place of one that has ended, or is ended for it: then the end of the one and the beginning of the other are one
  commit, and what is sent, answered or called for the one is never taken for the other.
- It keeps its definition: a new version changes no run that is under way.
- One alarm at the head of the run's own timers; it is set by what the run says after every turn, so no timer can be
  lost between two of them. A second one rings while errands are open, so none is lost with the node that had it.
- A run that has ended stays as long as its definition says, to be looked at and so that a late repeat of its start
  starts nothing. Then it is forgotten, whatever crashes: an alarm sees to it.

Nothing is awaited from outside: what is to be sent is an errand (services/workflows/errands.py), carried out after the
commit, and its answer comes back as a call. Chance comes from the run's name and its count of serials, so that a turn
that is run again after a crash draws the same.
"""

from typing import ClassVar

import msgspec

from services.workflows.answering import is_repeat
from services.workflows.beginning import Beginning, gives_way, is_same, program_of
from services.workflows.bounds import RESEND_MS, RESEND_MS_MAX
from services.workflows.changing import Change, Migrate, Purge, RetryAll
from services.workflows.errands import Errand, Parent
from services.workflows.events import (
    AnyEvent,
    Cancelled,
    Completed,
    Failed,
    Leased,
    Retried,
    Signalled,
    StepEvent,
    TimerDue,
)
from services.workflows.forgetting import FORGET
from services.workflows.handing import Handed, freed, hand
from services.workflows.installation import Installation
from services.workflows.keeping import Happened, read_back
from services.workflows.liveness import incidents, stuck
from services.workflows.machine import Transition, advance, check_payload, migrate
from services.workflows.records import HEAD, Kept
from services.workflows.refusals import (
    NotWaitingError,
    PayloadTooLargeError,
    RunExistsError,
    RunTooLargeError,
    SupersededError,
)
from services.workflows.standing import Look, Status, status_of
from services.workflows.state import Activity, Run, Undo, waiting_signals
from services.workflows.turning import ERRANDS, TIMERS, RunTurns
from shared.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    PreconditionFailedError,
    RefusedError,
)
from shared.objects.handler import Alarm, readonly
from shared.objects.journal import JournalEntry
from shared.objects.parking import Park

_TOO_LATE = (ConflictError, ForbiddenError, InvalidInputError, NotFoundError, RefusedError)


class WorkflowRun(RunTurns):
    """One run of one tenant. The address's name is the run's id."""

    kind: ClassVar[str] = "run"

    def start(self, beginning: Beginning) -> bool:
        """Start the run, as far as it comes at once; False where it was started before and does not give way.

        Raises:
            RunExistsError: it was started before, by another definition or with another input.
            DefinitionError: the text is no definition.
            InvalidInputError: the id is too long, or the input is not as the definition's schema says.
            PayloadTooLargeError: the input is too large.
        """
        program, former = program_of(beginning.text, beginning.version), self._run
        if former is not None and not gives_way(former, program, beginning):
            if not is_same(former, program, beginning):
                raise RunExistsError(self.address.name)
            return False
        self._begin(program, beginning, self.clock.now_ms())
        return True

    def start_child(self, beginning: Beginning) -> bool:
        """As `start`; whoever started it before is the only one who may wait for its end.

        Another attempt of the step that has started it takes the result if it has succeeded meanwhile, and else starts
        it anew.

        Raises:
            RunExistsError: it was started otherwise, or by another.
            UnavailableError: it was started by an attempt before, and has not ended.
        """
        run, parent = self._run, beginning.parent
        if run is not None and parent is not None:
            if parent == self._records.parent:
                if run.phase == "ended":
                    self._report(run, parent)
                return False
            if parent.tries_again(self._records.parent):
                self._try_again(run, parent, beginning)
                return True
        started = self.start(beginning)
        if not started and self._records.parent != beginning.parent:
            raise RunExistsError(self.address.name)
        return started

    def recall(self, parent: Parent) -> None:
        """The step that started this run has given it up: cancel it, if it has not ended and can be cancelled."""
        if self._run is not None and self._records.parent == parent and self._run.phase == "open":
            try:
                self._advance(Cancelled(reason=f"{parent.path} of {parent.run} was given up"), self.clock.now_ms())
            except ConflictError:
                return  # It is past its pivot and goes on; nobody waits for it any more.

    def start_or_signal(self, beginning: Beginning, event: Signalled) -> bool:
        """Send the signal to the run if it is open, else to one that begins here with it; whether one has begun.

        Raises:
            RunExistsError: an open run of another definition has the id.
            RunClosedError: the run that is open is being undone.
            RefusedError, ConflictError, InvalidInputError: as `start` and `happen`.
            PayloadTooLargeError, RunTooLargeError: what is sent is too large.
        """
        check_payload(event.payload)
        program, now_ms, former = program_of(beginning.text, beginning.version), self.clock.now_ms(), self._run
        fresh = former is None or former.phase == "ended"
        if former is not None and not fresh and former.definition != program.name:
            raise RunExistsError(self.address.name)
        if fresh:
            self._begin(program, beginning, now_ms)
        self._advance(event, now_ms)
        return fresh

    def happen(self, event: AnyEvent, seq: int | None = None) -> Status:
        """Apply the event; the status after it. A repeat of an answer that was taken changes nothing.

        Raises:
            NotFoundError: there is no such run.
            PreconditionFailedError: with `seq`, the run has changed since it was seen so.
            ConflictError, InvalidInputError, ForbiddenError, RefusedError: the event does not fit.
            PayloadTooLargeError, RunTooLargeError: what it brings is too large.
        """
        self._known()
        self._check_seq(seq)
        return status_of(self._advance(event, self.clock.now_ms()))

    def retry_all(self) -> Status:
        """Try every stalled step and compensation again; the status after it.

        Raises:
            NotFoundError: there is no such run.
            NotWaitingError: none has stalled.
        """
        run, _ = self._known()
        now_ms = self.clock.now_ms()
        for one in self._stalled(run):
            if any(other.serial == one.serial for other in incidents(run)):  # It may have ended with one before it.
                run = self._advance(Retried(path=one.path), now_ms)
        return status_of(run)

    def migrate(self, change: Migrate, seq: int | None = None) -> Status:
        """Go on with another version of the definition; the status after it.

        Raises:
            NotFoundError: there is no such run.
            PreconditionFailedError: with `seq`, the run has changed since it was seen so.
            ConflictError: it is not open, is of another definition, or is at a step that cannot go on there.
            RunTooLargeError: it would become too large.
        """
        before, _ = self._known()
        self._check_seq(seq)
        now_ms = self.clock.now_ms()
        after, effects = self._migrated(change, now_ms)
        if after is not before:
            self._records.keep(change.kept)
            self._carry_out(before, after, effects, at_ms=now_ms)
            self._run, self._program = after, program_of(change.kept.text, change.kept.version)
        return status_of(after)

    def change(self, change: Change) -> None:
        """Do to the run what is done to many.

        Raises:
            TenureError: as `happen`, `retry_all`, `purge` and `migrate`.
        """
        if isinstance(change, RetryAll):
            self.retry_all()
        elif isinstance(change, Purge):
            self.purge()
        elif isinstance(change, Migrate):
            self.migrate(change)
        else:
            self.happen(change)

    @readonly
    def rehearse(self, change: Change) -> None:
        """Do nothing, and end as `change` would.

        Raises:
            TenureError: as `change`.
        """
        run, program = self._known()
        if isinstance(change, Purge):
            self._check_ended(run)
        elif isinstance(change, RetryAll):
            self._stalled(run)
        elif isinstance(change, Migrate):
            self._migrated(change, self.clock.now_ms())
        else:
            advance(program, run, change, self._around(self.clock.now_ms(), serial=run.serial))

    def settle(self, number: int, event: AnyEvent | None) -> None:
        """The errand is carried out, and this is what came of it; None where that will come later, or nothing will.

        An answer that nobody waits for any more changes nothing: the run has gone on without it.
        """
        if self._errands.settle(number) and not self._errands.any():
            self.alarms.cancel(ERRANDS)
        if event is None or self._run is None:
            return
        now_ms = self.clock.now_ms()
        try:
            self._advance(event, now_ms)
        except (PayloadTooLargeError, RunTooLargeError) as error:
            assert isinstance(event, StepEvent), "only what a step brings is too large"
            failed = Failed(path=event.path, serial=event.serial, error="payload.too_large", cause=str(error))
            self._advance(failed, now_ms)
        except _TOO_LATE:
            self._wake()  # A child that was given up has ended: the next attempt may wait for that.

    def hand_out(self, serial: int, worker: str, lease: int) -> Handed | None:
        """A worker has the task of this attempt, and this is what it is to do; None if it is not wanted any more."""
        now_ms = self.clock.now_ms()
        given = hand(self._run, serial, now_ms=now_ms)
        if given is not None:
            self._advance(Leased(path=given.path, serial=serial, worker=worker, lease=lease), now_ms)
        return given

    def answer(self, event: Completed | Failed, held: bool) -> bool:  # noqa: FBT001  # `Host.call` has no keywords.
        """What a worker made of its task; False where the same was taken before. Without its lease it may only repeat.

        Raises:
            NotFoundError: there is no such run, or the attempt was never made.
            SupersededError, AlreadyCompletedError, TimedOutError, RunClosedError: it comes too late.
            PayloadTooLargeError, RunTooLargeError: it is too large.
        """
        (before, program), now_ms = self._known(), self.clock.now_ms()
        if not held and not is_repeat(before, event):
            advance(program, before, event, self._around(now_ms, serial=before.serial))  # Says why it is too late.
            raise SupersededError("This lease has ended.")
        return self._advance(event, now_ms) is not before

    def free(self, serial: int, lease: int, lost: str | None) -> None:
        """A lease of the task has ended. With `lost`, a worker that is not heard of, its attempt has failed."""
        if (event := freed(self._run, serial, lease, lost=lost)) is not None:
            self._advance(event, self.clock.now_ms())

    def on_alarm(self, alarm: Alarm) -> None:
        """Let the timers that are due happen; have errands carried out again of which nothing was heard."""
        if alarm.name == ERRANDS and self._errands.any():
            wait_ms = min(RESEND_MS << min(self._records.count_resend() + 1, 10), RESEND_MS_MAX)
            self.alarms.set(ERRANDS, at_ms=self.clock.now_ms() + wait_ms)
            self._wake()
        elif alarm.name == TIMERS and self._run is not None:
            self._advance(TimerDue(), max(alarm.due_ms, self.clock.now_ms()))
        elif alarm.name == FORGET and self._run is not None:
            self._forget_in_time(self._run)

    def audit(self) -> tuple[str, ...]:
        """Where the run waits for nothing that will come, as sentences; its alarms are set anew, so that it goes on."""
        run, _ = self._known()
        found = list(stuck(run))
        if run.alarm_ms is not None and self.alarms.due_ms(TIMERS) is None:
            found.append(f"the alarm at {run.alarm_ms} is not armed")
        if self._errands.any() and self.alarms.due_ms(ERRANDS) is None:
            found.append("errands are open, and nobody will carry them out")
        if found:
            self._set_going(run)
        return tuple(found)

    def send_again(self, serials: tuple[int, ...]) -> tuple[int, ...]:
        """Send once more what nobody has of what the run waits for; of these, what it waits for still.

        Raises:
            NotFoundError: there is no such run.
        """
        run, _ = self._known()
        again = self._errands.send_again(run, serials)
        self._set_going(run)
        return again

    @readonly
    def look(self, until_ms: int, since: int = -1) -> Look | Park:
        """The run: once it has ended or has changed since `since` (-1: ended only), or as it is at `until_ms`.

        Raises:
            NotFoundError: there is no such run.
        """
        run, _ = self._known()
        seq = self._records.head.seq
        news = run.phase == "ended" or 0 <= since < seq
        if not news and self.clock.now_ms() < until_ms:
            return Park(HEAD, until_ms)
        return Look(
            run=msgspec.structs.replace(run, mailbox=tuple(waiting_signals(run, self.clock.now_ms()))),
            seq=seq,
            status=status_of(run),
            attributes=self._records.attributes,
            parent=self._records.parent,
            kept_until_ms=self.alarms.due_ms(FORGET),
        )

    @readonly
    def text(self) -> Kept:
        """The definition that the run keeps.

        Raises:
            NotFoundError: there is no such run.
        """
        self._known()
        kept = self._records.kept
        assert kept is not None, "a run that is known has a definition"
        return kept

    @readonly
    def errands(self) -> list[Errand]:
        """What is to be carried out now."""
        return self._errands.due(self._run)

    @readonly
    async def history(self, after: int, limit: int) -> list[JournalEntry]:
        """What happened, oldest first: entries behind the position `after`, each with a `Happened`.

        Raises:
            NotFoundError: there is no such run.
        """
        self._known()
        return await self.journal.read(after, limit, type_=Happened)

    @readonly
    async def history_back(self, before: int, limit: int) -> list[JournalEntry]:
        """What happened, newest first: entries before the position `before`, 0 for all.

        Raises:
            NotFoundError: there is no such run.
        """
        self._known()
        return await read_back(self.journal, before, limit)

    def purge(self) -> None:
        """Forget the run. It must have ended.

        Raises:
            NotFoundError: there is no such run.
            ConflictError: it is open.
        """
        run, _ = self._known()
        self._check_ended(run)
        self._forget(run)

    def _migrated(self, change: Migrate, now_ms: int) -> Transition:
        run, program = self._known()
        new = program_of(change.kept.text, change.kept.version)
        return migrate(program, new, run, change.step_map, self._around(now_ms, serial=run.serial))

    def _check_seq(self, seq: int | None) -> None:
        if seq is not None and self._records.head.seq != seq:
            raise PreconditionFailedError(f"The run is at {self._records.head.seq} by now.")

    def _stalled(self, run: Run) -> tuple[Activity | Undo, ...]:
        if not (stalled := incidents(run)):
            raise NotWaitingError(self.address.name)
        return stalled

    def _check_ended(self, run: Run) -> None:
        if run.phase != "ended":
            raise ConflictError("The run has not ended; cancel or terminate it first.")


def hosted(installation: Installation) -> type[WorkflowRun]:
    """The kind of runs of one installation."""

    class HostedRun(WorkflowRun):
        """A run of this installation."""

    HostedRun.installation = installation
    return HostedRun
