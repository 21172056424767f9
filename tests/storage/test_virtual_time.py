"""The loop on which nobody waits, and the store that breaks on purpose: what other tests rest on."""

import asyncio
import socket

import pytest

from shared.storage.interface import Status, StoreAwayError, StoreInDoubtError
from shared.testing.clock import START_MS, LoopClock, ManualClock, NeverEndingWaitError, run_virtual
from shared.testing.faults import Fault, FaultKind, FaultyStore
from shared.testing.store import MemoryStore
from tests.storage import listing_rules, part_rules
from tests.storage.bench import LONG_MS, MemoryBench, Rule, section
from tests.storage.lease_rules import own

DAY_MS = 86_400_000


class ThroughFaults:
    """A bench whose store could break, and does not."""

    def __init__(self, bench: MemoryBench) -> None:
        self.store = FaultyStore(bench.store)
        self.dump, self.set_full = bench.dump, bench.set_full


def test_time_is_exact_however_often_it_jumps() -> None:
    """A thousand sleeps of 100 ms are 100 s, to the millisecond."""

    async def run() -> None:
        clock = LoopClock(asyncio.get_running_loop())
        for _ in range(1_000):
            await asyncio.sleep(0.1)
        assert (100_000, START_MS + 100_000) == (clock.monotonic_ms(), clock.now_ms())

    run_virtual(run)


def test_a_long_time_passes_at_once() -> None:
    """Thirty days are one jump or a few, if they are allowed."""

    async def run() -> int:
        await asyncio.sleep(30 * DAY_MS / 1000)
        return LoopClock(asyncio.get_running_loop()).monotonic_ms()

    assert 30 * DAY_MS == run_virtual(run, limit_ms=31 * DAY_MS)


def test_a_wait_that_cannot_end_names_who_waits() -> None:
    """Nothing ready and no timer: the error says which task waits, and where in its own code."""

    async def stuck() -> None:
        await asyncio.Event().wait()

    with pytest.raises(NeverEndingWaitError, match=rf"stuck.*{__file__}:"):
        run_virtual(stuck)


def test_a_ticker_does_not_hide_a_wait_that_cannot_end() -> None:
    """With something always due next, the limit ends the run; cancelled tasks may still tidy up."""
    ticks, tidied = [], []

    async def tick() -> None:
        while True:
            await asyncio.sleep(1)
            ticks.append(True)

    async def stuck() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(tick(), name="ticker")
        finally:
            await asyncio.sleep(1)
            tidied.append(True)

    with pytest.raises(NeverEndingWaitError, match="ticker"):
        run_virtual(stuck)
    assert (3_600, [True]) == (len(ticks), tidied)


def test_threads_and_sockets_are_waited_for() -> None:
    """What is real takes its real time, and is no never-ending wait."""

    async def run() -> bytes:
        near, far = socket.socketpair()
        with far:
            reader, writer = await asyncio.open_connection(sock=near)
            await asyncio.to_thread(far.sendall, b"line\n")
            line = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return line

    assert b"line\n" == run_virtual(run)


@pytest.mark.parametrize(
    ("kind", "error", "seqs"),
    [
        (FaultKind.AWAY, StoreAwayError, (0, 0)),
        (FaultKind.REQUEST_LOST, StoreInDoubtError, (0, 0)),
        (FaultKind.REPLY_LOST, StoreInDoubtError, (1, 1)),
        (FaultKind.DELAY, StoreInDoubtError, (0, 1)),
        (FaultKind.REPEAT, None, (1, 1)),
    ],
)
def test_each_fault_does_what_it_says(kind: FaultKind, error: type[Exception] | None, seqs: tuple[int, int]) -> None:
    """Whether the command ran when its caller was told, and whether in the end; and the fault says it fired."""

    async def run() -> None:
        memory = MemoryStore(ManualClock())
        fault = Fault(operation="commit", kind=kind, delay_ms=5_000)
        store = FaultyStore(memory, [fault])
        fence = await own(store)
        assert [fault] == store.unfired()
        flight = [section(fence, 0, b"c1")]
        if error is None:
            await store.commit(flight, ttl_ms=LONG_MS, timeout_ms=1_000)
        else:
            with pytest.raises(error):
                await store.commit(flight, ttl_ms=LONG_MS, timeout_ms=1_000)
        told = memory.snapshot().shards[0].lease.seq
        await store.settle()
        assert seqs == (told, memory.snapshot().shards[0].lease.seq)
        assert ([fault], []) == (store.fired, store.unfired())

    run_virtual(run)


def test_a_store_away_refuses_everything_until_it_is_back() -> None:
    """`away` is an outage of any length."""

    async def run() -> None:
        store = FaultyStore(MemoryStore(ManualClock()))
        store.away = True
        with pytest.raises(StoreAwayError):
            await own(store)
        store.away = False
        await own(store)

    run_virtual(run)


@pytest.mark.parametrize("rule", part_rules.RULES + listing_rules.RULES, ids=lambda rule: rule.__name__)
def test_a_store_without_faults_keeps_the_rule(rule: Rule) -> None:
    """Every question goes through to the store below, and so does its answer."""

    async def run() -> None:
        await rule(ThroughFaults(MemoryBench()))

    run_virtual(run)


def test_a_restored_store_has_forgotten() -> None:
    """After `restore` the store is what it was: a commit made since is a conflict for its owner."""

    async def run() -> None:
        store = MemoryStore(ManualClock(), latency_ms=10)
        fence = await own(store)
        before = store.snapshot()
        await store.commit([section(fence, 0, b"c1")], ttl_ms=LONG_MS, timeout_ms=1_000)
        store.restore(before)
        assert before == store.snapshot()
        (reply,) = (await store.commit([section(fence, 1, b"c2")], ttl_ms=LONG_MS, timeout_ms=1_000)).replies
        assert (Status.CONFLICT, 0) == (reply.status, reply.seq)

    run_virtual(run)
