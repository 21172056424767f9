"""Housekeeping ticks run where everything else does, and end without a word when the node stops."""

import asyncio
import logging
import threading

from shared.runtime.periodic import Periodic

SOON_S = 0.01
WAIT_S = 10


async def test_a_plain_tick_runs_on_the_loop():
    """Not in a thread beside it: what it touches belongs to the loop."""
    periodic, ticked = Periodic(), asyncio.Event()
    threads = []

    def tick() -> None:
        threads.append(threading.get_ident())
        asyncio.get_running_loop().call_soon(ticked.set)

    periodic.every(SOON_S, tick)
    periodic.start()
    async with asyncio.timeout(WAIT_S):
        await ticked.wait()
    periodic.stop()

    assert {threading.get_ident()} == set(threads)


async def test_a_tick_that_runs_when_it_stops_ends_without_a_word(caplog):
    """It is cancelled, which is no error of anybody's; nothing ticks afterwards."""
    periodic, begun, ended = Periodic(), asyncio.Event(), asyncio.Event()

    async def tick() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with caplog.at_level(logging.WARNING):
        periodic.every(SOON_S, tick)
        periodic.start()
        async with asyncio.timeout(WAIT_S):
            await begun.wait()
            periodic.stop()
            await ended.wait()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    assert [] == caplog.records


async def test_a_tick_that_fails_is_logged_and_ticks_on(caplog):
    """One failure is no reason to let nothing idle leave any more."""
    periodic, again = Periodic(), asyncio.Event()
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        ticks += 1
        if ticks > 1:
            again.set()
        raise ValueError("no")

    periodic.every(SOON_S, tick)
    periodic.start()
    async with asyncio.timeout(WAIT_S):
        await again.wait()
    periodic.stop()

    assert "ValueError: no" in caplog.text
