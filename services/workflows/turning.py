"""What every turn of a run does: it writes the run and all that follows from it, as one.

The state, the history, the alarms, the index rows and the errands of a turn are written together or not at all. What is
kept in memory beside them is set last, so a turn that fails leaves the run as it was.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import ClassVar

from services.workflows.beginning import Beginning, attributes_of, check_run_id, program_of
from services.workflows.bounds import RESEND_MS, RESEND_MS_MAX
from services.workflows.counting import count
from services.workflows.draft import Surroundings
from services.workflows.errands import Errands, Parent, heard
from services.workflows.events import (
    AnyEvent,
    StepEvent,
    Terminated,
)
from services.workflows.forgetting import FORGET, forget, make_way, traces_of
from services.workflows.installation import Installation
from services.workflows.intents import Intent
from services.workflows.keeping import load, store, tell
from services.workflows.machine import Transition, advance, start
from services.workflows.opening import before_of
from services.workflows.program import Program
from services.workflows.records import Kept, Records
from services.workflows.refusals import (
    RunGoneError,
)
from services.workflows.state import Run
from services.workflows.tracing import event_span, record_steps
from shared.errors import (
    NotFoundError,
)
from shared.objects.errors import UnavailableError
from shared.objects.handler import DurableObject

TIMERS, ERRANDS = "timers", "errands"


class RunTurns(DurableObject):
    """A run that is loaded, begun, changed and forgotten; by what, says WorkflowRun."""

    installation: ClassVar[Installation] = Installation()

    def on_activate(self) -> None:
        """Take in what is stored; what is to be carried out may have been lost with the node before."""
        self._run = load(self.storage)
        self._records = Records(self.storage, self.index)
        kept = self._records.kept
        self._program = None if kept is None else program_of(kept.text, kept.version)
        self._before = traces_of(self.storage)
        """Of a run that was here and is forgotten."""
        self._errands = Errands(self.storage, self.installation.carried)
        self._wake()

    def _begin(self, program: Program, beginning: Beginning, now_ms: int) -> None:
        """Begin a run here, after the end of the one that was, if there was one."""
        run_id, former = check_run_id(self.address.name), self._run
        attributes = attributes_of(program, beginning, now_ms=now_ms)
        ended, last = (None, ()) if former is None else self._ended(former, now_ms)
        before = self._before if ended is None else before_of(ended)
        run, effects = start(
            program,
            run_id=run_id,
            run_input=beginning.input,
            around=self._around(now_ms, serial=0 if before is None else before.serial),
            begins_ms=beginning.begins_ms,
            deadline_ms=beginning.deadline_ms,
            before=before,
        )
        if ended is not None:
            self._carry_out(former, ended, last, at_ms=now_ms)
            self._errands.detach(ended, self._records.attributes)
        make_way(self.storage)
        kept = Kept(text=beginning.text, version=beginning.version)
        self._records.begin(kept, attributes, beginning.parent)
        self._carry_out(ended, run, effects, at_ms=now_ms)
        self._run, self._program, self._before = run, program, None

    def _try_again(self, run: Run, parent: Parent, beginning: Beginning) -> None:
        """The child of a step, for another attempt of it: its result, where it has succeeded; else it begins anew."""
        if run.phase != "ended":
            raise UnavailableError(f"The run {run.id!r} of the attempt before has not ended.")
        if run.ending is None or run.ending.status != "succeeded":
            self._begin(program_of(beginning.text, beginning.version), beginning, self.clock.now_ms())
            return
        self._records.report_to(parent)
        self._report(run, parent)

    def _report(self, run: Run, parent: Parent) -> None:
        """Tell how the run has ended, to whoever may not have heard of it."""
        self._errands.report(parent)
        self._set_going(run)

    def _set_going(self, run: Run) -> None:
        """Set its alarms as its state says, and have its errands carried out."""
        self._arm(run, self.clock.now_ms())
        self._wake()

    def _advance(self, event: AnyEvent, now_ms: int) -> Run:
        before, program = self._known()
        after, effects = advance(program, before, event, self._around(now_ms, serial=before.serial))
        if after is not before:
            answered = event.serial if isinstance(event, StepEvent) else 0
            with event_span(self._activation.host.tracer, self._origin, self.address, event):
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
        if before is not None and run.ending is not before.ending:
            self.alarms.cancel(FORGET)  # The time that it is kept begins with this end.
        store(self.storage, run)
        tell(self.journal, effects, at_ms=at_ms)
        count(self._activation.host.metrics, effects)
        wanted, parent = heard(effects, self._hears), self._records.parent
        fresh = self._errands.take(before, run, wanted, answered=answered, parent=parent)
        self._arm(run, at_ms)
        self._records.change(run)
        self.storage.expire_at(None)
        if fresh:
            self._wake()
        if before is not None and self._origin:
            tracer = self._activation.host.tracer
            record_steps(tracer, self._origin, self.address, before=before, after=run, effects=effects, at_ms=at_ms)

    @property
    def _origin(self) -> str:
        """Where the run was started, if that is recorded and anything is."""
        return self._records.trace if self._activation.host.tracer.enabled else ""

    def _forget_in_time(self, run: Run) -> None:
        """Forget a run whose time is over; later, where somebody is still to be told something of it."""
        if self._errands.any():
            self.alarms.set(FORGET, at_ms=self.clock.now_ms() + RESEND_MS_MAX)
        elif run.phase == "ended":
            self._forget(run)

    def _forget(self, run: Run) -> None:
        """Forget the run, but not what is still to be told or recalled of it."""
        self._errands.detach(run, self._records.attributes)
        kept, now_ms = self._errands.kept(), self.clock.now_ms()
        self._before = forget(self.storage, run, now_ms=now_ms)
        self._run = self._program = None
        self._errands.put_back(kept)
        if kept:
            self.alarms.set(ERRANDS, at_ms=now_ms + RESEND_MS)

    def _hears(self, event: str) -> bool:
        hears = self.installation.hears
        return hears is not None and hears(self.address.tenant, event)

    def _arm(self, run: Run, now_ms: int) -> None:
        if run.phase != "ended":
            self.alarms.cancel(FORGET)
        else:
            self.alarms.set_if_absent(FORGET, at_ms=now_ms + run.kept_ms)
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
            raise NotFoundError("such run") if self._before is None else RunGoneError(self.address.name)
        return self._run, self._program
