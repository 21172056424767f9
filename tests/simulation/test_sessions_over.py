"""Sessions that are over before somebody ends them, by their tenant's cut or its policy: told as what they are, and once."""

from collections.abc import Awaitable, Callable
from unittest import mock

import pytest

from services.sessions import cuts
from services.sessions.policy import Policy, Rules
from services.sessions.records import Denied
from tests.support.signing_in import HOUR_MS, MINUTE_MS, PRINCIPAL, World, with_world

Ending = Callable[[World, str, Rules], Awaitable[int]]

ENDINGS: dict[str, Ending] = {
    "one": lambda world, session, rules: world.ref().revoke(session, "logout", rules),
    "all": lambda world, _, rules: world.ref().revoke_all(rules),
    "others": lambda world, session, rules: world.ref().revoke_all(rules, session),
    "disable": lambda world, _, rules: world.ref().disable(PRINCIPAL, rules),
    "erase": lambda world, _, rules: world.ref().erase(PRINCIPAL, rules),
}
ENDS = {"session.revoked", "session.expired", "session.evicted"}


def ends(world: World, principal: str = PRINCIPAL) -> list[tuple[str, str]]:
    """The ends that the feed tells of."""
    return [event for event in world.events(principal) if event[0] in ENDS]


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_the_tenants_cut_has_ended_is_not_ended_again(ending: str) -> None:
    """It is told as the tenant's, and counted by nobody who ends it after that; who has begun since is."""

    async def scenario(world: World) -> None:
        gone = [await world.create() for _ in range(3)]
        await world.cut()
        await world.polled()
        assert 0 == await ENDINGS[ending](world, gone[0].session.id, world.directory.rules("acme"))
        if ending != "erase":
            assert [("session.revoked", "tenant")] * 3 == ends(world)
            assert ["tenant"] * 3 == [await world.why(grant.token) for grant in gone]

    with_world(scenario)


@pytest.mark.parametrize("ending", ["all", "disable", "erase"])
def test_only_what_counts_is_counted_among_what_ends(ending: str) -> None:
    """Of one session that is over by a lowered policy and one that is not, the latter; each with its own reason."""

    async def scenario(world: World) -> None:
        await world.policy(absolute_ms=2 * HOUR_MS)
        old = await world.create()
        await world.kit.advance(MINUTE_MS + 1_000)
        young = await world.create()
        await world.policy(absolute_ms=MINUTE_MS)
        assert 1 == await ENDINGS[ending](world, "", world.directory.rules("acme"))
        if ending != "erase":
            reason = "disabled" if ending == "disable" else "revoked"
            assert [("session.expired", "absolute_timeout"), ("session.revoked", reason)] == ends(world)
            assert ["absolute_timeout", reason] == [await world.why(grant.token) for grant in (old, young)]

    with_world(scenario)


def test_who_ends_one_session_settles_the_others_and_leaves_an_alarm_that_fits() -> None:
    """Those that were over are told and remembered for as long as the policy of today says."""

    async def scenario(world: World) -> None:
        await world.policy(absolute_ms=2 * HOUR_MS, retention_ms=HOUR_MS)
        await world.create()
        await world.kit.advance(MINUTE_MS + 1_000)
        await world.policy(absolute_ms=MINUTE_MS, retention_ms=10 * MINUTE_MS)
        assert not await world.ref().revoke("nobody's", "logout", world.directory.rules("acme"))
        assert [("session.expired", "absolute_timeout")] == ends(world)
        now_ms = world.kit.now_ms()
        (due_ms,) = world.kit.alarms(world.ref()).values()
        assert now_ms + 9 * MINUTE_MS < due_ms <= now_ms + 10 * MINUTE_MS

    with_world(scenario)


def test_a_revocation_that_a_former_release_has_sent_is_carried_out() -> None:
    """It came without rules: what is over for certain is settled first, by its own reason."""

    async def scenario(world: World) -> None:
        grant = await world.create()
        assert await world.ref().revoke(grant.session.id, "upgraded")
        assert "upgraded" == await world.why(grant.token)

    with_world(scenario)


def test_a_revocation_of_nobody_leaves_nothing() -> None:
    """No alarm, and no object."""

    async def scenario(world: World) -> None:
        assert not await world.ref().revoke("nobody's", "logout", Rules(Policy()))
        assert ({}, {}) == (world.kit.stored(world.ref()), world.kit.alarms(world.ref()))

    with_world(scenario)


def test_a_token_that_comes_after_the_cut_has_its_principal_tell_of_it() -> None:
    """Of all its sessions, once, and not before; whoever asks hears no later for it."""

    async def scenario(world: World) -> None:
        first, second = await world.create(), await world.create()
        await world.cut()
        await world.kit.advance(1_000)
        assert [] == ends(world)
        assert "tenant" == await world.why(first.token)
        await world.kit.advance(100)
        assert [("session.revoked", "tenant")] * 2 == ends(world)
        assert ["tenant"] * 2 == [await world.why(grant.token) for grant in (first, second)]
        await world.kit.advance(100)
        assert 2 == len(ends(world))

    with_world(scenario)


def test_a_rotation_that_comes_after_the_cut_tells_of_it_itself() -> None:
    """In the turn that denies it."""

    async def scenario(world: World) -> None:
        grant = await world.create()
        await world.cut()
        assert Denied("tenant") == await world.rotate(grant.token)
        assert [("session.revoked", "tenant")] == ends(world)

    with_world(scenario)


def test_who_listens_to_a_principal_hears_of_the_cut_within_a_second() -> None:
    """Also of one that was before; a principal that nobody listens to is not asked, nor is one of another tenant."""

    async def scenario(world: World) -> None:
        for name in ("ann", "ben", "cleo"):
            await world.create(name)
        ann, ben = world.desk.address("acme", "ann"), world.desk.address("other", "ben")
        with world.cuts.listening(ann), world.cuts.listening(ben):
            await world.cut()
            await world.kit.advance(1_000)
        assert [("session.revoked", "tenant")] == ends(world, "ann")
        assert ([], []) == (ends(world, "ben"), ends(world, "cleo"))
        await world.polled()
        with world.cuts.listening(world.desk.address("acme", "cleo")):
            await world.kit.advance(1_000)
        assert [("session.revoked", "tenant")] == ends(world, "cleo")

    with_world(scenario)


def test_a_principal_that_could_not_be_asked_is_asked_again_while_somebody_listens() -> None:
    """Every second; where nobody does, the next token that comes has it asked."""

    async def scenario(world: World) -> None:
        for name in ("ann", "ben"):
            await world.create(name)
        await world.cut()
        await world.kit.advance(10_000)  # The node does not know of tenants what it knew.
        world.cuts.came(world.desk.address("acme", "ben"))
        with world.cuts.listening(world.desk.address("acme", "ann")):
            await world.kit.advance(2_500)
            assert [] == ends(world, "ann")
            await world.polled()
            await world.kit.advance(1_000)
            assert [("session.revoked", "tenant")] == ends(world, "ann")
        assert [] == ends(world, "ben")

    with_world(scenario)


def test_very_many_tokens_that_come_after_the_cut_cost_no_memory() -> None:
    """Principals beyond the bound tell of it when the next of their tokens comes; who is listened to tells always."""

    async def scenario(world: World) -> None:
        names = [f"p{number}" for number in range(5)]
        tokens = {name: (await world.create(name)).token for name in names}
        await world.cut()
        with world.cuts.listening(world.desk.address("acme", "p4")):
            for name in names:
                world.cuts.came(world.desk.address("acme", name))
            await world.kit.advance(1_000)
        assert [1, 0, 0, 0, 1] == [len(ends(world, name)) for name in names]
        for name in ("p1", "p2", "p3"):
            assert "tenant" == await world.why(tokens[name])
        await world.kit.advance(1_000)
        assert [1] * 5 == [len(ends(world, name)) for name in names]

    with mock.patch.multiple(cuts, CUT_LOOKS_AT_ONCE=1, CUT_LOOKS_WAITING_MAX=2):
        with_world(scenario)


def test_an_alarm_tells_of_the_cut_and_not_of_a_time_out() -> None:
    """It is when the session would have ended; it waits where the node does not know the tenant's rules."""

    async def scenario(world: World) -> None:
        await world.policy(absolute_ms=MINUTE_MS)
        grant = await world.create()
        await world.cut()
        await world.kit.advance(MINUTE_MS + 5_000)
        assert [] == ends(world)
        for _ in range(8):
            await world.polled()
            await world.kit.advance(4_500)
        assert [("session.revoked", "tenant")] == ends(world)
        assert "tenant" == await world.why(grant.token)

    with_world(scenario, ruled=True)
