"""Whether all that clients saw of one object can be the doing of a single copy of it, one operation after another.

Every operation takes effect at one instant between its call and its answer. One of which nobody knows what became takes
effect at any instant after its call, or never. `unexplained` looks for an order of such instants that a model of the
object allows: the search of Wing and Gong ("Testing and Verifying Concurrent Objects", 1993), which takes operations in
any order that real time permits, tries each on the model and goes back where none fits, with Lowe's memory of what was
tried ("Testing for Linearizability", 2017). Linearizability is local (Herlihy and Wing, 1990): a history of many objects
has it exactly if that of each object does, so each is judged alone.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from math import inf
from typing import Any, NamedTuple, TypeVar

State = TypeVar("State", bound=Hashable)
_END = -1


class Operation(NamedTuple):
    """One call, with two moments of one clock. `answered` is infinite if the outcome is unknown."""

    what: str
    called: float
    argument: str = ""
    answered: float = inf
    result: Any = None


def unexplained(
    operations: Iterable[Operation], step: Callable[[State, Operation], State | None], start: State
) -> Operation | None:
    """None if the history is linearizable; else the operation by whose answer the best of all orders fails.

    `step` says what state an operation leaves, and None where it cannot have happened like that.
    """
    return _Search(list(operations), step).run(start)


class Seen(NamedTuple):
    """A list of entries as far as it matters for being the same: how many, and a running hash of them."""

    length: int = 0
    digest: int = 0

    def then(self, entry: str) -> "Seen":
        """This and one more entry."""
        return Seen(self.length + 1, hash((self.digest, entry)))

    @classmethod
    def of(cls, entries: Iterable[str]) -> "Seen":
        """All of `entries`."""
        seen = cls()
        for entry in entries:
            seen = seen.then(entry)
        return seen


def register(state: str, operation: Operation) -> str | None:
    """The model of a register: `write` sets it to its argument, `read` answers what it is."""
    if operation.what == "write":
        return operation.argument
    return state if operation.result == state else None


def append_list(state: Seen, operation: Operation) -> Seen | None:
    """The model of a list: `append` answers its place, `append_and_read` and `read` answer all entries (as `Seen`)."""
    if operation.what == "read":
        return state if operation.result == state else None
    after = state.then(operation.argument)
    shown = after if operation.what == "append_and_read" else state.length
    return after if operation.result in (None, shown) else None


def with_last_read(operations: Iterable[Operation], entries: Sequence[str]) -> list[Operation]:
    """The history of a list that was read once more when all else was over.

    The same histories are linearizable as without what it adds, which only saves the search from guessing: entries
    never leave a list, so an append of unknown outcome whose entry is not there is seen by nobody, and one
    whose entry is there took its place.
    """
    places = {entry: place for place, entry in enumerate(entries)}
    kept = []
    for operation in operations:
        if operation.answered < inf:
            kept.append(operation)
        elif operation.argument in places:
            kept.append(operation._replace(what="append", result=places[operation.argument]))
    moments = [each.answered if each.answered < inf else each.called for each in kept]
    over = 1 + max(moments, default=0.0)
    return [*kept, Operation("read", over, "", over, Seen.of(entries))]


class _Search:
    """Calls and answers in the order of time, as a linked list out of which operations are taken, and put back."""

    def __init__(self, operations: list[Operation], step: Callable[[Any, Operation], Any]) -> None:
        self._operations = operations
        self._step = step
        moments = [(each.called, 0, number) for number, each in enumerate(operations)]
        moments += [(each.answered, 1, number) for number, each in enumerate(operations) if each.answered < inf]
        self._events = sorted(moments)
        count = len(self._events)
        self._next = [*range(1, count), _END, 0]  # The last place, also reached as -1, is before the first.
        self._before = [_END, *range(count - 1), count - 1]
        self._call_of = {number: place for place, (_, answer, number) in enumerate(self._events) if not answer}
        self._answer_of = {number: place for place, (_, answer, number) in enumerate(self._events) if answer}
        self._answers_left = len(self._answer_of)

    def run(self, state: Any) -> Operation | None:
        taken = 0
        tried = {(taken, state)}
        order: list[tuple[int, Any]] = []
        fewest_left, stuck_at = self._answers_left + 1, None
        place = self._next[_END]
        while self._answers_left:
            _, answer, number = self._events[place]
            if answer:  # Its operation should have been taken by now, so one that was taken before it was wrong.
                if self._answers_left < fewest_left:
                    fewest_left, stuck_at = self._answers_left, self._operations[number]
                if not order:
                    return stuck_at
                number, state = order.pop()
                taken ^= 1 << number
                self._put_back(number)
                place = self._next[self._call_of[number]]
                continue
            after = self._step(state, self._operations[number])
            if after is None or (taken | 1 << number, after) in tried:
                place = self._next[place]
                continue
            order.append((number, state))
            state, taken = after, taken | 1 << number
            tried.add((taken, state))
            self._take(number)
            place = self._next[_END]
        return None

    def _take(self, number: int) -> None:
        self._unlink(self._call_of[number])
        if number in self._answer_of:
            self._unlink(self._answer_of[number])
            self._answers_left -= 1

    def _put_back(self, number: int) -> None:
        if number in self._answer_of:
            self._link(self._answer_of[number])
            self._answers_left += 1
        self._link(self._call_of[number])

    def _unlink(self, place: int) -> None:
        self._next[self._before[place]] = self._next[place]
        self._before[self._next[place]] = self._before[place]

    def _link(self, place: int) -> None:
        self._next[self._before[place]] = place
        self._before[self._next[place]] = place
