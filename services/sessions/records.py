"""What goes into a principal and comes out of it, and what is stored of it beside its sessions."""

from typing import Literal

import msgspec

from services.sessions.expiry import ends, lifetime_under
from services.sessions.policy import Policy
from services.sessions.session import Actor, Assurance, Denial, Material, Seen, Session, Standing, Tombstone

EventKind = Literal[
    "session.created",
    "session.rotated",
    "session.elevated",
    "session.data_changed",
    "session.expired",
    "session.revoked",
    "session.evicted",
    "session.reuse_detected",
    "principal.disabled",
    "principal.enabled",
    "principal.erased",
]


class PrincipalRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The principal itself."""

    name: str
    anonymous: bool = False
    created_ms: int = 0
    disabled_ms: int = 0
    erased_ms: int = 0
    kept_until_ms: int = 0
    """Of the mark that it was erased."""


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that happened to a principal; its number is its place in the journal. Never a token."""

    kind: EventKind
    at_ms: int
    session: str = ""
    reason: str = ""
    actor: Actor | None = None


class Data(msgspec.Struct, frozen=True):
    """What an application keeps with a session: one JSON value, as text. `version` counts its changes."""

    version: int = 0
    body: bytes = b"{}"


class NewSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session that is to begin. `session_id` and `material` are put in by whoever makes the token."""

    principal: str
    session_id: str = ""
    material: Material = Material(0, b"", b"")
    acr: str = "aal1"
    amr: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    auth_ms: int | None = None
    """When the user has authenticated; None: now. Never later than now."""
    client: str = ""
    label: str = ""
    address: str = ""
    user_agent: str = ""
    actor: Actor | None = None
    data: bytes = b"{}"
    anonymous: bool = False
    replaces: tuple[str, str] | None = None
    """The anonymous principal's object and its session, which ends with this one's beginning."""


class Authentication(msgspec.Struct, frozen=True, kw_only=True):
    """The user has shown once more who they are."""

    acr: str
    amr: tuple[str, ...]
    roles: tuple[str, ...] | None = None
    """None: as before."""
    auth_ms: int | None = None


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    """A session as it is shown."""

    id: str
    created_ms: int
    last_seen_ms: int
    """To the second, and not always stored yet."""
    expires_ms: int
    """When it ends at the latest, whatever happens."""
    idle_expires_ms: int
    """When it ends if it is not used; the same as `expires_ms` where nothing but age ends it."""
    auth_ms: int
    acr: str
    amr: tuple[str, ...]
    roles: tuple[str, ...]
    client: str
    label: str
    address: str
    user_agent: str
    generation: int
    actor: Actor | None


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """A token is to be made, of this. What is remembered of it leaves out `view`."""

    session_id: str
    key_id: int
    nonce: bytes
    generation: int
    view: SessionView | None = None


class Denied(msgspec.Struct, frozen=True, gc=False):
    """The token does not count."""

    reason: Denial
    untold: bool = False
    """Its tenant has ended it with all others, and its principal has not told of that yet."""


class Presence(msgspec.Struct, frozen=True, gc=False):
    """The token counts: whose it is, and for what."""

    principal: str
    anonymous: bool
    session_id: str
    standing: Standing


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """A session that is over, in an export."""

    id: str
    tombstone: Tombstone


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is held of a principal."""

    principal: str
    anonymous: bool
    created_ms: int
    disabled_ms: int
    erased_ms: int
    sessions: tuple[SessionView, ...]
    data: dict[str, msgspec.Raw]
    ended: tuple[Ended, ...]
    events: tuple[tuple[int, Event], ...]


class Feed(msgspec.Struct, frozen=True, kw_only=True):
    """Events with their numbers, oldest first. `first` is the number of the oldest that is still kept."""

    first: int
    last: int
    events: tuple[tuple[int, Event], ...]

    def onward(self, after: int) -> tuple[int, bool]:
        """Behind which number somebody goes on who has heard the event `after` (0: none), and whether that is a reset.

        It is one where events between are not kept any more, and where the feed has begun anew. Who has heard none
        begins with the oldest that is kept, and has missed nothing.
        """
        before = self.first - 1
        if before <= after <= self.last:
            return after, False
        return before, after > 0


def view_of(session_id: str, session: Session, seen: Seen, policy: Policy | None) -> SessionView:
    """A session as it is shown under the policy of today, or as it is stored."""
    lifetime = session.lifetime
    if policy is not None:
        lifetime = lifetime_under(lifetime, policy, session.actor is not None)
    assurance = session.assurance
    return SessionView(
        id=session_id,
        created_ms=session.created_ms,
        last_seen_ms=max(seen.at_ms, session.lifetime.began_ms),
        expires_ms=lifetime.began_ms + lifetime.absolute_ms,
        idle_expires_ms=ends(lifetime, seen.at_ms)[0],
        auth_ms=assurance.auth_ms,
        acr=assurance.acr,
        amr=assurance.amr,
        roles=assurance.roles,
        client=session.client,
        label=session.label,
        address=session.address,
        user_agent=session.user_agent,
        generation=session.generation,
        actor=session.actor,
    )


def assurance_of(order: NewSession, now_ms: int) -> Assurance:
    """How sure it is who begins a session."""
    auth_ms = now_ms if order.auth_ms is None else min(order.auth_ms, now_ms)
    return Assurance(acr=order.acr, amr=order.amr, roles=order.roles, auth_ms=auth_ms)
