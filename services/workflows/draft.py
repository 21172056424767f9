"""A run while one event is applied to it: what changes is gathered here, and counts only if all goes through.

What is still to be done in this transition stands in a queue of tasks: to enter a step, to take its result, to deal
with its error, to end a block. Each task may put others behind it and never calls them, so nothing here is recursive,
however many steps run in one transition.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Any, TypeAlias

import msgspec

from services.workflows.bounds import SETTLED_KEPT
from services.workflows.intents import Arm, AskFor, Intent, Notify, Record, Sent, Withdraw
from services.workflows.program import Block, Json, Map, Parallel, Program, Step
from services.workflows.state import (
    ROOT,
    Activity,
    Ending,
    Failure,
    Run,
    Scope,
    Settled,
    Signal,
    Timer,
    Undo,
    waiting_signals,
)


def _stands_still() -> int:
    return 0


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What is handed in with an event, so that the same event on the same run has the same effect for ever."""

    now_ms: int
    draw: float = 0.5
    """A random number in [0, 1): the jitter of every retry in this transition, and the seed of `$random()`."""
    env: dict[str, Json] = {}
    """What expressions see as `$env`."""
    stopwatch_ms: Callable[[], int] = _stands_still
    """What expressions take is measured with it. It decides only how much is done in this transition, not what."""


class Enter(msgspec.Struct, frozen=True):
    """Begin the step that the scope is ready for."""

    scope: str
    number: int


class Settle(msgspec.Struct, frozen=True, kw_only=True):
    """The activity of the scope has its result."""

    scope: str
    number: int
    result: Json
    outcome: str | None = None


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """The activity of the scope has failed."""

    scope: str
    number: int
    failure: Failure
    fatal: bool = False
    """What nobody handles fails the run and stalls no step: a `fail` step, or `on_exhausted: fail`."""
    retry_after_ms: int = 0
    retry: bool = True


class Close(msgspec.Struct, frozen=True, kw_only=True):
    """The block of the scope has ended well."""

    scope: str
    number: int
    output: Json


Todo: TypeAlias = Enter | Settle | Fault | Close


FULL = "The run is full"
"""Why a step stalls that would make the run too large; short, for many can at once."""


class Thrift(IntEnum):
    """What is left out because the run would become too large: each where the one before it was not enough."""

    NONE = 0
    RESULTS = 1
    """Results, and what errors tell beside their names."""
    STEPS = 2
    """To begin a step, and to remind of one, too."""
    BLOCKS = 3
    """And all that is below the step of the run itself: that one stalls in their stead."""


class Draft:
    """The working copy of a run."""

    def __init__(self, program: Program, run: Run, around: Surroundings) -> None:
        self.program = program
        self.run = run
        self.around = around
        self.now_ms = around.now_ms
        self.scopes = dict(run.scopes)
        self.timers = list(run.timers)
        self.undo: list[Undo] = list(run.undo)
        self.reminders = dict(run.reminders)
        self.mailbox: list[Signal] = waiting_signals(run, around.now_ms)
        self.answered_by = dict(run.answered_by)
        self.settled = list(run.settled)
        self.serial = run.serial
        self.entries = run.entries
        self.phase = run.phase
        self.paused = run.paused
        self.past_pivot = run.past_pivot
        self.generation = run.generation
        self.ending: Ending | None = run.ending
        self.queue: deque[Todo] = deque()
        self.effects: list[Intent] = []
        self.steps = 0
        self.expressions_ms = 0
        """What expressions have taken in this transition."""
        self.thrift = Thrift.NONE
        self._dead: set[int] = set()

    def next_serial(self) -> int:
        """A number that was never used in this run."""
        self.serial += 1
        return self.serial

    def emit(self, intent: Intent) -> None:
        """Want something done."""
        self.effects.append(intent)

    def record(self, event: str, path: str = "", data: Json = None) -> None:
        """Write into the history."""
        self.effects.append(Record(path=path, event=event, data=data))

    def notify(self, event: str, path: str, serial: int, data: Json = None) -> None:
        """Tell those who watch."""
        self.effects.append(Notify(path=path, serial=serial, event=event, data=data))

    def put(self, scope: Scope, **changes: Any) -> Scope:
        """Store the scope with these changes."""
        changed = msgspec.structs.replace(scope, **changes) if changes else scope
        self.scopes[scope.path] = changed
        return changed

    def alter(self, scope: Scope, **changes: Any) -> Activity:
        """Store the scope with these changes to its activity."""
        activity = msgspec.structs.replace(activity_of(scope), **changes)
        self.put(scope, activity=activity)
        return activity

    def find(self, todo: Todo) -> Scope | None:
        """The scope that the task is about, unless it is gone by now."""
        scope = self.scopes.get(todo.scope)
        return scope if scope and scope.number == todo.number else None

    def block_of(self, scope: Scope) -> Block:
        """The steps that the scope runs."""
        if scope.parent is None:
            return self.program.root
        parent = self.scopes[scope.parent]
        kind = self.block_of(parent).steps[activity_of(parent).step].kind
        if isinstance(kind, Map):
            return kind.each
        assert isinstance(kind, Parallel), "only parallels and maps have scopes below them"
        return kind.branches[scope.name]

    def step_of(self, scope: Scope) -> Step:
        """The step that the scope is at."""
        return self.block_of(scope).steps[activity_of(scope).step]

    def children_of(self, scope: Scope) -> list[Scope]:
        """The branches or items under way below it."""
        return [child for child in self.scopes.values() if child.parent == scope.path]

    def arm(self, due_ms: int, what: str, serial: int, scope: str = ROOT, nth: int = 0) -> None:
        """Let something happen later."""
        timer = Timer(due_ms=due_ms, number=self.next_serial(), what=what, serial=serial, scope=scope, nth=nth)
        heapq.heappush(self.timers, timer)

    def disarm(self, serial: int) -> None:
        """Forget the timers of this serial."""
        self._dead.add(serial)

    def disarm_one(self, what: str, serial: int) -> None:
        """Forget one timer of this serial."""
        self.timers = [timer for timer in self.timers if (timer.what, timer.serial) != (what, serial)]
        heapq.heapify(self.timers)

    def due_timer(self) -> Timer | None:
        """The earliest timer that is due, taken out."""
        while self.timers and self.timers[0].due_ms <= self.now_ms:
            timer = heapq.heappop(self.timers)
            if timer.serial not in self._dead:
                return timer
        return None

    def settle_serial(self, serial: int, how: str) -> None:
        """What was sent under this serial needs no answer any more. Why it was settled first stays."""
        self.disarm(serial)
        if any(one.serial == serial for one in self.settled):
            return
        self.settled.append(Settled(serial=serial, how=how))

    def withdraw(self, scope: Scope, how: str) -> None:
        """Give up what the activity of the scope has outstanding."""
        activity = activity_of(scope)
        if activity.sent is not None:
            self.emit(Withdraw(path=activity.path, serial=activity.serial))
        if activity.phase == "stalled":
            self.notify("incident.closed", activity.path, activity.serial)
        self.settle_serial(activity.serial, how)

    def outcome(self) -> tuple[Run, tuple[Intent, ...]]:
        """The run after the event, and what it wants done; the alarm last."""
        if self._dead:
            self.timers = [timer for timer in self.timers if timer.serial not in self._dead]
            heapq.heapify(self.timers)
        alarm_ms = self.timers[0].due_ms if self.timers and not self.paused else None
        if alarm_ms != self.run.alarm_ms:
            self.emit(Arm(at_ms=alarm_ms))
        run = msgspec.structs.replace(
            self.run,
            scopes=self.scopes,
            timers=tuple(self.timers),
            alarm_ms=alarm_ms,
            undo=tuple(self.undo),
            reminders=self.reminders,
            mailbox=tuple(self.mailbox),
            answered_by=self.answered_by,
            settled=tuple(self.settled[-SETTLED_KEPT:]),
            serial=self.serial,
            entries=self.entries,
            phase=self.phase,
            paused=self.paused,
            past_pivot=self.past_pivot,
            generation=self.generation,
            ending=self.ending,
        )
        return run, tuple(self.effects)


def activity_of(scope: Scope) -> Activity:
    """What the scope does; whoever asks knows that it does something."""
    assert scope.activity is not None, f"the scope {scope.path!r} is between steps"
    return scope.activity


def outstanding(run: Run) -> Iterator[Sent]:
    """What has been sent or shown and not been answered: all that is sent again after a crash."""
    for scope in run.scopes.values():
        if scope.activity and scope.activity.sent and scope.activity.phase in {"called", "waiting"}:
            yield scope.activity.sent
    for undo in run.undo:
        if undo.phase == "called":
            yield undo.call
    yield from run.reminders.values()


def is_effect(intent: Intent | None) -> bool:
    """Whether the intent, once sent, may have changed something outside."""
    return intent is not None and not isinstance(intent, AskFor)
