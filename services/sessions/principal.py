"""The principal: one user with all their sessions, in one object, so that nothing about them can disagree.

What is promised, and why one turn is enough for each:

- a limit is exact, because who counts is who inserts;
- "revoked" is answered when it is stored, and from then on no token of the session counts, whatever was under way:
  there is no copy of a session that could be written back;
- of two rotations at once both get the same successor; a token that was replaced long ago is noticed;
- what happened is one sequence without gaps: the journal, written with what it tells of.

The object never sees a secret. Whoever makes tokens sends verifiers, and gets back what the token is made of.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress

import msgspec

from services.sessions.bounds import IMPERSONATIONS_MAX, TOUCH_MS
from services.sessions.expiry import lifetime_from
from services.sessions.holding import Holding
from services.sessions.limits import Candidate, room_for
from services.sessions.merge_patch import merged
from services.sessions.policy import Rules
from services.sessions.records import (
    Authentication,
    Data,
    Denied,
    Ended,
    Event,
    Export,
    Feed,
    Issued,
    NewSession,
    Presence,
    PrincipalRecord,
    SessionView,
    assurance_of,
    view_of,
)
from services.sessions.refusals import (
    ImpersonationError,
    PrincipalDisabledError,
    PrincipalErasedError,
    SessionLimitError,
    StaleDataError,
    SupersededError,
)
from services.sessions.session import (
    Assurance,
    Denial,
    Material,
    Reason,
    Seen,
    Session,
    Standing,
    Tombstone,
    is_overtaken,
    judge,
    used,
)
from shared.bounds import JOURNAL_READ_ENTRIES
from shared.objects.errors import TooLargeError
from shared.objects.handler import readonly
from shared.objects.parking import Park
from shared.telemetry import logs
from shared.webhooks.hosting import Webhooks

_log = logs.get_logger()


class Principal(Holding):
    """See the module. `rules` are those of the tenant, as whoever calls knows them."""

    indexed = False

    # Beginning.

    def create(self, order: NewSession, rules: Rules) -> Issued:
        """Begin a session.

        Raises:
            PrincipalDisabledError, PrincipalErasedError: nobody may.
            SessionLimitError: there are as many as the policy allows.
        """
        record = self.record() or PrincipalRecord(
            name=order.principal, anonymous=order.anonymous, created_ms=self.clock.now_ms()
        )
        if record.erased_ms:
            raise PrincipalErasedError
        if record.disabled_ms:
            raise PrincipalDisabledError
        evicted = _room(order, self._live(rules), self.seen, rules)
        self.settle(rules)
        for session_id in evicted:
            self.end(session_id, "evicted", rules)
        now_ms = max(self.clock.now_ms(), rules.not_before_ms + 1)
        session = Session(
            created_ms=now_ms,
            lifetime=lifetime_from(now_ms, rules.policy, impersonated=order.actor is not None),
            assurance=assurance_of(order, now_ms),
            generation=1,
            material=order.material,
            retention_ms=rules.policy.retention_ms,
            client=order.client,
            label=order.label,
            address=order.address,
            user_agent=order.user_agent,
            actor=order.actor,
        )
        self.storage.put("p", record)
        self.storage.put(f"s/{order.session_id}", session)
        if order.data != Data().body:
            self.check_data(order.session_id, order.data)
            self.storage.put(f"d/{order.session_id}", Data(1, order.data))
        self.tell("session.created", order.session_id, actor=order.actor)
        if order.replaces is not None:
            self.send(Principal, self.address.tenant, order.replaces[0]).revoke(order.replaces[1], "upgraded", rules)
        self.arm()
        return self.issued(order.session_id, session, rules.policy)

    # Using.

    @readonly
    def stand(self, session_id: str, generation: int, verifier: bytes, rules: Rules) -> Presence | Denied:
        """What a token is worth; if it counts, its session was used. Nothing is waited for but earlier changes."""
        session = self.storage.get(f"s/{session_id}", Session)
        if session is None:
            return self._denied(self.why_ended(session_id) or "unknown")
        seen = self.seen(session_id)
        verdict = judge(
            session, seen, generation=generation, verifier=verifier, rules=rules, now_ms=self.clock.upper_ms()
        )
        if not isinstance(verdict, Standing):
            return self._denied(verdict, untold=verdict == "tenant")
        now_ms = self.clock.now_ms()
        if now_ms - seen.at_ms >= TOUCH_MS or generation == session.generation > seen.generation:
            seen = used(session, seen, generation=generation, now_ms=now_ms)
            with suppress(TooLargeError):  # The principal is full: the session ends as if it had not been used.
                self.storage.put_soft(f"u/{session_id}", seen)
        record = self.storage.get("p", PrincipalRecord)
        return Presence(record.name, record.anonymous, session_id, verdict)

    # Changing.

    def keep_use(self, session_id: str) -> None:
        """Store the last use of a session: what a crash must not undo, such as the end of the token before."""
        seen = self.storage.get(f"u/{session_id}", Seen)
        if seen is not None and self.storage.get(f"s/{session_id}", Session) is not None:
            self.storage.put(f"u/{session_id}", seen)

    def rotate(
        self, session_id: str, generation: int, verifier: bytes, material: Material, rules: Rules
    ) -> Issued | Denied:
        """Replace a token by its successor, which is the same for all who ask in the window.

        One that was replaced before that is told from a retry: it ends the session, or is denied, as the policy says.
        One that an authentication has just replaced is denied: in another window nobody may know of it yet.
        """
        session = self.storage.get(f"s/{session_id}", Session)
        if session is None:
            return self._denied(self.why_ended(session_id) or "unknown")
        now_ms = self.clock.upper_ms()
        verdict = judge(
            session, self.seen(session_id), generation=generation, verifier=verifier, rules=rules, now_ms=now_ms
        )
        overtaken = is_overtaken(session, generation=generation, policy=rules.policy, now_ms=now_ms)
        if verdict == "superseded" and not overtaken:
            return self._reused(session_id, session, rules)
        if not isinstance(verdict, Standing):
            if verdict == "tenant":
                self.catch_up(rules)
            return self._denied(verdict)
        if generation == session.generation:
            session = self.renew(session_id, session.assurance, material, rules, elevated=False)
            self.tell("session.rotated", session_id, actor=session.actor)
        elif session.previous is not None and session.previous.elevated:
            return self._denied("superseded")
        return self.issued(session_id, session, rules.policy)

    def authenticate(
        self, session_id: str, generation: int, authentication: Authentication, material: Material, rules: Rules
    ) -> Issued:
        """Note that the user has authenticated anew: another token, and both time-outs begin again.

        Raises:
            UnknownSessionError, SessionEndedError: there is none to renew.
            SupersededError: `generation` is not the current one.
            ImpersonationError: it is in somebody else's name.
        """
        session = self.live(session_id, rules)
        if session.actor is not None:
            raise ImpersonationError
        if generation != session.generation:
            raise SupersededError
        now_ms = self.clock.now_ms()
        assurance = Assurance(
            acr=authentication.acr,
            amr=authentication.amr,
            roles=session.assurance.roles if authentication.roles is None else authentication.roles,
            auth_ms=now_ms if authentication.auth_ms is None else min(authentication.auth_ms, now_ms),
        )
        session = self.renew(session_id, assurance, material, rules, elevated=True)
        self.tell("session.elevated", session_id)
        self.arm()
        return self.issued(session_id, session, rules.policy)

    # Ending.

    def revoke(self, session_id: str, reason: Reason = "revoked", rules: Rules | None = None) -> bool:
        """End one session; False: there is none that could be ended. None: of a message of an earlier release."""
        over = self.settle(rules)
        there = self.storage.get(f"s/{session_id}", Session) is not None
        if there:
            self.end(session_id, reason, rules)
        if there or over:
            self.arm()
        return there

    def revoke_all(self, rules: Rules, except_id: str = "", reason: Reason = "revoked") -> int:
        """End all sessions that are not over, or all but one; how many those were."""
        self.settle(rules)
        going = [session_id for session_id in self.sessions() if session_id != except_id]
        for session_id in going:
            self.end(session_id, reason, rules)
        self.arm()
        return len(going)

    def disable(self, name: str, rules: Rules) -> int:
        """End all sessions and let nobody begin one; how many those were."""
        record = self.record() or PrincipalRecord(name=name, created_ms=self.clock.now_ms())
        ended = self.revoke_all(rules, reason="disabled")
        if not record.disabled_ms:
            self.storage.put("p", msgspec.structs.replace(record, disabled_ms=self.clock.now_ms()))
            self.tell("principal.disabled")
        self.arm()
        return ended

    def enable(self, name: str) -> bool:
        """Let sessions begin again, also of a principal that was erased; False: nothing kept them from it."""
        record = self.record()
        if record is None or not (record.disabled_ms or record.erased_ms):
            return False
        created_ms = self.clock.now_ms() if record.erased_ms else record.created_ms
        self.storage.put("p", PrincipalRecord(name=name, anonymous=record.anonymous, created_ms=created_ms))
        self.tell("principal.enabled")
        self.arm()
        return True

    def erase(self, name: str, rules: Rules) -> int:
        """Forget all but that it was erased, for a while, and whether it is disabled; how many sessions ended."""
        record, ended, now_ms = self.record(), len(self._live(rules)), self.clock.now_ms()
        disabled_ms = 0 if record is None else record.disabled_ms
        self.storage.delete_all()
        kept_until_ms = now_ms + rules.policy.retention_ms
        mark = PrincipalRecord(name="", erased_ms=now_ms, kept_until_ms=kept_until_ms, disabled_ms=disabled_ms)
        self.storage.put("p", mark)
        self.tell("principal.erased", name=name)
        self.arm()
        return ended

    # Looking.

    @readonly
    def listing(self, rules: Rules) -> tuple[SessionView, ...]:
        """The sessions that count, oldest first."""
        views = [view_of(key, one, self.seen(key), rules.policy) for key, one in self._live(rules).items()]
        return tuple(sorted(views, key=lambda view: (view.created_ms, view.id)))

    @readonly
    def look(self, session_id: str, rules: Rules) -> SessionView:
        """One session. Raises UnknownSessionError or SessionEndedError."""
        return view_of(session_id, self.live(session_id, rules), self.seen(session_id), rules.policy)

    @readonly
    async def export(self) -> Export:
        """Everything that is held of the principal."""
        record = self.record() or PrincipalRecord(name="")
        sessions = self.sessions().items()
        buried = [(key[2:], self.storage.get(key, Tombstone)) for key in self.storage.list("x/")]
        return Export(
            principal=record.name,
            anonymous=record.anonymous,
            created_ms=record.created_ms,
            disabled_ms=record.disabled_ms,
            erased_ms=record.erased_ms,
            sessions=tuple(
                view_of(session_id, session, self.seen(session_id), None) for session_id, session in sessions
            ),
            data={session_id: msgspec.Raw(self.data_of(session_id).body) for session_id, _ in sessions},
            ended=tuple(Ended(id=session_id, tombstone=tombstone) for session_id, tombstone in buried),
            events=tuple(await self.journal.read(0, JOURNAL_READ_ENTRIES, type_=Event)),
        )

    @readonly
    async def events(self, after: int, limit: int, until_ms: int) -> Feed | Park:
        """What has happened after the event of that number (0: all that is kept); if nothing, what does until then."""
        entries = await self.journal.read(after, limit, type_=Event)
        seen = after or self.journal.first - 1
        if not entries and seen == self.journal.last and self.clock.lower_ms() < until_ms:
            return Park("feed", until_ms)
        return Feed(first=self.journal.first, last=self.journal.last, events=tuple(entries))

    # Session data.

    @readonly
    def data(self, session_id: str, rules: Rules) -> Data:
        """What the application keeps with a session. Raises UnknownSessionError or SessionEndedError."""
        self.live(session_id, rules)
        return self.data_of(session_id)

    def put_data(self, session_id: str, body: bytes, expected: int | None, rules: Rules) -> Data:
        """Replace it, if its version is `expected` (None: any).

        Raises:
            UnknownSessionError, SessionEndedError: there is no session.
            StaleDataError: it has another version.
            DataTooLargeError: it has over 16 KiB, or the data of all sessions over 512 KiB.
        """
        return self._change_data(session_id, lambda _: body, expected, rules)

    def patch_data(self, session_id: str, patch: bytes, expected: int | None, rules: Rules) -> Data:
        """Merge a patch into it, as `put_data` does. The patch is JSON of at most 32 objects in each other."""

        def patched(body: bytes) -> bytes:
            decode = msgspec.json.decode
            return msgspec.json.encode(merged(decode(body), decode(patch)))

        return self._change_data(session_id, patched, expected, rules)

    def _change_data(
        self, session_id: str, change: Callable[[bytes], bytes], expected: int | None, rules: Rules
    ) -> Data:
        session = self.live(session_id, rules)
        data = self.data_of(session_id)
        if expected is not None and expected != data.version:
            raise StaleDataError(data.version)
        body = change(data.body)
        self.check_data(session_id, body)
        changed = Data(data.version + 1, body)
        self.storage.put(f"d/{session_id}", changed)
        self.tell("session.data_changed", session_id, actor=session.actor)
        return changed

    def _live(self, rules: Rules) -> dict[str, Session]:
        """The sessions that count, by id."""
        return {key: session for key, session in self.sessions().items() if not self.over(key, session, rules)}

    def _denied(self, reason: Denial, *, untold: bool = False) -> Denied:
        """A token does not count."""
        self._activation.host.metrics.session_denied(reason)
        return Denied(reason, untold)

    def _reused(self, session_id: str, session: Session, rules: Rules) -> Denied:
        """A token came for rotation that was replaced long ago: somebody has a copy of it."""
        revokes = rules.policy.on_reuse == "revoke"
        _log.warning(logs.TOKEN_REUSED, principal=str(self.address), session=session_id, ended=revokes)
        if revokes:
            self.tell("session.reuse_detected", session_id, actor=session.actor)
            self.end(session_id, "reuse_detected", rules)
            self.arm()
            return self._denied("reuse_detected")
        if session.reuse_told != session.generation:
            told = msgspec.structs.replace(session, reuse_told=session.generation)
            self.storage.put(f"s/{session_id}", told)
            self.tell("session.reuse_detected", session_id, actor=session.actor)
        return self._denied("superseded")


def principal_of(webhooks: Webhooks | None, rules: Callable[[str], Rules | None]) -> type[Principal]:
    """The kind of principals of one node, which knows their tenants' rules and tells subscribers of what happens."""

    class HostedPrincipal(Principal):
        """A principal of this node."""

        def tenants_rules(self) -> Rules | None:
            return rules(self.address.tenant)

    HostedPrincipal.webhooks = webhooks
    return HostedPrincipal


def _room(order: NewSession, live: Mapping[str, Session], seen: Callable[[str], Seen], rules: Rules) -> tuple[str, ...]:
    """The sessions that end so that the new one fits. Raises SessionLimitError."""
    impersonated = [session_id for session_id, session in live.items() if session.actor is not None]
    if order.actor is not None:
        if len(impersonated) >= IMPERSONATIONS_MAX:
            raise SessionLimitError(tuple(impersonated))
        return ()
    own = [
        Candidate(session_id, session.client, session.created_ms, max(seen(session_id).at_ms, session.created_ms))
        for session_id, session in live.items()
        if session.actor is None
    ]
    room = room_for(order.client, own, rules.policy.limits)
    if room.refused_by:
        raise SessionLimitError(room.refused_by, f" of the client {order.client!r}" if room.of_client else "")
    return room.evict
