"""A real node with two kinds of its own, for proofs of the core: ledgers of committed entries, and bells with alarms.

Everything an answer says can be checked from outside: an append answers with the place of its entry, an alarm
records when it was due and when it rang. An error answers with its code, from which a client knows whether the
change surely did not happen (`DEFINITE`) or may have.

    POST /append/{ledger}/{entry}            the entry's place, once it is stored
    POST /append-slowly/{ledger}/{entry}     the same, in a turn that waits 300 ms between reading and writing
    GET  /entries/{ledger}                   all entries, in order
    POST /arm/{bell}/{alarm}/{in_ms}         when it is due (Unix ms of the store), once it is stored
    GET  /rings/{bell}                       {alarm: [[due_ms, rang_ms], ...]}
"""

import asyncio
import os
import sys
from typing import Any

import msgspec

from shared.clock import SystemClock
from shared.errors import ConfigurationError, TenureError
from shared.http.asgi import ASGIApp, Receive, Scope, Send
from shared.http.guard import Guard
from shared.http.health import create_admin_app
from shared.objects.address import Address
from shared.objects.handler import Alarm, DurableObject, readonly
from shared.objects.host import Host
from shared.runtime.node import Node, run_service
from shared.settings import NodeSettings, read_settings

SLOWLY_MS = 300
DEFINITE = frozenset({"overloaded", "unavailable", "commit_failed", "too_large"})
"""Codes of errors after which the change surely did not happen."""

Rings = tuple[tuple[int, int], ...]


class Ledger(DurableObject):
    """Entries in the order of their turns."""

    kind = "ledger"

    def append(self, entry: str) -> int:
        place = self.storage.get("count", int, default=0)
        self._write(place, entry)
        return place

    async def append_slowly(self, entry: str) -> int:
        place = self.storage.get("count", int, default=0)
        await asyncio.sleep(SLOWLY_MS / 1000)
        self._write(place, entry)
        return place

    @readonly
    def entries(self) -> list[str]:
        return [self.storage.get(key, str, default="") for key in self.storage.list("entry/")]

    def _write(self, place: int, entry: str) -> None:
        self.storage.put(f"entry/{place:08}", entry)
        self.storage.put("count", place + 1)


class Bell(DurableObject):
    """Alarms, and a record of each time one of them rang."""

    kind = "bell"

    def arm(self, name: str, in_ms: str) -> int:
        due_ms = self.clock.now_ms() + int(in_ms)
        self.alarms.set(name, at_ms=due_ms)
        return due_ms

    def on_alarm(self, alarm: Alarm) -> None:
        before: Rings = self.storage.get(alarm.name, Rings, default=())
        # The store runs on this machine and so shows this clock, read here without the core's estimate of it.
        self.storage.put(alarm.name, (*before, (alarm.due_ms, SystemClock().now_ms())))

    @readonly
    def rings(self) -> dict[str, Rings]:
        return {name: self.storage.get(name, Rings, default=()) for name in self.storage.list()}


ROUTES: dict[str, tuple[type[DurableObject], Any]] = {
    "append": (Ledger, Ledger.append),
    "append-slowly": (Ledger, Ledger.append_slowly),
    "entries": (Ledger, Ledger.entries),
    "arm": (Bell, Bell.arm),
    "rings": (Bell, Bell.rings),
}


def build(node: Node) -> tuple[Guard, ASGIApp]:
    """The public and the admin application."""
    admin = create_admin_app(ready=node.ready, scrape=node.metrics.scrape, openapi=lambda: b"{}")
    return Guard(_public(node.host)), admin


def _public(host: Host) -> ASGIApp:
    async def public(scope: Scope, _: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        status, answer = await _call(host, scope["path"].strip("/").split("/"))
        body = msgspec.json.encode(answer)
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return public


async def _call(host: Host, words: list[str]) -> tuple[int, Any]:
    if words[0] not in ROUTES:
        return 404, None  # The launcher asks for policies, to see whether its key is known: anything but 401 will do.
    kind, method = ROUTES[words[0]]
    try:
        return 200, await host.call(Address(kind.kind, "proof", words[1]), method, *words[2:])
    except TenureError as exc:
        return 503, exc.code


def main() -> int:
    """Serve until killed or told to stop."""
    try:
        settings = read_settings(NodeSettings, os.environ)
        # The limiter's prefix, so that `tenure backup` and `tenure restore` know of the objects.
        run_service(settings, service="ledger", prefix="rl", kinds=[Ledger, Bell], build=build)
    except ConfigurationError as exc:
        sys.stderr.write(f"tenure: {exc}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
