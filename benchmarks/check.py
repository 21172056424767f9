"""The check path against its floor: a bare ASGI application on the same server, same sizes, same run.

    make bench          or: .venv/bin/python -m benchmarks.check [--rounds 5] [--seconds 4]

Sides alternate; medians of the rounds and their ratio are printed, with the server's CPU time per
request beside. `wrk` (Debian: wrk) sends from 64 connections to loopback and stops by itself. The
floor answers a constant of the same size; the check authenticates, decodes, decides two limits in
memory and answers with its header fields. A million keys are brought into memory first, by batch.
"""

import argparse
import http.client
import json
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.floor import floor
from benchmarks.load import cpu_s, load, measure, wrk_is_here
from tests.support.service import Limiter, limiter

WRK = """
wrk.method = "POST"
wrk.headers["Authorization"] = "Bearer {key}"
wrk.headers["Content-Type"] = "application/json"
request = function()
  local body = string.format('{{"policy":"bench","subject":"user-%07d"}}', math.random({keys}))
  return wrk.format(nil, "/v1/check", nil, body)
end
"""


def batches(service: Limiter, keys: int, size: int, seconds: float) -> float:
    """Decisions a second over one connection, in batches; ends when every key was asked once or time is up."""
    connection = http.client.HTTPConnection("127.0.0.1", service.run.port, timeout=60)
    headers = {"Authorization": f"Bearer {service.key}", "Content-Type": "application/json"}
    done, start_s, spent_s = 0, time.monotonic(), 0.0
    bodies = []
    for first in range(0, keys, size):
        checks = [{"policy": "bench", "subject": f"user-{i + 1:07d}"} for i in range(first, min(first + size, keys))]
        bodies.append((json.dumps({"checks": checks}), len(checks)))
        if len(bodies) == 64 or first + size >= keys:
            start = time.monotonic()
            for body, count in bodies:
                connection.request("POST", "/v1/check/batch", body, headers)
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 200
                done += count
            spent_s += time.monotonic() - start
            bodies.clear()
        if time.monotonic() - start_s > seconds:
            break
    connection.close()
    return done / spent_s


def main() -> int:
    """Run and print; 1 if wrk is missing."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--keys", type=int, nargs="*", default=[1_000, 1_000_000])
    options = parser.parse_args()
    if not wrk_is_here():
        return 1
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        room = str(2 * max(options.keys))
        service = stack.enter_context(limiter(folder / "data", TENURE_RESIDENT_OBJECTS=room))
        service.policy("bench", ("second", 1_000_000, 1_000), ("minute", 10_000_000, 60_000))
        pid = service.run.pid_of("services.ratelimiter")
        _, fields, body = service.call("POST", "/v1/check", {"policy": "bench", "subject": "user-0000001"})
        answer = json.dumps(body, separators=(",", ":")).encode()
        floor_port, floor_pid = stack.enter_context(floor(folder, fields, answer))
        for keys in options.keys:
            script = folder / f"wrk-{keys}.lua"
            script.write_text(WRK.format(key=service.key, keys=keys))
            warm = batches(service, keys, 1_000, 120)
            ours, bare = [], []
            load(service.run.port, script, 1)
            load(floor_port, script, 1)
            for _ in range(options.rounds):
                bare.append(measure(floor_port, floor_pid, script, options.seconds))
                ours.append(measure(service.run.port, pid, script, options.seconds))
            a, b = (statistics.median(rate for rate, _ in side) for side in (ours, bare))
            ca, cb = (statistics.median(cpu for _, cpu in side) for side in (ours, bare))
            print(
                f"{keys:>9,} keys: check {a:,.0f}/s ({ca:.0f} us CPU), floor {b:,.0f}/s ({cb:.0f} us CPU), "
                f"ratio {a / b:.2f}; first touch by batches of 1,000: {warm:,.0f} decisions/s",
                flush=True,
            )
        before, start_s = cpu_s(pid), time.monotonic()
        rate = statistics.median(batches(service, 1_000, 100, 10) for _ in range(20))
        print(f"batches of 100 on resident keys: {rate:,.0f} decisions/s (median of 20)")
        print(f"CPU while batching: {(cpu_s(pid) - before) / (time.monotonic() - start_s):.0%} of a core")
    return 0


if __name__ == "__main__":
    sys.exit(main())
