"""Random histories: a client that follows the numbers, and asks anew when told to, ends with what its object has."""

import asyncio
from collections.abc import Callable
from typing import Any, Literal

from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Struct, UnsetType

from shared.objects.handler import DurableObject
from shared.objects.sockets import Socket
from shared.testing.faults import Fault, FaultKind
from shared.testing.kit import Kit, run_with_kit
from shared.testing.sockets import Client

FAULTS = {"request_lost": FaultKind.REQUEST_LOST, "reply_lost": FaultKind.REPLY_LOST, "late": FaultKind.DELAY}
KEYS = ("a", "b", "c")
TROUBLE = ("evict", "kill_owner", "hand_over", "request_lost", "reply_lost", "late", "full", "away", "slow", "come")


class Change(Struct, frozen=True, forbid_unknown_fields=True):
    """Set a key, or (without one) ask for all."""

    key: Literal["a", "b", "c"] | UnsetType = UNSET
    value: int = 0


class Sheet(DurableObject):
    """Three cells with a version, told change by change."""

    kind = "sheet"

    def on_socket_open(self, socket: Socket) -> None:
        socket.send({"all": self.all(), "version": self._version()})

    def on_socket_message(self, socket: Socket, message: Change) -> None:
        if message.key is UNSET:
            socket.send({"all": self.all(), "version": self._version()})
            return
        version = self._version() + 1
        self.storage.put("version", version)
        self.storage.put(f"cell/{message.key}", message.value)
        self.sockets.send({"key": message.key, "value": message.value, "version": version})

    def all(self) -> dict[str, int]:
        return {key: self.storage.get(f"cell/{key}", int, default=0) for key in KEYS}

    def _version(self) -> int:
        return self.storage.get("version", int, default=0)


class Follower:
    """A client that does what the page of sockets says."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.cells: dict[str, int] = {}
        self.version = -1
        self.lost = True  # Until it knows all.
        self.seq = 0
        self.faults: list[str] = []

    async def run(self) -> None:
        """Follow until the socket ends."""
        try:
            while True:
                await self._take(await self.client.frame(within_ms=10**9))
        except ConnectionError:
            pass

    async def _take(self, frame: dict[str, Any]) -> None:
        if "resync" in frame:
            if frame["resync"]["after"] != self.seq:
                self.faults.append(f"{self.seq} were heard: {frame}")
            self.lost = True
            await self.client.send({})
        elif "message" in frame:
            if frame["seq"] != self.seq + 1:
                self.faults.append(f"after {self.seq}: {frame}")
            self.seq = frame["seq"]
            self._hear(frame["message"])

    def _hear(self, message: dict[str, Any]) -> None:
        if "all" in message:
            if message["version"] >= self.version:
                self.cells, self.version, self.lost = dict(message["all"]), message["version"], False
        elif message["version"] == self.version + 1:
            self.version = message["version"]
            self.cells[message["key"]] = message["value"]
        elif message["version"] > self.version + 1 and not self.lost:
            self.faults.append(f"at {self.version}, and was not told: {message}")


def once(kit: Kit, kind: FaultKind) -> Callable[[str, int], Fault | None]:
    """Breaks the next commit, if there is one."""

    def draw(operation: str, count: int) -> Fault | None:
        if operation != "commit":
            return None
        kit.faults._draw = None
        return Fault(operation=operation, kind=kind, count=count, delay_ms=40)

    return draw


async def make_trouble(kit: Kit, what: str) -> None:
    """One thing that goes wrong, or only changes."""
    match what:
        case "evict":
            kit.node.host.residents.passivate(kit.at(Sheet, "acme", "one")._address)
        case "kill_owner":
            await kit.kill_owner()
        case "hand_over":
            await kit.hand_over()
        case "request_lost" | "reply_lost" | "late":
            kit.faults._draw = once(kit, FAULTS[what])
        case "full":
            kit.store.full = not kit.store.full
        case "away":
            kit.faults.away = True
            await asyncio.sleep(7)
            kit.faults.away = False
        case _:
            await asyncio.sleep(0.005)


STEPS = st.lists(
    st.one_of(
        st.sampled_from(TROUBLE),
        st.tuples(st.integers(0, 2), st.sampled_from(KEYS), st.integers(1, 9)),
        st.tuples(st.integers(0, 2), st.sampled_from(KEYS), st.integers(1, 9)),
    ),
    max_size=25,
)


@given(steps=STEPS)
def test_a_client_that_follows_the_numbers_ends_with_the_state_of_its_object(steps: list[Any]) -> None:
    """Over evictions, deaths, hand-overs, lost replies, a full store and one that is away: three clients and late ones."""
    run_with_kit(lambda kit: follow(kit, steps), kinds=[Sheet])


async def follow(kit: Kit, steps: list[Any]) -> None:
    """One history."""
    sheet, loop = kit.at(Sheet, "acme", "one"), asyncio.get_running_loop()
    followers: list[Follower] = []
    running = []

    async def come() -> None:
        follower = Follower(await kit.connect(sheet))
        followers.append(follower)
        running.append(loop.create_task(follower.run()))

    for _ in range(3):
        await come()
    for step in steps:
        if step == "come" and not kit.store.full:
            await come()
        elif isinstance(step, str):
            await make_trouble(kit, step)
        else:
            who, key, value = step
            await followers[who].client.send({"key": key, "value": value})
            await asyncio.sleep(0.001 * (value % 3))
    kit.store.full = False
    await asyncio.sleep(25)
    stored = await sheet.all()
    for task in running:
        task.cancel()
    assert [] == [fault for follower in followers for fault in follower.faults]
    assert [stored] * len(followers) == [follower.cells for follower in followers]
    assert [None] * len(followers) == [follower.client.closed for follower in followers]
