"""Principals over the store in memory, asked through the real desk, for tests on a clock that is moved."""

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from services.sessions.cuts import Cuts
from services.sessions.desk import Desk, Grant
from services.sessions.directory import CUT, NAME, POLICY, Cut, Directory
from services.sessions.keys import read_keys
from services.sessions.policy import Policy, Rules
from services.sessions.principal import Principal, principal_of
from services.sessions.records import Authentication, Denied, NewSession, Presence
from services.sessions.tokens import Tokens
from shared.objects.config import Documents
from shared.storage.keys import SHARED
from shared.storage.records import TenantRecord
from shared.testing.clock import LoopClock
from shared.testing.kit import Kit, Ref, run_with_kit
from shared.webhooks.hosting import Webhooks

PRINCIPAL = "ann@example.org"
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS


def key_list(*ids: int) -> str:
    """Keys for tests, each its id 32 times over."""
    return ",".join(f"{key_id}:{urlsafe_b64encode(bytes([key_id]) * 32).rstrip(b'=').decode()}" for key_id in ids)


KEYS = key_list(0, 1)


class World:
    """A tenant `acme` with its principals."""

    def __init__(self, kit: Kit, keys: str = KEYS) -> None:
        self.kit = kit
        clock = LoopClock(asyncio.get_running_loop())
        self.shared = Documents(kit.store, SHARED, clock)
        self.documents = Documents(kit.store, "se", clock)
        self.use(keys)

    def use(self, keys: str) -> None:
        """Take these keys, as after a restart."""
        self.tokens = Tokens(read_keys(keys))
        self.directory = Directory(self.shared, self.documents, self.tokens)
        self.cuts = Cuts(self.directory, self.documents, self._call)
        self.desk = Desk(self.tokens, self.directory, self._call, came=self.cuts.came)

    async def _call(self, address: Any, method: Any, *args: Any, **options: Any) -> Any:
        return await self.kit.node.call(address, method, *args, **options)

    async def begin(self) -> None:
        """Make the tenant."""
        body = msgspec.json.encode(TenantRecord(created_ms=0))
        await self.shared.put("tenant", "acme", "acme", body, expected=None)
        await self.documents.poll()

    async def polled(self) -> None:
        """Look at the documents, as a node does all the time."""
        await self.shared.poll()
        await self.documents.poll()

    async def policy(self, **members: Any) -> None:
        """Put the tenant's policy."""
        policy = msgspec.convert(members, Policy)
        await self.polled()
        await self.documents.put(POLICY, "acme", NAME, msgspec.json.encode(policy), expected=None)

    async def cut(self) -> None:
        """End everything of the tenant."""
        await self.polled()
        moment_ms = self.kit.node.host.store_clock.upper_ms()
        await self.documents.put(CUT, "acme", NAME, msgspec.json.encode(Cut(moment_ms)), expected=None)

    async def create(self, principal: str = PRINCIPAL, *, key: str | None = None, **members: Any) -> Grant:
        """Sign somebody in."""
        await self.polled()
        return await self.desk.create("acme", NewSession(principal=principal, **members), key=key)

    async def stand(self, token: str) -> Presence | Denied | None:
        """What a token is worth; None: it was never issued."""
        await self.polled()
        located = self.desk.located(token.encode())
        return None if located is None else await self.desk.stand(located)

    async def counts(self, token: str) -> bool:
        """Whether a token counts."""
        return isinstance(await self.stand(token), Presence)

    async def why(self, token: str) -> str:
        """Why a token does not count; "" if it does."""
        answer = await self.stand(token)
        return answer.reason if isinstance(answer, Denied) else "" if answer else "never issued"

    async def rotate(self, token: str) -> Grant | Denied:
        """Have a token replaced."""
        await self.polled()
        located = self.desk.located(token.encode())
        assert located is not None
        return await self.desk.rotate(located)

    async def rotated(self, token: str) -> str:
        """The token that replaces it, which must be."""
        grant = await self.rotate(token)
        assert isinstance(grant, Grant), grant
        return grant.token

    async def authenticate(self, session_id: str, principal: str = PRINCIPAL, **members: Any) -> Grant:
        """Step up."""
        await self.polled()
        authentication = Authentication(**{"acr": "aal2", "amr": ("otp",), **members})
        return await self.desk.authenticate("acme", principal, session_id, authentication)

    def ref(self, principal: str = PRINCIPAL) -> Ref:
        """The principal's object."""
        return self.kit.at(Principal, "acme", self.desk.address("acme", principal).name)

    async def listed(self, principal: str = PRINCIPAL) -> list[str]:
        """The ids of the sessions that are listed."""
        await self.polled()
        return [view.id for view in await self.ref(principal).listing(self.directory.rules("acme"))]

    def events(self, principal: str = PRINCIPAL) -> list[tuple[str, str]]:
        """What the feed has of a principal: kinds and reasons."""
        stored = self.kit.journal(self.ref(principal)).values()
        return [(event["kind"], event.get("reason", "")) for event in stored]


def with_world(
    scenario: Callable[[World], Awaitable[None]],
    *,
    latency_ms: int = 2,
    keys: str = KEYS,
    webhooks: Webhooks | None = None,
    ruled: bool = False,
) -> None:
    """Run a scenario in virtual time, of which it may take two years; `webhooks` are told what happens.

    `ruled`: principals know the tenant's rules also when nobody calls, where the world has polled lately.
    """
    worlds: list[World] = []

    def rules(tenant: str) -> Rules | None:
        return worlds[0].directory.rules(tenant) if ruled else None

    kind = principal_of(webhooks, rules)
    kinds = [kind] if webhooks is None else [kind, webhooks.kind]

    async def main(kit: Kit) -> None:
        world = World(kit, keys)
        worlds.append(world)
        await world.begin()
        await scenario(world)

    run_with_kit(main, kinds=kinds, latency_ms=latency_ms, limit_ms=2 * 366 * 86_400_000)


def bytes_in(value: object, depth: int = 0) -> list[bytes]:
    """All bytes and texts that a structure holds."""
    if isinstance(value, bytes):
        return [value]
    if isinstance(value, str):
        return [value.encode()]
    if depth > 12:
        return []
    if isinstance(value, dict):
        return [found for pair in value.items() for part in pair for found in bytes_in(part, depth + 1)]
    if isinstance(value, list | tuple | set | frozenset):
        return [found for part in value for found in bytes_in(part, depth + 1)]
    slots = {name for cls in type(value).__mro__ for name in getattr(cls, "__slots__", ())} | set(
        getattr(value, "__dict__", ())
    )
    return [found for name in slots for found in bytes_in(getattr(value, name, None), depth + 1)]
