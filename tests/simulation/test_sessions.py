"""The promises of a principal, by the rows of the session checklist (S-.., P-..), on a clock that is moved."""

import asyncio

import msgspec
import pytest

from services.sessions.bounds import DATA_BYTES_MAX, PRINCIPAL_DATA_BYTES_MAX
from services.sessions.desk import Grant
from services.sessions.policy import Policy, Rules
from services.sessions.principal import Principal
from services.sessions.records import Denied, Presence
from services.sessions.refusals import DataTooLargeError, PrincipalDisabledError, PrincipalErasedError
from services.sessions.session import Actor
from shared.errors import InvalidInputError
from tests.support.signing_in import HOUR_MS, MINUTE_MS, PRINCIPAL, World, bytes_in, with_world


def test_s01_concurrent_sign_ins_are_all_listed() -> None:
    """S-01: of 200 sign-ins at once every session is listed, and every token counts."""

    async def scenario(world: World) -> None:
        await world.policy(limits={"total": 200})
        grants = await asyncio.gather(*(world.create() for _ in range(200)))
        counting = [grant.session.id for grant in grants if await world.counts(grant.token)]
        assert 200 == len(counting)
        assert sorted(counting) == sorted(await world.listed())

    with_world(scenario)


def test_s02_revoking_all_others_leaves_one_while_each_is_being_rotated() -> None:
    """S-02: every other token, and whatever its rotation under way comes to, stops counting."""

    async def scenario(world: World) -> None:
        grants = await asyncio.gather(*(world.create() for _ in range(20)))
        kept, *others = grants
        revoking = world.ref().revoke_all(Rules(), kept.session.id)
        rotating = asyncio.gather(*(world.rotate(grant.token) for grant in others))
        assert 19 == (await asyncio.gather(revoking, rotating))[0]
        successors = [answer.token for answer in rotating.result() if isinstance(answer, Grant)]
        for token in [grant.token for grant in others] + successors:
            assert not await world.counts(token)
        assert await world.counts(kept.token)
        assert [kept.session.id] == await world.listed()

    with_world(scenario)


def test_s03_what_is_under_way_cannot_undo_a_revocation() -> None:
    """S-03: rotation, touch and patch that began before are stored before it or fail; none brings the session back."""

    async def scenario(world: World) -> None:
        grant = await world.create()
        rules = world.directory.rules("acme")
        held = (
            world.rotate(grant.token),
            world.stand(grant.token),
            world.ref().patch_data(grant.session.id, b'{"cart":1}', None, rules),
            world.ref().revoke(grant.session.id, "logout"),
            world.rotate(grant.token),
            world.stand(grant.token),
        )
        answers = await asyncio.gather(*held, return_exceptions=True)
        assert "logout" == await world.why(grant.token)
        assert [] == await world.listed()
        for answer in answers:
            if isinstance(answer, Grant):
                assert not await world.counts(answer.token)
        stored = world.kit.stored(world.ref())
        assert [] == [key for key in stored if key[:2] in ("s/", "u/", "d/")]

    with_world(scenario, latency_ms=50)


def test_s04_a_login_after_revoking_all_is_listed_and_can_be_revoked() -> None:
    """S-04: it is there, and the next revocation ends it."""

    async def scenario(world: World) -> None:
        await world.create()
        await world.ref().revoke_all(Rules())
        grant = await world.create()
        assert [grant.session.id] == await world.listed()
        assert await world.counts(grant.token)
        assert 1 == await world.ref().revoke_all(Rules())
        assert not await world.counts(grant.token)

    with_world(scenario)


def test_s05_a_limit_is_exact_when_all_come_at_once() -> None:
    """S-05: of 200 sign-ins five are left, and 195 were evicted."""

    async def scenario(world: World) -> None:
        await world.policy(limits={"total": 5})
        grants = await asyncio.gather(*(world.create() for _ in range(200)))
        assert 5 == sum([await world.counts(grant.token) for grant in grants])
        assert 5 == len(await world.listed())
        page = await world.ref().events(0, 1_000, 0)
        assert 395 == page.last
        assert ("session.evicted", "evicted") in world.events()

    with_world(scenario)


def test_s05_a_limit_that_refuses_names_the_sessions_that_are_there() -> None:
    """S-05: with `reject` five are let in, and 195 hear which those are."""

    async def scenario(world: World) -> None:
        await world.policy(limits={"total": 5, "on_limit": "reject"})
        answers = await asyncio.gather(*(world.create() for _ in range(200)), return_exceptions=True)
        refused = [answer for answer in answers if not isinstance(answer, Grant)]
        assert 195 == len(refused)
        assert {("session_limit_reached", 5)} == {(e.code, len(e.sessions)) for e in refused}  # type: ignore[attr-defined]  # They are, or this fails.
        assert 5 == len(await world.listed())

    with_world(scenario)


def test_s08_a_token_that_was_not_issued_makes_nothing() -> None:
    """S-08: with a valid check and another secret it is unknown, and no object comes of it."""

    async def scenario(world: World) -> None:
        nobody = world.desk.address("acme", "nobody")
        forged = world.tokens.first(
            1,
            tenant_ref=world.tokens.tenant_ref("acme"),
            principal_ref=bytes.fromhex(nobody.name),
            session=bytes(12),
            generation=1,
            nonce=bytes(16),
        )
        assert "unknown" == await world.why(world.tokens.text(forged))
        assert {} == world.kit.stored(world.ref("nobody"))
        grant = await world.create()
        real = world.tokens.read(grant.token.encode())
        assert real is not None
        other = world.tokens.first(
            1,
            tenant_ref=real.tenant_ref,
            principal_ref=real.principal_ref,
            session=real.session,
            generation=1,
            nonce=bytes(16),
        )
        assert "unknown" == await world.why(world.tokens.text(other))

    with_world(scenario)


def test_s09_nothing_usable_is_stored() -> None:
    """S-09: after logins, rotations and step-ups no token and no secret is anywhere in the store, in any spelling."""

    async def scenario(world: World) -> None:
        tokens = []
        for n in range(20):
            grant = await world.create(f"p{n}", key=f"key-{n}")
            tokens += [grant.token, await world.rotated(grant.token)]
            tokens.append((await world.authenticate(grant.session.id, f"p{n}")).token)
        held = repr(world.kit.store.snapshot()).encode() + b"".join(bytes_in(world.kit.store.snapshot()))
        for text in tokens:
            token = world.tokens.read(text.encode())
            assert token is not None
            secret = token.secret
            for spelling in (text.encode(), text[4:].encode(), secret, secret.hex().encode()):
                assert spelling not in held

    with_world(scenario)


def test_s09_a_record_that_is_moved_to_somebody_else_lets_nobody_in() -> None:
    """S-09: a verifier holds for its own tenant, principal, session and generation only."""

    async def scenario(world: World) -> None:
        grant = await world.create("mallory")
        token = world.tokens.read(grant.token.encode())
        assert token is not None
        stored = world.tokens.verifier(token)
        victim = bytes.fromhex(world.desk.address("acme", "victim").name)
        for member, other in (
            ("principal_ref", victim),
            ("tenant_ref", bytes(8)),
            ("session", bytes(12)),
            ("generation", 2),
        ):
            assert stored != world.tokens.verifier(msgspec.structs.replace(token, **{member: other}))

    with_world(scenario)


def test_s11_an_idle_session_ends_to_the_millisecond() -> None:
    """S-11: just before its time it counts, and after it does not."""

    async def scenario(world: World) -> None:
        await world.policy(idle_ms=10 * MINUTE_MS)
        grants = [await world.create(), await world.create("bob")]
        await world.kit.advance(10 * MINUTE_MS - 1_000)
        assert await world.counts(grants[0].token)
        await world.kit.advance(1_000)
        assert "idle_timeout" == await world.why(grants[1].token)
        assert await world.counts(grants[0].token)
        await world.kit.advance(10 * MINUTE_MS + 1)
        assert "idle_timeout" == await world.why(grants[0].token)
        assert ("session.expired", "idle_timeout") == world.events("bob")[-1]

    with_world(scenario, latency_ms=0)


def test_s12_use_never_moves_the_absolute_end() -> None:
    """S-12: used all the time, rotated and written to, the session ends when it was to end."""

    async def scenario(world: World) -> None:
        await world.policy(absolute_ms=HOUR_MS, idle_ms=30 * MINUTE_MS)
        grant = await world.create()
        token, began = grant.token, world.kit.now_ms()
        for minute in range(59):
            await world.kit.advance(MINUTE_MS)
            assert await world.counts(token), minute
            if minute % 10 == 0:
                token = await world.rotated(token)
                await world.ref().put_data(grant.session.id, b"{}", None, world.directory.rules("acme"))
        await world.kit.advance(began + HOUR_MS - world.kit.now_ms() - 500)
        assert await world.counts(token)
        await world.kit.advance(500)
        assert "absolute_timeout" == await world.why(token)

    with_world(scenario)


def test_s13_an_authentication_changes_the_token_and_begins_both_time_outs_anew() -> None:
    """S-13: the old token stops counting at once."""

    async def scenario(world: World) -> None:
        await world.policy(preset="aal3")
        grant = await world.create()
        await world.kit.advance(14 * MINUTE_MS)
        elevated = await world.authenticate(grant.session.id, acr="aal3", amr=("pwd", "hwk"))
        assert "superseded" == await world.why(grant.token)
        presence = await world.stand(elevated.token)
        assert isinstance(presence, Presence)
        assert ("aal3", ("pwd", "hwk")) == (presence.standing.assurance.acr, presence.standing.assurance.amr)
        assert grant.session.expires_ms + 14 * MINUTE_MS <= elevated.session.expires_ms
        assert 2 == elevated.session.generation

    with_world(scenario)


def test_s14_an_older_generation_never_gets_what_came_after_it() -> None:
    """S-14: in an overlap the token of before counts for what it stood for then, and cannot be made into the new one."""

    async def scenario(world: World) -> None:
        await world.policy(elevation_overlap_ms=10_000)
        grant = await world.create(acr="aal1")
        await world.authenticate(grant.session.id, acr="aal2")
        presence = await world.stand(grant.token)
        assert isinstance(presence, Presence)
        assert "aal1" == presence.standing.assurance.acr
        assert Denied("superseded") == await world.rotate(grant.token)
        await world.kit.advance(10_000)
        assert "superseded" == await world.why(grant.token)

    with_world(scenario)


def test_s15_all_who_rotate_one_token_get_the_same_successor() -> None:
    """S-15: fifty at once and one much later in the window; nobody is taken for a thief."""

    async def scenario(world: World) -> None:
        grant = await world.create()
        tokens = set(await asyncio.gather(*(world.rotated(grant.token) for _ in range(50))))
        assert 1 == len(tokens)
        await world.kit.advance(50_000)
        assert tokens == {await world.rotated(grant.token)}
        assert await world.counts(tokens.pop())
        assert [("session.created", ""), ("session.rotated", "")] == world.events()

    with_world(scenario)


def test_s15_a_successor_that_is_in_use_shortens_the_window() -> None:
    """S-15: ten seconds after it was seen the one before it is superseded."""

    async def scenario(world: World) -> None:
        grant = await world.create()
        successor = await world.rotated(grant.token)
        await world.kit.advance(20_000)
        assert await world.counts(grant.token)
        assert await world.counts(successor)
        await world.kit.advance(9_000)
        assert await world.counts(grant.token)
        await world.kit.advance(2_000)
        assert "superseded" == await world.why(grant.token)

    with_world(scenario)


def test_s16_a_rotation_with_an_old_token_ends_the_session_once() -> None:
    """S-16: after its window, and of seven generations ago; the event comes once."""

    async def scenario(world: World) -> None:
        for name, rotations in (("one", 1), ("seven", 7)):
            grant = await world.create(name)
            token = grant.token
            for _ in range(rotations):
                token = await world.rotated(token)
            await world.kit.advance(MINUTE_MS + 1)
            assert Denied("reuse_detected") == await world.rotate(grant.token)
            assert Denied("reuse_detected") == await world.rotate(grant.token)
            assert "reuse_detected" == await world.why(token)
            assert 1 == [kind for kind, _ in world.events(name)].count("session.reuse_detected")

    with_world(scenario)


def test_s16_a_policy_may_deny_a_reuse_and_keep_the_session() -> None:
    """S-16: it is told once a generation, however often it comes."""

    async def scenario(world: World) -> None:
        await world.policy(on_reuse="deny")
        grant = await world.create()
        token = await world.rotated(grant.token)
        await world.kit.advance(MINUTE_MS + 1)
        for _ in range(3):
            assert Denied("superseded") == await world.rotate(grant.token)
        assert await world.counts(token)
        assert 1 == [kind for kind, _ in world.events()].count("session.reuse_detected")

    with_world(scenario)


def test_s16_a_window_that_rotates_while_another_steps_up_is_no_thief() -> None:
    """S-16: its token is denied for as long as it may not know; after that it is somebody else's."""

    async def scenario(world: World) -> None:
        grant = await world.create()
        elevated = await world.authenticate(grant.session.id)
        assert Denied("superseded") == await world.rotate(grant.token)
        await world.kit.advance(MINUTE_MS - 1_000)
        assert Denied("superseded") == await world.rotate(grant.token)
        assert await world.counts(elevated.token)
        await world.kit.advance(2_000)
        assert Denied("reuse_detected") == await world.rotate(grant.token)
        assert "reuse_detected" == await world.why(elevated.token)

    with_world(scenario)


def test_s18_disabling_ends_everything_until_it_is_enabled() -> None:
    """S-18: every token at once, and no sign-in until then."""

    async def scenario(world: World) -> None:
        await world.policy(retention_ms=HOUR_MS)
        grants = [await world.create() for _ in range(3)]
        assert 3 == await world.ref().disable(PRINCIPAL, Rules())
        assert ["disabled"] * 3 == [await world.why(grant.token) for grant in grants]
        refused = await asyncio.gather(world.create(), return_exceptions=True)
        assert "principal_disabled" == refused[0].code  # type: ignore[union-attr]  # It is, or this fails.
        await world.kit.advance(2 * HOUR_MS)
        assert 0 == await world.ref().disable(PRINCIPAL, Rules())
        assert await world.ref().enable(PRINCIPAL)
        assert not await world.ref().enable(PRINCIPAL)
        assert await world.counts((await world.create()).token)

    with_world(scenario)


def test_s19_an_acknowledged_revocation_survives_a_crash() -> None:
    """S-19: the next owner denies; a revocation that was not acknowledged has happened or not."""

    async def scenario(world: World) -> None:
        first, second = await world.create(), await world.create()
        await world.ref().revoke(first.session.id, "logout")
        under_way = asyncio.ensure_future(world.ref().revoke(second.session.id, "logout"))
        await asyncio.sleep(0)
        await world.kit.kill()
        await asyncio.gather(under_way, return_exceptions=True)
        assert "logout" == await world.why(first.token)
        assert await world.why(second.token) in ("", "logout")

    with_world(scenario, latency_ms=20)


def test_s20_a_paused_owner_lets_nobody_in_whom_its_successor_has_signed_out() -> None:
    """S-20: what it answers when it wakes is no yes."""

    async def scenario(world: World) -> None:
        grant = await world.create()
        assert await world.counts(grant.token)
        former = await world.kit.pause()
        await world.ref().revoke(grant.session.id, "logout")
        await world.polled()
        located = world.desk.located(grant.token.encode())
        assert located is not None
        args = (located.session_id, 1, world.desk.verifier(located), world.directory.rules("acme"))
        asked = asyncio.ensure_future(former.call(located.address, Principal.stand, *args))
        await asyncio.sleep(0)
        former.process.resume()
        answers = await asyncio.gather(asked, return_exceptions=True)
        assert not isinstance(answers[0], Presence)

    with_world(scenario)


def test_s21_a_lost_touch_ends_a_session_early_and_never_late() -> None:
    """S-21: killed before a use was stored, the idle time counts from the use before it."""

    async def scenario(world: World) -> None:
        await world.policy(idle_ms=10 * MINUTE_MS)
        grant = await world.create()
        await world.kit.advance(5 * MINUTE_MS)
        used_ms = world.kit.now_ms()
        assert await world.counts(grant.token)
        await world.kit.kill()
        await world.kit.advance(grant.session.created_ms + 10 * MINUTE_MS - world.kit.now_ms() + 10)
        assert "idle_timeout" == await world.why(grant.token)
        assert world.kit.now_ms() < used_ms + 10 * MINUTE_MS

    with_world(scenario)


def test_s21_a_touch_is_stored_within_thirty_seconds() -> None:
    """S-21: after that a crash loses nothing of it."""

    async def scenario(world: World) -> None:
        await world.policy(idle_ms=10 * MINUTE_MS)
        grant = await world.create()
        await world.kit.advance(5 * MINUTE_MS)
        assert await world.counts(grant.token)
        await world.kit.advance(31_000)
        await world.kit.kill()
        await world.kit.advance(9 * MINUTE_MS)
        assert await world.counts(grant.token)

    with_world(scenario)


def test_s22_ending_everything_of_a_tenant_denies_all_and_lets_new_logins_in() -> None:
    """S-22: no principal is asked for it, and a login right after it counts."""

    async def scenario(world: World) -> None:
        before = [await world.create(f"p{n}") for n in range(3)]
        await world.cut()
        assert ["tenant"] * 3 == [await world.why(grant.token) for grant in before]
        after = await world.create("p0")
        assert await world.counts(after.token)
        assert [after.session.id] == await world.listed("p0")

    with_world(scenario)


def test_s26_an_anonymous_session_ends_with_the_login_that_takes_its_data() -> None:
    """S-26: its token stops counting even where the login crashes before it could end it itself."""

    async def scenario(world: World) -> None:
        anonymous = await world.create("anon-x", anonymous=True, data=b'{"cart":[1],"admin":true}')
        object_name = world.desk.address("acme", "anon-x").name
        grant = await world.create(data=b'{"cart":[1]}', replaces=(object_name, anonymous.session.id))
        await world.kit.advance(1_000)
        assert "upgraded" == await world.why(anonymous.token)
        data = await world.ref().data(grant.session.id, world.directory.rules("acme"))
        assert b'{"cart":[1]}' == data.body

    with_world(scenario)


def test_s27_a_stale_version_changes_nothing() -> None:
    """S-27: of two writers with one version the second hears that it is stale."""

    async def scenario(world: World) -> None:
        grant, rules = await world.create(), world.directory.rules("acme")
        writes = (world.ref().put_data(grant.session.id, b'{"n":%d}' % n, 0, rules) for n in (1, 2))
        answers = await asyncio.gather(*writes, return_exceptions=True)
        assert [b'{"n":1}', "precondition_failed"] == [getattr(a, "body", getattr(a, "code", "")) for a in answers]
        patched = await world.ref().patch_data(grant.session.id, b'{"n":null,"m":{"a":1,"b":null}}', 1, rules)
        assert (2, b'{"m":{"a":1}}') == (patched.version, patched.body)

    with_world(scenario)


def test_s28_an_impersonated_session_is_short_and_names_who_acts() -> None:
    """S-28: an hour at most, no step-up, outside of limits, and in every event."""

    async def scenario(world: World) -> None:
        await world.policy(limits={"total": 1})
        own = await world.create()
        actor = Actor(sub="support-7", reason="ticket", ticket="T-1")
        other = await world.create(actor=actor)
        assert await world.counts(own.token)
        assert HOUR_MS == other.session.expires_ms - other.session.created_ms
        refused = await asyncio.gather(world.authenticate(other.session.id), return_exceptions=True)
        assert "impersonation_forbids" == refused[0].code  # type: ignore[union-attr]  # It is, or this fails.
        token = await world.rotated(other.token)
        await world.kit.advance(HOUR_MS)
        assert "absolute_timeout" == await world.why(token)
        stored = world.kit.journal(world.ref()).values()
        of_other = [event.get("actor", {}).get("sub") for event in stored if event["session"] == other.session.id]
        assert ["support-7"] * 3 == of_other

    with_world(scenario)


def test_a_token_that_its_successor_has_ended_stays_ended_over_a_crash() -> None:
    """That the successor was used is stored before it is let in."""

    async def scenario(world: World) -> None:
        first = (await world.create()).token
        second = await world.rotated(first)
        assert await world.counts(second)
        await world.kit.advance(12_000)
        assert "superseded" == await world.why(first)
        await world.kit.kill()
        await world.kit.advance(8_000)
        assert "superseded" == await world.why(first)
        assert await world.counts(second)

    with_world(scenario)


def test_a_third_window_is_no_thief_while_two_others_rotate() -> None:
    """One after the other, within the window of the first: it is denied, and the session goes on."""

    async def scenario(world: World) -> None:
        first = (await world.create()).token
        third = await world.rotated(await world.rotated(first))
        late = await world.rotate(first)
        assert isinstance(late, Denied)
        assert "superseded" == late.reason
        assert await world.counts(third)
        await world.kit.advance(2 * MINUTE_MS)
        assert isinstance(await world.rotate(first), Denied)
        assert "reuse_detected" == await world.why(third)

    with_world(scenario)


def test_a_session_of_an_authentication_long_ago_counts_unless_everything_was_ended_since() -> None:
    """A login that could not count is refused, and ends nobody's session to make room."""

    async def scenario(world: World) -> None:
        assert await world.counts((await world.create(auth_ms=0)).token)
        await world.policy(limits={"total": 1})
        await world.cut()
        kept = await world.create()
        with pytest.raises(InvalidInputError, match="authenticate anew") as refused:
            await world.create(auth_ms=1_700_000_000_000)
        assert "$.auth_ms" == refused.value.where
        with pytest.raises(InvalidInputError) as refused:
            await world.authenticate(kept.session.id, auth_ms=1_700_000_000_000)
        assert "$.at_ms" == refused.value.where
        assert await world.counts(kept.token)

    with_world(scenario)


def test_a_principal_that_is_disabled_and_then_erased_stays_disabled() -> None:
    """Whatever time passes; enabling it lets it begin anew."""

    async def scenario(world: World) -> None:
        await world.create()
        await world.ref().disable(PRINCIPAL, Rules())
        await world.ref().erase(PRINCIPAL, Rules(Policy(retention_ms=0)))
        with pytest.raises((PrincipalDisabledError, PrincipalErasedError)):
            await world.create()
        await world.kit.advance(HOUR_MS)
        with pytest.raises((PrincipalDisabledError, PrincipalErasedError)):
            await world.create()
        assert PRINCIPAL.encode() not in bytes_in(world.kit.stored(world.ref()))
        assert await world.ref().enable(PRINCIPAL)
        assert await world.counts((await world.create()).token)

    with_world(scenario)


def test_data_leaves_room_for_sessions_and_a_full_principal_lets_in_whom_it_knows() -> None:
    """What all sessions keep has a bound of its own; a use that does not fit is not noted, and counts."""

    async def scenario(world: World) -> None:
        await world.policy(limits={"total": 200})
        rules = world.directory.rules("acme")
        grants = [await world.create() for _ in range(40)]
        body = msgspec.json.encode({"a": "x" * (DATA_BYTES_MAX - 20)})
        kept = PRINCIPAL_DATA_BYTES_MAX // len(body)
        for grant in grants[:kept]:
            await world.ref().put_data(grant.session.id, body, None, rules)
        with pytest.raises(DataTooLargeError, match="of all sessions"):
            await world.ref().put_data(grants[kept].session.id, body, None, rules)
        with pytest.raises(DataTooLargeError):
            await world.create(data=body)
        await world.ref().put_data(grants[0].session.id, body, None, rules)
        await world.create()

    with_world(scenario)
