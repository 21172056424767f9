"""Whoami beside its floor and beside the sessions of Express, in one run; then with many more sessions stored.

    .venv/bin/python -m benchmarks.whoami [--rounds 5] [--seconds 4] [--stored 200000]

| side | what it is |
| --- | --- |
| whoami | a thousand users who are signed in, each request with the token of one of them |
| floor | a bare ASGI application on the same server, which answers a constant of the same size |
| express-session | with connect-redis on Node and as many sessions, in a Valkey that writes nothing to disk |

`wrk` sends from 64 connections to loopback. Ours checks the token at the edge and again in the user's object, and
answers with every field of the contract; Express verifies the signature of its cookie, and answers with four fields.
The sides alternate. After that sessions begin and are revoked, each answered when it is on disk, until so many are
stored. An object leaves the node's memory a minute after its last call, so the node grows with the sessions of a minute
and not with those stored; the first of them are asked for again in the end. It ends by itself.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import aiohttp

from benchmarks.floor import floor
from benchmarks.load import CONNECTIONS, cpu_s, load, sample
from benchmarks.peers.packages import node_peer
from benchmarks.script import exit_code, options
from benchmarks.serving import store_pid
from benchmarks.sides import Aim, Sample, Side, alternate, report
from shared.testing.valkey import start_valkey
from tests.support.service import Limiter, limiter

T = TypeVar("T")
OURS, FLOOR, PEER = "whoami", "bare ASGI floor", "express-session + connect-redis"
AIMS = (Aim(FLOOR, 0.5, 0.5), Aim(PEER, 5, 5))
USERS = 1_000
FEW = 10_000
SIGNED_IN = {"amr": ["pwd"], "client": "web", "roles": ["editor"]}
WRK = """
local fields = {}
for line in io.lines("%(file)s") do fields[#fields + 1] = { ["%(field)s"] = line } end
request = function()
  return wrk.format("GET", "/v1/whoami", fields[math.random(#fields)])
end
"""


class Signed(NamedTuple):
    """A session that began."""

    principal: str
    session: str
    token: str


class Manager:
    """The session manager of a run, asked over 64 connections by one process that has a core to itself."""

    def __init__(self, service: Limiter) -> None:
        self.service = service
        self.pid = service.run.pid_of("services.sessions")
        self.store = service.run.pid_of("valkey-server")

    def sign_in(self, numbers: range) -> tuple[list[Signed], Sample]:
        """Have a session begin for the user of each number."""
        signed: list[Signed] = []

        async def one(client: aiohttp.ClientSession, number: int) -> None:
            principal = f"user-{number:07d}"
            async with client.post(f"/v1/principals/{principal}/sessions", json=SIGNED_IN) as answer:
                granted = await answer.json()
                assert answer.status == 201, granted
            signed.append(Signed(principal, granted["session"]["id"], granted["token"]))

        return signed, self._each(one, numbers)

    def revoke(self, sessions: Sequence[Signed]) -> Sample:
        """Revoke each."""

        async def one(client: aiohttp.ClientSession, signed: Signed) -> None:
            path = f"/v1/principals/{signed.principal}/sessions/{signed.session}"
            async with client.delete(path) as answer:
                assert answer.status == 204, await answer.text()

        return self._each(one, sessions)

    def ask(self, sessions: Sequence[Signed]) -> Sample:
        """Ask who each is."""

        async def one(client: aiohttp.ClientSession, signed: Signed) -> None:
            async with client.get("/v1/whoami", headers={"Authorization": f"Bearer {signed.token}"}) as answer:
                assert (await answer.json())["principal"] == signed.principal

        return self._each(one, sessions)

    def _each(self, one: Callable[[aiohttp.ClientSession, T], Awaitable[None]], things: Sequence[T]) -> Sample:
        before, start_s = [cpu_s(self.pid), cpu_s(self.store)], time.monotonic()
        asyncio.run(self._asked(one, things))
        spent_s = time.monotonic() - start_s
        server_us, store_us = (
            (cpu_s(pid) - was) * 1e6 / len(things) for pid, was in zip((self.pid, self.store), before, strict=True)
        )
        return Sample(len(things) / spent_s, server_us, store_us)

    async def _asked(self, one: Callable[[aiohttp.ClientSession, T], Awaitable[None]], things: Sequence[T]) -> None:
        left = iter(things)

        async def connection(client: aiohttp.ClientSession) -> None:
            for thing in left:
                await one(client, thing)

        async with (
            aiohttp.ClientSession(self.service.url, headers={"Authorization": f"Bearer {self.service.key}"}) as client,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(CONNECTIONS):
                group.create_task(connection(client))


def main() -> int:
    """Run and print; 1 if a program is missing."""
    asked = options(stored=200_000)

    def measured(stack: ExitStack, folder: Path) -> None:
        manager = Manager(stack.enter_context(limiter(folder / "data")).beside("sessions"))
        signed = manager.sign_in(range(USERS))[0]
        sides = _sides(stack, folder, manager, signed, asked.seconds)
        print(*report(alternate(sides, asked.rounds), OURS, AIMS), sep="\n", flush=True)
        _fill(manager, asked.stored)

    return exit_code(measured)


def _sides(stack: ExitStack, folder: Path, manager: Manager, signed: Sequence[Signed], seconds: int) -> list[Side]:
    """All of them, running and warm, until the stack is left."""
    _, fields, body = manager.service.call("GET", "/v1/whoami", headers={"Authorization": f"Bearer {signed[0].token}"})
    answer = json.dumps(body, separators=(",", ":")).encode()
    floor_port, bare = stack.enter_context(floor(folder, fields, answer))
    valkey = stack.enter_context(start_valkey(folder / "valkey"))
    peer_port, peer = stack.enter_context(node_peer("express_sessions.cjs", str(valkey.socket_path)))
    tokens = _script(folder / "tokens", [f"Bearer {session.token}" for session in signed], field="Authorization")
    cookies = _script(folder / "cookies", asyncio.run(_logged_in(peer_port)), field="Cookie")
    servers: list[tuple[str, int, Path, int, int | None]] = [
        (OURS, manager.service.port, tokens, manager.pid, manager.store),
        (FLOOR, floor_port, tokens, bare, None),
        (PEER, peer_port, cookies, peer, store_pid(folder / "valkey")),
    ]
    for _, port, script, _, _ in servers:
        load(port, script, 1)
    return [
        Side(name, partial(sample, port, script, seconds, server=server, store=store))
        for name, port, script, server, store in servers
    ]


async def _logged_in(port: int) -> list[str]:
    """The cookies of as many users there."""
    cookies = []
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", cookie_jar=aiohttp.DummyCookieJar()) as client:
        for number in range(USERS):
            async with client.get(f"/login?principal=user-{number:07d}") as answer:
                cookies.append(answer.headers["Set-Cookie"].partition(";")[0])
    return cookies


def _script(path: Path, lines: Sequence[str], *, field: str) -> Path:
    """What `wrk` sends: a request for each of the lines, which stands in the field."""
    with_lines = path.with_suffix(".lines")
    with_lines.write_text("".join(f"{line}\n" for line in lines))
    script = path.with_suffix(".lua")
    script.write_text(WRK % {"file": with_lines, "field": field})
    return script


def _fill(manager: Manager, stored: int) -> None:
    """Begin sessions until so many are stored; say what they cost, and to be asked for the first again."""
    first, begun = manager.sign_in(range(USERS, USERS + FEW))
    _tell("sessions begun", begun)
    _tell("sessions revoked", manager.revoke(manager.sign_in(range(stored, stored + FEW))[0]))
    few = USERS + FEW
    start_s, store = time.monotonic(), _resident_bytes(manager.store)
    node = []
    for quarter in range(4):
        manager.sign_in(range(few + (stored - few) * quarter // 4, few + (stored - few) * (quarter + 1) // 4))
        node.append(_resident_bytes(manager.pid) / 2**20)
    spent_s, each = time.monotonic() - start_s, (_resident_bytes(manager.store) - store) / (stored - few)
    print(
        f"{stored:,} stored: {each:,.0f} bytes of the store each; "
        f"the node had {', '.join(f'{mib:.0f}' for mib in node)} MiB after each quarter of {spent_s:,.0f} s",
        flush=True,
    )
    _tell("whoami of users not in memory", manager.ask(first))
    _tell("whoami of the same, in memory now", manager.ask(first))


def _tell(what: str, costs: Sample) -> None:
    rate, server_us, store_us = costs
    print(
        f"{what:<34} {rate:>9,.0f}/s   {server_us:>6,.0f} us CPU of the server, {store_us:>5,.0f} of its store",
        flush=True,
    )


def _resident_bytes(pid: int) -> int:
    """What a process holds of the memory of the machine."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(main())
