"""However many alarms are due, in virtual time: calls stay prompt, none is starved by calls or by those that hang."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from shared import bounds
from shared.objects.address import Address
from shared.objects.handler import Alarm, DurableObject
from shared.testing.clock import run_virtual
from shared.testing.store import MemoryStore
from tests.support.simulated import Core, core, memory

DUE = 2_800
ANSWERED_MS = 40  # Four loads and two commits of 5 ms, with the ones under way; behind all it would be above 100.
SHARDS = 2 * bounds.ALARM_SCAN_SHARDS  # So that what is due is known after two reads,
assert DUE < SHARDS * bounds.ALARM_SCAN_ROWS * 3 // 4  # which take so many of each shard.
assert DUE > 10 * bounds.ALARMS_AT_ONCE


class Bell(DurableObject):
    """Rings; one whose name says so hangs before that, until it is let go."""

    kind = "bell"
    rung: ClassVar[list[tuple[int, str, int]]] = []  # When each was due, whose it was, and how late.
    under_way: ClassVar[int] = 0
    most: ClassVar[int] = 0  # Under way at any time.
    let_go: ClassVar[asyncio.Event]

    def arm(self, at_ms: int) -> None:
        self.alarms.set("ring", at_ms=at_ms)

    def call(self) -> None:
        self.storage.put("calls", self.storage.get("calls", int, default=0) + 1)

    async def on_alarm(self, alarm: Alarm) -> None:
        Bell.under_way += 1
        Bell.most = max(Bell.most, Bell.under_way)
        if self.address.name.startswith("hangs"):
            await Bell.let_go.wait()
        Bell.under_way -= 1
        Bell.rung.append((alarm.due_ms, self.address.name, self.clock.now_ms() - alarm.due_ms))
        self.storage.put("rung", True)


def bell(name: object) -> Address:
    """Its address."""
    return Address("bell", "acme", f"{name}")


def ringing(scenario: Callable[[MemoryStore], Coroutine[Any, Any, None]]) -> None:
    Bell.rung.clear()
    Bell.under_way = Bell.most = 0

    async def main() -> None:
        Bell.let_go = asyncio.Event()
        await scenario(memory())

    run_virtual(main, limit_ms=24 * 3_600_000)


async def missed(store: MemoryStore, names: list[str], *, apart_ms: int) -> None:
    """Alarms of so many objects come due, one after another, while no node runs."""
    async with core(store, lock_id="L", shards=SHARDS, kinds=[Bell]) as a:
        first_ms = a.host.store_clock.now_ms() + 60_000
        arming = (a.host.call(bell(name), Bell.arm, first_ms + apart_ms * at) for at, name in enumerate(names))
        await asyncio.gather(*arming)
        await a.kill()
    await asyncio.sleep(60 + apart_ms * len(names) / 1_000)


@asynccontextmanager
async def successor(store: MemoryStore) -> AsyncIterator[Core]:
    """The node that comes next; what hangs is let go before it ends."""
    async with core(store, lock_id="L", node="b", shards=SHARDS, kinds=[Bell]) as b:
        try:
            yield b
        finally:
            Bell.let_go.set()
            await asyncio.sleep(0.1)


async def ask(node: Core, name: str, took_ms: list[int]) -> None:
    """One call, and how long it took."""
    began_ms = node.host.store_clock.monotonic_ms()
    await node.host.call(bell(name), Bell.call)
    took_ms.append(node.host.store_clock.monotonic_ms() - began_ms)


def test_a_call_is_answered_soon_while_thousands_of_missed_alarms_ring() -> None:
    """Of an object in memory and of one that is not; each alarm rings once, in the order they were due, never early."""

    async def scenario(store: MemoryStore) -> None:
        names = [f"{number}" for number in range(DUE)]
        await missed(store, names, apart_ms=1_000)
        asked_ms: list[int] = []
        async with successor(store) as b:
            asking: list[asyncio.Task[None]] = []
            began_ms = b.host.store_clock.monotonic_ms()
            while len(Bell.rung) < DUE:
                pair = ("warm", f"cold {len(asking)}")
                asking += [asyncio.ensure_future(ask(b, name, asked_ms)) for name in pair]
                await asyncio.sleep(0.005)
                assert b.host.store_clock.monotonic_ms() < began_ms + 3_000
            await asyncio.gather(*asking)
            assert len(asking) > 20, "they were asked while alarms rang"
            assert 0 == b.host.alarms.overdue_ms()
        assert max(asked_ms) <= ANSWERED_MS
        order = [due_ms for due_ms, _, _ in Bell.rung]
        read = order[2 * bounds.ALARMS_AT_ONCE :]  # Before, half of the shards was not read yet.
        assert sorted(read) == read
        assert {name for _, name, _ in Bell.rung} == set(names)
        assert DUE == len(Bell.rung)
        assert 0 <= min(late_ms for _, _, late_ms in Bell.rung)
        assert 0 < Bell.most <= bounds.ALARMS_AT_ONCE

    ringing(scenario)


def test_calls_without_end_do_not_starve_what_is_due() -> None:
    """More calls are asked for at any time than a flight takes; all alarms have rung after some virtual seconds."""

    async def scenario(store: MemoryStore) -> None:
        await missed(store, [f"{number}" for number in range(DUE)], apart_ms=1)
        async with successor(store) as b:
            asked_ms: list[int] = []

            async def without_end(name: str) -> None:
                while len(Bell.rung) < DUE:
                    await ask(b, name, asked_ms)

            began_ms = b.host.store_clock.monotonic_ms()
            crowd = range(bounds.FLIGHT_OBJECTS_MAX * 3 // 2)
            await asyncio.gather(*(without_end(f"caller {number}") for number in crowd))
            assert b.host.store_clock.monotonic_ms() - began_ms < 2_000
            assert len(asked_ms) > DUE, "calls had the larger part of it"

    ringing(scenario)


def test_alarms_that_hang_hold_up_the_others_for_a_second_each_time() -> None:
    """Four times as many as may be under way hang, and were due first."""

    async def scenario(store: MemoryStore) -> None:
        hang = [f"hangs {number}" for number in range(4 * bounds.ALARMS_AT_ONCE)]
        await missed(store, [*hang, "well"], apart_ms=1)
        async with successor(store) as b:
            began_ms = b.host.store_clock.now_ms()
            await asyncio.sleep(4 * bounds.ALARM_PLACE_MS / 1_000 + 0.5)
            assert ["well"] == [name for _, name, _ in Bell.rung]
            assert len(hang) + 1 == Bell.most
            due_ms, _, late_ms = Bell.rung[0]
            assert 3 * bounds.ALARM_PLACE_MS <= due_ms + late_ms - began_ms
            Bell.let_go.set()
            await asyncio.sleep(1)
            assert len(hang) + 1 == len(Bell.rung)
            assert (0, 0) == (Bell.under_way, b.host.alarms.overdue_ms())

    ringing(scenario)


def test_an_alarm_that_is_set_while_there_is_no_room_rings_in_its_time() -> None:
    """As soon as one that was due before it has made room."""

    async def scenario(store: MemoryStore) -> None:
        await missed(store, [f"hangs {number}" for number in range(bounds.ALARMS_AT_ONCE)], apart_ms=1)
        async with successor(store) as b:
            await asyncio.sleep(0.5)
            await b.host.call(bell("new"), Bell.arm, b.host.store_clock.now_ms() + 100)
            await asyncio.sleep(bounds.ALARM_PLACE_MS / 1_000)
            assert ["new"] == [name for _, name, _ in Bell.rung]
            assert 0 <= Bell.rung[0][2] <= 500
            Bell.let_go.set()
            await asyncio.sleep(1)
            assert 0 == b.host.alarms.overdue_ms()

    ringing(scenario)
