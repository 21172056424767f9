"""The checker of histories accepts just those that one copy of an object can have made, whatever became of lost calls."""

import random
from itertools import permutations
from math import inf

import pytest

from tests.support.linearizable import Operation, Seen, append_list, register, unexplained, with_last_read


def write(value: str, called: float, answered: float = inf) -> Operation:
    return Operation("write", called, value, answered)


def read(result: str, called: float, answered: float) -> Operation:
    return Operation("read", called, "", answered, result)


def append(entry: str, called: float, answered: float = inf, place: int | None = None) -> Operation:
    return Operation("append", called, entry, answered, place)


def entries(result: str, called: float, answered: float) -> Operation:
    return Operation("read", called, "", answered, Seen.of(result))


@pytest.mark.parametrize(
    "history",
    [
        [],
        [read("", 0, 1)],
        [write("a", 0, 1), read("a", 2, 3)],
        [write("a", 0, 10), read("", 1, 2), read("a", 3, 4)],
        [write("a", 0, 10), write("b", 0, 10), read("b", 1, 2), read("a", 3, 4)],
        [write("a", 0), read("", 5, 6), read("", 7, 8)],
        [write("a", 0), read("", 5, 6), read("a", 700, 800)],
        [write("a", 0), write("b", 1, 2), read("b", 3, 4), read("a", 5, 6)],
        [write("a", 0, 5), read("a", 5, 6), read("", 0, 5)],
    ],
    ids=[
        "nothing",
        "nothing written",
        "read after write",
        "read on both sides of a slow write",
        "two writes in either order",
        "a lost write that never happened",
        "a lost write that happened very late",
        "a lost write that came after a later one",
        "moments that are equal overlap",
    ],
)
def test_a_register_may_be_seen_like_this(history: list[Operation]) -> None:
    """There is an order of instants, each within its call."""
    assert unexplained(history, register, "") is None


@pytest.mark.parametrize(
    ("history", "fails_at"),
    [
        ([write("a", 0, 1), read("", 2, 3)], 1),
        ([write("a", 0, 10), read("a", 1, 2), read("", 3, 4)], 2),
        ([write("a", 0, 10), write("b", 0, 10), read("a", 1, 2), read("b", 3, 4), read("a", 5, 6)], 4),
        ([write("a", 5), read("a", 1, 4)], 1),
        ([write("a", 0), read("a", 1, 2), read("", 3, 4)], 2),
        ([write("a", 0), write("b", 1, 2), read("a", 3, 4), read("b", 5, 6)], 3),
        ([read("a", 0, 1)], 0),
    ],
    ids=[
        "a stale read",
        "a read that goes back",
        "two writes in both orders",
        "read before it was written",
        "a lost write that was undone",
        "a lost write that happened twice",
        "a value of nobody",
    ],
)
def test_a_register_cannot_be_seen_like_this(history: list[Operation], fails_at: int) -> None:
    """No order fits, and the answer that fits none is named."""
    assert history[fails_at] == unexplained(history, register, "")


@pytest.mark.parametrize(
    ("history", "held"),
    [
        ([append("a", 0, 5, 1), append("b", 0, 5, 0), entries("ba", 6, 7)], "ba"),
        ([append("a", 0), append("b", 1, 2, 1), entries("ab", 3, 4)], "ab"),
        ([append("a", 0), append("b", 1, 2, 0), entries("b", 3, 4), entries("ba", 5, 6)], "ba"),
        ([append("a", 0), append("b", 1, 2, 0), entries("b", 3, 4)], "b"),
        ([append("b", 1, 2, 0), append("a", 9)], "ba"),
    ],
    ids=["overlapping", "unknown and there", "unknown and late", "unknown and never", "unknown and sent last"],
)
def test_a_list_may_be_seen_like_this(history: list[Operation], held: str) -> None:
    """Also if the last read has told what became of the unknown ones."""
    assert unexplained(history, append_list, Seen()) is None
    assert unexplained(with_last_read(history, held), append_list, Seen()) is None


@pytest.mark.parametrize(
    "history",
    [
        [append("a", 0, 1, 0), append("b", 2, 3, 0), entries("ab", 4, 5)],
        [append("a", 0, 1, 0), append("b", 2, 3, 1), entries("ba", 4, 5)],
        [append("a", 0, 1, 0), entries("", 2, 3)],
        [append("a", 0, 1, 0), entries("aa", 2, 3)],
        [append("a", 0), entries("aa", 2, 3)],
        [entries("c", 2, 3)],
        [append("a", 0), entries("a", 1, 2), entries("", 3, 4)],
        [append("a", 4), append("b", 1, 2, 1), entries("ab", 5, 6)],
    ],
    ids=[
        "one place for two",
        "against real time",
        "lost",
        "twice",
        "unknown and twice",
        "refused and there",
        "there and gone",
        "there before it was sent",
    ],
)
def test_a_list_cannot_be_seen_like_this(history: list[Operation]) -> None:
    """What the proofs of faults look for; the same with the help of a last read."""
    assert unexplained(history, append_list, Seen()) is not None
    assert unexplained(with_last_read(history, "ab"), append_list, Seen()) is not None


def test_an_answer_with_all_entries_says_what_stood_before() -> None:
    """An append that answers the whole list must end it, at that moment."""
    whole = Operation("append_and_read", 2, "b", 3, Seen.of("ab"))

    assert unexplained([append("a", 0), whole], append_list, Seen()) is None
    assert whole == unexplained([append("c", 0, 1, 0), whole], append_list, Seen())


def test_the_search_agrees_with_trying_every_order() -> None:
    """Thousands of small random histories, judged by brute force too; both verdicts occur often."""
    draw = random.Random(5)
    verdicts = []
    for _ in range(3_000):
        history = [_drawn(draw, number) for number in range(draw.randint(1, 5))]
        verdicts.append(_some_order_fits(history))
        assert verdicts[-1] == (unexplained(history, register, "") is None), history

    assert 500 < sum(verdicts) < 2_500


def test_a_long_history_of_many_clients_is_judged_soon() -> None:
    """Thousands of operations, some of them lost, of six clients that overlap: no more steps than a few for each."""
    history, held = _long(random.Random(9), clients=6, operations=6_000)
    steps = 0

    def counted(state: Seen, operation: Operation) -> Seen | None:
        nonlocal steps
        steps += 1
        return append_list(state, operation)

    assert unexplained(with_last_read(history, held), counted, Seen()) is None
    assert steps < 200 * len(history)
    moved = [*held[:2_000], held[2_001], held[2_000], *held[2_002:]]
    assert unexplained(with_last_read(history, moved), append_list, Seen()) is not None


def _drawn(draw: random.Random, number: int) -> Operation:
    called = draw.randint(0, 8)
    if draw.random() < 0.5:
        return write("abc"[number % 3], called, inf if draw.random() < 0.4 else called + draw.randint(0, 4))
    return read(draw.choice(["", "a", "b", "c"][: 1 + number]), called, called + draw.randint(0, 4))


def _some_order_fits(history: list[Operation]) -> bool:
    """By definition: some of the lost ones, all others, in any order that keeps to real time and to the register."""
    lost = [each for each in history if each.answered == inf]
    answered = [each for each in history if each.answered < inf]
    chosen = ([each for bit, each in enumerate(lost) if mask >> bit & 1] for mask in range(1 << len(lost)))
    return any(_fits(order) for some in chosen for order in permutations([*answered, *some]))


def _fits(order: tuple[Operation, ...]) -> bool:
    state = ""
    latest_call = -inf
    for operation in order:
        after = register(state, operation)
        if after is None or operation.answered < latest_call:
            return False
        state, latest_call = after, max(latest_call, operation.called)
    return True


def _long(draw: random.Random, *, clients: int, operations: int) -> tuple[list[Operation], list[str]]:
    """A true history: each operation takes effect at its instant, and some answers are lost, some before the effect."""
    free_at = [0.0] * clients
    planned = []
    for number in range(operations):
        client = number % clients
        called = free_at[client] + draw.random()
        effect = called + draw.random()
        free_at[client] = effect + draw.random()
        planned.append((effect, called, free_at[client], f"e{number}"))
    held: list[str] = []
    history = []
    seen = Seen()
    for _, called, answered, entry in sorted(planned):
        fate = draw.random()
        if fate < 0.4:
            history.append(Operation("read", called, "", answered, seen))
        elif fate < 0.43:
            history.append(append(entry, called))
        else:
            history.append(append(entry, called, *((answered, len(held)) if fate < 0.97 else ())))
            seen = seen.then(entry)
            held.append(entry)
    return history, held
