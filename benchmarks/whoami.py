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

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.request import Request, urlopen

import aiohttp

from benchmarks.check import FLOOR
from benchmarks.load import CONNECTIONS, cpu_s, load, sample, wrk_is_here
from benchmarks.peers.packages import PINS, MissingError, node, node_packages
from benchmarks.serving import scratch_folder, serving
from benchmarks.sides import Aim, Sample, Side, alternate, report
from shared.storage.leftover import pid_file
from shared.testing.valkey import start_valkey
from tests.support.launching import free_ports
from tests.support.service import Limiter, limiter

T = TypeVar("T")
OURS, FLOOR_SIDE, PEER = "whoami", "bare ASGI floor", "express-session + connect-redis"
AIMS = (Aim(FLOOR_SIDE, 0.5, 0.5), Aim(PEER, 5, 5))
USERS = 1_000
FEW = 10_000
SESSIONS = 2  # Where the session manager comes among the services of `tenure run`.
_OF_SERVER = ("date", "server")
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
        self.port = service.run.port + SESSIONS
        self.pid = service.run.pid_of("services.sessions")
        self.store = service.run.pid_of("valkey-server")
        self._headers = {"Authorization": f"Bearer {service.key}"}

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

    def whoami(self, script: Path, seconds: int) -> Sample:
        """One round of it."""
        return sample(self.port, script, seconds, server=self.pid, store=self.store)

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
            aiohttp.ClientSession(f"http://127.0.0.1:{self.port}", headers=self._headers) as client,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(CONNECTIONS):
                group.create_task(connection(client))


def main() -> int:
    """Run and print; 1 if a program is missing."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--stored", type=int, default=200_000)
    options = parser.parse_args()
    if not wrk_is_here():
        return 1
    try:
        with ExitStack() as stack:
            folder = stack.enter_context(scratch_folder())
            service = stack.enter_context(limiter(folder / "data"))
            manager = Manager(service)
            hot = _tokens(folder / "hot", manager.sign_in(range(USERS))[0])
            sides = _sides(stack, folder, manager, hot, options.seconds)
            print(*report(alternate(sides, options.rounds), OURS, AIMS), sep="\n", flush=True)
            _fill(manager, options.stored)
    except MissingError as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    return 0


def _sides(stack: ExitStack, folder: Path, manager: Manager, hot: Path, seconds: int) -> list[Side]:
    """All of them, running and warm, until the stack is left."""
    floor_port, floor = stack.enter_context(_floor(folder, manager.port, hot))
    valkey = stack.enter_context(start_valkey(folder / "valkey"))
    store = int(pid_file(folder / "valkey" / "store").read_text())
    peer_port, peer = stack.enter_context(_express(valkey.socket_path))
    cookies = _script(folder / "cookies", asyncio.run(_logged_in(peer_port)), field="Cookie")
    for port, script in ((manager.port, hot), (floor_port, hot), (peer_port, cookies)):
        load(port, script, 1)
    return [
        Side(OURS, partial(manager.whoami, hot, seconds)),
        Side(FLOOR_SIDE, partial(sample, floor_port, hot, seconds, server=floor)),
        Side(PEER, partial(sample, peer_port, cookies, seconds, server=peer, store=store)),
    ]


@contextmanager
def _floor(folder: Path, port: int, hot: Path) -> Iterator[tuple[int, int]]:
    """Port and process of a server that answers each request as whoami answers the first of these."""
    token = hot.with_suffix(".lines").read_text().splitlines()[0].removeprefix("Bearer ")
    with urlopen(Request(f"http://127.0.0.1:{port}/v1/whoami", headers={"Authorization": f"Bearer {token}"})) as answer:
        fields = [(n.lower().encode(), v.encode()) for n, v in answer.headers.items() if n.lower() not in _OF_SERVER]
        body = answer.read()
    script = folder / "floor.py"
    script.write_text(FLOOR.format(headers=fields, body=body))
    (floor_port,) = free_ports(1)
    with serving([sys.executable, str(script), str(floor_port)], floor_port, environ=os.environ) as pid:
        yield floor_port, pid


@contextmanager
def _express(socket_path: Path) -> Iterator[tuple[int, int]]:
    """Port and process of express-session."""
    (port,) = free_ports(1)
    environ = {**os.environ, "NODE_PATH": str(node_packages()), "NODE_ENV": "production"}
    command = [node(), str(PINS / "express_sessions.cjs"), str(port), str(socket_path)]
    with serving(command, port, environ=environ) as pid:
        yield port, pid


async def _logged_in(port: int) -> list[str]:
    """The cookies of as many users there."""
    cookies = []
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", cookie_jar=aiohttp.DummyCookieJar()) as client:
        for number in range(USERS):
            async with client.get(f"/login?principal=user-{number:07d}") as answer:
                cookies.append(answer.headers["Set-Cookie"].partition(";")[0])
    return cookies


def _tokens(path: Path, sessions: Sequence[Signed]) -> Path:
    return _script(path, [f"Bearer {signed.token}" for signed in sessions], field="Authorization")


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
