"""What the second interpreter of workflow programs is made of: its clock, its compensations, and what errors and results lead to."""

from collections.abc import Generator, Iterable
from typing import Any, NamedTuple, TypeAlias

from services.workflows.program import Catcher, Child, Compensation, Http, ObjectCall, Retrier, Step, Task

UNKNOWN = ("task.lost", "timeout")
EFFECTS = (Task, Http, ObjectCall, Child)
View: TypeAlias = dict[str, tuple[str, str, int]]
"""Of each step under way, by path: its key, what it is at, and which attempt that is."""
Timers: TypeAlias = dict[tuple[str, str, int], tuple[int, int]]
"""By path, what happens and which of several: when, and which of all was armed first."""


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


class Signal(NamedTuple):
    """One that no wait has taken."""

    name: str
    value: Any
    until_ms: int


class Clock:
    """What time it is, and what is due when."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.due: Timers = {}
        self._armed = 0

    def arm(self, path: str, what: str, span_ms: int, nth: int = 0) -> None:
        """Let it happen in so long."""
        self._armed += 1
        self.due[path, what, nth] = self.now_ms + span_ms, self._armed

    def disarm(self, path: str, what: str = "") -> None:
        """Let it not happen; without a word, nothing of that path."""
        for key in [key for key in self.due if key[0] == path and what in {"", key[1]}]:
            del self.due[key]

    @property
    def next_ms(self) -> int | None:
        """When something is due first."""
        return min(self.due.values())[0] if self.due else None

    def take(self) -> tuple[str, str, int, int] | None:
        """What is due first, taken out: path, what, which of several, and when it was due."""
        if self.next_ms is None or self.next_ms > self.now_ms:
            return None
        path, what, nth = min(self.due, key=lambda key: self.due[key])
        due_ms, _ = self.due.pop((path, what, nth))
        return path, what, nth, due_ms


class Undoing:
    """Compensations: what is recorded, and what the one under way is at. The last that was entered is undone first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.recorded: dict[str, tuple[int, str, Step]] = {}
        """By key: the number of its entry, its path, and the step."""
        self.phase = ""
        self._retried: dict[int, int] = {}

    @property
    def key(self) -> str:
        """Of what is undone now."""
        return max(self.recorded, key=lambda key: self.recorded[key][0])

    @property
    def path(self) -> str:
        """Of what is undone now."""
        return f"{self.recorded[self.key][1]}!undo"

    def begin(self, *, paused: bool) -> None:
        """Begin with the last, or wait for that."""
        self._retried.clear()
        self.phase = "recorded"
        if not paused:
            self.send()

    def send(self) -> None:
        """Make an attempt."""
        self.phase = "called"
        self._clock.arm(self.path, "timeout", self._how.timeout_ms)

    def fail(self, error: str) -> None:
        """The attempt has failed."""
        self._clock.disarm(self.path)
        retriers = self._how.retry
        number = retrier_for(retriers, self._retried, error)
        if number is None:
            self.phase = "stalled"
            return
        self._retried[number] = self._retried.get(number, 0) + 1
        self.phase = "backing_off"
        self._clock.arm(self.path, "again", retriers[number].interval_ms)

    def retry(self) -> None:
        """Try it again by hand."""
        self._retried.clear()
        self.send()

    def end(self) -> None:
        """It is done."""
        self._clock.disarm(self.path)
        del self.recorded[self.key]
        self.phase = ""

    @property
    def _how(self) -> Compensation:
        how = self.recorded[self.key][2].compensate
        assert how is not None, "only such steps are recorded"
        return how


def answer_to(message: Message) -> tuple[Any] | None:
    """What the message ends a call or a wait with; None where it does not.

    Raises:
        BoomError: with an error.
        SkippedError: by hand.
    """
    match message.verb:
        case "complete" | "signal":
            return (message.value,)
        case "fail":
            raise BoomError(message.value)
        case "skip":
            raise SkippedError(message.value)
        case "timeout" | "heartbeat":
            raise BoomError("timeout" if message.verb == "timeout" else "timeout.heartbeat")
        case _:
            return None


def target_of(step: Step, result: Any) -> str | None:
    """Where the step leads with this result; the author's rules ask whether it is a large number.

    Raises:
        BoomError: nowhere.
    """
    if step.rules and isinstance(result, int) and result > 2:
        return step.rules[0].next
    target = step.next or step.default
    if step.rules and target is None:
        raise BoomError("choice.no_match")
    return target


def matches(errors: Iterable[str], error: str) -> bool:
    """Whether one of these is meant."""
    return any(one in {"*", error} or error.startswith(f"{one}.") for one in errors)


def retrier_for(retriers: tuple[Retrier, ...], retried: dict[int, int], error: str) -> int | None:
    """Which retrier acts."""
    number = next((number for number, one in enumerate(retriers) if matches(one.errors, error)), None)
    if number is None:
        return None
    most = retriers[number].retries_max
    return number if most is None or retried.get(number, 0) < most else None


def catcher_for(catchers: tuple[Catcher, ...], visits: dict[str, int], error: str) -> str | None:
    """Where the first that is for it leads."""
    for one in catchers:
        if matches(one.errors, error) and (one.visits_max is None or visits.get(one.next, 0) < one.visits_max):
            return one.next
    return None


def at_end(path: str) -> str:
    """The name of the step of that path."""
    return path.rpartition("/")[2]
