"""Random programs and random histories: the machine does what a second interpreter does, is never stuck, and survives every crash.

After each event the run is stored and loaded (tests/support/flow.py), so every history is also one of crashes at every commit.
"""

import random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.workflows.definition import define, problems_of
from services.workflows.events import (
    Cancelled,
    Completed,
    Failed,
    Paused,
    Reset,
    Resumed,
    Retried,
    Skipped,
    Terminated,
    TimerDue,
)
from services.workflows.problems import Problems
from services.workflows.reading import Source
from services.workflows.state import Run
from tests.support.environment import PROVE
from tests.support.flow import START_MS, Flow
from tests.support.flow_reference import Message, Reference

ERRORS = ("boom", "bang", "task.lost")
INNER = ("task", "task", "wait", "sleep", "parallel", "map")
OUTER = (*INNER, "pass", "fail", "succeed", "choice")


class Author:
    """Writes valid definitions from one seed. No two spans are alike, so what is due first is never a tie."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._spans = 0

    def definition(self) -> dict[str, Any]:
        """A whole definition."""
        return {"workflow": "w", **self._block(OUTER, depth=0), "retry_default": []}

    def _span(self) -> str:
        self._spans += 1
        return f"{1_000 + 2 ** min(self._spans, 24)}ms"

    def _block(self, kinds: tuple[str, ...], depth: int) -> dict[str, Any]:
        names = [f"s{number}" for number in range(self._dice.randint(1, 4 if depth == 0 else 2))]
        steps = {}
        for number, name in enumerate(names):
            last = number + 1 == len(names)
            steps[name] = self._step(kinds, names, None if last else names[number + 1], depth)
        return {"start": "s0", "steps": steps}

    def _step(self, kinds: tuple[str, ...], names: list[str], following: str | None, depth: int) -> dict[str, Any]:
        kind = self._dice.choice([one for one in kinds if depth < 2 or one not in {"parallel", "map"}])
        if kind in {"fail", "succeed", "choice"} and following is not None and kind != "choice":
            kind = "pass"  # What stands behind an end could never be reached.
        step: dict[str, Any] = {"next": following} if following else {"end": True}
        if kind == "fail":
            return {"fail": {"error": "bang"}, "compensate_all": self._dice.random() < 0.5}
        if kind == "succeed":
            return {"succeed": "done"}
        if kind in {"pass", "choice"}:
            step["pass"] = self._dice.randint(0, 5)
        elif kind == "sleep":
            step["sleep"] = self._span()
        elif kind in {"task", "wait"}:
            step[kind] = "q" if kind == "task" else {}
        else:
            self._fork(step, kind, depth)
        if kind == "choice" and following is not None:
            when = "{% $type($result) = 'number' and $result > 2 %}"
            step |= {
                "choice": [{"when": when, "next": self._dice.choice(names[names.index(following) :])}],
                "default": step.pop("next"),
            }
        if kind in {"task", "wait", "parallel", "map"}:
            self._handle(step, names)
        if kind == "task" and depth == 0 and self._dice.random() < 0.6:
            step["compensate"] = {"task": "u", "retry": []}
        return step

    def _fork(self, step: dict[str, Any], kind: str, depth: int) -> None:
        if kind == "map":
            items = list(range(self._dice.randint(1 if depth else 0, 3)))
            step["map"] = {
                "items": items,
                "concurrency": self._dice.randint(0, 2),
                "tolerate": self._dice.randint(0, 1),
            }
            step["each"] = self._block(INNER, depth + 1)
            return
        branches = {f"b{number}": self._block(INNER, depth + 1) for number in range(self._dice.randint(1, 3))}
        join = self._dice.choice(["all", "any", {"count": self._dice.randint(1, len(branches))}])
        others = self._dice.choice(["cancel_others", "wait_others"])
        step["parallel"] = {"branches": branches, "join": join, "on_failure": others}

    def _handle(self, step: dict[str, Any], names: list[str]) -> None:
        if self._dice.random() < 0.4:
            step["retry"] = [self._retrier(error) for error in self._dice.sample(ERRORS, self._dice.randint(1, 2))]
        if self._dice.random() < 0.4:
            errors = self._dice.choice([["boom"], ["bang", "task.lost"], ["*"]])
            step["catch"] = [{"errors": errors, "next": self._dice.choice(names)}]
            if self._dice.random() < 0.5:
                step["catch"][0]["max_visits"] = 2
        if self._dice.random() < 0.2:
            step["on_exhausted"] = "fail"

    def _retrier(self, error: str) -> dict[str, Any]:
        attempts = self._dice.randint(0, 2)
        return {"errors": [error], "interval": self._span(), "rate": 1, "attempts": attempts}


class Model(RuleBasedStateMachine):
    """One run and its reference, given the same events."""

    flow: Flow
    reference: Reference

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        """Start both on a program of the seed."""
        source = Source(Author(seed).definition(), Problems())
        assert () == problems_of(source)
        self.flow = Flow(define(source))
        self.reference = Reference(self.flow.program, START_MS)

    @precondition(lambda self: self.answerable)
    @rule(data=st.data(), value=st.integers(0, 5))
    def complete(self, data: st.DataObject, value: int) -> None:
        """A task or a wait is answered well."""
        path = data.draw(st.sampled_from(self.answerable))
        self.flow.send(Completed(path=path, result=value))
        self.reference.send(Message(path, "complete", value))

    @precondition(lambda self: self.answerable)
    @rule(data=st.data(), error=st.sampled_from(ERRORS))
    def fail(self, data: st.DataObject, error: str) -> None:
        """A task or a wait is answered with an error."""
        path = data.draw(st.sampled_from(self.answerable))
        self.flow.send(Failed(path=path, error=error))
        self.reference.send(Message(path, "fail", error))

    @precondition(lambda self: self.flow.run.alarm_ms is not None)
    @rule()
    def ring(self) -> None:
        """Time passes up to the alarm."""
        assert self.flow.run.alarm_ms is not None
        undoing = self.reference.status == "undoing"  # Then it has no other timer than its timeout.
        self.flow.now_ms = self.reference.now_ms = max(self.flow.now_ms, self.flow.run.alarm_ms)
        self.flow.send(TimerDue())
        self.reference.ring()
        self.reference.undo_stalled = undoing

    @precondition(lambda self: self.flow.run.paused)
    @rule(span_ms=st.integers(1, 20_000_000))
    def wait(self, span_ms: int) -> None:
        """Time passes while the run is paused."""
        self.flow.now_ms = self.reference.now_ms = self.flow.now_ms + span_ms
        self.flow.send(TimerDue())

    @precondition(lambda self: self.flow.run.phase == "open" and not self.flow.run.paused)
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

    @precondition(lambda self: self.stalled)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        """A stalled step is tried again."""
        path = data.draw(st.sampled_from(self.stalled))
        self.flow.send(Retried(path=path))
        self.reference.send(Message(path, "retry"))

    @precondition(lambda self: self.reference.view)
    @rule(data=st.data())
    def skip(self, data: st.DataObject) -> None:
        """A step is said to be done."""
        path = data.draw(st.sampled_from(sorted(self.reference.view)))
        self.flow.send(Skipped(path=path, result=9))
        self.reference.send(Message(path, "skip", 9))

    @precondition(lambda self: self.flow.run.phase == "open" and self.flow.run.serial % 5 == 0)
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
    @rule(data=st.data())
    def reset(self, data: st.DataObject) -> None:
        """The run goes on at a step of its own."""
        step = data.draw(st.sampled_from(sorted(self.flow.program.root.steps)))
        self.flow.send(Reset(step=step))
        self.reference.reset(step)

    @precondition(lambda self: self.flow.run.phase == "undoing")
    @rule(how=st.sampled_from(["complete", "fail", "retry", "skip"]))
    def undo(self, how: str) -> None:
        """Something happens to the compensation under way, if it can."""
        path, stalled = self.flow.run.undo[0].path, self.reference.undo_stalled
        if self.flow.run.undo[0].phase == "recorded":
            return  # The run is paused.
        if how == "complete" and not stalled:
            self.flow.complete(path)
            self.reference.undone()
        elif how == "fail" and not stalled:
            self.flow.fail(path)
            self.reference.undo_stalled = True
        elif how == "retry" and stalled:
            self.flow.send(Retried(path=path))
            self.reference.undo_stalled = False
        elif how == "skip" and stalled:
            self.flow.send(Skipped(path=path))
            self.reference.undone()

    @invariant()
    def agree(self) -> None:
        """Status, steps under way with keys and attempts, what is to be undone, and the end are the same."""
        run, reference = self.flow.run, self.reference
        assert reference.status == self.flow.status
        assert reference.view == _view(run)
        assert sorted(reference.undo) == sorted(undo.key for undo in run.undo)
        if reference.status == "undoing":
            assert reference.undoing == run.undo[0].key
            assert reference.undo_stalled == (run.undo[0].phase == "stalled")
        if reference.status in {"succeeded", "failed"}:
            assert (reference.output, reference.error) == (self.flow.output, self.flow.error)

    @property
    def answerable(self) -> list[str]:
        """The tasks and waits that are out."""
        return sorted(path for path, (_, phase, _) in self.reference.view.items() if phase in {"called", "waiting"})

    @property
    def stalled(self) -> list[str]:
        """The steps that wait for help."""
        return sorted(path for path, (_, phase, _) in self.reference.view.items() if phase == "stalled")


def _view(run: Run) -> dict[str, tuple[str, str, int]]:
    activities = [scope.activity for scope in run.scopes.values() if scope.activity]
    return {one.path: (one.key, one.phase, one.attempt) for one in activities}


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=5_000 if PROVE else 150, stateful_step_count=40, deadline=None)
