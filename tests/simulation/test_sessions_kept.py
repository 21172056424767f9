"""Privacy of principals (rows P-.. of the session checklist), requests that are repeated, policies and keys that change."""

import asyncio

import msgspec
import pytest

from services.sessions.policy import Policy, Rules
from services.sessions.refusals import SessionEndedError
from tests.support.signing_in import HOUR_MS, MINUTE_MS, PRINCIPAL, World, bytes_in, key_list, with_world

DAY_MS = 24 * HOUR_MS


def test_p02_what_is_known_of_an_ended_session_is_forgotten_in_time() -> None:
    """P-02: the mark goes after its retention, and at last the object with its feed."""

    async def scenario(world: World) -> None:
        await world.policy(retention_ms=HOUR_MS)
        grant = await world.create(address="203.0.113.7", user_agent="browser")
        await world.ref().revoke(grant.session.id, "logout")
        assert "203.0.113.7" not in repr(world.kit.stored(world.ref()))
        await world.kit.advance(HOUR_MS - MINUTE_MS)
        assert "logout" == await world.why(grant.token)
        await world.kit.advance(2 * MINUTE_MS)
        assert "unknown" == await world.why(grant.token)
        assert {} == world.kit.stored(world.ref())
        assert {} == world.kit.journal(world.ref())

    with_world(scenario)


def test_p03_an_export_has_every_field_that_is_stored() -> None:
    """P-03: whatever text is stored of a principal is found in the export, but for what only tokens are compared with."""

    async def scenario(world: World) -> None:
        grant = await world.create(
            client="ios",
            label="phone",
            address="203.0.113.7",
            user_agent="agent",
            roles=("admin",),
            data=b'{"theme":"dark"}',
        )
        gone = await world.create(client="web")
        await world.ref().revoke(gone.session.id)
        exported = msgspec.json.encode(await world.ref().export()).decode()
        for text in ("ios", "phone", "203.0.113.7", "agent", "admin", "dark", PRINCIPAL, "web", gone.session.id):
            assert text in exported
        assert grant.session.id in exported
        assert '"session.revoked"' in exported

    with_world(scenario)


def test_p04_erasing_leaves_the_mark_alone() -> None:
    """P-04: nothing else of the principal is stored, a repeated request brings nothing back, and enabling begins anew."""

    async def scenario(world: World) -> None:
        grant = await world.create(key="k-1", address="203.0.113.7", data=b'{"a":1}')
        assert 1 == await world.ref().erase("ann", Rules(Policy(retention_ms=30 * DAY_MS)))
        stored = world.kit.stored(world.ref())
        assert {"p", "feed"} == set(stored)
        assert [("principal.erased", "")] == world.events()
        held = b"".join(bytes_in(world.kit.store.snapshot()))
        assert PRINCIPAL.encode() not in held
        assert b"203.0.113.7" not in held
        assert "unknown" == await world.why(grant.token)
        again = world.create(key="k-1", address="203.0.113.7", data=b'{"a":1}')
        refused = await asyncio.gather(world.create(), again, return_exceptions=True)
        assert ["principal_erased", "session_ended"] == [error.code for error in refused]  # type: ignore[union-attr]  # They are, or this fails.
        await world.ref().enable(PRINCIPAL)
        assert await world.counts((await world.create()).token)

    with_world(scenario)


def test_p04_the_mark_of_an_erasure_is_forgotten_in_time() -> None:
    """P-04: then nothing is left at all."""

    async def scenario(world: World) -> None:
        await world.create()
        await world.ref().erase("ann", Rules(Policy(retention_ms=HOUR_MS)))
        await world.kit.advance(HOUR_MS + MINUTE_MS)
        assert {} == world.kit.stored(world.ref())

    with_world(scenario)


def test_who_was_erased_and_then_disabled_stays_disabled_and_at_rest() -> None:
    """When the erasure is forgotten: nothing rings any more, and nobody signs in until it is enabled."""

    async def scenario(world: World) -> None:
        await world.create()
        await world.ref().erase(PRINCIPAL, Rules(Policy(retention_ms=MINUTE_MS)))
        await world.ref().disable(PRINCIPAL, Rules())
        await world.kit.advance(MINUTE_MS + 10)
        assert {} == world.kit.alarms(world.ref())
        refused = await asyncio.gather(world.create(), return_exceptions=True)
        assert "principal_disabled" == refused[0].code  # type: ignore[union-attr]  # It is, or this fails.
        assert await world.ref().enable(PRINCIPAL)
        assert await world.counts((await world.create()).token)

    with_world(scenario)


def test_a_create_that_is_repeated_gives_the_same_token() -> None:
    """With its key it is one session; with another body the key is refused."""

    async def scenario(world: World) -> None:
        first, again = await world.create(key="k"), await world.create(key="k")
        assert first.token == again.token
        assert [first.session.id] == await world.listed()
        refused = await asyncio.gather(world.create(key="k", client="other"), return_exceptions=True)
        assert "idempotency_key_reused" == refused[0].code  # type: ignore[union-attr]  # It is, or this fails.

    with_world(scenario)


def test_a_lowered_policy_counts_at_the_next_use_and_a_raised_one_does_not() -> None:
    """What is there keeps the shorter of both."""

    async def scenario(world: World) -> None:
        await world.policy(absolute_ms=2 * HOUR_MS)
        grant = await world.create()
        await world.policy(absolute_ms=DAY_MS)
        await world.kit.advance(HOUR_MS)
        assert await world.counts(grant.token)
        await world.policy(absolute_ms=HOUR_MS)
        assert "absolute_timeout" == await world.why(grant.token)
        await world.policy(absolute_ms=DAY_MS)
        assert await world.counts(grant.token)
        await world.kit.advance(HOUR_MS)
        assert "absolute_timeout" == await world.why(grant.token)

    with_world(scenario)


def test_tokens_outlive_a_new_key_and_end_with_the_key_that_made_them() -> None:
    """The new key signs, the old one is accepted until it is taken out; a rotation moves a session to the new one."""

    async def scenario(world: World) -> None:
        old, moved = await world.create(), await world.create()
        world.use(key_list(0, 2, 1))
        await world.polled()
        assert await world.counts(old.token)
        successor = await world.rotated(moved.token)
        world.use(key_list(0, 2))
        assert "never issued" == await world.why(old.token)
        assert await world.counts(successor)

    with_world(scenario)


def test_a_login_that_is_repeated_after_its_key_was_taken_out_is_over() -> None:
    """What that key has signed counts no longer, and is not made anew."""

    async def scenario(world: World) -> None:
        grant = await world.create(key="k-1")
        signing = world.desk._tokens._keys.signing
        signing[2] = signing.pop(world.desk._tokens.signing_id)
        world.desk._tokens._keys.signing_id = 2
        with pytest.raises(SessionEndedError):
            await world.create(key="k-1")
        assert not await world.counts(grant.token)
        assert await world.counts((await world.create(key="k-2")).token)

    with_world(scenario)
