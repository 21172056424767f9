"""A second interpreter of workflow programs, written the other way round, to hold the machine to.

The machine keeps a run as data and works off a queue. Here a block is a generator, an error an exception, a branch another
generator, and to give something up is to close it: the control flow is Python's own. It knows every kind of step and every
verb, and nothing of storage, payloads or expressions beyond the few that the author writes (tests/support/flow_author.py).
"""

from collections.abc import Callable
from typing import Any

from services.workflows.program import (
    Block,
    Child,
    Fail,
    Http,
    Map,
    ObjectCall,
    Parallel,
    Pass,
    Program,
    Sleep,
    Step,
    Succeed,
    Task,
    Wait,
)
from tests.support.flow_parts import (
    EFFECTS,
    UNKNOWN,
    BoomError,
    Clock,
    Message,
    Signal,
    SkippedError,
    Steps,
    Undoing,
    View,
    answer_to,
    at_end,
    catcher_for,
    matches,
    retrier_for,
    target_of,
)


class Reference:
    """One run."""

    def __init__(self, program: Program, now_ms: int) -> None:
        self.program = program
        self.clock = Clock(now_ms)
        self.status, self.output, self.error = "open", None, ""
        self.paused = self.past_pivot = False
        self.generation = 1
        self.visits: dict[str, int] = {}
        self.undoing = Undoing(self.clock)
        self.mailbox: list[Signal] = []
        self.waiting: dict[str, tuple[int, str]] = {}
        """Of each wait that is shown: the number of its entry, and the signal that ends it."""
        self.claims: dict[str, str] = {}
        self.calls: dict[str, Task | Http | ObjectCall | Child] = {}
        self.leases: dict[str, int] = {}
        """Of each call, how many workers had this attempt."""
        self.view: View = {}
        self.reminded = 0
        self._entries = 0
        self._ending = ""
        self._value: Any = None
        if program.deadline is not None:
            assert isinstance(program.deadline.after, int)
            self.clock.arm("", "deadline", program.deadline.after)
        self._main = self._root(program.root.start, None)
        self._advance(lambda: next(self._main))

    def send(self, message: Message) -> None:
        """Let it happen."""
        if self.status == "undoing":
            self._undo(message)
        else:
            self._advance(lambda: self._main.send(message))

    def ring(self) -> None:
        """Let everything happen that is due, earliest first."""
        while not self.paused and (due := self.clock.take()) is not None:
            path, what, nth, due_ms = due
            if what == "deadline":
                self._pass_deadline()
            else:
                self.send(Message(path, what, (nth, due_ms)))
            if what in {"remind", "escalate"} and self.status == "open":
                self.send(Message("", "resume"))

    def pause(self) -> None:
        """Begin no more steps."""
        self.paused = True

    def resume(self) -> None:
        """Go on."""
        if self.paused:
            self.paused = False
            if self.undoing.phase == "recorded":
                self.undoing.send()
            self.ring()
            if self.status == "open":
                self.send(Message("", "resume"))

    def cancel(self) -> None:
        """Stop and undo."""
        self._main.close()
        self.paused = False
        self._end("cancelled", undo=True)

    def terminate(self) -> None:
        """Stop."""
        self._main.close()
        self.paused = False
        self._end("terminated", undo=False)

    def reset(self, step: str, *, keep_signals: bool) -> None:
        """Go on there."""
        self._main.close()
        self.status, self.error, self.output, self.past_pivot = "open", "", None, False
        self.generation += 1
        if not keep_signals:
            self.mailbox.clear()
        self._go_to(step)

    def migrate(self, step: str) -> None:
        """Go on there in another version, which is the same."""
        self._main.close()
        self._go_to(step)

    def signal(self, name: str, value: Any, ttl_ms: int) -> None:
        """The wait that was entered first takes it; else it is kept."""
        paths = [path for path, (_, wanted) in self.waiting.items() if wanted == name]
        if paths:
            self.send(Message(min(paths, key=lambda path: self.waiting[path]), "signal", value))
        else:
            self.mailbox.append(Signal(name, value, self.clock.now_ms + ttl_ms if ttl_ms else 0))

    def signals(self) -> list[Signal]:
        """Those that a wait can still take."""
        return [one for one in self.mailbox if not 0 < one.until_ms <= self.clock.now_ms]

    def takes(self, verb: str, path: str) -> bool:
        """Whether this can happen now."""
        if self.status == "undoing":
            if verb in {"pause", "resume", "terminate"}:
                return True
            phase = self.undoing.phase if path == self.undoing.path else ""
            if verb in {"retry", "skip"}:
                return phase == "stalled"
            return verb in {"complete", "fail", "accept", "lease", "beat"} and phase in {"called", "accepted"}
        if self.status != "open":
            return verb == "reset"
        if verb in {"pause", "resume", "terminate", "reset", "signal"}:
            return True
        if verb == "cancel":
            return not self.past_pivot
        if verb == "accept":
            call = self.calls.get(path)
            return isinstance(call, Http) and call.callback
        if verb in {"claim", "assign"}:
            return path in self.claims
        if verb in {"complete", "fail", "lease", "beat"}:
            return path in self.claims or path in self.calls
        return path in self.view and (verb == "skip" or self.view[path][1] == "stalled")

    def _undo(self, message: Message) -> None:
        """Something happens to the compensation under way."""
        match message.verb:
            case "fail" | "timeout":
                self.undoing.fail(message.value if message.verb == "fail" else "timeout")
            case "accept":
                self.undoing.phase = "accepted"
            case "again":
                self.undoing.send()
            case "retry":
                self.undoing.retry()
            case "complete" | "skip":
                self.undoing.end()
                self._finish()

    def _pass_deadline(self) -> None:
        deadline = self.program.deadline
        assert deadline is not None
        self._main.close()
        if deadline.next is None:
            self.error = "deadline"
            self._end("failed", undo=True)
        else:
            self._go_to(deadline.next)

    def _go_to(self, step: str) -> None:
        self._main = self._root(step, self._value)
        self._advance(lambda: next(self._main))

    def _root(self, start: str, value: Any) -> Steps:
        return self._block(self.program.root, "", "", start, value, lambda _: False, self.visits)

    def _advance(self, move: Callable[[], View]) -> None:
        try:
            self.view = move()
        except StopIteration as ended:
            self.output = ended.value
            self._end("succeeded", undo=False)
        except BoomError as boom:
            self.error = boom.error
            self._end("failed", undo=boom.undo)

    def _end(self, status: str, *, undo: bool) -> None:
        self.view, self._ending = {}, status
        self.clock.due.clear()
        if not undo:
            self.undoing.recorded.clear()
            self.undoing.phase = ""
        self._finish()

    def _finish(self) -> None:
        self.status = "undoing" if self.undoing.recorded else self._ending
        if self.undoing.recorded:
            self.undoing.begin(paused=self.paused)
        else:
            self.paused = False

    def _block(
        self,
        block: Block,
        path: str,
        key: str,
        start: str,
        value: Any,
        above: Callable[[str], bool],
        visits: dict[str, int],
    ) -> Steps:
        name: str | None = start
        while name is not None:
            while self.paused:
                yield {}
            visits[name] = visits.get(name, 0) + 1
            at = f"{path}/{name}" if path else name
            keyed = f"{key}/{name}:{visits[name]}" if key else f"{name}:{visits[name]}"
            step = block.steps[name]
            name, value = yield from self._step(step, at, keyed, value, above, visits)
            if not path and not isinstance(step.kind, Succeed):  # Whose output is of the run, and no step's input.
                self._value = value
        return value

    def _pass_pivot(self) -> None:
        self.undoing.recorded.clear()
        self.past_pivot = True
        self.clock.disarm("", "deadline")

    def _step(  # noqa: C901  # All that a step means, in one place, to be read beside the machine.
        self, step: Step, path: str, key: str, value: Any, above: Callable[[str], bool], visits: dict[str, int]
    ) -> Steps:
        self._entries += 1
        entry, attempt, retried = self._entries, 0, dict[int, int]()
        in_flight = unsure = False
        result: Any = None
        is_effect = isinstance(step.kind, EFFECTS)
        if step.pivot:
            self._pass_pivot()

        def handled(error: str) -> bool:
            return (
                retrier_for(step.retry, retried, error) is not None
                or catcher_for(step.catch, visits, error) is not None
                or above(error)
            )

        try:
            while True:
                attempt += 1
                try:
                    if attempt == 1 and step.visits_max is not None and visits[at_end(path)] > step.visits_max:
                        raise BoomError("visits.exceeded")
                    in_flight = is_effect
                    result = yield from self._do(step, path, key, attempt, value, handled, entry)
                    in_flight, unsure = False, True  # It has happened, whatever is to follow from it.
                    target = target_of(step, result)
                    break
                except BoomError as boom:
                    in_flight = False
                    unsure = unsure or (is_effect and matches(UNKNOWN, boom.error))
                    number = retrier_for(step.retry, retried, boom.error)
                    target = catcher_for(step.catch, visits, boom.error)
                    if number is not None:
                        retried[number] = retried.get(number, 0) + 1
                        yield from self._pass(path, key, attempt, "backing_off", step.retry[number].interval_ms)
                    elif target is not None:
                        self._note(step, path, key, entry, unsure)
                        return target, {"Error": boom.error, "Cause": ""}
                    elif boom.fatal or step.on_exhausted == "fail" or above(boom.error):
                        self._note(step, path, key, entry, unsure)
                        fatal = boom.fatal or step.on_exhausted == "fail"
                        raise BoomError(boom.error, fatal=fatal, undo=boom.undo) from boom
                    else:
                        yield from self._until(path, key, attempt, "stalled", "retry")
                        retried.clear()
        except SkippedError as skipped:
            result = skipped.value
            target = target_of(step, result)
        except GeneratorExit:
            self._note(step, path, key, entry, in_flight or unsure)
            raise
        self._note(step, path, key, entry, True)
        return (None if isinstance(step.kind, Succeed) else target), result

    def _note(self, step: Step, path: str, key: str, entry: int, happened: bool) -> None:
        if happened and step.compensate:
            self.undoing.recorded[key] = entry, path, step

    def _do(
        self, step: Step, path: str, key: str, attempt: int, value: Any, handled: Callable[[str], bool], entry: int
    ) -> Steps:
        kind = step.kind
        if isinstance(kind, Wait):
            return (yield from self._wait(step, kind, path, key, attempt, entry))
        if isinstance(kind, EFFECTS):
            return (yield from self._call(step, kind, path, key, attempt))
        if isinstance(kind, Sleep):
            yield from self._pass(path, key, attempt, "sleeping", self._left_ms(kind))
            return value
        if isinstance(kind, Parallel):
            order = {name: (block, value) for name, block in kind.branches.items()}
            spare = len(order) - kind.need
            results = yield from self._beside(order, path, key, attempt, handled, len(order), spare, kind.wait_others)
            return {name: results[name] for name in order if name in results}
        if isinstance(kind, Map):
            order = {str(index): (kind.each, item) for index, item in enumerate(kind.items)}
            limit, spare = kind.concurrency or len(order), max(kind.tolerate, len(order) * kind.tolerate_percent // 100)
            results = yield from self._beside(order, path, key, attempt, handled, limit, spare, False, every=True)
            return [results.get(name) for name in order]
        if isinstance(kind, Fail):
            raise BoomError(kind.error, fatal=True, undo=kind.compensate_all)
        assert isinstance(kind, Pass | Succeed)
        template = kind.output if isinstance(kind, Succeed) else kind.result
        return value if template is None else template.value

    def _left_ms(self, kind: Sleep) -> int:
        if kind.until is None:
            assert isinstance(kind.span, int)
            return kind.span
        return int(str(kind.until).partition("(")[2].partition(")")[0]) - self.clock.now_ms

    def _call(self, step: Step, kind: Task | Http | ObjectCall | Child, path: str, key: str, attempt: int) -> Steps:
        phase = "called"
        self.calls[path], self.leases[path] = kind, 0
        if step.timeout is not None:
            assert isinstance(step.timeout, int)
            self.clock.arm(path, "timeout", step.timeout)
        try:
            while True:
                message = yield {path: (key, phase, attempt)}
                if message.path != path:
                    continue
                answer = answer_to(message)
                if answer is not None:
                    return answer[0]
                if message.verb == "lease":
                    self.leases[path] += 1
                if message.verb == "accept":
                    phase = "accepted"
                if message.verb == "release":
                    self.clock.disarm(path, "heartbeat")
                if message.verb in {"lease", "beat"} and isinstance(kind, Task) and step.heartbeat is not None:
                    assert isinstance(step.heartbeat, int)
                    self.clock.disarm(path, "heartbeat")
                    self.clock.arm(path, "heartbeat", step.heartbeat)
        finally:
            del self.calls[path], self.leases[path]
            self.clock.disarm(path)

    def _wait(self, step: Step, wait: Wait, path: str, key: str, attempt: int, entry: int) -> Steps:
        for signal in self.signals():
            if wait.signal == signal.name:
                self.mailbox.remove(signal)
                return signal.value
        if step.timeout is not None:
            assert isinstance(step.timeout, int)
            self.clock.arm(path, "timeout", step.timeout)
        if wait.remind is not None:
            self.clock.arm(path, "remind", wait.remind.every_ms, 1)
        for number, escalation in enumerate(wait.escalate):
            self.clock.arm(path, "escalate", escalation.after_ms, number)
        self.waiting[path] = entry, wait.signal
        self.claims[path] = ""
        try:
            while True:
                message = yield {path: (key, "waiting", attempt)}
                if message.path != path:
                    continue
                answer = answer_to(message)
                if answer is not None:
                    return answer[0]
                self._meanwhile(wait, path, message)
        finally:
            del self.waiting[path], self.claims[path]
            self.clock.disarm(path)

    def _meanwhile(self, wait: Wait, path: str, message: Message) -> None:
        """What happens to a wait that does not end it."""
        if message.verb in {"claim", "assign"}:
            self.claims[path] = message.value
        elif message.verb == "remind":
            self._remind(wait, path, *message.value)
        elif message.verb == "escalate":
            self.claims[path] = ""
            extend_ms = wait.escalate[message.value[0]].extend_ms
            if (path, "timeout", 0) in self.clock.due and extend_ms:
                left_ms = self.clock.due[path, "timeout", 0][0] - self.clock.now_ms
                self.clock.arm(path, "timeout", max(left_ms, extend_ms))

    def _remind(self, wait: Wait, path: str, nth: int, due_ms: int) -> None:
        assert wait.remind is not None
        self.reminded += 1
        while due_ms <= self.clock.now_ms:
            nth, due_ms = nth + 1, due_ms + wait.remind.every_ms
        if nth <= wait.remind.times:
            self.clock.arm(path, "remind", due_ms - self.clock.now_ms, nth)

    def _beside(  # noqa: C901  # All that a join means, in one place.
        self,
        order: dict[str, tuple[Block, Any]],
        path: str,
        key: str,
        attempt: int,
        handled: Callable[[str], bool],
        limit: int,
        spare: int,
        wait_others: bool,
        *,
        every: bool = False,
    ) -> Steps:
        """Run blocks beside one another, so many at once; `spare` of them may fail, or need not end."""
        running: dict[str, tuple[Steps, View]] = {}
        results: dict[str, Any] = {}
        failed: list[str] = []
        first: BoomError | None = None
        waiting = list(order)

        def bears(error: str) -> bool:
            return len(failed) + 1 <= spare or handled(error)

        def move(name: str, child: Steps, message: Message | None) -> None:
            nonlocal first
            try:
                running[name] = child, (next(child) if message is None else child.send(message))
            except StopIteration as ended:
                running.pop(name, None)
                results[name] = ended.value
            except BoomError as boom:
                running.pop(name, None)
                failed.append(name)
                if len(failed) > spare:
                    kept = first or boom
                    fatal = bool(first and first.fatal) or boom.fatal
                    first = BoomError(kept.error, fatal=fatal, undo=kept.undo)

        try:
            while True:
                while waiting and len(running) < limit and first is None:
                    name = waiting.pop(0)
                    block, value = order[name]
                    above = f"{path}/{name}", f"{key}/{name}"
                    move(name, self._block(block, *above, block.start, value, bears, {}), None)
                if first is not None and not (wait_others and running):
                    raise first
                done = len(results) + len(failed) == len(order) if every else len(results) >= len(order) - spare
                if done and first is None:
                    return results
                view = {path: (key, "joining", attempt)}
                message = yield view | {at: seen for _, views in running.values() for at, seen in views.items()}
                if message == Message(path, "skip", message.value):
                    raise SkippedError(message.value)
                for name, (child, _) in list(running.items()):
                    if not message.path or message.path.startswith(f"{path}/{name}/"):
                        move(name, child, message)
        finally:
            for child, _ in running.values():
                child.close()

    def _pass(self, path: str, key: str, attempt: int, phase: str, span_ms: int) -> Steps:
        if phase == "sleeping" and span_ms <= 0:
            return
        verb = "sleep" if phase == "sleeping" else "again"
        self.clock.arm(path, verb, span_ms)
        try:
            yield from self._until(path, key, attempt, phase, verb)
        finally:
            self.clock.disarm(path)

    def _until(self, path: str, key: str, attempt: int, phase: str, verb: str) -> Steps:
        while True:
            message = yield {path: (key, phase, attempt)}
            if message.path != path:
                continue
            if message.verb == "skip":
                raise SkippedError(message.value)
            if message.verb == verb:
                return message.value
