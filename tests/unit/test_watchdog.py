"""The rules by which a node tells an object that holds it from a pause of its machine, look by look."""

import sys
import threading
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

import pytest

from shared import bounds
from shared.objects.address import Address
from shared.objects.handler import Alarm, Checkpoint, DurableObject
from shared.objects.watchdog import RunningTurn, Sight, Verdict, Watch, frame_of, turn_in
from shared.runtime.watchdog import EXIT_STUCK, Watchdog
from shared.storage.interface import StoreAwayError
from shared.storage.quarantines import Quarantine
from shared.telemetry.metrics import Metrics
from shared.testing.clock import ManualClock
from shared.testing.kit import Kit, run_with_kit

POLL = bounds.LOOP_WATCH_MS
PAUSE_MS = 6_000
BLOCKED_AT, STUCK_AT = 1_000, 4_500
"""When of a block that begins at 0 it is told, and when its turn, first seen at 500 ms, has been seen for 4 s."""


def turn(name: str = "one", number: int = 1) -> RunningTurn:
    """A turn of an object."""
    return RunningTurn(Address("k", "t", name), name.encode(), 0, number)


class Loop:
    """A loop that has not beaten since 0, and a watch that looks at it every quarter of a second."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.beat_ms = 0
        self.watch = Watch(0)

    def look(self, running: RunningTurn | None, *, late_ms: int = 0, worked_ms: int = 0) -> Sight:
        """The next look."""
        self.now_ms += POLL + late_ms
        return self.watch.look(
            self.now_ms, beat_ms=self.beat_ms, late_ms=late_ms, worked_ms=worked_ms, turn=lambda: running
        )

    def verdicts(self, running: RunningTurn | None, *, until_ms: int) -> dict[int, Verdict]:
        """The looks up to `until_ms` that come to something, by their time."""
        found: dict[int, Verdict] = {}
        while self.now_ms < until_ms:
            sight = self.look(running)
            if sight.verdict is not Verdict.CALM:
                found[self.now_ms] = sight.verdict
        return found


def test_a_turn_that_holds_the_loop_is_told_after_one_second_and_stuck_after_four() -> None:
    """Once blocked, and then stuck at every look, in case that the store did not take the record."""
    told = Loop().verdicts(turn(), until_ms=STUCK_AT + POLL)
    assert {BLOCKED_AT: Verdict.BLOCKED, STUCK_AT: Verdict.STUCK, STUCK_AT + POLL: Verdict.STUCK} == told


def test_the_sight_names_the_turn() -> None:
    """What is told has the object, and for how long."""
    loop = Loop()
    loop.verdicts(turn(), until_ms=BLOCKED_AT - POLL)
    assert Sight(Verdict.BLOCKED, BLOCKED_AT, turn()) == loop.look(turn())


def test_a_loop_that_beats_is_not_looked_at() -> None:
    """The stack is not walked while all is well."""

    def nobody() -> RunningTurn:
        raise AssertionError("looked at")

    sight = Watch(0).look(POLL, beat_ms=0, late_ms=0, worked_ms=0, turn=nobody)
    assert Sight(Verdict.CALM) == sight


def test_a_block_without_a_turn_is_told_and_nobody_is_blamed() -> None:
    """The node says so, once, and goes on waiting."""
    assert {BLOCKED_AT: Verdict.BLOCKED} == Loop().verdicts(None, until_ms=60_000)


def test_many_short_turns_are_load() -> None:
    """Of one object or of many: none has been there at every look."""
    for turns in ([turn(number=n) for n in range(40)], [turn(f"object-{n}") for n in range(40)]):
        loop = Loop()
        assert Verdict.STUCK not in [loop.look(running).verdict for running in turns]


def test_a_loop_that_comes_round_begins_anew() -> None:
    """Three blocks of three seconds are three warnings."""
    loop, blocked = Loop(), 0
    for _ in range(3):
        until_ms = loop.now_ms + 3_000
        blocked += len(loop.verdicts(turn(), until_ms=until_ms))
        loop.beat_ms = loop.now_ms
        assert Verdict.CALM is loop.look(turn()).verdict
    assert 3 == blocked


@pytest.mark.parametrize("before_ms", [0, 500, 3_000, 4_250])
def test_a_stopped_process_blames_nobody(before_ms: int) -> None:
    """SIGSTOP, or a host that stands still: what passed before and in it does not count, for turn and loop."""
    loop = Loop()
    loop.verdicts(turn(), until_ms=before_ms)
    assert Verdict.CALM is loop.look(turn(), late_ms=PAUSE_MS, worked_ms=10).verdict
    woken_ms = loop.now_ms
    told = loop.verdicts(turn(), until_ms=woken_ms + STUCK_AT)
    assert {woken_ms + BLOCKED_AT: Verdict.BLOCKED, woken_ms + STUCK_AT: Verdict.STUCK} == told


def test_late_looks_over_a_busy_turn_count() -> None:
    """Code that seldom lets go of the interpreter makes the looks late too; but its thread has worked all the while."""
    loop = Loop()
    verdicts = [loop.look(turn(), late_ms=750, worked_ms=900).verdict for _ in range(6)]
    assert [Verdict.BLOCKED, Verdict.CALM, Verdict.CALM, Verdict.CALM, Verdict.STUCK] == verdicts[:5]


def test_nobody_is_blamed_on_one_look() -> None:
    """One look after ten busy seconds shows where the thread is now, not where it was."""
    assert Verdict.BLOCKED is Loop().look(turn(), late_ms=10_000, worked_ms=10_000).verdict


class Seen(NamedTuple):
    """Where an author's code ran, and whom the stack names."""

    where: str
    name: str
    number: int


class Shown(DurableObject):
    """Looks at its own stack wherever code of an author runs."""

    kind = "shown"
    seen: ClassVar[list[Seen]] = []

    def note(self, where: str) -> None:
        """Through a function of the author's own, as deep as one likes."""
        found = turn_in(sys._getframe())
        assert found is not None
        Shown.seen.append(Seen(where, found.address.name, found.number))

    def on_activate(self) -> None:
        self.note("on_activate")

    def on_passivate(self) -> None:
        self.note("on_passivate")

    def on_alarm(self, alarm: Alarm) -> None:
        self.note("on_alarm")

    def plain(self) -> None:
        self.note("plain")
        self.alarms.set("soon", at_ms=self.clock.now_ms() + 1_000)

    async def waiting(self, other: str) -> None:
        await self.objects.at(Shown, self.address.tenant, other).plain()
        self.note("waiting")


class Fast(DurableObject):
    """The same for the fast way in and for checkpoints."""

    __slots__ = ()
    kind = "fast"
    durability = "checkpointed"
    indexed = False
    native = True

    def hit(self) -> None:
        Shown.note(self, "hit")  # type: ignore[arg-type]  # It needs nothing of its object.
        self.dirty()

    def on_checkpoint(self) -> Checkpoint:
        Shown.note(self, "on_checkpoint")  # type: ignore[arg-type]  # As above.
        return Checkpoint(b"x")


@pytest.fixture(autouse=True)
def _nothing_seen() -> Iterator[None]:
    Shown.seen.clear()
    yield
    Shown.seen.clear()


def test_the_stack_names_the_object_wherever_its_code_runs() -> None:
    """Plain turns, turns that wait, alarms and hooks; of several objects the one whose code runs, not who waits for it."""

    async def scenario(kit: Kit) -> None:
        await kit.at(Shown, "acme", "a").waiting("b")
        await kit.advance(2_000)
        await kit.evict(kit.at(Shown, "acme", "a"))

    run_with_kit(scenario, kinds=[Shown])
    assert [
        Seen("on_activate", "a", 0),
        Seen("on_activate", "b", 0),
        Seen("plain", "b", 1),
        Seen("waiting", "a", 1),
        Seen("on_alarm", "b", 2),
        Seen("on_passivate", "a", 1),
    ] == Shown.seen


def test_the_stack_names_the_object_on_the_fast_way() -> None:
    """`try_now` and checkpoints, without anything that marks them."""

    async def scenario(kit: Kit) -> None:
        await kit.at(Fast, "acme", "f").hit()
        kit.node.host.try_now(Address("fast", "acme", "f"), Fast.hit)
        await kit.advance(1_000)

    run_with_kit(scenario, kinds=[Fast])
    assert [Seen("hit", "f", 1), Seen("hit", "f", 2), Seen("on_checkpoint", "f", 2)] == Shown.seen


def test_a_stack_without_a_turn_names_nobody() -> None:
    """Code outside of the core, and a thread that has ended."""
    ended = threading.Thread(target=lambda: None)
    ended.start()
    ended.join()
    assert turn_in(sys._getframe()) is None
    assert turn_in(frame_of(ended.ident or 0)) is None
    assert frame_of(threading.get_ident()) is not None


def acted(*, fail: bool) -> tuple[list[int], list[str]]:
    """What a thread that sees a stuck turn does: exit codes, and the objects recorded."""
    codes: list[int] = []
    recorded: list[str] = []

    def record(running: RunningTurn) -> Quarantine:
        recorded.append(running.address.name)
        if fail:
            raise StoreAwayError("away")
        return Quarantine(1, 60_000)

    watchdog = Watchdog(ManualClock(), Metrics(), quarantine=record, end=codes.append)
    watchdog._act(Sight(Verdict.STUCK, STUCK_AT, turn()), None)
    return codes, recorded


def test_a_stuck_turn_is_recorded_and_then_the_process_ends() -> None:
    """With an exit code of its own, by which whoever runs it knows what happened."""
    assert ([EXIT_STUCK], ["one"]) == acted(fail=False)


def test_a_process_whose_record_was_not_taken_goes_on() -> None:
    """Without it the next owner would die of the same object; the next look tries again."""
    assert ([], ["one"]) == acted(fail=True)


def test_a_look_that_finds_nothing_to_do_does_nothing() -> None:
    """No exit, no record, no line; a block without a turn is counted under no kind."""
    metrics = Metrics()
    watchdog = Watchdog(ManualClock(), metrics, quarantine=None, end=None)  # type: ignore[arg-type]  # Not to be used.
    watchdog._act(Sight(Verdict.CALM), None)
    watchdog._act(Sight(Verdict.BLOCKED, BLOCKED_AT), None)
    assert b'tenure_eventloop_blocked_total{kind="-"} 1' in metrics.render_prometheus()
