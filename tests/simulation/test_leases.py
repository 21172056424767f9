"""Who owns a shard, over random histories of three nodes, one store and one clock.

Nodes claim, renew, release, fence anew and commit; their commands and the answers are slow or lost;
they stand still past their leases; the store goes back in time. At most one of them is believed, and
what it remembers is what the store has.
"""

from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shared import bounds
from shared.objects.ownership import Ownership, Shard
from shared.objects.store_clock import StoreClock
from shared.storage.interface import (
    Fence,
    LoadOrder,
    ObjectWrite,
    Section,
    Status,
    StoreAwayError,
    StoreError,
    StoreInDoubtError,
)
from shared.telemetry.metrics import Metrics
from shared.testing.clock import START_MS, ManualClock
from shared.testing.faults import FaultyStore
from shared.testing.shard import Lease
from shared.testing.store import MemoryStore
from tests.support.stepping import at_once

T = TypeVar("T")
TTL_MS = 6_000
MARGIN_MS = TTL_MS // bounds.LEASE_MARGIN_DIVISOR
OBJECT, FIELD = b"object", b"value"


class Weather(msgspec.Struct, frozen=True, kw_only=True):
    """What happens on the way to the store and back."""

    there_ms: int = 0
    back_ms: int = 0
    request_lost: bool = False
    reply_lost: bool = False


class Link(FaultyStore):
    """One node's way to the store; `weather` is that of the next call."""

    def __init__(self, store: MemoryStore, clock: ManualClock) -> None:
        super().__init__(store)
        self.clock = clock
        self.weather = Weather()
        self.claims: list[Callable[[], Coroutine[Any, Any, Any]]] = []  # Every one sent: copies may be on their way.
        self.misled = False  # The store went back in time, and nothing that concerns leases was heard from it since.

    async def _run(self, operation: str, call: Callable[[], Coroutine[Any, Any, T]], timeout_ms: int = 0) -> T:
        weather, self.weather = self.weather, Weather()
        if operation == "claim":
            self.claims.append(call)
        if weather.request_lost:
            raise StoreAwayError(operation)
        self.clock.advance(weather.there_ms)
        result = await call()
        self.clock.advance(weather.back_ms)
        if weather.reply_lost:
            raise StoreInDoubtError(operation)
        self.misled = self.misled and operation == "load"
        return result


class Node:
    """An owner, and the value that it remembers: None once it had to forget."""

    def __init__(self, name: str, store: MemoryStore, clock: ManualClock, metrics: Metrics) -> None:
        self.name = name
        self.link = Link(store, clock)
        self.ownership = Ownership(
            self.link, StoreClock(clock), metrics, shards=1, node=name, lock_id="", ttl_ms=TTL_MS
        )
        self.ownership.on_lost, self.ownership.on_rollback = self.forget, self.went_back
        self.may_go_back = False  # The store did, since it last granted this node anything.
        self.remembered: bytes | None = None

    @property
    def shard(self) -> Shard:
        return self.ownership.shards[0]

    def forget(self, _: Sequence[Shard]) -> None:
        self.remembered = None

    def went_back(self, shards: Sequence[Shard]) -> None:
        """Memory may be written back now, over what is stored: that must not be another's."""
        assert self.may_go_back
        self.forget(shards)

    def owns(self, lease: Lease) -> bool:
        """Whether the newest claim that the store granted is of this process, be the node told or not."""
        return self.ownership.is_own(lease.token)


nodes = st.integers(0, 2)
fair = st.just(Weather())
delays_ms = st.sampled_from([0, 1, 50, 1_000, 4_999, 5_000, 7_000])
weathers = (
    fair
    | st.builds(Weather, there_ms=delays_ms, back_ms=delays_ms)
    | st.builds(Weather, request_lost=st.booleans(), there_ms=delays_ms, reply_lost=st.booleans())
)


class LeaseMachine(RuleBasedStateMachine):
    """Three nodes that want the same shard."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.store = MemoryStore(self.clock)
        metrics = Metrics()
        self.nodes = [Node(name, self.store, self.clock, metrics) for name in "abc"]
        self.nobody = Node("nobody", self.store, self.clock, metrics)
        self.earlier = self.store.snapshot()
        self.fences: list[Fence] = []  # Every one that the store ever granted, since it last went back in time.
        self.commits = 0

    @property
    def lease(self) -> Lease:
        shard = self.store.snapshot().shards.get(0)
        return Lease() if shard is None else shard.lease

    @property
    def stored(self) -> bytes:
        return self.store.snapshot().shards[0].objects.get(OBJECT, {}).get(FIELD, b"")

    def run(self, node: Node, step: Coroutine[Any, Any, T], weather: Weather) -> T | None:
        """The answer to what a node asks, None where it has none; every grant is noted, and its epoch is the highest."""
        node.link.weather = weather
        answer = None
        with suppress(StoreError):
            answer = at_once(step)
        lease = self.lease
        fence = Fence(lease.epoch, lease.token)
        if lease.token and (not self.fences or self.fences[-1] != fence):
            assert all(fence.epoch > older.epoch for older in self.fences)
            self.fences.append(fence)
        return answer

    @rule(at=nodes, weather=weathers)
    def claim(self, at, weather):
        """Whoever has no lease asks for one; it is given exactly if it was free, over or its own when the request came.

        Who is refused forgets: another has it.
        """
        node, lease, was_open = self.nodes[at], self.lease, self.nodes[at].shard.open
        arrives_ms = self.clock.now_ms() + weather.there_ms
        free = not lease.active or lease.expires_ms <= arrives_ms or node.owns(lease)
        self.run(node, node.ownership.claim_missing(), weather)
        answered = not weather.request_lost and not weather.reply_lost
        assert node.shard.open == (was_open or (free and answered))
        if answered and not node.shard.open:
            assert node.remembered is None
        node.may_go_back = node.may_go_back and not (node.shard.open and not was_open)

    @rule(at=nodes, weather=weathers)
    def renew(self, at, weather):
        """A lease is kept unless another claim was granted or the store went back; who is told so is closed."""
        node, fence, was_open = self.nodes[at], self.nodes[at].shard.fence, self.nodes[at].shard.open
        self.run(node, node.ownership.renew(), weather)
        answered = not weather.request_lost and not weather.reply_lost
        kept = self.lease.held_by(fence) and self.lease.seq >= node.shard.seq
        assert node.shard.open == (was_open and (not answered or kept))

    @precondition(lambda self: any(node.shard.open for node in self.nodes))
    @rule(at=nodes, weather=weathers)
    def fence_anew(self, at, weather):
        """The owner replaces its token; its older ones are worth nothing from then on."""
        node, owned = self.nodes[at], self.nodes[at].owns(self.lease)
        if not node.shard.open:
            return
        for lease in self.run(node, node.ownership.refence([(node.shard, node.shard.fence)]), weather) or ():
            assert owned == lease.granted
            if not lease.granted:
                node.ownership.suspend([node.shard])

    @precondition(lambda self: any(node.shard.open for node in self.nodes))
    @rule(at=nodes, taken_by=nodes)
    def release(self, at, taken_by):
        """What an owner gives back is granted at once to whoever asks."""
        giver, taker = self.nodes[at], self.nodes[taken_by]
        if giver.shard.open and self.lease.held_by(giver.shard.fence) and not taker.shard.open:
            self.run(giver, giver.ownership.release(), Weather())
            assert not giver.shard.open
            self.run(taker, taker.ownership.claim_missing(), Weather())
            assert taker.shard.open

    @rule(at=nodes, weather=weathers)
    def commit(self, at, weather):
        """Who believes in its lease writes; the store takes it exactly from the newest fence, at its own number."""
        node = self.nodes[at]
        if not node.shard.open or self.clock.monotonic_ms() >= node.shard.valid_until_ms:
            return
        self.commits += 1
        sent_ms, value = self.clock.monotonic_ms(), b"%d" % self.commits
        fits = self.fences[-1:] == [node.shard.fence] and self.lease.seq == node.shard.seq
        reply = self.send(node, node.shard.fence, node.shard.seq, value, weather)
        if reply is None:  # In doubt, and left so: what it may have changed is forgotten.
            node.remembered = None
            node.ownership.suspend([node.shard])
            return
        assert fits == (reply is Status.OK)
        if reply is Status.OK:
            node.remembered, node.shard.seq = value, self.lease.seq
            node.ownership.extend(node.shard, sent_ms)
        else:
            node.ownership.suspend([node.shard])

    @precondition(lambda self: len(self.fences) > 1)
    @rule(share=st.floats(0, 1, exclude_max=True))
    def late_commit(self, share):
        """A command under any older fence, however it was delayed, changes nothing; its answer reaches nobody."""
        before = self.store.snapshot()
        fence = self.fences[int(share * (len(self.fences) - 1))]
        self.commits += 1
        assert Status.FENCED is self.send(self.nobody, fence, self.lease.seq, b"late", Weather())
        assert before == self.store.snapshot()

    @rule(at=nodes)
    def suspend(self, at):
        """The outcome of a commit of another object stays unknown: memory waits for the next claim."""
        node = self.nodes[at]
        node.ownership.suspend([node.shard])

    @rule(at=nodes, by=nodes, aware=st.booleans())
    def another_has_it_for_a_while(self, at, by, aware):
        """A node stands still, aware of it or not, until its lease is over; another claims and writes."""
        if aware:
            self.suspend(at=at)
        self.clock.advance(TTL_MS)
        self.claim(at=by, weather=Weather())
        self.commit(at=by, weather=Weather())
        if aware:
            self.release(at=by, taken_by=at)
        else:
            self.renew(at=at, weather=Weather())
            self.claim(at=at, weather=Weather())

    @rule(at=nodes, by=nodes)
    def claim_without_an_answer(self, at, by):
        """Another may have had the shard before a claim that was never answered: the next answer must tell."""
        self.another_has_it_for_a_while(at=at, by=by, aware=True)
        self.suspend(at=at)
        self.suspend(at=by)
        self.clock.advance(TTL_MS)
        self.claim(at=at, weather=Weather(reply_lost=True))
        self.claim(at=at, weather=Weather())

    @precondition(lambda self: any(node.link.claims for node in self.nodes))
    @rule(at=nodes, share=st.floats(0, 1, exclude_max=True))
    def late_claim(self, at, share):
        """A copy of any claim, however it was delayed, takes nothing from a newer one of the same node; others it may follow."""
        node, lease = self.nodes[at], self.lease
        if node.link.claims:
            self.run(self.nobody, node.link.claims[int(share * len(node.link.claims))](), Weather())
            if node.owns(lease):
                assert node.owns(self.lease)
                assert lease.token <= self.lease.token

    @rule(at=nodes, weather=weathers)
    def load(self, at, weather):
        """An owner reads what is stored; a former one is told that it is one."""
        node, held = self.nodes[at], self.lease.held_by(self.nodes[at].shard.fence)
        if node.shard.open:
            loads = self.run(node, node.link.load([LoadOrder(0, node.shard.fence, OBJECT)]), weather)
            if loads is not None:
                (loaded,) = loads.objects
                assert held == (loaded.seq >= 0)
                if loaded.seq < node.shard.seq:
                    node.ownership.suspend([node.shard])
                else:
                    node.remembered, node.shard.seq = loaded.fields.get(FIELD, b""), loaded.seq

    @rule(ms=delays_ms)
    def stand_still(self, ms):
        """No node runs, as when a machine is stopped."""
        self.clock.advance(ms)

    @rule()
    def remember_the_store(self):
        self.earlier = self.store.snapshot()

    @rule()
    def restore_the_store(self):
        """Until they hear from it, nodes cannot know."""
        self.store.restore(self.earlier)
        lease = self.lease
        self.fences = [Fence(lease.epoch, lease.token)] if lease.token else []
        for node in self.nodes:
            node.link.misled = node.may_go_back = True

    @rule(at=nodes, closed=st.booleans())
    def lose_a_commit(self, at, closed):
        """The store forgets what it has confirmed; a node hears of it by a renewal, or where it was closed by a claim."""
        self.remember_the_store()
        self.commit(at=at, weather=Weather())
        if closed:
            self.suspend(at=at)
        self.restore_the_store()
        if closed:
            self.clock.advance(TTL_MS)
        else:
            self.renew(at=at, weather=Weather())
        self.claim(at=at, weather=Weather())

    @invariant()
    def at_most_one_is_believed(self):
        """Whose lease is valid here and now holds it at the store, for a margin longer; so it is the only one."""
        now_ms, lease = self.clock.monotonic_ms(), self.lease
        valid = [node for node in self.nodes if node.shard.open and now_ms < node.shard.valid_until_ms]
        for node in valid:
            if not node.link.misled:
                assert (node.name, True) == (lease.node, lease.active)
                assert node.shard.valid_until_ms + MARGIN_MS <= lease.expires_ms - START_MS
        assert 1 >= len([node for node in valid if not node.link.misled])

    @invariant()
    def memory_is_what_is_stored(self):
        """An owner that has heard from the store remembers its value, or nothing."""
        for node in self.nodes:
            held = node.shard.open and self.lease.held_by(node.shard.fence)
            if held and not node.link.misled and node.remembered is not None:
                assert self.stored == node.remembered

    def send(self, node: Node, fence: Fence, seq: int, value: bytes, weather: Weather) -> Status | None:
        write = ObjectWrite(object_id=OBJECT, puts={FIELD: value})
        section = Section(shard=0, fence=fence, seq=seq, commit_id=b"%d" % self.commits, writes=[write])
        flight = self.run(node, node.link.commit([section], ttl_ms=TTL_MS, timeout_ms=1_000), weather)
        return None if flight is None else flight.replies[0].status


TestLeaseMachine = LeaseMachine.TestCase
TestLeaseMachine.settings = settings(max_examples=2 * settings().max_examples, stateful_step_count=40)
