"""Random programs and random histories: the machine does what a second interpreter does, is never stuck, and survives every crash.

After each event the run is stored and loaded (tests/support/flow.py), so every history is also one of crashes at every commit.
What the second interpreter (tests/support/flow_reference.py) does not take, the machine refuses, and is as it was.
"""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.workflows.definition import define, problems_of
from services.workflows.events import (
    Accepted,
    AnyEvent,
    Assigned,
    Cancelled,
    ChildEnded,
    Claimed,
    Completed,
    Failed,
    Heartbeat,
    Leased,
    Paused,
    Released,
    Reset,
    Resumed,
    Retried,
    Signalled,
    Skipped,
    StepEvent,
    Terminated,
    TimerDue,
)
from services.workflows.problems import Problems
from services.workflows.program import Child
from services.workflows.reading import Source
from services.workflows.refusals import ClaimedError, RunClosedError
from services.workflows.state import ROOT, Activity, Run, Undo, waiting_signals
from shared.errors import TenureError
from tests.support.environment import PROVE
from tests.support.flow import START_MS, Flow
from tests.support.flow_author import ERRORS, SIGNALS, Author
from tests.support.flow_parts import Message
from tests.support.flow_reference import Reference

PEOPLE = ("ann", "bob", "")
VERBS: dict[str, Callable[[str], AnyEvent]] = {
    "accept": lambda path: Accepted(path=path),
    "assign": lambda path: Assigned(path=path, assign={"group": "ops"}),
    "beat": lambda path: Heartbeat(path=path),
    "cancel": lambda _: Cancelled(),
    "claim": lambda path: Claimed(path=path, by=""),
    "complete": lambda path: Completed(path=path),
    "fail": lambda path: Failed(path=path, error="boom"),
    "lease": lambda path: Leased(path=path, worker="w"),
    "pause": lambda _: Paused(),
    "reset": lambda _: Reset(step="s0"),
    "resume": lambda _: Resumed(),
    "retry": lambda path: Retried(path=path),
    "signal": lambda _: Signalled(name="go"),
    "skip": lambda path: Skipped(path=path),
    "terminate": lambda _: Terminated(),
}


class Model(RuleBasedStateMachine):
    """One run and its reference, given the same events."""

    flow: Flow
    reference: Reference
    answers: list[StepEvent]

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        """Start both on a program of the seed."""
        source = Source(Author(seed, START_MS).definition(), Problems())
        assert () == problems_of(source)
        self.flow = Flow(define(source))
        self.reference = Reference(self.flow.program, START_MS)
        self.answers = []

    @precondition(lambda self: self.answerable)
    @rule(data=st.data(), value=st.integers(0, 5), named=st.booleans())
    def complete(self, data: st.DataObject, value: int, *, named: bool) -> None:
        """A call, a wait or a compensation is answered well, by its name alone or by its serial."""
        path = data.draw(st.sampled_from(self.answerable))
        serial = self.serial_of(path) if named else 0
        if isinstance(self.reference.calls.get(path), Child):
            self.answer(ChildEnded(path=path, serial=serial, status="succeeded", output=value))
        else:
            self.answer(Completed(path=path, serial=serial, result=value))
        self.reference.send(Message(path, "complete", value))

    @precondition(lambda self: self.answerable)
    @rule(data=st.data(), error=st.sampled_from(ERRORS), named=st.booleans())
    def fail(self, data: st.DataObject, error: str, *, named: bool) -> None:
        """It is answered with an error; a child may have been cancelled."""
        path = data.draw(st.sampled_from(self.answerable))
        serial = self.serial_of(path) if named else 0
        if isinstance(self.reference.calls.get(path), Child):
            status, error = ("cancelled", "") if error == "bang" else ("failed", error)
            self.answer(ChildEnded(path=path, serial=serial, status=status, error=error))
            error = error or "child.cancelled"
        else:
            self.answer(Failed(path=path, serial=serial, error=error))
        self.reference.send(Message(path, "fail", error))

    @precondition(lambda self: self.fitting("accept"))
    @rule(data=st.data())
    def accept(self, data: st.DataObject) -> None:
        """The other side will answer later."""
        path = data.draw(st.sampled_from(self.fitting("accept")))
        self.flow.send(Accepted(path=path))
        self.reference.send(Message(path, "accept"))

    @precondition(lambda self: self.fitting("lease"))
    @rule(data=st.data(), verb=st.sampled_from(["lease", "beat", "release", "stale"]))
    def work(self, data: st.DataObject, verb: str) -> None:
        """A worker has the task, lives, or has it no more; word of a lease that was overtaken changes nothing."""
        path = data.draw(st.sampled_from(self.fitting("lease")))
        lease = self.reference.leases.get(path, 0)
        match verb:
            case "lease":
                self.flow.send(Leased(path=path, worker="w", lease=lease + 1))
            case "beat":
                self.flow.send(Heartbeat(path=path, progress=1))
            case "release":
                self.flow.send(Released(path=path, lease=lease))
            case _:
                self.flow.send(Leased(path=path, worker="late", lease=lease - 1))
                self.flow.send(Released(path=path, lease=lease - 1))
                return
        self.reference.send(Message(path, verb))

    @precondition(lambda self: self.fitting("claim"))
    @rule(data=st.data(), by=st.sampled_from(PEOPLE), give=st.booleans())
    def claim(self, data: st.DataObject, by: str, *, give: bool) -> None:
        """Somebody takes a wait, gives it back, or is given it."""
        path = data.draw(st.sampled_from(self.fitting("claim")))
        holder = self.reference.claims[path]
        if give:
            self.flow.send(Assigned(path=path, assign={"user": "carl"}))
            self.reference.send(Message(path, "assign", ""))
        elif by and holder not in {"", by}:
            with pytest.raises(ClaimedError):
                self.flow.send(Claimed(path=path, by=by))
        else:
            self.flow.send(Claimed(path=path, by=by))
            self.reference.send(Message(path, "claim", by))

    @precondition(lambda self: self.flow.run.phase == "open")
    @rule(name=st.sampled_from(SIGNALS), value=st.integers(0, 5), ttl_ms=st.sampled_from([0, 5_000, 10_000_000]))
    def signal(self, name: str, value: int, ttl_ms: int) -> None:
        """A signal comes, early or late."""
        self.flow.send(Signalled(name=name, payload=value, ttl_ms=ttl_ms))
        self.reference.signal(name, value, ttl_ms)

    @precondition(lambda self: self.flow.run.alarm_ms is not None)
    @rule(late_ms=st.sampled_from([0, 0, 0, 4_000, 100_000]))
    def ring(self, late_ms: int) -> None:
        """Time passes up to the alarm, or beyond it."""
        assert self.flow.run.alarm_ms is not None
        self.flow.now_ms = max(self.flow.now_ms, self.flow.run.alarm_ms) + late_ms
        self.reference.clock.now_ms = self.flow.now_ms
        self.flow.send(TimerDue())
        self.reference.ring()

    @precondition(lambda self: self.flow.run.paused)
    @rule(span_ms=st.integers(1, 20_000_000))
    def wait(self, span_ms: int) -> None:
        """Time passes while the run is paused."""
        self.flow.now_ms += span_ms
        self.reference.clock.now_ms = self.flow.now_ms
        self.flow.send(TimerDue())

    @precondition(lambda self: self.flow.run.phase != "ended" and not self.flow.run.paused)
    @rule()
    def pause(self) -> None:
        """No more steps begin."""
        self.flow.send(Paused())
        self.reference.pause()

    @precondition(lambda self: self.flow.run.paused)
    @rule()
    def resume(self) -> None:
        """They do again."""
        self.flow.send(Resumed())
        self.reference.resume()

    @precondition(lambda self: self.fitting("retry"))
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        """A step or a compensation that has stalled is tried again."""
        path = data.draw(st.sampled_from(self.fitting("retry")))
        self.flow.send(Retried(path=path))
        self.reference.send(Message(path, "retry"))

    @precondition(lambda self: self.fitting("skip"))
    @rule(data=st.data())
    def skip(self, data: st.DataObject) -> None:
        """A step is said to be done, or a compensation that has stalled to be needless."""
        path = data.draw(st.sampled_from(self.fitting("skip")))
        self.flow.send(Skipped(path=path, result=9))
        self.reference.send(Message(path, "skip", 9))

    @precondition(lambda self: self.reference.takes("cancel", "") and self.flow.run.serial % 5 == 0)
    @rule()
    def cancel(self) -> None:
        """The run is stopped and undone."""
        self.flow.send(Cancelled())
        self.reference.cancel()

    @precondition(lambda self: self.flow.run.phase != "ended" and self.flow.run.serial % 7 == 0)
    @rule()
    def terminate(self) -> None:
        """The run is stopped."""
        self.flow.send(Terminated())
        self.reference.terminate()

    @precondition(lambda self: self.flow.run.phase != "undoing")
    @rule(data=st.data(), keep=st.booleans())
    def reset(self, data: st.DataObject, *, keep: bool) -> None:
        """The run goes on at a step of its own."""
        step = data.draw(st.sampled_from(sorted(self.flow.program.root.steps)))
        self.flow.send(Reset(step=step, keep_signals=keep))
        self.reference.reset(step, keep_signals=keep)

    @rule(data=st.data(), mapped=st.booleans())
    def migrate(self, data: st.DataObject, *, mapped: bool) -> None:
        """The run goes on with another version that says the same: as it has begun, or at a step that its own is mapped to."""
        program = msgspec.structs.replace(self.flow.program, version=self.flow.program.version + 1)
        root, steps = self.flow.run.scopes[ROOT], sorted(program.root.steps)
        at = root.ready or (root.activity.step if root.activity is not None else "")
        target = data.draw(st.sampled_from(steps)) if mapped and at else None
        if self.flow.run.phase != "open":
            with pytest.raises(RunClosedError):
                self.flow.migrate(program)
            return
        self.flow.migrate(program, {at: target} if target is not None else {})
        if target is not None:
            self.reference.migrate(target)

    @rule(data=st.data(), verb=st.sampled_from(sorted(VERBS)))
    def misfit(self, data: st.DataObject, verb: str) -> None:
        """What does not fit is refused, and changes nothing."""
        path = data.draw(st.sampled_from([*self.paths, "s0", "s1!undo", "nowhere"]))
        if not self.reference.takes(verb, path):
            self.refuses(VERBS[verb](path))

    @precondition(lambda self: self.known)
    @rule(data=st.data(), otherwise=st.booleans())
    def answer_again(self, data: st.DataObject, *, otherwise: bool) -> None:
        """An answer that was taken is known again, even after the end; another one in its place is refused."""
        event = data.draw(st.sampled_from(self.known))
        if otherwise:
            self.refuses(Completed(path=event.path, serial=event.serial, result="other"))
        else:
            before = self.flow.run
            self.flow.send(event)  # type: ignore[arg-type]  # All of them are events.
            assert before == self.flow.run

    @precondition(lambda self: self.paths)
    @rule(data=st.data(), back=st.integers(1, 3))
    def answer_late(self, data: st.DataObject, back: int) -> None:
        """An answer to an attempt before, or to one that was never made, is refused; that of a reminder never is."""
        path = data.draw(st.sampled_from(self.paths))
        late = self.serial_of(path) - back
        if late not in self.flow.run.reminders:
            self.refuses(Completed(path=path, serial=late if late > 0 else self.flow.run.serial + 1, result="late"))

    @invariant()
    def agree(self) -> None:
        """Status, steps under way with keys and attempts, what is due, what is to be undone, and the end are the same."""
        run, reference = self.flow.run, self.reference
        assert reference.status == self.flow.status
        assert reference.view == _view(run)
        assert (reference.past_pivot, reference.generation) == (run.past_pivot, run.generation)
        assert (None if reference.paused else reference.clock.next_ms) == run.alarm_ms
        undoing = reference.undoing
        assert sorted(undoing.recorded) == sorted(undo.key for undo in run.undo)
        if reference.status == "undoing":
            assert (undoing.key, undoing.path, undoing.phase) == (run.undo[0].key, run.undo[0].path, run.undo[0].phase)
        if reference.status in {"succeeded", "failed"}:
            assert (reference.output, reference.error) == (_without_causes(self.flow.output), self.flow.error)
        assert [one.name for one in reference.signals()] == [one.name for one in waiting_signals(run, self.flow.now_ms)]
        assert reference.claims == _claims(run)
        assert reference.reminded == sum(line.startswith("reminder.sent ") for line in self.flow.history)
        assert self.sent == [path for path in self.flow.outstanding if not path.endswith("!remind")]

    @property
    def sent(self) -> list[str]:
        """The paths of what has been sent or is shown, as the reference has it."""
        paths = [path for path, (_, phase, _) in self.reference.view.items() if phase in {"called", "waiting"}]
        undoing = self.reference.undoing
        return sorted([*paths, *([undoing.path] if undoing.phase == "called" else [])])

    @property
    def paths(self) -> list[str]:
        """Of what is under way: steps, or a compensation."""
        if self.reference.status == "undoing":
            return [self.reference.undoing.path] if self.reference.undoing.phase != "recorded" else []
        return sorted(self.reference.view)

    @property
    def answerable(self) -> list[str]:
        """What is out and can be answered."""
        return self.fitting("complete")

    def fitting(self, verb: str) -> list[str]:
        """The paths where this can happen now."""
        return [path for path in self.paths if self.reference.takes(verb, path)]

    @property
    def known(self) -> list[StepEvent]:
        """Answers that were taken and are still remembered: those of the last serials that were settled."""
        settled = {one.serial for one in self.flow.run.settled}
        return [event for event in self.answers if event.serial in settled]

    def activity_at(self, path: str) -> Activity | None:
        """The step of that path; None where it is a compensation."""
        scope = self.flow.run.scopes.get(path.rpartition("/")[0])
        return scope.activity if scope is not None and not path.endswith("!undo") else None

    def serial_of(self, path: str) -> int:
        """Of the attempt that is under way there."""
        activity: Activity | Undo = self.activity_at(path) or self.flow.run.undo[0]
        return activity.serial

    def answer(self, event: Completed | Failed | ChildEnded) -> None:
        """Send an answer, and remember it where it says which attempt it is of."""
        self.flow.send(event)
        if event.serial:
            self.answers.append(event)

    def refuses(self, event: AnyEvent) -> None:
        """The event is refused, and the run is as it was."""
        before = self.flow.run
        with pytest.raises(TenureError):
            self.flow.send(event)
        assert before == self.flow.run


def _without_causes(output: Any) -> Any:
    """The same, without the sentences that say of an error that was caught how late it was, or which name it was of."""
    if isinstance(output, list):
        return [_without_causes(item) for item in output]
    if isinstance(output, dict):
        return {name: "" if name == "Cause" else _without_causes(value) for name, value in output.items()}
    return output


def _view(run: Run) -> dict[str, tuple[str, str, int]]:
    activities = [scope.activity for scope in run.scopes.values() if scope.activity]
    return {one.path: (one.key, one.phase, one.attempt) for one in activities}


def _claims(run: Run) -> dict[str, str]:
    activities = [scope.activity for scope in run.scopes.values() if scope.activity]
    return {one.path: one.claimed_by for one in activities if one.phase == "waiting"}


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=5_000 if PROVE else 120, stateful_step_count=40, deadline=None)
