"""The floor of a hot path: a bare ASGI application on the same server, which answers a constant of the same size."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.serving import serving
from tests.support.launching import free_ports

_OF_SERVER = ("date", "server")
"""Fields that the server adds by itself."""
_APP = """
import asyncio, sys, uvloop
from shared.runtime.listener import Listener
HEADERS, BODY = {headers!r}, {body!r}
async def app(scope, receive, send):
    await receive()
    await send({{"type": "http.response.start", "status": 200, "headers": HEADERS}})
    await send({{"type": "http.response.body", "body": BODY}})
async def main():
    async with Listener(app, host="127.0.0.1", port=int(sys.argv[1])):
        await asyncio.Event().wait()
uvloop.run(main())
"""


@contextmanager
def floor(folder: Path, fields: Mapping[str, str], body: bytes) -> Iterator[tuple[int, int]]:
    """Port and process of a server that gives this answer to every request."""
    headers = [(name.encode(), value.encode()) for name, value in fields.items() if name not in _OF_SERVER]
    script = folder / "floor.py"
    script.write_text(_APP.format(headers=headers, body=body))
    (port,) = free_ports(1)
    with serving([sys.executable, str(script), str(port)], port, environ=os.environ) as pid:
        yield port, pid
