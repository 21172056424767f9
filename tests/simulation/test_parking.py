"""Callers that wait for a change cost no turn, and hear of it once it is stored."""

import asyncio
from typing import ClassVar

import pytest

from shared import bounds
from shared.objects.address import Address
from shared.objects.errors import DeadlineExceededError, HandlerError, OverloadedError, UnavailableError
from shared.objects.handler import Alarm, DurableObject
from shared.objects.parking import Park
from shared.testing.clock import START_MS, LoopClock, run_virtual
from shared.testing.faults import FaultKind, FaultyStore
from tests.support.simulated import Core, core, memory

ONE = Address("board", "acme", "one")
FOR_LONG_MS = START_MS + 20_000


class Board(DurableObject):
    """Somebody writes on it, others wait for what is new."""

    kind = "board"
    sealed: ClassVar[bool] = False
    looked: ClassVar[int] = 0

    def on_activate(self) -> None:
        assert not Board.sealed

    def write(self, text: str) -> int:
        version = self.storage.get("version", int, default=0) + 1
        self.storage.put_many({"version": version, "text": text})
        return version

    def mark(self) -> None:
        self.storage.put("mark", value=True)

    def wipe(self) -> None:
        self.storage.delete_all()

    def lend(self, until_ms: int) -> None:
        self.write("lent")
        self.storage.expire_at(until_ms)

    def read_after(self, version: int, until_ms: int) -> tuple[int, str] | Park:
        current = self.storage.get("version", int, default=0)
        if current != version or self.clock.now_ms() >= until_ms:
            return current, self.storage.get("text", str, default="")
        return Park("version", until_ms)

    def take(self, until_ms: int) -> int | Park:
        """One sheet of those that were laid out, for one of all who wait."""
        Board.looked += 1
        left = self.storage.get("sheets", int, default=0)
        if not left and self.clock.now_ms() < until_ms:
            return Park("sheets", until_ms, one=True)
        if left:
            self.storage.put("sheets", left - 1)
        return left

    def lay_out(self, sheets: int) -> None:
        self.storage.put("sheets", sheets)

    async def lay_out_slowly(self, sheets: int) -> None:
        self.storage.put("sheets", sheets)
        await self.commit()

    def tear(self, until_ms: int) -> int | Park:
        """As `take`, but what it takes it breaks."""
        taken = self.take(until_ms)
        assert not isinstance(taken, int)
        return taken

    def read_and_count(self) -> Park:
        Board.looked += 1
        self.looks = getattr(self, "looks", 0) + 1
        assert self.looks == Board.looked
        return Park("version", FOR_LONG_MS)

    def read_in_vain(self) -> Park:
        return Park("version", FOR_LONG_MS)

    def park_wrongly(self) -> Park:
        self.storage.put("text", "half done")
        return Park("version", FOR_LONG_MS)

    def park_in_the_past(self) -> Park:
        return Park("version", START_MS - 1)

    def arm(self) -> None:
        self.alarms.set("park", at_ms=self.clock.now_ms())

    def on_alarm(self, alarm: Alarm) -> Park:  # It parks whichever it is.
        return Park("version", FOR_LONG_MS)

    def attempts(self) -> int:
        record = self.storage.alarm("park")
        return 0 if record is None else record.attempts


def read(node: Core, version: int = 0, until_ms: int = FOR_LONG_MS) -> "asyncio.Task[tuple[int, str]]":
    """Ask for what is newer than `version`."""
    return asyncio.ensure_future(node.host.call(ONE, Board.read_after, version, until_ms))


def test_a_parked_caller_hears_of_the_next_write() -> None:
    """All who wait do, in the order they came, and the object is free meanwhile."""

    async def main() -> None:
        async with core(memory(), kinds=[Board]) as a:
            waiting = [read(a) for _ in range(3)]
            await asyncio.sleep(5)
            assert [False] * 3 == [task.done() for task in waiting]
            await a.host.call(ONE, Board.mark)
            await asyncio.sleep(1)
            assert [False] * 3 == [task.done() for task in waiting]
            assert 1 == await a.host.call(ONE, Board.write, "hello")
            assert [(1, "hello")] * 3 == await asyncio.gather(*waiting)

    run_virtual(main)


def test_a_parked_caller_is_answered_at_its_moment() -> None:
    """Not before, and with what there is then."""

    async def main() -> None:
        clock = LoopClock(asyncio.get_running_loop())
        async with core(memory(), kinds=[Board]) as a:
            assert (0, "") == await read(a, until_ms=START_MS + 4_000)
            assert 4_000 <= clock.now_ms() - START_MS <= 4_050

    run_virtual(main)


def test_a_caller_that_cannot_be_parked_costs_the_object_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What its instance keeps is kept, as the turn has ended well; of a node there is a bound too."""
    monkeypatch.setattr(bounds, "PARKED_CALLS_MAX", 2)
    monkeypatch.setattr(bounds, "NODE_PARKED_MAX", 3)
    monkeypatch.setattr(Board, "looked", 0)

    async def main() -> None:
        async with core(memory(), kinds=[Board]) as a:
            calls = [asyncio.ensure_future(a.host.call(ONE, Board.read_and_count)) for _ in range(4)]
            await asyncio.sleep(0.1)
            assert [False, False, True, True] == [call.done() for call in calls]
            assert all(isinstance(call.exception(), OverloadedError) for call in calls[2:])
            two = Address("board", "acme", "two")
            others = [asyncio.ensure_future(a.host.call(two, Board.read_in_vain)) for _ in range(2)]
            await asyncio.sleep(0.1)
            assert [False, True] == [call.done() for call in others]
            for call in (*calls, *others):
                call.cancel()
            await asyncio.sleep(0.1)
            assert (0, 0) == (a.host.admission.parked, a.host.admission._calls)

    run_virtual(main)


def test_parked_callers_keep_no_call_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """They do not count among the calls that a node may hold, and do again while they wait for their turn."""
    monkeypatch.setattr(bounds, "NODE_CALLS_MAX", 3)

    async def main() -> None:
        async with core(memory(), kinds=[Board]) as a:
            waiting = [read(a) for _ in range(3)]
            await asyncio.sleep(0.1)
            waiting += [read(a) for _ in range(3)]
            await asyncio.sleep(0.1)
            assert (6, 0) == (a.host.admission.parked, a.host.admission._calls)
            assert 1 == await a.host.call(ONE, Board.write, "hello")
            assert [(1, "hello")] * 6 == await asyncio.gather(*waiting)
            assert (0, 0, 0) == (a.host.admission.parked, a.host.admission._calls, a.host.admission._size_bytes)

    run_virtual(main)


def test_a_deletion_is_a_change_of_every_key() -> None:
    """Who waits for a key of an object that is deleted is told so."""

    async def main() -> None:
        async with core(memory(), kinds=[Board]) as a:
            await a.host.call(ONE, Board.write, "hello")
            waiting = read(a, version=1)
            await asyncio.sleep(1)
            await a.host.call(ONE, Board.wipe)
            assert (0, "") == await waiting

    run_virtual(main)


def test_what_a_parked_caller_hears_is_stored() -> None:
    """Of a write whose commit fails the caller hears just that, and nothing of what it would have been."""

    async def main() -> None:
        store = FaultyStore(memory())
        async with core(store, kinds=[Board]) as a:
            waiting = read(a)
            await asyncio.sleep(1)
            for nth in (1, 2, 3):
                store.next("commit", FaultKind.REQUEST_LOST, nth=nth)
            with pytest.raises(Exception, match="not stored"):
                await a.host.call(ONE, Board.write, "never")
            with pytest.raises(Exception, match="not stored"):
                await waiting
            assert (0, "") == await a.host.call(ONE, Board.read_after, 1, FOR_LONG_MS)
        assert not store.unfired()

    run_virtual(main)


def test_a_turn_that_parks_has_written_nothing() -> None:
    """One that has is an error, and what it wrote is dropped; so it is with an alarm's turn, which is tried again."""

    async def main() -> None:
        async with core(memory(), kinds=[Board]) as a:
            with pytest.raises(HandlerError):
                await a.host.call(ONE, Board.park_wrongly)
            with pytest.raises(DeadlineExceededError):
                await a.host.call(ONE, Board.park_in_the_past)
            assert (0, "") == await a.host.call(ONE, Board.read_after, 1, FOR_LONG_MS)
            await a.host.call(ONE, Board.arm)
            await asyncio.sleep(1)
            assert 1 == await a.host.call(ONE, Board.attempts)

    run_virtual(main)


def test_a_caller_that_goes_away_is_not_held() -> None:
    """Nor one whose patience ends first; and an object that holds nobody may leave memory."""

    async def main() -> None:
        async with core(memory(), kinds=[Board]) as a:
            gone = read(a)
            impatient = asyncio.ensure_future(a.host.call(ONE, Board.read_after, 0, FOR_LONG_MS, deadline_ms=2_000))
            await asyncio.sleep(1)
            assert not a.host.residents.passivate(ONE)
            gone.cancel()
            with pytest.raises(DeadlineExceededError) as caught:
                await impatient
            assert not caught.value.started
            await asyncio.sleep(0)
            assert a.host.residents.passivate(ONE)

    run_virtual(main)


def test_no_more_than_1000_are_held() -> None:
    """The next one is refused at once; a write serves all the others."""

    async def main() -> None:
        async with core(memory(), kinds=[Board]) as a:
            waiting = [read(a) for _ in range(bounds.PARKED_CALLS_MAX)]
            await asyncio.sleep(1)
            with pytest.raises(OverloadedError):
                await read(a)
            await a.host.call(ONE, Board.write, "all")
            assert {(1, "all")} == set(await asyncio.gather(*waiting))

    run_virtual(main)


def test_parked_callers_go_on_to_the_next_activation() -> None:
    """A turn that fails takes the memory of the object with it, and none of those who wait."""

    async def main() -> None:
        async with core(memory(), kinds=[Board]) as a:
            waiting = read(a)
            await asyncio.sleep(1)
            a.host.residents.evict(a.host.residents.by_address[ONE])
            await asyncio.sleep(1)
            await a.host.call(ONE, Board.write, "after")
            assert (1, "after") == await waiting

    run_virtual(main)


def test_a_node_that_stops_answers_whom_it_holds() -> None:
    """They are told that their call did not start, so they may ask elsewhere."""

    async def main() -> None:
        async with core(memory(), kinds=[Board]) as a:
            waiting = read(a)
            await asyncio.sleep(1)
            await a.host.drain()
            with pytest.raises(UnavailableError):
                await waiting

    run_virtual(main)


def test_a_node_that_is_about_to_stop_holds_nobody() -> None:
    """Who is held, and who would be, hears so at once; who need not wait is answered as ever. Nothing stays counted."""

    async def main() -> None:
        async with core(memory(), kinds=[Board]) as a:
            await a.call(ONE, Board.lay_out, 0)
            waiting = [read(a), asyncio.create_task(a.call(ONE, Board.take, FOR_LONG_MS))]
            await asyncio.sleep(1)
            assert 2 == a.host.admission.parked
            a.host.stop_parking()
            for one in (*waiting, read(a)):
                with pytest.raises(UnavailableError):
                    await one
            assert 1 == await a.call(ONE, Board.write, "after")
            assert (1, "after") == await a.call(ONE, Board.read_after, 0, FOR_LONG_MS)
            assert 0 == a.host.admission.parked

    run_virtual(main)


def test_a_parked_caller_hears_nothing_of_an_object_that_has_expired() -> None:
    """When its time is up, it meets the object as a call of that moment would."""

    async def main() -> None:
        async with core(memory(), kinds=[Board]) as a:
            await a.host.call(ONE, Board.lend, START_MS + 2_000)
            assert (0, "") == await read(a, 1, START_MS + 10_000)

    run_virtual(main)


def test_a_caller_that_parks_again_and_again_holds_no_more() -> None:
    """What ends its waiting is known once, however often it was served in vain."""

    async def main() -> None:
        async with core(memory(), kinds=[Board]) as a:
            waiting = asyncio.ensure_future(a.host.call(ONE, Board.read_in_vain))
            for _ in range(50):
                await a.host.call(ONE, Board.write, "hello")
            parked = a.host.residents.by_address[ONE].parked
            assert parked is not None
            (call,) = parked.let_go()
            assert 1 == len(call.future._callbacks)  # The caller's own.
            call.reply(None)
            await waiting

    run_virtual(main)


def test_a_parked_caller_is_answered_where_the_object_that_has_expired_cannot_begin_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At once, and not when its patience has ended."""

    async def main() -> None:
        async with core(memory(), kinds=[Board]) as a:
            await a.host.call(ONE, Board.lend, START_MS + 2_000)
            waiting = read(a, 1, START_MS + 10_000)
            await asyncio.sleep(1)
            monkeypatch.setattr(Board, "sealed", True)
            await asyncio.sleep(10)
            assert waiting.done()
            with pytest.raises(UnavailableError):
                await waiting

    run_virtual(main)


def take(node: Core, until_ms: int = FOR_LONG_MS) -> "asyncio.Task[int]":
    """Wait for a sheet."""
    return asyncio.ensure_future(node.host.call(ONE, Board.take, until_ms))


def test_of_those_that_share_a_key_as_many_are_served_as_there_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that have waited longest; the others are not even asked, though there be hundreds."""

    async def main() -> None:
        monkeypatch.setattr(Board, "looked", 0)
        async with core(memory(), kinds=[Board]) as a:
            waiting = [take(a) for _ in range(500)]
            await asyncio.sleep(1)
            await a.host.call(ONE, Board.lay_out, 3)
            await asyncio.sleep(1)
            assert [3, 2, 1] == [await task for task in waiting[:3]]
            assert not any(task.done() for task in waiting[3:])
            assert 500 + 4 == Board.looked
            await a.host.call(ONE, Board.lay_out, 1)
            await asyncio.sleep(1)
            assert [3] == [number for number, task in enumerate(waiting) if task.done()][3:]
            await a.host.call(ONE, Board.wipe)
            await a.host.call(ONE, Board.lay_out, 1_000)
            assert 500 - 4 == len(await asyncio.gather(*waiting[4:]))

    run_virtual(main)


def test_one_that_goes_away_before_its_turn_takes_nothing_from_the_next() -> None:
    """It was called for all of them, so another is called in its place."""

    async def main() -> None:
        async with core(memory(), kinds=[Board]) as a:
            gone, patient = take(a), take(a)
            await asyncio.sleep(1)
            laying_out = asyncio.ensure_future(a.host.call(ONE, Board.lay_out_slowly, 1))
            await asyncio.sleep(0.001)
            assert 1 == len(a.host.residents.by_address[ONE].mailbox or ())
            gone.cancel()
            async with asyncio.timeout(5):
                assert 1 == await patient
            await laying_out

    run_virtual(main)


def test_one_whose_turn_fails_takes_nothing_from_the_next() -> None:
    """What it took is put back with all else that it wrote."""

    async def main() -> None:
        async with core(memory(), kinds=[Board]) as a:
            failing = asyncio.ensure_future(a.host.call(ONE, Board.tear, FOR_LONG_MS))
            await asyncio.sleep(0.1)
            patient = take(a)
            await asyncio.sleep(1)
            await a.host.call(ONE, Board.lay_out, 1)
            async with asyncio.timeout(5):
                assert 1 == await patient
            with pytest.raises(HandlerError):
                await failing

    run_virtual(main)


def test_those_that_share_a_key_are_answered_at_their_moment() -> None:
    """Each at its own."""

    async def main() -> None:
        async with core(memory(), kinds=[Board]) as a:
            soon, later = take(a, START_MS + 2_000), take(a, START_MS + 4_000)
            assert 0 == await soon
            await a.host.call(ONE, Board.lay_out, 1)
            assert 1 == await later

    run_virtual(main)
