"""Random histories of a principal agree with its reference, step by step, on a clock that is moved.

The principal runs on the real core over the store in memory and is asked through the real desk, with real tokens. It
leaves memory, its node dies between calls and during them, and time goes to just before and just after each moment at
which something changes by itself. A crash may cost it the last uses of sessions, which are stored without haste, and
nothing else.
"""

import asyncio
import copy
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack, ExitStack
from hashlib import sha256
from typing import Any, TypeVar
from unittest import mock

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.sessions import desk, holding
from services.sessions.desk import Grant
from services.sessions.policy import Limits, Policy, Rules
from services.sessions.principal import Principal
from services.sessions.records import Denied, Export, Presence
from services.sessions.session import Actor
from services.sessions.tokens import SESSION_BYTES
from shared.objects.errors import DomainError
from shared.objects.store_clock import StoreClock
from shared.testing.clock import VirtualTimeLoop
from shared.testing.kit import open_kit
from tests.support.environment import PROVE
from tests.support.principal_reference import Account, Grave, Held, Login, RefusedError, Told, Use
from tests.support.signing_in import MINUTE_MS, PRINCIPAL, World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7_200 if PROVE else 300)]
T = TypeVar("T")
LIMIT_MS = 30 * 86_400_000
SOFT_MS = 30_000
CLIENTS = ("web", "phone")
PICK = st.integers(0, 5)
POLICIES = st.builds(
    Policy,
    absolute_ms=st.sampled_from([30 * MINUTE_MS, 3 * MINUTE_MS, MINUTE_MS]),
    idle_ms=st.sampled_from([0, 2 * MINUTE_MS, MINUTE_MS]),
    limits=st.builds(
        Limits,
        total=st.sampled_from([4, 3, 2, 1]),
        per_client=st.sampled_from([{}, {}, {"web": 1}, {"web": 2, "phone": 1}]),
        on_limit=st.sampled_from(["reject", "evict_oldest", "evict_lru"]),
    ),
    rotation_grace_ms=st.sampled_from([20_000, MINUTE_MS, 0]),
    rotation_overlap_ms=st.sampled_from([5_000, 0]),
    elevation_overlap_ms=st.sampled_from([0, 5_000]),
    on_reuse=st.sampled_from(["deny", "revoke"]),
    retention_ms=st.sampled_from([40_000, 30 * MINUTE_MS, 0]),
)


class Model(RuleBasedStateMachine):
    """A principal beside its reference."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(limit_ms=LIMIT_MS))
        self.patches = ExitStack()
        for name, value in (("TOMBSTONES_MAX", 3), ("FEED_ENTRIES", 6), ("FEED_SLACK", 3)):
            self.patches.enter_context(mock.patch.object(holding, name, value))
        # Ties between sessions are broken by their ids: the same at each run, or no history could be repeated.
        made = map(session_id, itertools.count())
        self.patches.enter_context(mock.patch.object(desk, "new_session_id", side_effect=made))
        # The store's clock is known to the millisecond here; that it is an interval is tested with it.
        self.patches.enter_context(mock.patch.object(StoreClock, "observe"))
        self.open = AsyncExitStack()
        self.tokens: list[Held] = []
        self.keyed: dict[str, Held] = {}
        self.uses: dict[str, list[Use]] = {}
        """Of each session: its last use that is surely stored, and all since."""
        self.base: int | None = None
        """The number of the last event of the life before."""

    @initialize(policy=POLICIES)
    def begin(self, policy: Policy) -> None:
        """A tenant with that policy."""
        self.account = Account(policy, graves_max=3, feed_kept=6, feed_slack=3)
        self.run(self._begin(policy))

    def teardown(self) -> None:
        """Every token that there ever was is worth what the reference says."""
        try:
            if hasattr(self, "world"):
                for token in self.tokens:
                    self._whoami(token)
        finally:
            self.run(self.open.aclose())
            self.patches.close()
            self.runner.close()

    # Signing in.

    @rule(
        client=st.sampled_from(CLIENTS), acting=st.sampled_from([False, False, True]), count=st.sampled_from([1, 1, 3])
    )
    def create(self, client: str, acting: bool, count: int) -> None:  # As hypothesis draws it.
        """Somebody signs in, or acts for them; from several windows at once each hears what comes one after another."""
        self._now()
        for answer in self.run(_all([self._create(client, acting=acting) for _ in range(count)])):
            self._took(answer, client, acting=acting)

    @rule(key=st.sampled_from(["one", "two"]))
    def create_with_a_key(self, key: str) -> None:
        """A repeated login gets the same token, as long as its session has not ended."""
        if (held := self.keyed.get(key)) is None:
            if (held := self._signs_in("web", acting=False, key=key)) is not None:
                self.keyed[key] = held
            return
        answer = self.run(self._create("web", acting=False, key=key))
        if held.session in self.account.logins:
            assert isinstance(answer, Grant)
            assert held.text == answer.token
        else:
            assert "session_ended" == answer

    # Using.

    @precondition(lambda self: self.tokens)
    @rule(pick=PICK, after_ms=st.sampled_from([0, 999, 1_000, 7_000]))
    def whoami(self, pick: int, after_ms: int) -> None:
        """A token is worth what it is."""
        self._advance(after_ms)
        self._whoami(self._token(pick))

    @precondition(lambda self: self.tokens)
    @rule(pick=PICK, windows=st.integers(1, 3))
    def rotate(self, pick: int, windows: int) -> None:
        """All who ask for a successor get the same one, or hear the same."""
        token = self._token(pick)
        self._now()
        for answer in self.run(_all([self.world.rotate(token.text) for _ in range(windows)])):
            self._granted(answer, self.account.rotate(token), token.session)

    @precondition(lambda self: self._replaced())
    @rule(pick=PICK, asked=st.sampled_from(["whoami", "rotate", "both"]))
    def come_with_the_token_before(self, pick: int, asked: str) -> None:
        """Somebody has not heard yet that a token was replaced, or has copied it."""
        token = self._replaced()[pick % len(self._replaced())]
        if asked != "rotate":
            self._whoami(token)
        if asked != "whoami":
            self._now()
            self._granted(self.run(self.world.rotate(token.text)), self.account.rotate(token), token.session)

    @precondition(lambda self: self.tokens)
    @rule(pick=PICK, acr=st.sampled_from(["aal1", "aal2"]))
    def step_up(self, pick: int, acr: str) -> None:
        """The user of a session authenticates anew."""
        session = self._token(pick).session
        self._now()
        answer = self.run(outcome(self.world.authenticate(session, acr=acr)))
        self._granted(answer, refusal(lambda: self.account.step_up(session, acr)), session)

    # Ending.

    @precondition(lambda self: self.tokens)
    @rule(pick=PICK, reason=st.sampled_from(["revoked", "logout"]))
    def revoke(self, pick: int, reason: Any) -> None:
        """One session."""
        session = self._token(pick).session
        self._now()
        assert self.account.revoke(session, reason) == self.run(self._revoke(session, reason))

    @rule(pick=PICK, what=st.sampled_from(["others", "all", "disable", "erase", "tenant"]))
    def end_many(self, pick: int, what: str) -> None:
        """All sessions but one, or all of them; for a while, for good, or with everybody's."""
        account, ref = self.account, self.world.ref()
        self._now()
        match what:
            case "others" | "all":
                but = self._token(pick).session if what == "others" and self.tokens else ""
                assert account.revoke_all(but, "revoked") == self.run(ref.revoke_all(self._rules(), but))
            case "disable":
                assert account.disable() == self.run(ref.disable(PRINCIPAL, self._rules()))
            case "erase":
                assert account.erase() == self.run(ref.erase(PRINCIPAL, self._rules()))
            case _:
                account.not_before_ms = self.run(self._cut())

    @precondition(lambda self: self.account.disabled or self.account.erased_until_ms is not None)
    @rule()
    def enable(self) -> None:
        """Somebody may sign in again."""
        self._now()
        assert self.account.enable() == self.run(self.world.ref().enable(PRINCIPAL))

    @rule(policy=POLICIES)
    def change_the_policy(self, policy: Policy) -> None:
        """What it lowers counts at once."""
        self._now()
        self.account.policy = policy
        self.run(self._put(policy))

    # Time and trouble.

    @rule(ms=st.sampled_from([1, 999, 1_000, 7_000, 31_000]))
    def wait(self, ms: int) -> None:
        """Time passes."""
        self._advance(ms)

    @rule(pick=PICK, beside_ms=st.sampled_from([-1, 0, 1]))
    def go_to_a_moment(self, pick: int, beside_ms: int) -> None:
        """To where something changes by itself, just before it or just after."""
        if moments := self.account.moments():
            self._advance(max(0, moments[pick % len(moments)] + beside_ms - self.account.now_ms))

    @rule(crash=st.booleans())
    def leave_memory(self, crash: bool) -> None:  # As hypothesis draws it.
        """All of it is stored, and comes back; or the node dies, between calls."""
        if crash:
            self.run(self.world.kit.kill())
            self._now()
            self._forget_uses()
        else:
            self.run(self.world.kit.evict(self.world.ref()))
            self.uses = {id_: [login.use] for id_, login in self.account.logins.items()}

    @precondition(lambda self: self.tokens)
    @rule(pick=PICK, what=st.sampled_from(["rotate", "revoke", "step_up"]), steps=st.integers(0, 12))
    def crash_during_a_call(self, pick: int, what: str, steps: int) -> None:
        """What was answered is there; what was not has happened, or not."""
        token = self._token(pick)
        self._now()
        changed, before = copy.deepcopy(self.account), self.account
        asked: dict[str, tuple[Callable[[], Any], Callable[[], Coroutine[Any, Any, Any]]]] = {
            "rotate": (lambda: changed.rotate(token), lambda: self.world.rotate(token.text)),
            "revoke": (lambda: changed.revoke(token.session, "logout"), lambda: self._revoke(token.session, "logout")),
            "step_up": (lambda: changed.step_up(token.session, "aal2"), lambda: self._step_up(token.session)),
        }
        expected = refusal(asked[what][0])
        answer = self.run(self._crashed(asked[what][1](), steps))
        self.run(self.world.kit.advance(0))
        export: Export = self.run(self.world.ref().export())
        found = [Told(event.kind, event.session, event.reason) for _, event in export.events]
        settled = copy.deepcopy(changed)
        settled.pass_to(self.world.kit.now_ms())
        self.account = changed if settled.feed == found or not isinstance(answer, Exception) else before
        self._forget_uses()
        if not isinstance(answer, Exception | bool):
            self._granted(answer, expected, token.session)

    # What agrees after every step.

    @invariant()
    def agree(self) -> None:
        """Lists, marks of what has ended, the feed and its numbers, and when it wants to be woken."""
        if not hasattr(self, "world"):
            return
        self._advance(0)
        ref, account = self.world.ref(), self.account
        export: Export = self.run(ref.export())
        views = self.run(ref.listing(self._rules()))
        assert [self._shown(login) for login in account.live()] == [
            (view.id, view.generation, view.acr, view.last_seen_ms, view.expires_ms, view.idle_expires_ms)
            for view in views
        ]
        assert sorted(account.logins) == sorted(view.id for view in export.sessions)
        assert account.graves == {
            one.id: Grave(one.tombstone.reason, one.tombstone.ended_ms, one.tombstone.kept_until_ms)
            for one in export.ended
        }
        assert account.disabled == bool(export.disabled_ms)
        assert (account.erased_until_ms is not None) == bool(export.erased_ms)
        assert account.feed == [Told(event.kind, event.session, event.reason) for _, event in export.events]
        self._numbers_go_on([number for number, _ in export.events])
        due_ms, armed = account.due_ms(), self.world.kit.alarms(ref)
        assert (due_ms is None) == (armed == {})
        if due_ms is not None:
            assert account.now_ms < armed["tidy"] <= due_ms

    def _numbers_go_on(self, numbers: list[int]) -> None:
        """Without gaps, from life to life at most anew."""
        account = self.account
        if not account.told:
            self.base = None
        elif self.base is None:
            self.base = numbers[-1] - account.told
            assert self.base >= 0
        base = self.base or 0
        assert numbers == list(range(base + account.told - len(account.feed) + 1, base + account.told + 1))

    # How it is asked.

    def run(self, asked: Coroutine[Any, Any, T]) -> T:
        """The answer of the principal."""
        return self.runner.run(asked)

    async def _begin(self, policy: Policy) -> None:
        self.world = World(await self.open.enter_async_context(open_kit([Principal], latency_ms=0)))
        await self.world.begin()
        await self._put(policy)
        self.account.now_ms = self.world.kit.now_ms()

    async def _put(self, policy: Policy) -> None:
        await self.world.policy(**msgspec.structs.asdict(policy))

    async def _cut(self) -> int:
        await self.world.cut()
        return self._rules().not_before_ms

    def _rules(self) -> Rules:
        return self.world.directory.rules("acme")

    async def _create(self, client: str, *, acting: bool, key: str | None = None) -> Grant | str:
        actor = Actor(sub="help", reason="asked") if acting else None
        answer: Grant | str = await outcome(self.world.create(client=client, actor=actor, key=key))
        return answer

    async def _revoke(self, session: str, reason: Any) -> bool:
        ended: bool = await self.world.ref().revoke(session, reason, self._rules())
        return ended

    async def _step_up(self, session: str) -> Grant | str:
        answer: Grant | str = await outcome(self.world.authenticate(session))
        return answer

    async def _crashed(self, asked: Coroutine[Any, Any, Any], steps: int) -> Any:
        """What comes of a call during which the node dies."""
        task = asyncio.ensure_future(asked)
        for _ in range(steps):
            await asyncio.sleep(0)
        await self.world.kit.kill()
        return (await asyncio.gather(task, return_exceptions=True))[0]

    def _forget_uses(self) -> None:
        """Last uses that were not stored are lost with a node, if they are younger than 30 s."""
        stored = self.world.kit.stored(self.world.ref())
        for id_, login in self.account.logins.items():
            kept = stored.get(f"u/{id_}", {})
            use = Use(*(kept.get(name, 0) for name in Use._fields))
            known = self.uses.get(id_, [Use()])
            assert use in known
            sure = [each for each in known if each.at_ms + SOFT_MS <= self.account.now_ms]
            assert known.index(use) >= len(sure) - 1
            login.use = use
            self.uses[id_] = [use]

    def _now(self) -> None:
        self.account.pass_to(self.world.kit.now_ms())

    def _advance(self, ms: int) -> None:
        self.run(self.world.kit.advance(ms))
        self.run(self.world.polled())
        self._now()

    def _token(self, pick: int) -> Held:
        """One of the newest that were issued."""
        return self.tokens[-1 - pick % len(self.tokens)] if self.tokens else Held("", "", 0)

    def _replaced(self) -> list[Held]:
        """Of each session the token before its current one, where somebody has it."""
        before = {(login.id, login.generation - 1) for login in self.account.logins.values()}
        return [token for token in self.tokens if token[1:] in before]

    def _whoami(self, token: Held) -> None:
        self._now()
        answer = self.run(self.world.stand(token.text))
        expected = self.account.stand(token)
        if isinstance(answer, Presence):
            assert expected == ("", answer.standing.assurance.acr)
            uses = self.uses.setdefault(token.session, [Use()])
            uses.append(self.account.logins[token.session].use)
        else:
            assert isinstance(answer, Denied)
            assert expected == (answer.reason, "")

    def _signs_in(self, client: str, *, acting: bool, key: str | None = None) -> Held | None:
        self._now()
        return self._took(self.run(self._create(client, acting=acting, key=key)), client, acting=acting)

    def _took(self, answer: Grant | str, client: str, *, acting: bool) -> Held | None:
        """Somebody has signed in, or was refused as they should be."""
        refused = refusal(lambda: self.account.leaving(client, acting=acting))
        if isinstance(answer, str):
            assert refused == answer
            return None
        assert not refused
        self.account.create(answer.session.id, client, acting=acting)
        return self._granted(answer, "", answer.session.id)

    def _granted(self, answer: Any, expected: str, session: str) -> Held | None:
        """A token is the one of its generation, whoever gets it; or is refused as it should be."""
        if expected:
            assert expected == (answer.reason if isinstance(answer, Denied) else answer)
            return None
        assert isinstance(answer, Grant)
        held = Held(answer.token, session, self.account.logins[session].generation)
        assert held.generation == answer.session.generation
        if held not in self.tokens:
            assert (session, held.generation) not in {token[1:] for token in self.tokens}
            self.tokens.append(held)
        return held

    def _shown(self, login: Login) -> tuple[str, int, str, int, int, int]:
        absolute_ms = min(policy.time_outs.absolute_ms for policy in (login.policy, self.account.policy))
        ends_ms = self.account.ends(login, today=True)[0]
        seen_ms = max(login.use.at_ms, login.began_ms)
        return login.id, login.generation, login.acr, seen_ms, login.began_ms + absolute_ms, ends_ms


def session_id(number: int) -> bytes:
    """An id of which nobody can say whether it is the next."""
    return sha256(b"%d" % number).digest()[:SESSION_BYTES]


async def outcome(asked: Awaitable[Any]) -> Any:
    """The answer, or the code by which it was refused."""
    try:
        return await asked
    except DomainError as refused:
        return refused.code


async def _all(asked: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    return list(await asyncio.gather(*asked))


def refusal(change: Callable[[], Any]) -> str:
    """Why the reference refuses a change; empty: it does not."""
    try:
        refused = change()
    except RefusedError as exc:
        return str(exc.args[0])
    return refused if isinstance(refused, str) else ""


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=5_000 if PROVE else 40, stateful_step_count=40, deadline=None)
