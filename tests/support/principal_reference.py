"""What a principal promises, said a second time and more simply: the reference of its state machine.

It knows nothing of storage, alarms or tokens. Whatever ends a session ends it at its moment, and everything that a
caller can tell - verdicts, lists, the feed, what is remembered of the past - follows from what is here.
"""

from typing import NamedTuple

import msgspec

from services.sessions.policy import Policy

TOUCH_MS = 1_000
IMPERSONATION_MS = 3_600_000
IMPERSONATIONS = 20


class RefusedError(Exception):
    """The principal refuses; `args[0]` is the code."""


class Held(NamedTuple):
    """A token that somebody has."""

    text: str
    session: str
    generation: int


class Use(NamedTuple):
    """The last use of a session; the newest generation that was used, and when it was first."""

    at_ms: int = 0
    generation: int = 0
    generation_ms: int = 0


class Before(NamedTuple):
    """What the current token has replaced."""

    replaced_ms: int
    elevated: bool
    acr: str


class Told(NamedTuple):
    """An event."""

    kind: str
    session: str = ""
    reason: str = ""


class Grave(NamedTuple):
    """What is known of a session that has ended."""

    reason: str
    ended_ms: int
    kept_until_ms: int


class Login(msgspec.Struct):
    """A session that nobody has ended."""

    id: str
    client: str
    acting: bool
    created_ms: int
    began_ms: int
    policy: Policy
    """That of the last authentication."""
    retention_ms: int
    auth_ms: int
    acr: str = "aal1"
    generation: int = 1
    before: Before | None = None
    use: Use = Use()
    reuse_told: int = 0


class Account:
    """One principal at `now_ms`, under the policy of today."""

    def __init__(self, policy: Policy, *, graves_max: int, feed_kept: int, feed_slack: int) -> None:
        self.now_ms = 0
        self.policy = policy
        self.not_before_ms = 0
        self.disabled = False
        self.erased_until_ms: int | None = None
        self.logins: dict[str, Login] = {}
        self.graves: dict[str, Grave] = {}
        self.feed: list[Told] = []
        self.told = 0
        """How many events there ever were in this life."""
        self._graves_max, self._feed_kept, self._feed_slack = graves_max, feed_kept, feed_slack

    # Time.

    def pass_to(self, now_ms: int) -> None:
        """Let everything happen that happens by itself until then."""
        self.now_ms = now_ms
        certain = [(*self.ends(login, today=False), login.id) for login in self.logins.values()]
        for at_ms, reason, id_ in sorted(certain, key=lambda end: (end[0], end[2])):
            if at_ms <= now_ms:
                self._forget(at_ms - 1)
                self.end(self.logins[id_], reason, at_ms=at_ms, retention_ms=self.logins[id_].retention_ms)
        self._forget(now_ms)
        if self.erased_until_ms is not None and self.erased_until_ms <= now_ms:
            self.erased_until_ms = None
        if not (self.logins or self.graves or self.disabled or self.erased_until_ms):
            self.feed, self.told = [], 0

    def moments(self) -> list[int]:
        """When something changes by itself, or for some token; for tests that look just before and just after."""
        found = [self.ends(login, today=today)[0] for login in self.logins.values() for today in (True, False)]
        found += [self.window_ends(login) for login in self.logins.values() if login.before is not None]
        found += [grave.kept_until_ms for grave in self.graves.values()]
        found += [] if self.erased_until_ms is None else [self.erased_until_ms]
        return sorted({at_ms for at_ms in found if at_ms > self.now_ms})

    def due_ms(self) -> int | None:
        """When it has to be up at the latest by itself."""
        found = [self.ends(login, today=False)[0] for login in self.logins.values()]
        found += [grave.kept_until_ms for grave in self.graves.values()]
        found += [] if self.erased_until_ms is None else [self.erased_until_ms]
        return min(found, default=None)

    def ends(self, login: Login, *, today: bool) -> tuple[int, str]:
        """When it ends if it is not used again, and why."""
        policies = (login.policy, self.policy) if today else (login.policy,)
        absolute_ms = min(policy.time_outs.absolute_ms for policy in policies)
        if login.acting:
            absolute_ms = min(absolute_ms, IMPERSONATION_MS)
        idles = [policy.time_outs.idle_ms for policy in policies if policy.time_outs.idle_ms]
        used_ms = max(login.use.at_ms, login.began_ms)
        ends = [(login.began_ms + absolute_ms, "absolute_timeout")]
        ends += [(used_ms + idle_ms, "idle_timeout") for idle_ms in idles]
        return min(ends)

    def over(self, login: Login) -> str:
        """What has ended it without saying so; empty: nothing."""
        if min(login.created_ms, login.auth_ms) <= self.not_before_ms:
            return "tenant"
        at_ms, reason = self.ends(login, today=True)
        return reason if self.now_ms >= at_ms else ""

    def window_ends(self, login: Login) -> int:
        """When the token before the current one ceases to count."""
        assert login.before is not None
        replaced_ms = login.before.replaced_ms
        if login.before.elevated:
            return replaced_ms + self.policy.elevation_overlap_ms
        ends = [replaced_ms + self.policy.rotation_grace_ms]
        if login.use.generation == login.generation:
            ends.append(login.use.generation_ms + self.policy.rotation_overlap_ms)
        return min(ends)

    # Looking.

    def live(self) -> list[Login]:
        """The sessions that count, oldest first."""
        counting = [login for login in self.logins.values() if not self.over(login)]
        return sorted(counting, key=lambda login: (login.created_ms, login.id))

    def verdict(self, token: Held) -> tuple[str, str]:
        """Why a token does not count, or an empty text and the assurance that it stands for."""
        login = self.logins.get(token.session)
        if login is None:
            return self.why(token.session), ""
        if over := self.over(login):
            return over, ""
        if token.generation == login.generation:
            return "", login.acr
        newest_but_one = login.before is not None and token.generation == login.generation - 1
        if login.before is not None and newest_but_one and self.now_ms < self.window_ends(login):
            return "", login.before.acr
        return "superseded", ""

    def why(self, session: str) -> str:
        """What is known of a session that is not there."""
        return self.graves[session].reason if session in self.graves else "unknown"

    def stand(self, token: Held) -> tuple[str, str]:
        """The verdict; a token that counts uses its session, one that the tenant has ended has that told."""
        reason, acr = self.verdict(token)
        if reason == "tenant" and token.session in self.logins:
            self.settle()
        if not reason:
            login = self.logins[token.session]
            first = token.generation == login.generation and login.use.generation < token.generation
            if first or self.now_ms - login.use.at_ms >= TOUCH_MS:
                newest = (token.generation, self.now_ms) if first else login.use[1:]
                login.use = Use(self.now_ms, *newest)
        return reason, acr

    # Changing.

    def create(self, id_: str, client: str, *, acting: bool) -> None:
        """A session begins."""
        leaving = self.leaving(client, acting=acting)
        self.settle()
        for login in leaving:
            self.end(login, "evicted")
        began_ms = max(self.now_ms, self.not_before_ms + 1)
        retention_ms = self.policy.retention_ms
        self.logins[id_] = Login(id_, client, acting, began_ms, began_ms, self.policy, retention_ms, began_ms)
        self.tell("session.created", id_)

    def leaving(self, client: str, *, acting: bool) -> list[Login]:
        """Who makes room for one more, in order."""
        if self.erased_until_ms is not None:
            raise RefusedError("principal_erased")
        if self.disabled:
            raise RefusedError("principal_disabled")
        limits, found = self.policy.limits, list[Login]()
        staying = [login for login in self.live() if not login.acting]
        if acting and len(self.live()) - len(staying) >= IMPERSONATIONS:
            raise RefusedError("session_limit_reached")
        while not acting:
            same = [login for login in staying if login.client == client]
            if len(same) + 1 > limits.per_client.get(client, len(same) + 1):
                pool = same
            elif len(staying) + 1 > limits.total:
                pool = same or staying
            else:
                break
            if limits.on_limit == "reject":
                raise RefusedError("session_limit_reached")
            used = limits.on_limit == "evict_lru"
            gone = min(
                pool, key=lambda one: (max(one.use.at_ms, one.created_ms) if used else 0, one.created_ms, one.id)
            )
            staying.remove(gone)
            found.append(gone)
        return found

    def rotate(self, token: Held) -> str:
        """Replace a token; why not, or an empty text: the current generation is for whoever asked."""
        reason, _ = self.verdict(token)
        login = self.logins.get(token.session)
        if reason == "superseded" and login is not None:
            return self._superseded(token, login)
        if reason == "tenant" and login is not None:
            self.settle()
        if reason or login is None:
            return reason
        if token.generation == login.generation:
            self._renew(login, elevated=False)
            self.tell("session.rotated", login.id)
        elif login.before is not None and login.before.elevated:
            return "superseded"
        return ""

    def step_up(self, session: str, acr: str) -> None:
        """The user has authenticated anew."""
        login = self.logins.get(session)
        if login is None:
            raise RefusedError("session_ended" if session in self.graves else "unknown_session")
        if self.over(login):
            raise RefusedError("session_ended")
        if login.acting:
            raise RefusedError("impersonation_forbids")
        self._renew(login, elevated=True)
        login.acr, login.auth_ms = acr, self.now_ms
        login.began_ms, login.policy = self.now_ms, self.policy
        self.tell("session.elevated", login.id)

    def revoke(self, session: str, reason: str) -> bool:
        """End one."""
        self.settle()
        login = self.logins.get(session)
        if login is None:
            return False
        self.end(login, reason)
        return True

    def revoke_all(self, but: str, reason: str) -> int:
        """End all but one."""
        self.settle()
        going = [login for id_, login in sorted(self.logins.items()) if id_ != but]
        for login in going:
            self.end(login, reason)
        return len(going)

    def disable(self) -> int:
        """Nobody signs in any more."""
        ended = self.revoke_all("", "disabled")
        if not self.disabled:
            self.disabled = True
            self.tell("principal.disabled")
        return ended

    def enable(self) -> bool:
        """Somebody may again."""
        if not self.disabled and self.erased_until_ms is None:
            return False
        self.disabled, self.erased_until_ms = False, None
        self.tell("principal.enabled")
        return True

    def erase(self) -> int:
        """Nothing is known but that."""
        ended = len(self.live())
        self.logins, self.graves, self.feed = {}, {}, []
        self.erased_until_ms = self.now_ms + self.policy.retention_ms
        self.tell("principal.erased")
        return ended

    def settle(self) -> None:
        """What is over without anybody having said so is told, each for its own reason."""
        for _, login in sorted(self.logins.items()):
            if over := self.over(login):
                self.end(login, over)

    def end(self, login: Login, reason: str, *, at_ms: int | None = None, retention_ms: int | None = None) -> None:
        """A session is over."""
        del self.logins[login.id]
        at_ms = self.now_ms if at_ms is None else at_ms
        retention_ms = self.policy.retention_ms if retention_ms is None else retention_ms
        if retention_ms:
            if len(self.graves) >= self._graves_max:
                del self.graves[min(self.graves, key=lambda id_: (self.graves[id_].ended_ms, id_))]
            self.graves[login.id] = Grave(reason, at_ms, at_ms + retention_ms)
        expired = reason in ("idle_timeout", "absolute_timeout")
        kind = "session.expired" if expired else "session.evicted" if reason == "evicted" else "session.revoked"
        self.tell(kind, login.id, reason)

    def tell(self, kind: str, session: str = "", reason: str = "") -> None:
        """Something has happened."""
        self.feed.append(Told(kind, session, reason))
        self.told += 1
        if len(self.feed) > self._feed_kept + self._feed_slack:
            self.feed = self.feed[-self._feed_kept :]

    def _forget(self, now_ms: int) -> None:
        self.graves = {id_: grave for id_, grave in self.graves.items() if grave.kept_until_ms > now_ms}

    def _renew(self, login: Login, *, elevated: bool) -> None:
        login.before = Before(self.now_ms, elevated, login.acr)
        login.generation += 1

    def _superseded(self, token: Held, login: Login) -> str:
        """Somebody asks for the successor of a token that was replaced."""
        before = login.before
        assert before is not None
        lately = self.now_ms < before.replaced_ms + self.policy.rotation_grace_ms
        if lately and token.generation == login.generation - (1 if before.elevated else 2):
            return "superseded"  # In another window, while others stepped up or rotated twice: nobody stole anything.
        if self.policy.on_reuse == "revoke":
            self.tell("session.reuse_detected", login.id)
            self.end(login, "reuse_detected")
            return "reuse_detected"
        if login.reuse_told != login.generation:
            login.reuse_told = login.generation
            self.tell("session.reuse_detected", login.id)
        return "superseded"
