"""Drives one run of the workflow machine by hand: events in, what it wants done out, time moved.

After every event the run is stored and loaded again, as after a crash, and asked whether it is stuck.
"""

from typing import Any, TypeVar

from services.workflows.bounds import RUN_BYTES_MAX
from services.workflows.definition import define, read_yaml
from services.workflows.draft import Surroundings, outstanding
from services.workflows.events import AnyEvent, Completed, Failed, TimerDue
from services.workflows.intents import Arm, Ended, Intent, Notify, Record
from services.workflows.liveness import incidents, stuck
from services.workflows.machine import advance, migrate, start
from services.workflows.program import Program
from services.workflows.state import ROOT, Run, decode, encode

START_MS = 1_700_000_000_000
W = TypeVar("W", bound=Intent)


class Flow:
    """One run under test."""

    def __init__(
        self, program: Program, run_input: Any = None, *, env: dict[str, Any] | None = None, expression_ms: int = 0
    ) -> None:
        self.program = program
        self.now_ms = START_MS
        self.draw = 0.5
        self.env = env or {}
        self.expression_ms = expression_ms
        """What every expression takes from now on."""
        self._spent_ms = 0
        self.effects: tuple[Intent, ...] = ()
        self.history: list[str] = []
        self.intents: list[Intent] = []
        self.run: Run
        self._take(*start(program, run_id="r1", run_input=run_input, around=self._around()))

    def send(self, event: AnyEvent) -> "Flow":
        """Apply an event."""
        self._take(*advance(self.program, self.run, event, self._around()))
        return self

    def migrate(self, program: Program, step_map: dict[str, str] | None = None) -> "Flow":
        """Have it go on with another version of its definition."""
        self._take(*migrate(self.program, program, self.run, step_map or {}, self._around()))
        self.program = program
        return self

    def complete(self, path: str, result: Any = None, *, outcome: str = "", by: str = "", serial: int = 0) -> "Flow":
        """Answer a step well."""
        return self.send(Completed(path=path, result=result, outcome=outcome, by=by, serial=serial))

    def fail(self, path: str, error: str = "boom", **more: Any) -> "Flow":
        """Answer a step with an error."""
        return self.send(Failed(path=path, error=error, **more))

    def pass_ms(self, span_ms: int) -> "Flow":
        """Let time pass; the alarm rings at each of its moments."""
        until_ms = self.now_ms + span_ms
        while self.run.alarm_ms is not None and self.run.alarm_ms <= until_ms:
            self.now_ms = max(self.now_ms, self.run.alarm_ms)
            self.send(TimerDue())
        self.now_ms = until_ms
        return self

    def wanted(self, kind: type[W]) -> list[W]:
        """What the last transition wanted done, of one kind."""
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def sent(self, kind: type[W]) -> W:
        """The one thing of that kind that the last transition wanted done."""
        (effect,) = self.wanted(kind)
        return effect

    @property
    def outstanding(self) -> list[str]:
        """The paths of what would be sent again after a crash."""
        return sorted(intent.path for intent in outstanding(self.run))

    @property
    def status(self) -> str:
        """`open`, `undoing`, or how the run has ended."""
        if self.run.phase == "ended":
            assert self.run.ending
            return self.run.ending.status
        return self.run.phase

    @property
    def output(self) -> Any:
        """What the run has ended with."""
        return self.run.ending.output if self.run.ending else None

    @property
    def error(self) -> str:
        """What the run has failed with."""
        return self.run.ending.failure.error if self.run.ending and self.run.ending.failure else ""

    @property
    def incidents(self) -> list[tuple[str, str]]:
        """What has stalled, and why."""
        return [(one.path, one.failure.error if one.failure else "") for one in incidents(self.run)]

    @property
    def at(self) -> str:
        """The step that the run itself is at."""
        activity = self.run.scopes[ROOT].activity
        return activity.step if activity else ""

    @property
    def variables(self) -> dict[str, Any]:
        """The variables of the run itself."""
        return self.run.scopes[ROOT].variables

    def _around(self) -> Surroundings:
        return Surroundings(now_ms=self.now_ms, draw=self.draw, env=self.env, stopwatch_ms=self._stopwatch_ms)

    def _stopwatch_ms(self) -> int:
        """Asked before and after every expression."""
        self._spent_ms += self.expression_ms
        return self._spent_ms

    def _take(self, run: Run, effects: tuple[Intent, ...]) -> None:
        stored = encode(run)
        assert len(stored) <= RUN_BYTES_MAX
        self.run = decode(stored)
        assert stored == encode(self.run), "a run is loaded as it was stored"
        assert () == stuck(self.run), self.run
        self.effects = effects
        self.history.extend(f"{one.event} {one.path}".strip() for one in effects if isinstance(one, Record))
        self.intents.extend(one for one in effects if not isinstance(one, Record | Arm))


def flow(steps: str, run_input: Any = None, *, top: str = "", start_at: str = "a", **more: Any) -> Flow:
    """A run of these steps, of which `a` is the first; each line is a step."""
    lines = "\n".join(f"  {line.strip()}" for line in steps.strip().splitlines())
    text = f"workflow: w\nstart: {start_at}\n{top}\nsteps:\n{lines}\n"
    return Flow(define(read_yaml(text)), run_input, **more)


__all__ = ["START_MS", "Ended", "Flow", "Notify", "flow"]
