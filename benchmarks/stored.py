"""A million sessions of as many users in the store: what each costs there, and that the node does not grow with them.

    .venv/bin/python -m benchmarks.stored [--sessions 1000000] [--idle-seconds 20]

A node in this process, on a real store that has on its disk what it has answered; tokens are made and read by the desk
of the service, as its routes have it done, but without HTTP, which would take three times as long and blur what is
asked here. Each session is of a user of its own, so each is an object.

- Sessions begin, 1,024 at a time, each answered when it is on disk. An object leaves memory a minute after its last
  call: from then on the node grows no more, whatever is stored.
- When all have left, the CPU of the node over some seconds in which nothing is asked, beside that before the first.
- One in a hundred of all sessions is asked who it is: each has to be loaded, and counts.

It ends by itself, in about ten minutes.
"""

import argparse
import asyncio
import os
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.node import TENANT, bench_node, run, until
from benchmarks.serving import scratch_folder, store_pid
from services.sessions.desk import Desk
from services.sessions.directory import Directory
from services.sessions.keys import read_keys
from services.sessions.principal import Principal
from services.sessions.records import NewSession, Presence
from services.sessions.tokens import Tokens
from shared.runtime.node import Node
from shared.storage.records import TenantRecord

AT_ONCE = 1_024
PARTS = 10
ASKED_OF = 100
LEFT_WITHIN_S = 180
KEYS = ",".join(f"{key_id}:{urlsafe_b64encode(bytes([key_id]) * 32).rstrip(b'=').decode()}" for key_id in (0, 1))


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--idle-seconds", type=int, default=20)
    options = parser.parse_args()
    run(_measured(options.sessions, options.idle_seconds))
    return 0


async def _measured(sessions: int, idle_s: int) -> None:
    with scratch_folder() as folder:
        async with bench_node(folder, [Principal]) as node:
            desk = await _desk(node)
            store = store_pid(folder)
            await _begin(desk, range(-AT_ONCE, 0))
            before = await _idle_share(idle_s)
            tokens = await _filled(node, desk, sessions, store)
            await until(lambda: node.host.objects_resident == 0, within_s=LEFT_WITHIN_S, every_s=1)
            _tell(f"{sessions:,} stored, none in memory", node, store)
            after = await _idle_share(idle_s)
            print(f"idle for {idle_s} s: {before:.2%} of a core before the first, {after:.2%} with {sessions:,} stored")
            await _asked(desk, tokens)


async def _desk(node: Node) -> Desk:
    """The desk of a tenant that is made for it."""
    tokens = Tokens(read_keys(KEYS))
    desk = Desk(tokens, Directory(node.shared_documents, node.documents, tokens), node.host.call)
    body = msgspec.json.encode(TenantRecord(created_ms=0))
    await node.shared_documents.put("tenant", TENANT, TENANT, body, expected=None)
    return desk


async def _filled(node: Node, desk: Desk, sessions: int, store: int) -> list[str]:
    """Have so many sessions begin; the tokens of one in a hundred."""
    kept: list[str] = []
    grown, start_s = _resident_bytes(store), time.monotonic()
    for part in range(PARTS):
        numbers = range(sessions * part // PARTS, sessions * (part + 1) // PARTS)
        used_s, began_s = time.process_time(), time.monotonic()
        kept += await _begin(desk, numbers)
        spent_s, used_us = time.monotonic() - began_s, (time.process_time() - used_s) * 1e6 / len(numbers)
        _tell(f"{numbers.stop:,} stored at {len(numbers) / spent_s:,.0f}/s ({used_us:.0f} us of CPU each)", node, store)
    spent_s, each = time.monotonic() - start_s, (_resident_bytes(store) - grown) / sessions
    print(f"{sessions:,} sessions began in {spent_s:,.0f} s: {each:,.0f} bytes of the store each", flush=True)
    return kept


async def _begin(desk: Desk, numbers: range) -> list[str]:
    """Have a session of each number's user begin; the tokens of one in a hundred."""
    kept: list[str] = []
    left = iter(numbers)

    async def window() -> None:
        for number in left:
            order = NewSession(principal=f"user-{number:07d}", amr=("pwd",), roles=("editor",), client="web")
            grant = await desk.create(TENANT, order)
            if number % ASKED_OF == 0:
                kept.append(grant.token)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(window())
    return kept


async def _asked(desk: Desk, tokens: Sequence[str]) -> None:
    """Ask whose each token is, of users who are not in memory."""
    began_s = time.monotonic()
    left = iter(tokens)

    async def window() -> None:
        for text in left:
            located = desk.located(text.encode())
            assert located is not None
            assert isinstance(await desk.stand(located), Presence)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(window())
    rate = len(tokens) / (time.monotonic() - began_s)
    print(f"{len(tokens):,} of them, one in {ASKED_OF}, were asked for and count: {rate:,.0f}/s", flush=True)


async def _idle_share(seconds: int) -> float:
    """The share of one core that this process uses while nothing is asked."""
    used_s, began_s = time.process_time(), time.monotonic()
    await asyncio.sleep(seconds)
    return (time.process_time() - used_s) / (time.monotonic() - began_s)


def _tell(what: str, node: Node, store: int) -> None:
    ours, theirs = _resident_bytes(os.getpid()) / 2**20, _resident_bytes(store) / 2**20
    residents = node.host.objects_resident
    print(f"{what}: node {ours:,.0f} MiB with {residents:,} objects, store {theirs:,.0f} MiB", flush=True)


def _resident_bytes(pid: int) -> int:
    """What a process holds of the memory of the machine."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(main())
