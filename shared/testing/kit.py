"""The test kit for authors of objects: your object on the real core, with time and trouble under your control.

    def test_a_counter_settles_after_a_minute():
        async def scenario(kit: Kit) -> None:
            counter = kit.at(Counter, "acme", "one")
            assert await counter.add(5) == 5
            await kit.advance(60_000)
            assert await counter.total() == 0

        run_with_kit(scenario, kinds=[Counter])

Turns, commits, alarms and leases are those that are shipped; the store is the one in memory, which a
differential test holds to the real one. No server is started, and a virtual day takes no time. A fault
that was planned and never met fails the test.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec

from shared.bounds import LISTING_ROWS_MAX
from shared.objects.address import Address, shard_of, split_address
from shared.objects.handler import DurableObject
from shared.objects.ingress import STOPPING, Ingress
from shared.objects.listings import Found, Page
from shared.objects.native import NativeState
from shared.objects.sockets import Close
from shared.objects.state import ObjectState
from shared.storage.codec import decode
from shared.storage.interface import NATIVE_FIELD
from shared.telemetry.metrics import Metrics
from shared.testing.clock import LIMIT_MS, LoopClock, run_virtual
from shared.testing.cluster import LEASE_TTL_MS, Node
from shared.testing.faults import FaultyStore
from shared.testing.shard import Journal, Shard
from shared.testing.sockets import GONE, Client, NodeOwners, message_type
from shared.testing.store import MemoryStore

_ANY_SCHEMA = 1 << 62
_SETTLE_MS = 40_000  # A turn may take 30 s, and a commit in doubt a lease.


class ArmedAlarm(NamedTuple):
    """An alarm in the store's index: whose, its name, and when it is due in ms of the store's clock."""

    address: Address
    name: str
    due_ms: int


class Ref:
    """An object to call: its handlers as coroutine functions, which raise what `Host.call` raises."""

    __slots__ = ("_address", "_kind", "_kit")

    def __init__(self, kit: "Kit", kind: type[DurableObject], address: Address) -> None:
        self._kit, self._kind, self._address = kit, kind, address

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        method = getattr(self._kind, name)

        async def call(*args: Any) -> Any:
            return await self._kit.node.call(self._address, method, *args)

        return call


class Kit:
    """A node with its objects, over a store in memory, in virtual time. Made by `run_with_kit` or `open_kit`."""

    def __init__(self, kinds: Sequence[type[DurableObject]], *, shards: int, latency_ms: int) -> None:
        self._clock = LoopClock(asyncio.get_running_loop())
        self._kinds = kinds
        self._shards = shards
        self._nodes: list[Node] = []
        self._ingress: Ingress | None = None
        self._sweeping: asyncio.Task[None]
        self._clients: list[Client] = []
        self.store = MemoryStore(self._clock, latency_ms=latency_ms)
        """What is stored. `store.full = True` lets it run out of memory; `snapshot` and `restore` turn it back."""
        self.faults = FaultyStore(self.store)
        """Breaks calls to the store: `faults.next("commit", FaultKind.REPLY_LOST)`, or all: `faults.away = True`."""

    @property
    def node(self) -> Node:
        """The node that runs the objects now: the last that was started."""
        return self._nodes[-1]

    def now_ms(self) -> int:
        """The store's time, as the objects see it, in Unix ms."""
        return self._clock.now_ms()

    def at(self, kind: type[DurableObject], tenant: str, name: str) -> Ref:
        """The object of that address, on whichever node runs it: `await kit.at(Counter, "acme", "one").add(5)`."""
        return Ref(self, kind, Address(kind.kind, tenant, name))

    async def find(self, kind: type[DurableObject], tenant: str, name: str, value: str) -> list[Found]:
        """The objects, 1,000 at most, that a listing shows under `value` in the index `name` of the kind."""
        calls = self.node.host.calls
        page: Page = await self.node.run(calls.find(kind, tenant, name, value, limit=LISTING_ROWS_MAX))
        return list(page.rows)

    # Time.

    async def advance(self, ms: int) -> None:
        """Let `ms` pass, and what the alarms take that came due in it: they have rung when it returns.

        An alarm that cannot ring, because its node or its store does not answer, is waited for 40 s.
        """
        await asyncio.sleep(ms / 1000)
        due_ms = self.now_ms()
        until_ms = due_ms + _SETTLE_MS
        while self.node.alive and not self.node.process.stopped and self.now_ms() < until_ms:
            armed = self._armed()
            if not armed or armed[0].due_ms > due_ms:
                return
            await asyncio.sleep(0.001)

    async def advance_to_next_alarm(self) -> ArmedAlarm:
        """Go to when the next stored alarm is due, let it ring, and say which it was.

        Raises:
            AssertionError: none is armed.
        """
        armed = self._armed()
        assert armed, "no alarm is armed"
        await self.advance(max(0, armed[0].due_ms - self.now_ms()))
        return armed[0]

    # Live connections.

    async def connect(self, ref: Ref, *, tags: tuple[str, ...] = (), attachment: Any = None) -> Client:
        """Open a socket of the object; `tags` and `attachment` are what its ticket would carry.

        Raises:
            DomainError: the object has refused it.
        """
        kind = self.node.host.kind(_address(ref).kind)
        assert kind is not None
        encoded = msgspec.json.encode(attachment)
        line = await self.ingress.open(kind, _address(ref), tags=tags, attachment=encoded)
        client = Client(self.ingress, line, message_type(kind))
        self._clients.append(client)
        return client

    @property
    def ingress(self) -> Ingress:
        """Where the sockets end; it stands beside the nodes."""
        if self._ingress is None:
            metrics = Metrics()
            self._ingress = Ingress(NodeOwners(lambda: self.node), self._clock, metrics)
            self._sweeping = asyncio.get_running_loop().create_task(self._ingress.run())
        return self._ingress

    # What is stored.

    def alarms(self, ref: Ref) -> dict[str, int]:
        """The object's armed alarms as stored: name to due time, in ms of the store's clock."""
        return {name: record.due_ms for name, record in self._state(ref).alarm_records.items()}

    def dead_alarms(self, ref: Ref) -> list[str]:
        """The alarms of the object that were given up after a day of failures, sorted."""
        key = _address(ref).encode()
        return sorted(split[1] for split in map(_split, self._shard(key).dead_alarms) if split[0] == _address(ref))

    def stored(self, ref: Ref) -> dict[str, Any]:
        """The object's keys and values as stored, not as in memory; structs come as what MessagePack makes of them."""
        state = self._state(ref)
        return {key: state.get(key, Any) for key in state.list()}

    def journal(self, ref: Ref) -> dict[int, Any]:
        """The entries of the object's journal as stored, by position, oldest first."""
        key = _address(ref).encode()
        stored = self._shard(key).journals.get(key, Journal()).entries
        return {position: decode(entry, Any) for position, entry in stored.items()}

    def stored_native(self, ref: Ref) -> bytes:
        """The last stored checkpoint of an object of a native kind; empty where there is none."""
        key = _address(ref).encode()
        kept = self._shard(key).natives.get(key)
        fields = {} if kept is None else {NATIVE_FIELD: kept[0]}
        return NativeState.load(fields, now_ms=self.now_ms()).stored

    # Trouble.

    async def evict(self, ref: Ref) -> None:
        """Store what the object has in memory and let it leave: the next call loads it.

        Raises:
            AssertionError: it does not become idle within 40 s.
        """
        residents, until_ms = self.node.host.residents, self.now_ms() + _SETTLE_MS
        while not residents.passivate(_address(ref)):
            assert self.now_ms() < until_ms, f"{_address(ref)} does not become idle"
            await asyncio.sleep(0.01)

    async def kill(self) -> None:
        """Crash the node as `kill -9` does, and start the next one, which owns the objects when this returns.

        Callers under way get NodeDiedError, and sockets end with 1006. The next one runs on the same machine, so it
        need not wait for leases.
        """
        await self.node.kill()
        await self._end_sockets(GONE)
        await self.start()

    async def kill_owner(self) -> None:
        """As `kill`, but the sockets end at another node: they stay open, and hear of the change by a `resync`."""
        await self.node.kill()
        await self.start()

    async def restart(self) -> None:
        """Stop the node in good order, as by SIGTERM, and start the next one. Sockets end with 1012."""
        await self._end_sockets(STOPPING)
        await self.node.drain()
        await self.start()

    async def hand_over(self) -> None:
        """As `restart`, but the sockets end at another node, and stay open."""
        await self.node.drain()
        await self.start(clean=True)

    async def pause(self) -> Node:
        """Stop the node as SIGSTOP does, until a second one has taken over; the stopped one is returned.

        Calls under way wait in it. `former.process.resume()` lets it go on, not knowing that time has passed:
        whatever it still writes is refused.
        """
        former = self.node
        former.process.stop()
        await self.start(machine=f"machine {len(self._nodes)}")
        return former

    async def start(self, *, machine: str = "machine", clean: bool = False) -> Node:
        """Start a node; it owns every object when this returns. On another `machine` it waits for leases to end.

        Sockets that are open are told of the change, unless it was `clean`.

        Raises:
            AssertionError: it does not own everything after three lease times.
        """
        name = f"node {len(self._nodes)}"
        node = Node(self.faults, kinds=self._kinds, name=name, lock_id=machine, shards=self._shards)
        self._nodes.append(node)
        node.start(housekeeping=True)
        await node.run(_claim(node))
        if self._ingress is not None:
            self._ingress.reattach(clean=clean)
        return node

    async def close(self) -> None:
        """End all clients and nodes, and what is still on its way to the store."""
        for client in self._clients:
            await client.cut(GONE)
        if self._ingress is not None:
            self._sweeping.cancel()
        for node in self._nodes:
            await node.bury()
        await self.faults.settle()

    async def _end_sockets(self, close: Close) -> None:
        """The ingress goes with its node: its clients see `close`, and the next node knows of none of them."""
        clients, self._clients = self._clients, []
        for client in clients:
            await client.cut(close)
        if self._ingress is not None:
            self._sweeping.cancel()
            self._ingress = None

    def _shard(self, object_id: bytes) -> Shard:
        return self.store.snapshot().shards.get(shard_of(object_id, self._shards), Shard())

    def _state(self, ref: Ref) -> ObjectState:
        key = _address(ref).encode()
        fields = self._shard(key).objects.get(key, {})
        return ObjectState.load(fields, now_ms=self.now_ms(), schema=_ANY_SCHEMA)

    def _armed(self) -> list[ArmedAlarm]:
        shards = self.store.snapshot().shards.values()
        armed = (ArmedAlarm(*_split(member), due_ms) for shard in shards for member, due_ms in shard.alarms.items())
        return sorted(armed, key=lambda alarm: alarm.due_ms)


@asynccontextmanager
async def open_kit(kinds: Sequence[type[DurableObject]], *, shards: int = 4, latency_ms: int = 2) -> AsyncIterator[Kit]:
    """A kit with a running node, for code on a `VirtualTimeLoop`. A call to its store takes `latency_ms`.

    Raises:
        UnfiredFaultError: at the end, if all else went well and a planned fault was not met.
    """
    kit = Kit(kinds, shards=shards, latency_ms=latency_ms)
    try:
        await kit.start()
        yield kit
    finally:
        await kit.close()
    kit.faults.check()


def run_with_kit(
    scenario: Callable[[Kit], Awaitable[None]],
    *,
    kinds: Sequence[type[DurableObject]],
    shards: int = 4,
    latency_ms: int = 2,
    limit_ms: int = LIMIT_MS,
) -> None:
    """Run a test in virtual time, of which it may take `limit_ms` (an hour).

    Raises:
        UnfiredFaultError: a planned fault was not met.
        NeverEndingWaitError: the scenario waits for what never happens, or for more than `limit_ms`.
    """

    async def main() -> None:
        async with open_kit(kinds, shards=shards, latency_ms=latency_ms) as kit:
            await scenario(kit)

    run_virtual(main, limit_ms=limit_ms)


async def _claim(node: Node) -> None:
    """Own everything: at once, or when the leases of another machine have ended."""
    async with asyncio.timeout(3 * LEASE_TTL_MS / 1000):
        while node.ownership.open_shards < len(node.ownership.shards):
            await node.ownership.claim_missing()
            await asyncio.sleep(0.1 if node.ownership.open_shards < len(node.ownership.shards) else 0)


def _address(ref: Ref) -> Address:
    return ref._address  # noqa: SLF001  # Every public name of a Ref is a handler of the object.


def _split(member: bytes) -> tuple[Address, str]:
    address, end = split_address(member)
    return address, member[end:].decode()
