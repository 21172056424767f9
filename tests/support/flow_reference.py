"""A second interpreter of workflow programs, written the other way round, to hold the machine to.

The machine keeps a run as data and works off a queue. Here a block is a generator, an error an exception, a branch another
generator, and to give something up is to close it: the control flow is Python's own. It knows what the generated programs
need and nothing of storage, payloads or expressions.
"""

from collections.abc import Callable, Generator
from typing import Any, NamedTuple, TypeAlias

from services.workflows.program import Block, Fail, Map, Parallel, Pass, Program, Sleep, Step, Succeed, Task, Wait

UNKNOWN = {"task.lost"}
View: TypeAlias = dict[str, tuple[str, str, int]]
"""Of each step under way, by path: its key, what it is at, and which attempt that is."""


class Message(NamedTuple):
    """Something for the step of that path; for every block that waits to go on, if the path is empty."""

    path: str
    verb: str
    value: Any = None


Steps: TypeAlias = Generator[View, Message, Any]


class BoomError(Exception):
    """A step has failed."""

    def __init__(self, error: str, *, fatal: bool = False, undo: bool = True) -> None:
        super().__init__(error)
        self.error, self.fatal, self.undo = error, fatal, undo


class SkippedError(Exception):
    """Somebody says that the step is done."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


class Reference:
    """One run."""

    def __init__(self, program: Program, now_ms: int) -> None:
        self.program = program
        self.now_ms = now_ms
        self.status, self.output, self.error = "open", None, ""
        self.paused = False
        self.visits: dict[str, int] = {}
        self.undo: dict[str, int] = {}
        self.undo_stalled = False
        self.due: dict[str, tuple[int, int]] = {}
        self.view: View = {}
        self._armed = self._entries = 0
        self._ending = ""
        self._main = self._root(program.root.start, None)
        self._value: Any = None
        self._advance(lambda: next(self._main))

    def send(self, message: Message) -> None:
        """Let it happen."""
        self._advance(lambda: self._main.send(message))

    def ring(self) -> None:
        """Let everything happen that is due, earliest first."""
        while not self.paused and self.due and min(self.due.values())[0] <= self.now_ms:
            path = min(self.due, key=lambda path: self.due[path])
            self.send(Message(path, "time"))

    def pause(self) -> None:
        """Begin no more steps."""
        self.paused = True

    def resume(self) -> None:
        """Go on."""
        if self.paused:
            self.paused = False
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

    def reset(self, step: str) -> None:
        """Go on there."""
        self._main.close()
        self.due.clear()
        self.status, self.error, self.output = "open", "", None
        self._main = self._root(step, self._value)
        self._advance(lambda: next(self._main))

    def undone(self) -> None:
        """The compensation under way is done or skipped."""
        del self.undo[self.undoing]
        self.undo_stalled = False
        self._finish()

    @property
    def undoing(self) -> str:
        """The key of what is undone now: that of the step which was entered last."""
        return max(self.undo, key=lambda key: self.undo[key])

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
        self.view, self._ending, self.undo_stalled = {}, status, False
        self.due.clear()
        if not undo:
            self.undo.clear()
        self._finish()

    def _finish(self) -> None:
        self.status = "undoing" if self.undo else self._ending
        self.paused = self.paused and bool(self.undo)

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
            name, value = yield from self._step(block.steps[name], at, keyed, value, above, visits)
            if not path:
                self._value = value
        return value

    def _step(  # noqa: C901  # All that a step means, in one place, to be read beside the machine.
        self, step: Step, path: str, key: str, value: Any, above: Callable[[str], bool], visits: dict[str, int]
    ) -> Steps:
        self._entries += 1
        entry, attempt, retried = self._entries, 0, dict[int, int]()
        in_flight = unsure = False
        result: Any = None
        is_task = isinstance(step.kind, Task)

        def retrier(error: str) -> int | None:
            fitting = (n for n, one in enumerate(step.retry) if error in one.errors or "*" in one.errors)
            number = next(fitting, None)
            if number is None or retried.get(number, 0) >= (step.retry[number].retries_max or 0):
                return None
            return number

        def catcher(error: str) -> str | None:
            for one in step.catch:
                fits = error in one.errors or "*" in one.errors
                if fits and (one.visits_max is None or visits.get(one.next, 0) < one.visits_max):
                    return one.next
            return None

        def handled(error: str) -> bool:
            return retrier(error) is not None or catcher(error) is not None or above(error)

        try:
            while True:
                attempt += 1
                try:
                    in_flight = is_task
                    result = yield from self._do(step, path, key, attempt, value, handled)
                    break
                except BoomError as boom:
                    in_flight = False
                    unsure = unsure or (is_task and boom.error in UNKNOWN)
                    number, target = retrier(boom.error), catcher(boom.error)
                    if number is not None:
                        retried[number] = retried.get(number, 0) + 1
                        yield from self._pass(path, key, attempt, "backing_off", step.retry[number].interval_ms)
                    elif target is not None:
                        self._note(step, key, entry, unsure)
                        return target, {"Error": boom.error, "Cause": ""}
                    elif boom.fatal or step.on_exhausted == "fail" or above(boom.error):
                        self._note(step, key, entry, unsure)
                        raise BoomError(
                            boom.error, fatal=boom.fatal or step.on_exhausted == "fail", undo=boom.undo
                        ) from boom
                    else:
                        yield from self._until(path, key, attempt, "stalled", "retry")
                        retried.clear()
        except SkippedError as skipped:
            result = skipped.value
        except GeneratorExit:
            self._note(step, key, entry, in_flight or unsure)
            raise
        self._note(step, key, entry, True)
        if isinstance(step.kind, Succeed):
            return None, result
        large = isinstance(result, int) and result > 2
        return (step.rules[0].next if step.rules and large else step.next or step.default), result

    def _note(self, step: Step, key: str, entry: int, happened: bool) -> None:
        if happened and step.compensate:
            self.undo[key] = entry

    def _do(self, step: Step, path: str, key: str, attempt: int, value: Any, handled: Callable[[str], bool]) -> Steps:
        kind = step.kind
        if isinstance(kind, Task | Wait):
            phase = "called" if isinstance(kind, Task) else "waiting"
            return (yield from self._until(path, key, attempt, phase, "complete"))
        if isinstance(kind, Sleep):
            assert isinstance(kind.span, int)
            yield from self._pass(path, key, attempt, "sleeping", kind.span)
            return value
        if isinstance(kind, Parallel):
            order = {name: (block, value) for name, block in kind.branches.items()}
            spare = len(order) - kind.need
            results = yield from self._beside(order, path, key, attempt, handled, len(order), spare, kind.wait_others)
            return {name: results[name] for name in order if name in results}
        if isinstance(kind, Map):
            order = {str(index): (kind.each, item) for index, item in enumerate(kind.items)}
            limit = kind.concurrency or len(order)
            results = yield from self._beside(
                order, path, key, attempt, handled, limit, kind.tolerate, False, every=True
            )
            return [results.get(name) for name in order]
        if isinstance(kind, Fail):
            raise BoomError(kind.error, fatal=True, undo=kind.compensate_all)
        assert isinstance(kind, Pass | Succeed)
        template = kind.output if isinstance(kind, Succeed) else kind.result
        return value if template is None else template.value

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
        self._armed += 1
        self.due[path] = self.now_ms + span_ms, self._armed
        try:
            yield from self._until(path, key, attempt, phase, "time")
        finally:
            self.due.pop(path, None)

    def _until(self, path: str, key: str, attempt: int, phase: str, verb: str) -> Steps:
        while True:
            message = yield {path: (key, phase, attempt)}
            if message.path != path:
                continue
            if message.verb == "skip":
                raise SkippedError(message.value)
            if message.verb == "fail":
                raise BoomError(message.value)
            if message.verb == verb:
                return message.value
