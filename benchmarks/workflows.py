"""Runs of four internal steps, started over REST and answered at their end, beside engines that are in use.

    .venv/bin/python -m benchmarks.workflows [--rounds 5] [--seconds 4]

| side | what it is |
| --- | --- |
| runs, synced | ours at durability level 1: `appendfsync always` |
| runs, executed | ours at level 0: the store writes nothing to disk |
| DBOS on SQLite | its library behind a bare application; each step is recorded, and synced as it is set up by itself |
| Restate | its server and its SDK for Node; each step is recorded, the log is synced |

64 connections to each, each run a new one; ours checks a credential and keeps definition, history and index rows of
each run. Sides alternate. Then, for ours alone: how long a worker waits for its next task, at both levels in turn, with
one worker and with 32; and at level 1, at rates that do not wait for answers, how long a start takes at 70 % of the
most, and what becomes of chains of a hundred steps when more and more of them are asked for. It ends by itself, and
takes about four minutes.
"""

import json
import statistics
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.arrivals import Arrived, arrive
from benchmarks.handing import Handed, hand_over
from benchmarks.handing import chain as task_chain
from benchmarks.load import load, sample
from benchmarks.peers.packages import PINS, environ_of_python
from benchmarks.peers.restate import restate
from benchmarks.script import exit_code, options
from benchmarks.serving import serving, store_pid
from benchmarks.sides import Aim, Side, alternate, median, report
from shared.testing.valkey import start_valkey
from tests.support.launching import free_ports
from tests.support.service import Limiter, limiter

SYNCED, EXECUTED, DBOS, RESTATE = "runs, synced", "runs, executed", "DBOS on SQLite", "Restate"
AIMS = (Aim(DBOS, 10, 10), Aim(RESTATE, 1.5, 3))
WORKERS = (1, 32)
CHAIN_STEPS = 100
CHAIN_RATES = (25, 50, 100, 200, 400)
"""Chains a second that are asked for: from what is easy to what is far too much."""
PLATEAU = 0.8
WRK = """
wrk.method = "POST"
wrk.headers["Authorization"] = "Bearer {key}"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{body}'
request = function() return wrk.format(nil, "{path}") end
"""


def main() -> int:
    """Run and print; 1 if a program is missing."""
    asked = options()

    def measured(stack: ExitStack, folder: Path) -> None:
        synced = stack.enter_context(_service(folder / "synced"))
        valkey = stack.enter_context(start_valkey(folder / "valkey"))
        executed = stack.enter_context(_service(folder / "executed", TENURE_REDIS_URL=valkey.url))
        sides = [
            _ours(SYNCED, synced, synced.run.pid_of("valkey-server"), folder, asked.seconds),
            _ours(EXECUTED, executed, store_pid(folder / "valkey"), folder, asked.seconds),
            stack.enter_context(_dbos(folder, asked.seconds)),
            stack.enter_context(_restate(folder, asked.seconds)),
        ]
        samples = alternate(sides, asked.rounds)
        print(*report(samples, SYNCED, AIMS), sep="\n", flush=True)
        print(*report(samples, EXECUTED, AIMS)[len(sides) :], sep="\n", flush=True)
        _hand_overs({SYNCED: synced, EXECUTED: executed}, asked.rounds)
        _start_times(synced, 0.7 * median(samples[SYNCED]).rate, asked.seconds)
        _chains(synced, asked.seconds)

    return exit_code(measured)


@contextmanager
def _service(folder: Path, **environ: str) -> Iterator[Limiter]:
    """Calls to the workflow service, with the definitions there."""
    with limiter(folder, **environ) as found:
        service = found.beside("workflows")
        for name, steps in (("four", 4), ("chain", CHAIN_STEPS)):
            status, _, answer = service.call("PUT", f"/v1/definitions/{name}/versions/1", _definition(name, steps))
            assert status == 201, answer
        yield service


def _definition(name: str, count: int) -> dict[str, Any]:
    """So many steps in a row, each of which adds one to what it is given."""
    steps: dict[str, Any] = {
        f"step{number}": {
            "pass": {"n": "{% $states.input.n + 1 %}"},
            **({"next": f"step{number + 1}"} if number < count - 1 else {"end": True}),
        }
        for number in range(count)
    }
    return {"workflow": name, "start": "step0", "steps": steps}


def _ours(name: str, service: Limiter, store: int, folder: Path, seconds: int) -> Side:
    body = json.dumps({"definition": "four", "input": {"n": 1}})
    _, _, run = service.call("POST", "/v1/runs", json.loads(body))
    assert (run["status"], run["end"]["output"]) == ("succeeded", {"n": 5}), run
    script = _script(folder / f"{name}.lua", "/v1/runs", body, service.key)
    pid = service.run.pid_of("services.workflows")
    load(service.port, script, 1)
    return Side(name, partial(sample, service.port, script, seconds, server=pid, store=store))


@contextmanager
def _dbos(folder: Path, seconds: int) -> Iterator[Side]:
    (port,) = free_ports(1)
    command = [sys.executable, str(PINS / "dbos_runs.py"), str(port), str(folder / "dbos.sqlite")]
    with serving(command, port, environ=environ_of_python()) as pid:
        script = _script(folder / "dbos.lua", "/", '{"n":1}')
        load(port, script, 1)
        yield Side(DBOS, partial(sample, port, script, seconds, server=pid))


@contextmanager
def _restate(folder: Path, seconds: int) -> Iterator[Side]:
    with restate(folder / "restate", "restate_runs.cjs") as (port, server, handler):
        script = _script(folder / "restate.lua", "/runs/four", '{"n":1}')
        load(port, script, 2)
        yield Side(RESTATE, partial(sample, port, script, seconds, server=handler, store=server))


def _script(path: Path, target: str, body: str, key: str = "unused") -> Path:
    path.write_text(WRK.format(key=key, body=body, path=target))
    return path


def _hand_overs(services: dict[str, Limiter], rounds: int) -> None:
    """From the completion of a task to the next one of its run, for few workers and for many."""
    for workers in WORKERS:
        queues = [f"queue{number}" for number in range(workers)]
        handed: dict[str, list[Handed]] = {name: [] for name in services}
        for service in services.values():
            for queue in queues:
                service.call("PUT", f"/v1/definitions/{queue}/versions/1", task_chain(queue))
        for _ in range(rounds):
            for name, service in services.items():
                handed[name].append(hand_over(service.url, service.key, queues))
        for name, found in handed.items():
            per_s, p50_us, p99_us = (statistics.median(figures) for figures in zip(*found, strict=True))
            print(
                f"{name}: {workers} workers, from a task completed to the next: p50 {p50_us / 1000:,.1f} ms,"
                f" p99 {p99_us / 1000:,.1f} ms, {per_s:,.0f} tasks/s",
                flush=True,
            )


def _start_times(service: Limiter, rate: float, seconds: int) -> None:
    body = json.dumps({"definition": "four", "input": {"n": 1}}).encode()
    arrived = arrive(f"{service.url}/v1/runs", service.key, body, rate=rate, seconds=seconds)
    print(f"starts at 70 % of the most: {_line(arrived)}", flush=True)


def _chains(service: Limiter, seconds: int) -> None:
    """Chains at rising rates: what is done should reach a plateau and stay there."""
    body = json.dumps({"definition": "chain", "input": {"n": 0}}).encode()
    print(f"chains of {CHAIN_STEPS} steps:")
    done = []
    for rate in CHAIN_RATES:
        arrived = arrive(f"{service.url}/v1/runs", service.key, body, rate=rate, seconds=seconds)
        print(f"  {_line(arrived)}", flush=True)
        done.append(arrived.done)
    verdict = "a plateau" if done[-1] >= PLATEAU * max(done) else "a collapse"
    print(
        f"at the highest rate {done[-1] / max(done):.2f} of the best, {max(done) * CHAIN_STEPS:,.0f} steps/s: {verdict}"
    )


def _line(arrived: Arrived) -> str:
    return (
        f"{arrived.offered:,.0f}/s offered, {arrived.done:,.0f}/s done, p50 {arrived.p50_us / 1000:,.1f} ms,"
        f" p99 {arrived.p99_us / 1000:,.1f} ms, {arrived.failed} refused or failed"
    )


if __name__ == "__main__":
    sys.exit(main())
