"""The HTTP server inside the node's event loop against the same server standing alone: what owning the loop costs.

    .venv/bin/python -m benchmarks.server [--rounds 5] [--seconds 4]

Both serve one bare ASGI application, one worker, uvloop, on loopback; sides alternate; medians and their ratio are
printed with the server's CPU time per request beside. `docs/adr/0006-who-owns-the-event-loop.md` rests on it.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from functools import partial
from pathlib import Path

from benchmarks.load import load, measure, wrk_is_here
from tests.support.launching import eventually, free_ports

APP = """
HEADERS, BODY = [(b"content-type", b"application/json"), (b"content-length", b"270")], b"x" * 270
async def app(scope, receive, send):
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})
"""
EMBEDDED = """
import sys, uvloop
from granian.constants import Interfaces
from granian.server.embed import Server
from bare import app
uvloop.run(Server(app, address="127.0.0.1", port=int(sys.argv[1]), interface=Interfaces.ASGINL, backlog=1024,
    backpressure=4096, websockets=False, log_enabled=False).serve())
"""
STANDALONE = """
import sys
from granian import Granian
from granian.constants import Interfaces, Loops
Granian("bare:app", address="127.0.0.1", port=int(sys.argv[1]), interface=Interfaces.ASGINL, workers=1,
    loop=Loops.uvloop, backlog=1024, backpressure=4096, websockets=False, log_enabled=False).serve()
"""
WRK = 'wrk.method, wrk.body = "POST", string.rep("x", 44)'


def answers(port: int) -> bool:
    """Whether the server is up."""
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1).close()
    except OSError:
        return False
    return True


def worker_of(process: subprocess.Popen[bytes]) -> int:
    """The process that serves: a child with most threads, or the process itself if it has no child."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return max(map(int, children), key=_threads, default=process.pid)


def _threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def main() -> int:
    """Run and print; 1 if wrk is missing."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    options = parser.parse_args()
    if not wrk_is_here():
        return 1
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "bare.py").write_text(APP)
        script = Path(folder) / "post.lua"
        script.write_text(WRK)
        ports = free_ports(2)
        seen: tuple[list[tuple[float, float]], ...] = ([], [])
        sides = [
            subprocess.Popen([sys.executable, "-c", code, str(port)], cwd=folder)
            for code, port in zip((EMBEDDED, STANDALONE), ports, strict=True)
        ]
        try:
            for port in ports:
                eventually(partial(answers, port), within_s=20)
                load(port, script, 1)
            for _ in range(options.rounds):
                for side, port, rounds in zip(sides, ports, seen, strict=True):
                    rounds.append(measure(port, worker_of(side), script, options.seconds))
        finally:
            for side in sides:
                side.terminate()
                side.wait(10)
    for name, rounds in zip(("embedded", "stand-alone"), seen, strict=True):
        rate, cost = (statistics.median(figures) for figures in zip(*rounds, strict=True))
        print(f"{name}: {rate:,.0f}/s ({cost:.0f} us CPU)")
    embedded, alone = (statistics.median(rate for rate, _ in rounds) for rounds in seen)
    print(f"ratio: {embedded / alone:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
