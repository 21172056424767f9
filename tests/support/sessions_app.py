"""The whole session manager in virtual time over the store in memory, asked through real ASGI."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast
from urllib.parse import quote

from services.sessions import app as sessions_app
from services.sessions.settings import SessionsSettings
from shared.objects.handler import DurableObject
from shared.outbound.client import Calls
from shared.runtime.node import Node
from shared.testing.clock import LoopClock, run_virtual
from shared.testing.store import MemoryStore
from tests.support.limiter_app import Answer, Service
from tests.support.signing_in import KEYS
from tests.support.simulated import core

T = TypeVar("T")
SCOPES = ("admin", "create", "data", "elevate", "impersonate", "introspect", "privacy", "read", "revoke")
ALL = (*(f"sessions:{scope}" for scope in SCOPES), "rooms:join", "rooms:read", "rooms:write", "objects:call")


class Sessions(Service):
    """A node of the session manager with one tenant, `acme`, and a key for everything."""

    def __init__(
        self, running: Any, store: MemoryStore, *, service: sessions_app.Service, objects: Sequence[type[DurableObject]]
    ) -> None:
        super().__init__(running, store, objects=objects)
        self._service = service

    async def start(self) -> None:
        """Make the applications, the tenant and its key."""
        await self.node.documents.poll()
        await self.node.shared_documents.poll()
        self.app, self.admin = self._service.build(cast("Node", self.node))
        self.key = await self.add_key("acme", *ALL)

    async def settle(self, ms: int = 1_000) -> None:
        """Let so much time pass, with its alarms."""
        await asyncio.sleep(ms / 1_000)
        await self.node.documents.poll()
        await self.node.shared_documents.poll()

    async def of(self, method: str, what: str, body: Any = None, *, principal: str = "ann", **more: Any) -> Answer:
        """A call about a principal: `sessions`, `disable`."""
        path = f"/v1/principals/{quote(principal, safe='')}{'/' if what else ''}{what}"
        return await self.ask(method, path, body, raw_path=path.partition("?")[0].encode(), **more)

    async def signed_in(self, principal: str = "ann", **members: Any) -> Any:
        """A user who has signed in: token, set_cookie, session."""
        answer = await self.of("POST", "sessions", members, principal=principal)
        assert answer.status == 201, answer
        return answer.json()

    async def whoami(
        self,
        token: str | None,
        path: str = "/v1/whoami",
        *,
        method: str = "GET",
        headers: Sequence[tuple[str, str]] = (),
    ) -> Answer:
        """What a gateway is told about a token."""
        return await self.ask(method, path, key=token, headers=headers)

    async def status(self, token: str) -> int:
        """The status of that."""
        return (await self.whoami(token)).status


def with_sessions(
    scenario: Callable[[Sessions], Awaitable[T]],
    *,
    objects: Sequence[type[DurableObject]] = (),
    calls: Calls | None = None,
) -> T:
    """Run `scenario` with a service of its own, in virtual time.

    `objects` are hosted beside its own kinds; `calls` makes the calls of webhooks.
    """
    service = sessions_app.Service(SessionsSettings(redis_url="redis://unused", session_keys=KEYS), calls)

    async def main() -> T:
        store = MemoryStore(LoopClock(asyncio.get_running_loop()))
        async with core(store, kinds=[*service.kinds, *objects]) as running:
            sessions = Sessions(running, store, service=service, objects=objects)
            await sessions.start()
            return await scenario(sessions)

    return run_virtual(main)
