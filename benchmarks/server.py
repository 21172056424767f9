"""The listener of a node: an answer within the read, and by way of ASGI, beside another ASGI server.

    .venv/bin/python -m benchmarks.server [--rounds 5] [--seconds 4]

| side | what it is |
| --- | --- |
| at once | the answer of a `Prompt`, written within the call that the request came with |
| ASGI | a bare ASGI application on the same listener |
| Granian | the same application on Granian: one worker, uvloop, its reading and writing in a thread of its own |

All answer the same 270 bytes from one process on loopback. `docs/adr/0011-answers-inside-the-protocol.md` rests on it.
"""

import os
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.load import load, sample
from benchmarks.script import exit_code, options
from benchmarks.serving import serving
from benchmarks.sides import Aim, Side, alternate, report
from tests.support.launching import free_ports

AT_ONCE, ASGI, GRANIAN = "at once", "ASGI", "Granian"
AIMS = (Aim(ASGI, 1.5, 2), Aim(GRANIAN, 1.5, 2))
_APP = """
import asyncio, sys, uvloop
FIELDS, BODY = [(b"content-type", b"application/json"), (b"content-length", b"270")], b"x" * 270
async def app(scope, receive, send):
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": FIELDS})
    await send({"type": "http.response.body", "body": BODY})
"""
_LISTENER = """
from shared.http.asgi import Prompt
from shared.runtime.listener import Listener
PROMPT = Prompt(("/",), lambda scope, body: (200, FIELDS, BODY)) if sys.argv[2] == "at once" else None
async def main():
    async with Listener(app, host="127.0.0.1", port=int(sys.argv[1]), prompt=PROMPT):
        await asyncio.Event().wait()
uvloop.run(main())
"""
_GRANIAN = """
from granian.constants import Interfaces
from granian.server.embed import Server
uvloop.run(Server(app, address="127.0.0.1", port=int(sys.argv[1]), interface=Interfaces.ASGINL, backlog=1024,
    backpressure=4096, websockets=False, log_enabled=False).serve())
"""
_WRK = 'wrk.method, wrk.body = "POST", string.rep("x", 44)'


def main() -> int:
    """Run and print; 1 if wrk is missing."""
    asked = options()

    def measured(stack: ExitStack, folder: Path) -> None:
        script = folder / "post.lua"
        script.write_text(_WRK)
        sides = []
        for name, port in zip((AT_ONCE, ASGI, GRANIAN), free_ports(3), strict=True):
            code = _APP + (_GRANIAN if name == GRANIAN else _LISTENER)
            pid = stack.enter_context(serving([sys.executable, "-c", code, str(port), name], port, environ=os.environ))
            load(port, script, 1)
            sides.append(Side(name, partial(sample, port, script, asked.seconds, server=pid)))
        print(*report(alternate(sides, asked.rounds), AT_ONCE, AIMS), sep="\n", flush=True)

    return exit_code(measured)


if __name__ == "__main__":
    sys.exit(main())
