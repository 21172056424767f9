"""A run watched as it happens: every turn once, over a broken connection too, and an end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from services.workflows.events import Paused
from services.workflows.run import WorkflowRun
from shared import bounds
from shared.http.asgi import Message
from shared.objects.address import Address
from tests.support.workflows_app import ORDER, Workflows, served


class Stream:
    """What one connection has brought."""

    def __init__(self) -> None:
        self.status = 0
        self.text = ""
        self.ended = False

    def events(self) -> list[tuple[str, int, Any]]:
        """Name, id and data of each."""
        found = []
        for block in self.text.split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            if fields:
                found.append((fields["event"], int(fields.get("id", 0)), msgspec.json.decode(fields["data"])))
        return found


@asynccontextmanager
async def watching(service: Workflows, run_id: str, last: int | None = None) -> AsyncIterator[Stream]:
    """A connection that is closed at the end of the block."""
    stream, gone = Stream(), asyncio.Event()

    async def receive() -> Message:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            stream.status = message["status"]
        else:
            stream.text += message.get("body", b"").decode()
            stream.ended = not message.get("more_body", False)

    headers = [(b"host", b"x"), (b"authorization", b"Bearer " + service.key.encode())]
    if last is not None:
        headers.append((b"last-event-id", b"%d" % last))
    path = f"/v1/runs/{run_id}/events"
    scope = service.scope("GET", path, headers)
    task = asyncio.ensure_future(service.app(scope, receive, send))
    try:
        yield stream
    finally:
        gone.set()
        await task


def test_who_watches_sees_every_turn_and_the_end() -> None:
    """What was before, and what comes, as it is stored; then the stream ends by itself."""

    async def scenario(service: Workflows) -> None:
        run_id = await service.started("refund", ORDER)
        async with watching(service, run_id) as stream:
            await asyncio.sleep(0.1)
            assert [("turn", 1)] == [(name, position) for name, position, _ in stream.events()]
            await service.tell(run_id, "pause")
            await asyncio.sleep(0.1)
            assert ["run.paused"] == [line["event"] for line in stream.events()[-1][2]]
            await service.tell(run_id, "terminate")
            await asyncio.sleep(0.1)
            assert ("end", 0, {"status": "terminated"}) == stream.events()[-1]
        assert (200, [1, 2, 3, 0]) == (stream.status, [position for _, position, _ in stream.events()])

    served(scenario)


def test_a_watcher_that_comes_back_misses_nothing() -> None:
    """It says what it saw last, and gets what came meanwhile, once."""

    async def scenario(service: Workflows) -> None:
        run_id = await service.started("refund", ORDER)
        async with watching(service, run_id) as first:
            await asyncio.sleep(0.1)
        await service.tell(run_id, "pause")
        await service.tell(run_id, "resume")
        async with watching(service, run_id, last=first.events()[-1][1]) as second:
            await asyncio.sleep(0.1)
        assert ["run.paused", "run.resumed"] == [lines[0]["event"] for _, _, lines in second.events()]

    served(scenario)


def test_where_all_is_quiet_a_comment_says_so() -> None:
    """So that nobody on the way takes the stream for dead."""

    async def scenario(service: Workflows) -> None:
        run_id = await service.started("refund", ORDER)
        async with watching(service, run_id) as stream:
            await asyncio.sleep(31)
        assert 2 == stream.text.count(": quiet\n\n")

    served(scenario)


def test_a_stream_ends_so_that_the_key_is_looked_at_again() -> None:
    """After ten minutes; the client connects anew, as every client of such streams does."""

    async def scenario(service: Workflows) -> None:
        run_id = await service.started("refund", ORDER)
        async with watching(service, run_id) as stream:
            await asyncio.sleep(590)
            assert not stream.ended
            await asyncio.sleep(30)
            assert stream.ended

    served(scenario)


def test_a_stream_ends_with_its_key() -> None:
    """Within a second, and nothing that happens afterwards is told."""

    async def scenario(service: Workflows) -> None:
        run_id = await service.started("refund", ORDER)
        async with watching(service, run_id) as stream:
            await asyncio.sleep(60)
            documents = service.node.shared_documents
            (document,) = documents.list_all("key")
            await documents.delete("key", document.tenant, document.name, expected=None)
            await service.host.call(Address(WorkflowRun.kind, "acme", run_id), WorkflowRun.happen, Paused())
            await asyncio.sleep(1)
            assert (True, 1) == (stream.ended, len(stream.events()))

    served(scenario)


def test_a_run_that_is_not_there_cannot_be_watched() -> None:
    """404, as a problem."""

    async def scenario(service: Workflows) -> None:
        assert 404 == (await service.ask("GET", "/v1/runs/ghost/events")).status

    served(scenario)


@pytest.mark.parametrize("bound", ["SOCKETS_MAX", "SOCKETS_PER_TENANT_MAX"])
def test_one_stream_too_many_is_refused(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 with when to come back; where one leaves, one may come."""
    monkeypatch.setattr(bounds, bound, 1)

    async def scenario(service: Workflows) -> None:
        run_id = await service.started("refund", ORDER)
        async with watching(service, run_id):
            await asyncio.sleep(0.1)
            refused = await service.ask("GET", f"/v1/runs/{run_id}/events")
            assert (503, "too_many_sockets", "1") == (
                refused.status,
                refused.json()["code"],
                refused.field("retry-after"),
            )
        async with watching(service, run_id) as stream:
            await asyncio.sleep(0.1)
            assert 200 == stream.status

    served(scenario)


def test_a_stream_ends_with_its_node() -> None:
    """At once, so that a node that stops does not wait for it."""

    async def scenario(service: Workflows) -> None:
        run_id = await service.started("refund", ORDER)
        async with watching(service, run_id) as stream:
            await asyncio.sleep(0.1)
            began_ms = service.node.clock.monotonic_ms()
            await service.node.ingress.stop()
            assert began_ms == service.node.clock.monotonic_ms()
            await asyncio.sleep(0)
            assert (True, 1) == (stream.ended, len(stream.events()))

    served(scenario)
