"""The example page in a real browser: three windows on one room, which leaves memory and loses its owner as they type."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
from websockets.sync.client import connect

from services.sessions.merge_patch import merged
from tests.support.browser import Browser, Window, chromium
from tests.support.commands import tenure
from tests.support.launching import ROOT, eventually, free_ports
from tests.support.service import Limiter, limiter

pytestmark = pytest.mark.e2e
NAMES = ("anna", "bert", "carl")
SEEN_MS_MAX = 200
COMPLETE = "typeof state !== 'undefined' && state.people.size === 2"
KILLS = 3
# What the page has heard to be stored, as it hears it, and how many patches wait for that at most.
NOTE = """window.acked = []; window.waited = 0; window.heard = hear; hear = (frame) => {
    const { type, seq, id } = frame.message || {};
    if (type === 'ack') acked.push([seq, state.waiting.get(id).merge_patch]);
    heard(frame);
}; setInterval(() => { waited = Math.max(waited, state.waiting.size); }, 5)"""


@pytest.mark.slow
def test_three_windows_see_each_other_while_the_room_leaves_memory(tmp_path: Path) -> None:
    """Cursors and edits within 200 ms (median; each within a second), no socket closes, nothing acknowledged is lost."""
    with three_windows(tmp_path) as (rooms, windows):
        seen_ms = [seen(windows, who, number) for number in range(5) for who in range(3)]
        for number in range(6):
            evict(rooms)
            edit(windows[number % 3], f"edit {number}")
        for window in windows:
            becomes(window, "fields[1].value === 'edit 5'")
            becomes(window, "state.waiting.size === 0")

        stored = document(rooms)
        assert ("edit 5", 21) == (stored["document"]["text"], stored["seq"])
        assert [1, 1, 1] == [window.run("state.opened") for window in windows]
        sys.stdout.write(f"edits and cursors were seen after {sorted(map(round, seen_ms))} ms\n")
        assert sorted(seen_ms)[len(seen_ms) // 2] <= SEEN_MS_MAX
        assert max(seen_ms) <= 1_000


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_where_the_owner_of_the_room_is_killed_while_they_type(tmp_path: Path) -> None:
    """Three times `kill -9`: the windows type on, come back by themselves, and show what is stored, all of it."""
    with three_windows(tmp_path) as (rooms, windows):
        for window in windows:
            window.run(NOTE)
        numbers = count()
        for kill in range(1, KILLS + 1):
            type_on(windows, numbers, until=f"acked.length > {10 * kill}")
            os.kill(rooms.run.pid_of("services.sessions"), signal.SIGKILL)
            type_on(windows, numbers, until=f"state.opened > {kill}")
        for window in windows:
            becomes(window, "state.waiting.size === 0")
            becomes(window, COMPLETE)
        stored = document(rooms)
        for window in windows:
            becomes(
                window, f"state.seq === {stored['seq']} && fields[1].value === {json.dumps(stored['document']['text'])}"
            )

        patches = history(rooms)
        acked = [(seq, patch) for window in windows for seq, patch in window.run("acked")]
        assert [] == [(seq, patch) for seq, patch in acked if patches[seq] != patch]
        assert stored == {"seq": len(patches), "document": folded(patches)}
        assert stored["document"] == windows[0].run("state.document")
        assert len({seq for seq, _ in acked}) == len(acked) > 30 * KILLS
        opened, waited = ([window.run(what) for window in windows] for what in ("state.opened", "waited"))
        sys.stdout.write(f"{len(acked)} patches were acknowledged over {KILLS} kills; ")
        sys.stdout.write(f"sockets were opened {opened} times, up to {waited} patches waited for an owner\n")
        assert min(waited) > 2


@pytest.mark.slow
def test_a_page_that_types_before_it_is_welcomed_hears_of_all_and_says_nothing_twice(tmp_path: Path) -> None:
    """What it said on a new socket before it heard `hello` is acknowledged; a patch that is refused is dropped."""
    with three_windows(tmp_path) as (rooms, (anna, bert, _)):
        edit(anna, "before")
        becomes(bert, "fields[1].value === 'before'")
        anna.run("window.held = []; window.heard = hear; hear = (frame) => held.push(frame); socket.close()")
        becomes(anna, "state.opened === 2 && held.some((frame) => frame.message?.type === 'hello')")
        edit(anna, "between")
        becomes(anna, "held.some((frame) => frame.message?.type === 'ack')")
        anna.run("hear = heard; held.forEach((frame) => hear(frame))")
        edit(anna, "after")
        for window in (anna, bert):
            becomes(window, "fields[1].value === 'after' && state.waiting.size === 0 && state.seq === 3")

        anna.run("let deep = 1; for (let i = 0; i < 40; i++) deep = { deep }; change({ text: deep })")
        becomes(anna, "state.waiting.size === 0")
        edit(anna, "at last")
        becomes(bert, "fields[1].value === 'at last' && state.seq === 4")
        assert {"seq": 4, "document": {"text": "at last"}} == document(rooms)


@contextmanager
def three_windows(tmp_path: Path) -> Iterator[tuple[Limiter, list[Window]]]:
    """The session manager, and three windows whose people see each other."""
    (port,) = free_ports(1)
    with limiter(tmp_path / "data", TENURE_SOCKET_ORIGINS=f"http://127.0.0.1:{port}") as service:
        rooms = service.beside("sessions")
        with page_server(rooms, port), chromium() as browser:
            yield rooms, opened(browser, port)


def opened(browser: Browser, port: int) -> list[Window]:
    """A window for each of them."""
    windows = [browser.open(f"http://127.0.0.1:{port}/?name={name}") for name in NAMES]
    for window in windows:
        becomes(window, COMPLETE)
    return windows


def becomes(window: Window, expression: str) -> None:
    """Wait until an expression is true in the page."""
    eventually(lambda: window.run(expression), within_s=20)


def edit(window: Window, text: str) -> None:
    """Replace the text by typing."""
    window.run("fields[1].focus(); fields[1].select()")
    window.type(text)


def type_on(windows: list[Window], numbers: Iterator[int], *, until: str) -> None:
    """One after another, each some times a second, until an expression has been true in each page."""

    def typed() -> bool:
        for window in windows:
            edit(window, f"edit {next(numbers)}")
            time.sleep(0.03)
        waiting[:] = [window for window in waiting if not window.run(until)]
        return not waiting

    waiting = list(windows)
    eventually(typed, within_s=30)


def seen(windows: list[Window], who: int, number: int) -> float:
    """How long after one has typed and moved the mouse the two others show both; in ms."""
    others = [window for window in windows if window is not windows[who]]
    text, x = f"{NAMES[who]} {number}", 40 + 10 * number
    shown = (
        f"new Promise(done => {{ const look = () => fields[1].value === {text!r} && "
        f"[...state.cursors.values()].some(c => c.style.left === '{x}px' && c.textContent === {NAMES[who]!r}) "
        "? done(Date.now()) : setTimeout(look, 2); look(); })"
    )
    for window in others:
        window.run(f"void (window.seen = {shown})")
    began_ms = time.time() * 1000
    edit(windows[who], text)
    windows[who].move(x, 100)
    return max(float(window.run("window.seen")) for window in others) - began_ms


def document(rooms: Limiter) -> Any:
    """The document as it is stored, with the number of its last patch."""
    return rooms.call("GET", "/v1/rooms/example/document")[2]


def history(rooms: Limiter) -> dict[int, Any]:
    """All patches of the document by their numbers, as somebody hears them who has missed them all."""
    address = f"ws://127.0.0.1:{rooms.port}/v1/rooms/example/socket"
    with connect(address, additional_headers={"Authorization": f"Bearer {rooms.key}"}, max_size=None) as socket:
        socket.send('{"message": {"type": "sync", "after": 0}}')
        while (message := json.loads(socket.recv(timeout=10)).get("message", {})).get("type") != "missed":
            pass
    return {patch["seq"]: patch["merge_patch"] for patch in message["patches"]}


def folded(patches: dict[int, Any]) -> Any:
    """The document that they make, in their order."""
    made: Any = {}
    for _, patch in sorted(patches.items()):
        made = merged(made, patch)
    return made


def evict(rooms: Limiter) -> None:
    """Send the room out of memory, as an operator does."""
    admin_port = rooms.run.admin_port + rooms.port - rooms.run.port
    here = {"TENURE_DATA_DIR": str(rooms.run.data_dir), "TENURE_ADMIN_PORT": str(admin_port)}
    done: Any = tenure("objects", "evict", "room", "dev", "example", **here)
    assert "It has left memory.\n" == done.stdout, done.stderr


@contextmanager
def page_server(rooms: Limiter, port: int) -> Iterator[None]:
    """The application of the example."""
    command = [sys.executable, "-m", "examples.room.serve", "--api", rooms.url, "--key", rooms.key, "--port", str(port)]
    process = Popen(command, cwd=ROOT)
    try:
        yield
    finally:
        process.kill()
        process.wait()
