"""One session as it is stored, and what a token of it is worth: pure.

A session has one *current* generation, of which the verifier is kept, and perhaps one before it. A token of the
current generation counts; one of the generation before counts in its window, with what it stood for; one of an older
generation is known for what it is, by the number that its check covers, and never counts again.

Sources: OWASP Session Management Cheat Sheet ("renewal timeout"), NIST SP 800-63B-4 5.2.
"""

import hmac
from typing import Literal

import msgspec

from services.sessions.expiry import Lifetime, TimeOut, ends, lifetime_under
from services.sessions.policy import Policy, Rules

Reason = Literal[
    "logout",
    "revoked",
    "evicted",
    "reuse_detected",
    "disabled",
    "upgraded",
    "idle_timeout",
    "absolute_timeout",
    "tenant",
]
"""Why a session has ended."""
Denial = Literal["unknown", "superseded"] | Reason
"""Why a token does not count."""


class Assurance(msgspec.Struct, frozen=True, kw_only=True):
    """How sure it is who the user is, and what the application says of them."""

    acr: str
    amr: tuple[str, ...]
    roles: tuple[str, ...]
    auth_ms: int
    """When the user has authenticated."""


class Actor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who really acts where a session is somebody else's: never to change."""

    sub: str
    reason: str
    ticket: str = ""


class Material(msgspec.Struct, frozen=True):
    """What is stored of a generation's token: nothing of it can be presented."""

    key_id: int
    nonce: bytes
    verifier: bytes


class Previous(msgspec.Struct, frozen=True, kw_only=True):
    """The generation before the current one."""

    verifier: bytes
    replaced_ms: int
    elevated: bool
    """By an authentication, so that the successor is not for whoever has this one."""
    assurance: Assurance


class Session(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One session that has not ended."""

    created_ms: int
    lifetime: Lifetime
    assurance: Assurance
    generation: int
    material: Material
    retention_ms: int
    client: str = ""
    label: str = ""
    address: str = ""
    user_agent: str = ""
    actor: Actor | None = None
    previous: Previous | None = None
    reuse_told: int = 0
    """The generation at which a reuse was last told, where it does not end the session."""


class Seen(msgspec.Struct, frozen=True):
    """The last use. Stored without haste: where it is lost, the session ends earlier, never later."""

    at_ms: int
    generation: int = 0
    """The newest generation that was used."""
    generation_ms: int = 0
    """When it was used first."""


class Tombstone(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a session that has ended: nothing of the person."""

    reason: Reason
    ended_ms: int
    created_ms: int
    kept_until_ms: int
    client: str = ""
    actor: Actor | None = None


class Standing(msgspec.Struct, frozen=True, gc=False):
    """A token counts: for this session, with this assurance."""

    session: Session
    assurance: Assurance
    seen: Seen
    """The last use before this one."""

    def succeeds(self, generation: int) -> bool:
        """Whether the token, of that generation, is a successor that was not used before: the one before it ends."""
        session = self.session
        return session.previous is not None and generation == session.generation > self.seen.generation


def judge(
    session: Session, seen: Seen, *, generation: int, verifier: bytes, rules: Rules, now_ms: int
) -> Standing | Denial:
    """What a token is worth at `now_ms` (not to be earlier than the true time)."""
    over = ended_by(session, seen, rules, now_ms)
    if generation == session.generation:
        if not hmac.compare_digest(verifier, session.material.verifier):
            return "unknown"
        return over or Standing(session, session.assurance, seen)
    previous = session.previous
    if generation > session.generation:
        return "unknown"
    if previous is None or generation != session.generation - 1:
        return over or "superseded"
    if not hmac.compare_digest(verifier, previous.verifier):
        return "unknown"
    if over is not None:
        return over
    if now_ms >= window_ends(session, previous, seen, rules.policy):
        return "superseded"
    return Standing(session, previous.assurance, seen)


def is_overtaken(session: Session, *, generation: int, policy: Policy, now_ms: int) -> bool:
    """Whether a token was replaced so lately that whoever has it may not have heard of its successor.

    By an authentication, whose token is not for whoever has this one; or twice, by others who have the session too.
    """
    previous = session.previous
    if previous is None or now_ms >= previous.replaced_ms + policy.rotation_grace_ms:
        return False
    return generation == session.generation - (1 if previous.elevated else 2)


def ended_by(session: Session, seen: Seen, rules: Rules | None, now_ms: int) -> TimeOut | Literal["tenant"] | None:
    """What has ended the session by `now_ms` without anybody saying so to it; without rules, what did for certain."""
    if rules is None:
        at_ms, reason = ends(session.lifetime, seen.at_ms)
        return reason if now_ms >= at_ms else None
    if 0 < rules.not_before_ms >= min(session.created_ms, session.assurance.auth_ms):
        return "tenant"
    at_ms, reason = ends(lifetime_under(session.lifetime, rules.policy, session.actor is not None), seen.at_ms)
    return reason if now_ms >= at_ms else None


def window_ends(session: Session, previous: Previous, seen: Seen, policy: Policy) -> int:
    """When the generation before the current one ceases to count."""
    if previous.elevated:
        return previous.replaced_ms + policy.elevation_overlap_ms
    grace_ms = previous.replaced_ms + policy.rotation_grace_ms
    if seen.generation < session.generation:
        return grace_ms
    return min(grace_ms, seen.generation_ms + policy.rotation_overlap_ms)


def used(session: Session, seen: Seen, *, generation: int, now_ms: int) -> Seen:
    """The last use after one more, of a token of that generation."""
    newest, newest_ms = seen.generation, seen.generation_ms
    if generation == session.generation and generation > newest:
        newest, newest_ms = generation, now_ms
    return Seen(now_ms, newest, newest_ms)
