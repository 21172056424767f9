"""Durable turns: an object of one's own over HTTP, beside a Durable Object of workerd and a bare SET of the store.

    .venv/bin/python -m benchmarks.turn [--rounds 5] [--seconds 4] [--objects 1000]

Each answer of ours and of workerd waits until its write is synced to the same disk; the SET goes to a Valkey of its
own with the options of ours, `appendfsync always`. 64 connections to each, over the same objects, all of which exist
before anything is measured. Sides alternate; medians and ratios are printed, with CPU a request beside. Our side also
checks a credential, which the others do not have. It ends by itself, and takes about two minutes.
"""

import http.client
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.load import CONNECTIONS, cpu_s, load, sample
from benchmarks.peers.workerd import ON_DISK, durable_objects
from benchmarks.script import exit_code, options
from benchmarks.sets import set_rate
from benchmarks.sides import Aim, Sample, Side, alternate, report
from shared.storage.embedded import EmbeddedStore
from tests.support.service import limiter

OURS, WORKERD, SET = "durable turn", "workerd Durable Object", "Valkey SET, always synced"
AIMS = (Aim(WORKERD, 6, 10), Aim(SET, 0.6, 0.6))
VALUE_BYTES = 32  # No more than what a turn here stores of its object.
WRK = """
wrk.method = "POST"
wrk.headers["Authorization"] = "Bearer {key}"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{{"amount":1}}'
request = function()
  return wrk.format(nil, "/v1/objects/tally/object-" .. math.random(0, {objects} - 1) .. "/add")
end
"""


def main() -> int:
    """Run and print; 1 if a program is missing."""
    asked = options(objects=1_000)

    def measured(stack: ExitStack, folder: Path) -> None:
        sides = [
            stack.enter_context(side(folder / name, asked.objects, asked.seconds))
            for name, side in (("tenure", _ours), ("workerd", _workerd), ("valkey", _set))
        ]
        print(*report(alternate(sides, asked.rounds), OURS, AIMS), sep="\n")

    return exit_code(measured)


@contextmanager
def _ours(folder: Path, objects: int, seconds: int) -> Iterator[Side]:
    with limiter(folder / "data", TENURE_OBJECTS="benchmarks.tally") as service:
        script = _script(folder, service.key, objects)
        server, store = service.run.pid_of("services.ratelimiter"), service.run.pid_of("valkey-server")
        port = service.run.port
        _touch_all(port, service.key, objects)
        load(port, script, 1)
        yield Side(OURS, lambda: sample(port, script, seconds, server=server, store=store))


@contextmanager
def _workerd(folder: Path, objects: int, seconds: int) -> Iterator[Side]:
    with durable_objects(folder, "tally.js", "Tally", storage=ON_DISK) as (port, server):
        script = _script(folder, "unused", objects)
        _touch_all(port, "unused", objects)
        load(port, script, 1)
        yield Side(WORKERD, lambda: sample(port, script, seconds, server=server))


@contextmanager
def _set(folder: Path, objects: int, seconds: int) -> Iterator[Side]:
    store = EmbeddedStore(folder)
    store.start()
    assert store.process
    pid = store.process.pid

    def measure() -> Sample:
        before = cpu_s(pid)
        sets = set_rate(
            store.socket_path, connections=CONNECTIONS, seconds=seconds, names=objects, value_bytes=VALUE_BYTES
        )
        return Sample(sets.rate, (cpu_s(pid) - before) * 1e6 / (sets.rate * seconds))

    try:
        measure()
        yield Side(SET, measure)
    finally:
        store.kill()


def _script(folder: Path, key: str, objects: int) -> Path:
    script = folder / "turns.lua"
    script.write_text(WRK.format(key=key, objects=objects))
    return script


def _touch_all(port: int, key: str, objects: int) -> None:
    """One turn of each object, so that none is created while anything is measured."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    for number in range(objects):
        connection.request("POST", f"/v1/objects/tally/object-{number}/add", '{"amount":1}', headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
    connection.close()


if __name__ == "__main__":
    sys.exit(main())
