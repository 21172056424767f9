"""Sessions that are over before somebody ends them, by their tenant's cut or its policy: told as what they are, and once."""

from collections.abc import Awaitable, Callable

import pytest

from services.sessions.policy import Policy, Rules
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


def ends(world: World) -> list[tuple[str, str]]:
    """The ends that the feed tells of."""
    return [event for event in world.events() if event[0] in ENDS]


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
