"""The peer that is a library of Python: DBOS on SQLite, behind a bare application on the server that ours runs on.

    python dbos_runs.py PORT FILE

A run is a workflow of four steps, each of which it records before the next one begins. It syncs as it is set up by
itself: a rollback journal, synced in full.
"""

import json
import sys
from typing import Any

import uvloop
from dbos import DBOS
from granian.constants import Interfaces
from granian.server.embed import Server


def main(port: int, file: str) -> None:
    """Serve until the process is ended."""
    DBOS(
        config={
            "name": "runs",
            "system_database_url": f"sqlite:///{file}",
            "run_admin_server": False,
            "log_level": "WARNING",
        }
    )

    @DBOS.step()  # type: ignore[untyped-decorator]  # The package is not there when types are checked.
    async def add(number: int) -> int:
        return number + 1

    @DBOS.workflow()  # type: ignore[untyped-decorator]  # As above.
    async def four(number: int) -> int:
        for _ in range(4):
            number = await add(number)
        return number

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        body = b"ready"
        if scope["method"] == "POST":
            asked = json.loads((await receive())["body"])
            body = json.dumps({"n": await four(asked["n"])}).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    DBOS.launch()
    server = Server(
        app,
        address="127.0.0.1",
        port=port,
        interface=Interfaces.ASGINL,
        backlog=1_024,
        backpressure=4_096,
        websockets=False,
        log_enabled=False,
    )
    uvloop.run(server.serve())


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
