"""The test kit: what it promises to authors of objects."""

import asyncio

import pytest

from shared import bounds
from shared.objects.errors import CommitFailedError
from shared.testing.clock import START_MS, NeverEndingWaitError
from shared.testing.cluster import NodeDiedError
from shared.testing.faults import FaultKind, UnfiredFaultError
from shared.testing.kit import Kit, run_with_kit
from tests.support.simulated import Counter, Meter, Tally


def test_alarms_that_are_due_have_rung_when_time_has_passed() -> None:
    """Those due within the step have rung and are gone from the store, the later one is still armed."""

    async def scenario(kit: Kit) -> None:
        counter = kit.at(Counter, "acme", "one")
        await counter.arm("soon", 60_000)
        due_ms = await counter.arm("later", 90_000)
        await kit.advance(60_000)

        assert 1 == await counter.rings()
        assert {"later": due_ms} == kit.alarms(counter)

    run_with_kit(scenario, kinds=[Counter])


def test_the_next_alarm_can_be_gone_to() -> None:
    """Time goes to the alarm that is due first, which is named; with none armed that is an error."""

    async def scenario(kit: Kit) -> None:
        counter = kit.at(Counter, "acme", "one")
        with pytest.raises(AssertionError, match="no alarm is armed"):
            await kit.advance_to_next_alarm()
        await counter.arm("in a day", 24 * 3_600_000)
        due_ms = await counter.arm("in an hour", 3_600_000)

        assert ("in an hour", due_ms) == (await kit.advance_to_next_alarm())[1:]
        assert due_ms <= kit.now_ms() < due_ms + 100
        assert 1 == await counter.rings()

    run_with_kit(scenario, kinds=[Counter], limit_ms=2 * 3_600_000)


def test_a_failing_alarm_is_armed_again_and_at_last_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kit shows the next try, and when no more is made the alarm among the dead ones."""
    monkeypatch.setattr(bounds, "ALARM_GIVE_UP_MS", 60_000)

    async def scenario(kit: Kit) -> None:
        counter = kit.at(Counter, "acme", "one")
        await counter.arm("bad", 1_000)
        await kit.advance_to_next_alarm()
        assert ["bad"] == list(kit.alarms(counter))
        assert kit.alarms(counter)["bad"] > kit.now_ms()
        await kit.advance(300_000)

        assert ["bad"] == kit.dead_alarms(counter)

    run_with_kit(scenario, kinds=[Counter])


def test_an_evicted_object_is_loaded_from_the_store() -> None:
    """A checkpointed object is stored first; what it has in memory is gone and comes back."""

    async def scenario(kit: Kit) -> None:
        tally = kit.at(Tally, "acme", "one")
        await tally.hit()
        assert {} == kit.stored(tally)
        await kit.evict(tally)

        assert {"total": 1} == kit.stored(tally)
        assert 0 == kit.node.host.objects_resident
        assert 1 == await tally.value()

    run_with_kit(scenario, kinds=[Tally])


def test_an_object_that_cannot_be_stored_cannot_be_evicted() -> None:
    """Its checkpoint does not reach the store: the test hears of it."""

    async def scenario(kit: Kit) -> None:
        tally = kit.at(Tally, "acme", "one")
        await tally.hit()
        kit.faults.away = True
        with pytest.raises(AssertionError, match="does not become idle"):
            await kit.evict(tally)

    run_with_kit(scenario, kinds=[Tally])


def test_a_crash_keeps_what_was_acknowledged_and_loses_a_checkpoint() -> None:
    """The committed write is there; the unstored hit of a checkpointed object is not; the caller under way is told."""

    async def scenario(kit: Kit) -> None:
        counter, meter = kit.at(Counter, "acme", "one"), kit.at(Meter, "acme", "one")
        await counter.add(5)
        await meter.hit()
        under_way = asyncio.ensure_future(counter.add_slowly(1))
        await asyncio.sleep(0.01)
        await kit.kill()

        with pytest.raises(NodeDiedError, match="node 0"):
            await under_way
        assert (5, 0) == (await counter.value(), await meter.value())
        assert b"" == kit.stored_native(meter)

    run_with_kit(scenario, kinds=[Counter, Meter])


def test_a_stop_in_good_order_loses_nothing() -> None:
    """Drained, the checkpoint is stored, and the next node goes on from it at once."""

    async def scenario(kit: Kit) -> None:
        meter = kit.at(Meter, "acme", "one")
        await meter.hit()
        await kit.restart()

        assert b"1" == kit.stored_native(meter)
        assert 2 == await meter.hit()

    run_with_kit(scenario, kinds=[Meter])


def test_a_paused_owner_that_wakes_up_changes_nothing() -> None:
    """A turn that was under way when its node stopped ends after another node has taken over: it is refused."""

    async def scenario(kit: Kit) -> None:
        counter = kit.at(Counter, "acme", "one")
        await counter.add(1)
        late = asyncio.ensure_future(counter.add_slowly(10))
        await asyncio.sleep(0.01)
        former = await kit.pause()
        await counter.add(100)
        assert not late.done()
        former.process.resume()

        refused = (await asyncio.gather(late, return_exceptions=True))[0]
        assert isinstance(refused, Exception)
        assert 101 == await counter.value()
        assert {"total": 101} == kit.stored(counter)

    run_with_kit(scenario, kinds=[Counter])


def test_a_takeover_waits_for_the_lease_and_no_longer() -> None:
    """The paused owner's lease of 6 s is honoured; then the other node has everything."""

    async def scenario(kit: Kit) -> None:
        await kit.at(Counter, "acme", "one").add(1)
        began_ms = kit.now_ms()
        await kit.pause()

        assert 4_000 < kit.now_ms() - began_ms < 7_000

    run_with_kit(scenario, kinds=[Counter])


def test_the_next_call_of_the_store_breaks_as_asked() -> None:
    """A lost reply of a commit is found out by its id: the write counts once, and the fault has fired."""

    async def scenario(kit: Kit) -> None:
        counter = kit.at(Counter, "acme", "one")
        fault = kit.faults.next("commit", FaultKind.REPLY_LOST)

        assert 5 == await counter.add(5)
        assert [fault] == kit.faults.fired

    run_with_kit(scenario, kinds=[Counter])


def test_a_store_that_is_away_fails_the_write_and_is_taken_again_when_it_is_back() -> None:
    """No copy of the commit has left, so it has failed for certain; back again, the store says what is true."""

    async def scenario(kit: Kit) -> None:
        counter = kit.at(Counter, "acme", "one")
        await counter.value()
        kit.faults.away = True
        with pytest.raises(CommitFailedError):
            await counter.add(5)
        kit.faults.away = False
        await kit.advance(10_000)

        assert 0 == await counter.value()

    run_with_kit(scenario, kinds=[Counter])


def test_a_fault_that_never_fires_fails_the_test() -> None:
    """A scenario that does not meet its fault has proven nothing."""

    async def scenario(kit: Kit) -> None:
        kit.faults.next("commit", FaultKind.AWAY, nth=3)
        await kit.at(Counter, "acme", "one").add(1)

    with pytest.raises(UnfiredFaultError, match="commit"):
        run_with_kit(scenario, kinds=[Counter])


def test_a_fault_of_an_operation_that_does_not_exist_is_an_error() -> None:
    """A misspelt operation would never fire."""

    async def scenario(kit: Kit) -> None:
        kit.faults.next("comit", FaultKind.AWAY)

    with pytest.raises(AssertionError, match="comit"):
        run_with_kit(scenario, kinds=[Counter])


def test_time_is_virtual_and_bounded() -> None:
    """It starts at the same moment every time, and a scenario that waits for ever is an error that says so."""

    async def scenario(kit: Kit) -> None:
        assert START_MS <= kit.now_ms() < START_MS + 100
        await kit.advance(3_600_000)

    with pytest.raises(NeverEndingWaitError, match="3600000 ms of virtual time"):
        run_with_kit(scenario, kinds=[Counter])
