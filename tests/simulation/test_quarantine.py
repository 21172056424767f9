"""An object in quarantine is refused, with its alarms kept for later, until its term is over; all others go on."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import ClassVar

import pytest

from shared import bounds
from shared.http.problem import problem_response
from shared.objects.address import Address, shard_of
from shared.objects.errors import QuarantinedError, UnavailableError
from shared.objects.handler import Alarm, DurableObject
from shared.objects.quarantine import TERMS, QuarantinedObject
from shared.storage.quarantines import Quarantine
from shared.telemetry.series import NumberPoint
from shared.testing.faults import FaultKind
from shared.testing.kit import Kit, run_with_kit
from tests.support.simulated import Counter, Meter

TERM_MS = bounds.QUARANTINE_MS
SHARDS = 4
POISON = Address("bell", "acme", "poison")


class Bell(DurableObject):
    """Counts calls and notes when it rang."""

    kind = "bell"
    rung_ms: ClassVar[list[int]] = []

    def count(self) -> int:
        total = self.storage.get("total", int, default=0) + 1
        self.storage.put("total", total)
        return total

    def arm(self, name: str, in_ms: int) -> int:
        at_ms = self.clock.now_ms() + in_ms
        self.alarms.set(name, at_ms=at_ms)
        return at_ms

    def on_alarm(self, alarm: Alarm) -> None:
        Bell.rung_ms.append(self.clock.now_ms())


@pytest.fixture(autouse=True)
def _silence() -> None:
    Bell.rung_ms.clear()


async def die_of(kit: Kit, address: Address = POISON) -> Quarantine:
    """What the watchdog does to a node: the record is written, then the process is gone and the next one starts."""
    object_id = address.encode()
    record = await kit.store.quarantine(shard_of(object_id, SHARDS), object_id, TERMS)
    await kit.kill()
    return record


def run(scenario: Callable[[Kit], Awaitable[None]]) -> None:
    run_with_kit(scenario, kinds=[Bell, Counter, Meter], shards=SHARDS, limit_ms=7 * 24 * 3_600_000)


def test_the_next_owner_refuses_the_object_and_serves_the_others() -> None:
    """A typed error that says for how long; not a turn of it runs, and what it had stored is there afterwards."""

    async def scenario(kit: Kit) -> None:
        poison = kit.at(Bell, *POISON[1:])
        assert 1 == await poison.count()
        record = await die_of(kit)
        for _ in range(2):  # From the load, and from memory.
            with pytest.raises(QuarantinedError) as refused:
                await poison.count()
            assert record.until_ms == refused.value.until_ms
            assert record.until_ms - kit.now_ms() == pytest.approx(refused.value.retry_after_ms, abs=10)
        assert 1 == await kit.at(Bell, "acme", "other").count()
        assert 1 == kit.node.host.quarantines.met()
        await kit.advance(TERM_MS)
        assert 2 == await poison.count()
        assert 0 == kit.node.host.quarantines.met()

    run(scenario)


def test_a_refusal_is_503_with_a_time() -> None:
    """`quarantined`, not started, and `Retry-After` in whole seconds."""
    status, headers, body = problem_response(QuarantinedError("bell", until_ms=61_000, left_ms=59_001))
    assert (503, b"60") == (status, dict(headers)[b"retry-after"])
    for part in (b'"code":"quarantined"', b'"started":false', b'"retry_after_ms":59001'):
        assert part in body


def test_native_kinds_are_refused_alike() -> None:
    """Their load reads another form, and brings the record too."""

    async def scenario(kit: Kit) -> None:
        await die_of(kit, Address("meter", "acme", "poison"))
        with pytest.raises(QuarantinedError):
            await kit.at(Meter, "acme", "poison").hit()
        assert 1 == await kit.at(Meter, "acme", "other").hit()

    run(scenario)


@pytest.mark.slow
def test_the_same_object_again_is_refused_for_twice_as_long() -> None:
    """60 s, 120 s, 240 s; after a day without, 60 s again."""

    async def scenario(kit: Kit) -> None:
        for doubled, count in ((1, 1), (2, 2), (4, 3)):
            record = await die_of(kit)
            assert count == record.count
            assert doubled * TERM_MS == pytest.approx(record.until_ms - kit.now_ms(), abs=100)
            await kit.advance(doubled * TERM_MS)
            assert count == await kit.at(Bell, *POISON[1:]).count()
        await kit.advance(bounds.QUARANTINE_MEMORY_MS)
        assert 1 == (await die_of(kit)).count

    run(scenario)


def test_its_alarms_ring_when_the_term_is_over_and_not_before() -> None:
    """One that was due before the node died, one that comes due in the term, and one that comes later; each once."""

    async def scenario(kit: Kit) -> None:
        poison = kit.at(Bell, *POISON[1:])
        await poison.arm("first", 100)
        await poison.arm("in the term", 20_000)
        later_ms = await poison.arm("later", TERM_MS + 5_000)
        record = await die_of(kit)
        await kit.at(Bell, "acme", "other").arm("other", 20_000)
        await kit.node.run(asyncio.sleep(30))
        other_ms = [at for at in Bell.rung_ms if at < record.until_ms]
        assert 1 == len(other_ms), "the alarm of the other object alone"
        assert {"first", "in the term", "later"} == kit.alarms(poison).keys()
        await kit.advance(TERM_MS)
        assert [record.until_ms, record.until_ms, later_ms] == pytest.approx(Bell.rung_ms[1:], abs=50)
        assert {} == kit.alarms(poison)

    run(scenario)


def test_an_alarm_of_an_object_in_quarantine_does_not_keep_the_node_busy() -> None:
    """It is put off to the end of the term: refused once, and asked of the store as seldom as others are."""

    async def scenario(kit: Kit) -> None:
        await kit.at(Bell, *POISON[1:]).arm("first", 100)
        await die_of(kit)
        before = kit.faults.calls["due_alarms"]
        await kit.node.run(asyncio.sleep(50))
        assert kit.faults.calls["due_alarms"] - before <= 50_000 // bounds.ALARM_RESCAN_MS + 3
        families = kit.node.host.metrics.iter_families()
        (refused,) = (found for found in families if found.family.name == "tenure.object.quarantine.refused")
        assert [1] == [point.value for point in refused.points if isinstance(point, NumberPoint)]

    run(scenario)


def test_an_operator_sees_and_lifts_it() -> None:
    """Listed with count and end; lifted, it runs at once, its alarms ring, and its next term is the first one."""

    async def scenario(kit: Kit) -> None:
        poison = kit.at(Bell, *POISON[1:])
        await poison.arm("first", 100)
        record = await die_of(kit)
        await die_of(kit, Address("counter", "acme", "a"))
        host = kit.node.host
        listed = await kit.node.run(host.quarantined())
        assert {POISON, Address("counter", "acme", "a")} == {each.address for each in listed}
        assert QuarantinedObject(POISON, 1, record.until_ms) in listed
        with pytest.raises(QuarantinedError):
            await poison.count()
        assert await kit.node.run(host.lift_quarantine(POISON))
        assert not await kit.node.run(host.lift_quarantine(POISON))
        await kit.advance(200)
        assert 1 == len(Bell.rung_ms)
        assert 1 == await poison.count()
        assert [Address("counter", "acme", "a")] == [each.address for each in await kit.node.run(host.quarantined())]
        assert 1 == (await die_of(kit)).count

    run(scenario)


def test_lifting_is_for_the_owner() -> None:
    """Another node would leave the owner's memory of it as it is."""

    async def scenario(kit: Kit) -> None:
        await die_of(kit)
        former = kit.node
        await kit.restart()
        with pytest.raises(UnavailableError):
            await former.host.quarantines.lift(POISON)

    run(scenario)


def test_a_lift_in_doubt_can_be_said_again() -> None:
    """A lost reply changes nothing but what the operator knows."""

    async def scenario(kit: Kit) -> None:
        await die_of(kit)
        kit.faults.next("lift_quarantine", FaultKind.REPLY_LOST)
        host = kit.node.host
        with pytest.raises(Exception, match="lost"):
            await kit.node.run(host.lift_quarantine(POISON))
        assert not await kit.node.run(host.lift_quarantine(POISON))
        assert 1 == await kit.at(Bell, *POISON[1:]).count()

    run(scenario)


def test_a_record_does_not_disturb_a_living_owner() -> None:
    """It comes from a process that no longer owns the object: memory stays, the next load finds it."""

    async def scenario(kit: Kit) -> None:
        poison = kit.at(Bell, *POISON[1:])
        await poison.count()
        object_id = POISON.encode()
        await kit.store.quarantine(shard_of(object_id, SHARDS), object_id, TERMS)
        assert 2 == await poison.count()
        await kit.evict(poison)
        with pytest.raises(QuarantinedError):
            await poison.count()

    run(scenario)
