"""What a principal holds - sessions, their last uses, marks of those that ended, the feed - and how it lets go of it.

Handlers are in `services.sessions.principal`. Stored: `p` the principal; for each session `s/<id>`, its last use
`u/<id>` (softly) and its data `d/<id>`; `x/<id>` for those that ended; `feed`, the number of the last event, written
with each so that watchers are served; `w`, of which events subscribers are still to be told.
"""

from typing import Any, ClassVar

import msgspec

from services.sessions.bounds import (
    DATA_BYTES_MAX,
    FEED_ENTRIES,
    FEED_SLACK,
    NEWS_BYTES,
    NEWS_EVENTS,
    NEWS_RETRY_MS,
    PRINCIPAL_DATA_BYTES_MAX,
    TOMBSTONES_MAX,
    UNTOLD_MAX,
)
from services.sessions.expiry import ends, lifetime_from
from services.sessions.policy import Policy, Rules
from services.sessions.records import Data, Event, EventKind, Issued, PrincipalRecord, view_of
from services.sessions.refusals import DataTooLargeError, SessionEndedError, UnknownSessionError
from services.sessions.session import (
    Actor,
    Assurance,
    Material,
    Previous,
    Reason,
    Seen,
    Session,
    Tombstone,
    ended_by,
)
from services.sessions.webhooks import Untold, told
from shared.objects.errors import TooLargeError
from shared.objects.handler import Alarm, DurableObject
from shared.webhooks.delivery import Delivery
from shared.webhooks.hosting import Webhooks

TIDY, NEWS = "tidy", "news"
_UNTOLD = "w"
_EVENTS: dict[Reason, EventKind] = {
    "evicted": "session.evicted",
    "idle_timeout": "session.expired",
    "absolute_timeout": "session.expired",
}


class Holding(DurableObject):
    """The part of a principal that keeps order in what is stored. Its methods run within turns."""

    kind = "principal"
    webhooks: ClassVar[Webhooks | None] = None
    """Of the node that hosts it; None: there are no subscribers."""

    async def on_alarm(self, alarm: Alarm) -> None:
        """Tell subscribers what has happened, or let time take its course."""
        if alarm.name == NEWS:
            await self._tell_subscribers()
        else:
            self._tidy()

    def tenants_rules(self) -> Rules | None:
        """Those by which it goes when nobody calls; None: sessions end by what they were given. A node knows better."""
        return None

    def _tidy(self) -> None:
        """Tell of sessions that are over, and forget what need not be known any more.

        Raises:
            UnavailableError: the tenant's rules are not known; it is done later.
        """
        self.settle(self.tenants_rules())
        now_ms = self.clock.now_ms()
        for key in self.storage.list("x/"):
            if self.storage.get(key, Tombstone).kept_until_ms <= now_ms:
                self.storage.delete(key)
        record = self.record()
        if record is not None and record.disabled_ms and record.kept_until_ms <= now_ms:
            record = msgspec.structs.replace(record, erased_ms=0, kept_until_ms=0)
            self.storage.put("p", record)
        known = record is not None and (record.disabled_ms or record.kept_until_ms > now_ms)
        if known or self.storage.list("s/", limit=1) or self.storage.list("x/", limit=1):
            self.arm()
        elif self.storage.get(_UNTOLD, Untold) is None:  # Else it is done when that has been told.
            self.storage.delete_all()

    def keep_reply(self, method: str, reply: Any) -> Any:  # noqa: ARG002  # All of them.
        """Of a token that was issued: what it is made of, and nothing that will have changed."""
        return msgspec.structs.replace(reply, view=None) if isinstance(reply, Issued) else reply

    def recall_reply(self, method: str, kept: Any) -> Any:  # noqa: ARG002  # As above.
        """The same, with the session as it is now. Raises SessionEndedError."""
        if not isinstance(kept, Issued):
            return kept
        session = self.storage.get(f"s/{kept.session_id}", Session)
        if session is None:
            raise SessionEndedError(self.why_ended(kept.session_id) or "revoked")
        return self.issued(kept.session_id, session, None, of=kept)

    def record(self) -> PrincipalRecord | None:
        """The principal, if anything is known of it."""
        record: PrincipalRecord | None = self.storage.get("p", PrincipalRecord)
        return record

    def sessions(self) -> dict[str, Session]:
        """The sessions that nobody has ended, by id, those that are over by themselves among them."""
        return {key[2:]: self.storage.get(key, Session) for key in self.storage.list("s/")}

    def seen(self, session_id: str) -> Seen:
        """The last use of a session."""
        seen: Seen = self.storage.get(f"u/{session_id}", Seen, default=Seen(0))
        return seen

    def data_of(self, session_id: str) -> Data:
        """What is stored of its data, or what there is before anything is."""
        data: Data = self.storage.get(f"d/{session_id}", Data, default=Data())
        return data

    def check_data(self, session_id: str, body: bytes) -> None:
        """Refuse data that is too large, or would leave no room for sessions.

        Raises:
            DataTooLargeError: so it is.
        """
        if len(body) > DATA_BYTES_MAX:
            raise DataTooLargeError(len(body), DATA_BYTES_MAX)
        others = (key for key in self.storage.list("d/") if key != f"d/{session_id}")
        size_bytes = len(body) + sum(len(self.data_of(key[2:]).body) for key in others)
        if size_bytes > PRINCIPAL_DATA_BYTES_MAX:
            raise DataTooLargeError(size_bytes, PRINCIPAL_DATA_BYTES_MAX)

    def live(self, session_id: str, rules: Rules) -> Session:
        """A session that has not ended. Raises UnknownSessionError or SessionEndedError."""
        session: Session | None = self.storage.get(f"s/{session_id}", Session)
        over = self.why_ended(session_id) if session is None else self.over(session_id, session, rules)
        if over:
            raise SessionEndedError(over)
        if session is None:
            raise UnknownSessionError
        return session

    def settle(self, rules: Rules | None) -> bool:
        """End the sessions that are over by themselves, each for its own reason; whether there were some."""
        found = [(key, self.over(key, session, rules)) for key, session in self.sessions().items()]
        over = [(session_id, reason) for session_id, reason in found if reason is not None]
        for session_id, reason in over:
            self.end(session_id, reason, rules)
        return bool(over)

    def catch_up(self, rules: Rules) -> None:
        """Tell of what is over, for somebody who listens."""
        if self.settle(rules):
            self.arm()

    def end(self, session_id: str, reason: Reason, rules: Rules | None = None) -> None:
        """End a session, tell of it, and keep that it was there."""
        session = self.storage.get(f"s/{session_id}", Session)
        retention_ms = session.retention_ms if rules is None else rules.policy.retention_ms
        for part in "sud":
            self.storage.delete(f"{part}/{session_id}")
        now_ms = self.clock.now_ms()
        if retention_ms:
            tombstone = Tombstone(
                reason=reason,
                ended_ms=now_ms,
                created_ms=session.created_ms,
                kept_until_ms=now_ms + retention_ms,
                client=session.client,
                actor=session.actor,
            )
            self._bury(session_id, tombstone)
        self.tell(_EVENTS.get(reason, "session.revoked"), session_id, reason=reason, actor=session.actor)

    def tell(
        self, kind: EventKind, session_id: str = "", *, reason: str = "", actor: Actor | None = None, name: str = ""
    ) -> None:
        """Add an event to the feed. `name`: of a principal whose record does not say it any more."""
        event = Event(kind=kind, at_ms=self.clock.now_ms(), session=session_id, reason=reason, actor=actor)
        seq = self.journal.append(event)
        self.storage.put("feed", seq)
        self._activation.host.metrics.session_event(kind, reason)
        untold: Untold | None = self.storage.get(_UNTOLD, Untold)
        if untold is None and self.webhooks is not None and self.webhooks.hears(self.address.tenant, kind):
            record = self.record()
            untold = Untold(seq - 1, name or ("" if record is None else record.name))
            self.storage.put(_UNTOLD, untold)
            self.alarms.set(NEWS, at_ms=self.clock.now_ms())
        kept = FEED_ENTRIES if untold is None else UNTOLD_MAX
        if len(self.journal) > kept + FEED_SLACK:
            self.journal.trim(keep=kept)

    async def _tell_subscribers(self) -> None:
        """Send what has happened to the deliveries of those who want to hear it, so much at a time.

        Raises:
            UnavailableError: nobody knows yet who they are; it is done later.
        """
        untold: Untold | None = self.storage.get(_UNTOLD, Untold)
        if untold is None or self.webhooks is None:
            return
        book, tenant, after = self.webhooks.book(), self.address.tenant, untold.after
        wait_ms = size_bytes = 0
        try:
            for seq, event in await self.journal.read(after, NEWS_EVENTS, type_=Event):
                if size_bytes > NEWS_BYTES:
                    break
                message = told(self.address, untold.principal, seq, event)
                for endpoint in book.listeners(tenant, event.kind):
                    self.send(Delivery, tenant, f"{endpoint}/{message.id}").tell(message)
                    size_bytes += len(message.body)
                after = seq
        except TooLargeError:  # As many messages are under way as may be.
            wait_ms = NEWS_RETRY_MS
        if after < self.journal.last:
            self.storage.put(_UNTOLD, Untold(after, untold.principal))
            self.alarms.set(NEWS, at_ms=self.clock.now_ms() + wait_ms)
            return
        self.storage.delete(_UNTOLD)
        self.arm()

    def arm(self) -> None:
        """Have the alarm ring when the next session may end or the next mark may be forgotten; not later."""
        moments = [ends(session.lifetime, self.seen(key).at_ms)[0] for key, session in self.sessions().items()]
        moments += [self.storage.get(key, Tombstone).kept_until_ms for key in self.storage.list("x/")]
        record = self.record()
        if record is not None and record.kept_until_ms:
            moments.append(record.kept_until_ms)
        if not moments:  # Nothing is left to be known of it, but that nobody may sign in.
            moments = [] if record is not None and record.disabled_ms else [self.clock.now_ms()]
        due_ms = self.alarms.due_ms(TIDY)
        if not moments:
            self.alarms.cancel(TIDY)
        elif due_ms is None or due_ms > min(moments) or due_ms <= self.clock.now_ms():
            self.alarms.set(TIDY, at_ms=min(moments))

    def over(self, session_id: str, session: Session, rules: Rules | None) -> Reason | None:
        """What has ended the session without anybody saying so; without `rules`, what did for certain."""
        return ended_by(session, self.seen(session_id), rules, self.clock.upper_ms())

    def why_ended(self, session_id: str) -> Reason | None:
        """Why a session has ended, if that is still known."""
        tombstone = self.storage.get(f"x/{session_id}", Tombstone)
        return None if tombstone is None else tombstone.reason

    def _bury(self, session_id: str, tombstone: Tombstone) -> None:
        buried = self.storage.list("x/")
        if len(buried) >= TOMBSTONES_MAX:
            self.storage.delete(min(buried, key=lambda key: self.storage.get(key, Tombstone).ended_ms))
        self.storage.put(f"x/{session_id}", tombstone)

    def renew(
        self, session_id: str, assurance: Assurance, material: Material, rules: Rules, *, elevated: bool
    ) -> Session:
        """Make the next generation the current one; if it is by an authentication, the time-outs begin anew."""
        session: Session = self.storage.get(f"s/{session_id}", Session)
        now_ms = self.clock.now_ms()
        previous = Previous(
            verifier=session.material.verifier, replaced_ms=now_ms, elevated=elevated, assurance=session.assurance
        )
        renewed = msgspec.structs.replace(
            session,
            assurance=assurance,
            material=material,
            previous=previous,
            generation=session.generation + 1,
            lifetime=lifetime_from(now_ms, rules.policy, impersonated=False) if elevated else session.lifetime,
        )
        self.storage.put(f"s/{session_id}", renewed)
        return renewed

    def issued(self, session_id: str, session: Session, policy: Policy | None, *, of: Issued | None = None) -> Issued:
        """What its token is made of: of the current generation, or of the one that was remembered."""
        view = view_of(session_id, session, self.seen(session_id), policy)
        if of is not None:
            return msgspec.structs.replace(of, view=view)
        material = session.material
        return Issued(
            session_id=session_id,
            key_id=material.key_id,
            nonce=material.nonce,
            generation=session.generation,
            view=view,
        )
