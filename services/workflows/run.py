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
- A run that has ended stays for 30 days, to be looked at and so that a late repeat of its start starts nothing.

Nothing is awaited from outside: what is to be sent is an errand (services/workflows/errands.py), carried out after the
commit, and its answer comes back as a call. Chance comes from the run's name and its count of serials, so that a turn
that is run again after a crash draws the same.
"""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import ClassVar

import msgspec

from services.workflows.beginning import Beginning, attributes_of, check_run_id, gives_way, is_same, program_of
from services.workflows.bounds import ENDED_KEPT_MS, RESEND_MS, RESEND_MS_MAX
from services.workflows.counting import count
from services.workflows.draft import Surroundings
from services.workflows.errands import Errand, Errands, Parent, heard
from services.workflows.events import (
    AnyEvent,
    Cancelled,
    Completed,
    Failed,
    Leased,
    Retried,
    StepEvent,
    Terminated,
    TimerDue,
)
from services.workflows.handing import Handed, freed, hand, task_of
from services.workflows.intents import Intent
from services.workflows.keeping import Happened, load, store, tell
from services.workflows.liveness import incidents, stuck
from services.workflows.machine import Transition, advance, start
from services.workflows.program import Json, Program
from services.workflows.records import HEAD, Kept, Records
from services.workflows.refusals import (
    NotWaitingError,
    PayloadTooLargeError,
    RunExistsError,
    RunTooLargeError,
    SupersededError,
)
from services.workflows.standing import Look, Status, status_of
from services.workflows.state import Run
from shared.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    PreconditionFailedError,
    RefusedError,
)
from shared.objects.address import Address
from shared.objects.handler import Alarm, DurableObject, readonly
from shared.objects.host import Host
from shared.objects.journal import JournalEntry
from shared.objects.parking import Park

TIMERS, ERRANDS = "timers", "errands"
_TOO_LATE = (ConflictError, ForbiddenError, InvalidInputError, NotFoundError, RefusedError)


class Installation(msgspec.Struct, frozen=True, kw_only=True):
    """What a run finds where it is hosted: settings for definitions, and who carries out errands, and which."""

    env: dict[str, Json] = {}
    carried: frozenset[type[Intent]] = frozenset()
    wake: Callable[[Host, Address], None] | None = None
    """Told, within a turn, that the run has errands. Whoever asks for them at once is answered after its commit."""
    hears: Callable[[str, str], bool] | None = None
    """Whether somebody of that tenant is to be told of such an event."""


class WorkflowRun(DurableObject):
    """One run of one tenant. The address's name is the run's id."""

    kind: ClassVar[str] = "run"
    installation: ClassVar[Installation] = Installation()

    def on_activate(self) -> None:
        """Take in what is stored; what is to be carried out may have been lost with the node before."""
        self._run = load(self.storage)
        self._records = Records(self.storage, self.index)
        kept = self._records.kept
        self._program = None if kept is None else program_of(kept.text, kept.version)
        self._errands = Errands(self.storage, self.installation.carried)
        self._wake()

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
        run_id, now_ms = check_run_id(self.address.name), self.clock.now_ms()
        attributes = attributes_of(program, beginning, now_ms=now_ms)
        ended, last = (None, ()) if former is None else self._ended(former, now_ms)
        run, effects = start(
            program,
            run_id=run_id,
            run_input=beginning.input,
            around=self._around(now_ms, serial=0 if ended is None else ended.serial),
            begins_ms=beginning.begins_ms,
            deadline_ms=beginning.deadline_ms,
            after=ended,
        )
        if ended is not None:
            self._carry_out(former, ended, last, at_ms=now_ms)
            self._errands.detach(ended)
        kept = Kept(text=beginning.text, version=beginning.version)
        self._records.begin(kept, attributes, beginning.parent)
        self._carry_out(ended, run, effects, at_ms=now_ms)
        self._run, self._program = run, program
        return True

    def start_child(self, beginning: Beginning) -> bool:
        """As `start`; whoever started it before is the only one who may wait for its end.

        Raises:
            RunExistsError: it was started otherwise, or by another.
        """
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

    def happen(self, event: AnyEvent, seq: int | None = None) -> Status:
        """Apply the event; the status after it. A repeat of an answer that was taken changes nothing.

        Raises:
            NotFoundError: there is no such run.
            PreconditionFailedError: with `seq`, the run has changed since it was seen so.
            ConflictError, InvalidInputError, ForbiddenError, RefusedError: the event does not fit.
            PayloadTooLargeError, RunTooLargeError: what it brings is too large.
        """
        self._known()
        if seq is not None and self._records.head.seq != seq:
            raise PreconditionFailedError(f"The run is at {self._records.head.seq} by now.")
        return status_of(self._advance(event, self.clock.now_ms()))

    def retry_all(self) -> Status:
        """Try every stalled step and compensation again; the status after it.

        Raises:
            NotFoundError: there is no such run.
            NotWaitingError: none has stalled.
        """
        run, _ = self._known()
        stalled = incidents(run)
        if not stalled:
            raise NotWaitingError(self.address.name)
        now_ms = self.clock.now_ms()
        for one in stalled:
            run = self._advance(Retried(path=one.path), now_ms)
        return status_of(run)

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
            return

    def hand_out(self, serial: int, worker: str, lease: int) -> Handed | None:
        """A worker has the task of this attempt, and this is what it is to do; None if it is not wanted any more."""
        now_ms = self.clock.now_ms()
        given = hand(self._run, serial, now_ms=now_ms)
        if given is not None:
            self._advance(Leased(path=given.path, serial=serial, worker=worker, lease=lease), now_ms)
        return given

    def answer(self, event: Completed | Failed, held: bool) -> bool:  # noqa: FBT001  # `Host.call` has no keywords.
        """What a worker made of its task; False where the same was taken before. One that lost its lease may repeat.

        Raises:
            NotFoundError: there is no such run, or the attempt was never made.
            SupersededError, AlreadyCompletedError, TimedOutError, RunClosedError: it comes too late.
            PayloadTooLargeError, RunTooLargeError: it is too large.
        """
        before, _ = self._known()
        if not held and task_of(before, event.serial) is not None:
            raise SupersededError("This lease has ended.")
        return self._advance(event, self.clock.now_ms()) is not before

    def free(self, serial: int, lease: int, lost: str | None) -> None:
        """A lease of the task has ended. With `lost`, a worker that is not heard of, its attempt has failed."""
        if (event := freed(self._run, serial, lease, lost=lost)) is not None:
            self._advance(event, self.clock.now_ms())

    def on_alarm(self, alarm: Alarm) -> None:
        """Let the timers that are due happen; have errands carried out again of which nothing was heard."""
        if self._run is None:
            return
        if alarm.name == TIMERS:
            self._advance(TimerDue(), max(alarm.due_ms, self.clock.now_ms()))
        elif self._errands.any():
            wait_ms = min(RESEND_MS << min(self._records.count_resend() + 1, 10), RESEND_MS_MAX)
            self.alarms.set(ERRANDS, at_ms=self.clock.now_ms() + wait_ms)
            self._wake()

    def audit(self) -> tuple[str, ...]:
        """Where the run waits for nothing that will come, as sentences; its alarms are set anew, so that it goes on."""
        run, _ = self._known()
        found = list(stuck(run))
        if run.alarm_ms is not None and self.alarms.due_ms(TIMERS) is None:
            found.append(f"the alarm at {run.alarm_ms} is not armed")
        if self._errands.any() and self.alarms.due_ms(ERRANDS) is None:
            found.append("errands are open, and nobody will carry them out")
        if found:
            self._arm(run, self.clock.now_ms())
            self._wake()
        return tuple(found)

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
            run=run,
            seq=seq,
            status=status_of(run),
            attributes=self._records.attributes,
            parent=self._records.parent,
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
        return [] if self._run is None else self._errands.due(self._run)

    @readonly
    async def history(self, after: int, limit: int) -> list[JournalEntry]:
        """What happened, oldest first: entries behind the position `after`, each with a `Happened`.

        Raises:
            NotFoundError: there is no such run.
        """
        self._known()
        return await self.journal.read(after, limit, type_=Happened)

    def purge(self) -> None:
        """Forget the run. It must have ended.

        Raises:
            NotFoundError: there is no such run.
            ConflictError: it is open.
        """
        run, _ = self._known()
        if run.phase != "ended":
            raise ConflictError("The run has not ended; cancel or terminate it first.")
        self.storage.delete_all()
        self._run = self._program = None

    def _advance(self, event: AnyEvent, now_ms: int) -> Run:
        before, program = self._known()
        after, effects = advance(program, before, event, self._around(now_ms, serial=before.serial))
        if after is not before:
            answered = event.serial if isinstance(event, StepEvent) else 0
            self._carry_out(before, after, effects, at_ms=now_ms, answered=answered)
            self._run = after
        return after

    def _ended(self, run: Run, now_ms: int) -> Transition:
        """The run that gives way to another of its id, ended: its tasks and children are recalled."""
        if run.phase == "ended":
            return run, ()
        _, program = self._known()
        event = Terminated(reason="another run was started under its id")
        return advance(program, run, event, self._around(now_ms, serial=run.serial))

    def _carry_out(
        self, before: Run | None, run: Run, effects: Sequence[Intent], *, at_ms: int, answered: int = 0
    ) -> None:
        """Write the run and all that follows from it."""
        store(self.storage, run)
        tell(self.journal, effects, at_ms=at_ms)
        count(self._activation.host.metrics, effects)
        wanted, parent = heard(effects, self._hears), self._records.parent
        fresh = self._errands.take(before, run, wanted, answered=answered, parent=parent)
        self._arm(run, at_ms)
        self._records.change(run)
        self.storage.expire_at(at_ms + ENDED_KEPT_MS if run.phase == "ended" else None)
        if fresh:
            self._wake()

    def _hears(self, event: str) -> bool:
        hears = self.installation.hears
        return hears is not None and hears(self.address.tenant, event)

    def _arm(self, run: Run, now_ms: int) -> None:
        if run.alarm_ms is None:
            self.alarms.cancel(TIMERS)
        elif self.alarms.due_ms(TIMERS) != run.alarm_ms:
            self.alarms.set(TIMERS, at_ms=run.alarm_ms)
        if self._errands.any():
            self.alarms.set_if_absent(ERRANDS, at_ms=now_ms + RESEND_MS)
        else:
            self.alarms.cancel(ERRANDS)

    def _wake(self) -> None:
        if self.installation.wake is not None and self._errands.any():
            self.installation.wake(self._activation.host, self.address)

    def _around(self, now_ms: int, *, serial: int) -> Surroundings:
        seed = blake2b(f"{self.address.tenant}\0{self.address.name}\0{serial}".encode(), digest_size=6).digest()
        return Surroundings(
            now_ms=now_ms,
            draw=int.from_bytes(seed) / 2**48,
            env=self.installation.env,
            stopwatch_ms=self.clock.monotonic_ms,
        )

    def _known(self) -> tuple[Run, Program]:
        if self._run is None or self._program is None:
            raise NotFoundError("such run")
        return self._run, self._program


def hosted(installation: Installation) -> type[WorkflowRun]:
    """The kind of runs of one installation."""

    class HostedRun(WorkflowRun):
        """A run of this installation."""

    HostedRun.installation = installation
    return HostedRun
