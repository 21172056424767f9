"""What subscribers are told of principals, over crashes and faults: every event, each with one id, and nothing is kept."""

import json
from collections.abc import Awaitable, Callable

import pytest

from services.sessions.policy import Policy, Rules
from services.sessions.webhooks import Untold
from shared import bounds
from shared.bounds import WEBHOOKS_MAX
from shared.objects.config import Documents
from shared.testing.clock import ManualClock
from shared.testing.faults import FaultKind
from shared.testing.store import MemoryStore
from shared.webhooks.book import Subscription, WebhookKeys
from shared.webhooks.hosting import Webhooks
from tests.support.receivers import Receivers, replied
from tests.support.signing_in import PRINCIPAL, World, bytes_in, with_world

_KEYS = WebhookKeys(newest=1, by_id={1: b"k" * 32})


def with_subscriber(
    scenario: Callable[[World], Awaitable[None]], receivers: Receivers, *, subscribers: int = 1
) -> None:
    """Run a scenario with so many subscribers to everything."""
    clock = ManualClock()
    webhooks = Webhooks(_KEYS, receivers)

    async def main(world: World) -> None:
        webhooks.begin(Documents(MemoryStore(clock), "se", clock))
        for number in range(subscribers):
            await webhooks.book().put("acme", f"shop{number}", Subscription(url="https://shop.example"))
        await scenario(world)

    with_world(main, webhooks=webhooks)


def told(receivers: Receivers) -> dict[str, tuple[int, str]]:
    """Number and type of what was sent, by its id; however often it was sent."""
    found = {}
    for made in receivers.made:
        body = json.loads(made.request.body or b"")
        found[made.request.engine_headers["webhook-id"]] = (body["data"]["seq"], body["type"])
    return found


def nothing_left(world: World) -> bool:
    """Whether the principal has forgotten that it had something to tell."""
    return "w" not in world.kit.stored(world.ref())


@pytest.mark.parametrize("kind", [FaultKind.AWAY, FaultKind.REQUEST_LOST, FaultKind.REPLY_LOST, FaultKind.REPEAT])
@pytest.mark.parametrize("nth", [1, 2, 3, 4])
def test_whatever_a_commit_meets_every_event_is_told(kind: FaultKind, nth: int) -> None:
    """The commits that tell, those of deliveries among them: under one id for each event."""
    receivers = Receivers(replied(204))

    async def scenario(world: World) -> None:
        grant = await world.create()
        world.kit.faults.next("commit", kind, nth=nth, delay_ms=20)
        await world.kit.advance(10)
        await world.ref().revoke_all(Rules())
        await world.kit.advance(60_000)
        assert [(1, "session.created"), (2, "session.revoked")] == sorted(told(receivers).values())
        assert nothing_left(world)
        assert not await world.counts(grant.token)

    with_subscriber(scenario, receivers)


@pytest.mark.parametrize("after_ms", [0, 1, 2, 3, 4, 6, 8, 12, 20, 40])
def test_a_crash_at_any_moment_leaves_nothing_untold(after_ms: int) -> None:
    """What was answered is told by whoever has the principal next."""
    receivers = Receivers(replied(204))

    async def scenario(world: World) -> None:
        await world.create()
        await world.create()
        await world.kit.advance(after_ms)
        await world.kit.kill()
        await world.kit.advance(60_000)
        assert [(1, "session.created"), (2, "session.created")] == sorted(told(receivers).values())
        assert nothing_left(world)

    with_subscriber(scenario, receivers)


def test_where_too_many_messages_are_under_way_the_rest_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is kept from signing in, and nothing is lost."""
    monkeypatch.setattr(bounds, "MESSAGES_MAX", 3)
    receivers = Receivers(replied(204))

    async def scenario(world: World) -> None:
        for _ in range(8):
            await world.create()
        await world.kit.advance(60_000)
        await world.ref().revoke_all(Rules())
        await world.kit.advance(500)
        assert not nothing_left(world)
        await world.create()
        await world.kit.advance(60_000)
        assert list(range(1, 18)) == sorted(seq for seq, _ in told(receivers).values())
        assert nothing_left(world)

    with_subscriber(scenario, receivers)


@pytest.mark.parametrize("length", [464, 480, 490, 512])
def test_messages_that_are_as_large_as_can_be_are_told_a_few_at_a_time(length: int) -> None:
    """A name of the worst characters, told to as many as there may be: no turn is too large, and none is tried for ever."""
    receivers = Receivers(replied(204))
    name = "\x01" * length

    async def scenario(world: World) -> None:
        for _ in range(10):
            await world.create(name)
        await world.ref(name).revoke_all(Rules())
        await world.kit.advance(120_000)
        assert list(range(1, 21)) == sorted(seq for seq, _ in told(receivers).values())
        assert 20 * WEBHOOKS_MAX == len(receivers.made)
        assert "w" not in world.kit.stored(world.ref(name))

    with_subscriber(scenario, receivers, subscribers=WEBHOOKS_MAX)


def test_a_principal_that_is_forgotten_tells_that_first() -> None:
    """The mark of an erasure has no name, and what was told of it none either; at last nothing is stored."""
    receivers = Receivers(replied(204))

    async def scenario(world: World) -> None:
        await world.create()
        await world.ref().erase(PRINCIPAL, Rules(Policy(retention_ms=0)))
        await world.kit.advance(2_000)
        assert "principal.erased" in {kind for _, kind in told(receivers).values()}
        assert {} == world.kit.stored(world.ref())
        assert PRINCIPAL.encode() not in bytes_in(world.kit.stored(world.ref()))

    with_subscriber(scenario, receivers)


def test_before_a_node_knows_who_listens_what_happens_is_kept_for_them() -> None:
    """Told once the documents are read; dropped where nobody wants it."""
    receivers = Receivers(replied(204))
    clock = ManualClock()
    webhooks = Webhooks(_KEYS, receivers)

    async def scenario(world: World) -> None:
        await world.create()
        await world.kit.advance(1_000)
        assert Untold(0, PRINCIPAL) == Untold(*world.kit.stored(world.ref())["w"])
        webhooks.begin(Documents(MemoryStore(clock), "se", clock))
        await world.kit.advance(600_000)
        assert nothing_left(world)
        assert not receivers.made

    with_world(scenario, webhooks=webhooks)
