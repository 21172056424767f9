"""The check beside limiters that are in use: of Python, of Node, and of Durable Objects, in one run.

    .venv/bin/python -m benchmarks.limiters [--rounds 5] [--seconds 4] [--keys 1000]

| side | what it is |
| --- | --- |
| limits + Litestar | fixed windows of `limits` in a Valkey, on the server and framework that ours has |
| rate-limiter-flexible + Express | its fixed windows in the same Valkey, on Node, set up as its pages show it |
| the same, pipelined | with a client that joins what waits into pipelines |
| workerd Durable Object | our own algorithm in JavaScript, in memory, one object a subject |

All have two limits and the same requests for the same keys from 64 connections; nobody is denied. The peers' Valkey
writes nothing to disk, they check no credential and, but for the Durable Object, tell nothing but yes or no: what
differs is in their favour. Ours checks its credential, answers with all fields, and checkpoints to a store that syncs
each write. Sides alternate; it ends by itself, and takes about two and a half minutes.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from benchmarks.check import WRK
from benchmarks.load import load, sample
from benchmarks.peers.packages import PINS, environ_of_python, node_peer
from benchmarks.peers.workerd import IN_MEMORY, durable_objects
from benchmarks.script import exit_code, options
from benchmarks.serving import serving, store_pid
from benchmarks.sides import Aim, Side, alternate, report
from shared.testing.valkey import start_valkey
from tests.support.launching import free_ports
from tests.support.service import limiter

OURS, PYTHON, WORKERD = "check", "limits + Litestar", "workerd Durable Object"
NODE, PIPELINED = "rate-limiter-flexible + Express", "the same, pipelined"
AIMS = tuple(Aim(peer, 4, 5) for peer in (PYTHON, NODE, PIPELINED, WORKERD))


def main() -> int:
    """Run and print; 1 if a program is missing."""
    asked = options(keys=1_000)

    def measured(stack: ExitStack, folder: Path) -> None:
        sides = _sides(stack, folder, asked.keys, asked.seconds)
        print(*report(alternate(sides, asked.rounds), OURS, AIMS), sep="\n")

    return exit_code(measured)


def _sides(stack: ExitStack, folder: Path, keys: int, seconds: int) -> list[Side]:
    """All of them, running and warm, until the stack is left."""
    service = stack.enter_context(limiter(folder / "data"))
    service.policy("bench", ("second", 1_000_000, 1_000), ("minute", 10_000_000, 60_000))
    script = folder / "checks.lua"
    script.write_text(WRK.format(key=service.key, keys=keys))
    valkey = stack.enter_context(start_valkey(folder / "valkey"))
    store = store_pid(folder / "valkey")
    durable = durable_objects(folder / "workerd", "limiter.js", "Limiter", storage=IN_MEMORY)
    servers: list[tuple[str, int, int, int | None]] = [
        (OURS, service.run.port, service.run.pid_of("services.ratelimiter"), service.run.pid_of("valkey-server")),
        (PYTHON, *stack.enter_context(_python(valkey.socket_path)), store),
        (NODE, *stack.enter_context(node_peer("flexible.cjs", str(valkey.socket_path), "plain")), store),
        (PIPELINED, *stack.enter_context(node_peer("flexible.cjs", str(valkey.socket_path), "pipelined")), store),
        (WORKERD, *stack.enter_context(durable), None),
    ]
    for _, port, _, _ in servers:
        load(port, script, 1)
    return [
        Side(name, partial(sample, port, script, seconds, server=server, store=its))
        for name, port, server, its in servers
    ]


@contextmanager
def _python(socket_path: Path) -> Iterator[tuple[int, int]]:
    """Port and process of `limits` behind Litestar."""
    (port,) = free_ports(1)
    command = [sys.executable, str(PINS / "limits_app.py"), str(port), str(socket_path)]
    with serving(command, port, environ=environ_of_python()) as pid:
        yield port, pid


if __name__ == "__main__":
    sys.exit(main())
