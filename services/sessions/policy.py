"""What a tenant decides about its sessions: how long, how many, what a rotation and a reuse mean.

A policy is one document of the tenant, versioned, held by every node and read without waiting. Where there is none,
the defaults hold. What it lowers counts at the next use of every session; what it raises, for new sessions only.

Sources: NIST SP 800-63B-4 2.1.3, 2.2.3, 2.3.3 (the presets are its time-outs); OWASP ASVS 5.0 V7.1.
"""

import re
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from services.sessions.bounds import (
    ABSOLUTE_MS_MAX,
    CACHE_SECONDS_MAX,
    CLIENTS_MAX,
    DAY_MS,
    ELEVATION_OVERLAP_MS_MAX,
    FRESH_AUTHENTICATION_MS,
    HOUR_MS,
    IDLE_MS_MIN,
    MINUTE_MS,
    ORIGINS_MAX,
    RETENTION_MS_MAX,
    ROTATION_WINDOW_MS_MAX,
    SESSIONS_MAX,
)
from shared.errors import InvalidInputError

_DOMAIN = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)+")
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_PORTS = (("http", ":80"), ("https", ":443"))
"""Which browsers leave out of an origin."""


class TimeOuts(NamedTuple):
    """How long a session lives at most, and unused (0: as long as it lives), in ms."""

    absolute_ms: int
    idle_ms: int


PRESETS: Final = {
    "aal1": TimeOuts(30 * DAY_MS, 0),
    "aal2": TimeOuts(24 * HOUR_MS, HOUR_MS),
    "aal3": TimeOuts(12 * HOUR_MS, 15 * MINUTE_MS),
    "office": TimeOuts(8 * HOUR_MS, 30 * MINUTE_MS),
}
Preset = Literal["aal1", "aal2", "aal3", "office"]
OnLimit = Literal["reject", "evict_oldest", "evict_lru"]
Window = Annotated[int, Meta(ge=0, le=ROTATION_WINDOW_MS_MAX)]
Count = Annotated[int, Meta(ge=1, le=SESSIONS_MAX)]
Client = Annotated[str, Meta(max_length=64)]


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many sessions one principal may have at once, and what the next one does.

    `reject` refuses it; `evict_oldest` ends the one that began first, `evict_lru` the one unused for longest. A session
    of the same client goes before those of others; of equals the one that began first, then the smaller id.
    """

    total: Count = 20
    per_client: Annotated[dict[Client, Count], Meta(max_length=CLIENTS_MAX)] = {}
    on_limit: OnLimit = "evict_oldest"


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What holds for the sessions of one tenant. Durations are milliseconds."""

    preset: Preset = "aal1"
    """The time-outs, unless the next two say otherwise."""
    absolute_ms: Annotated[int, Meta(ge=MINUTE_MS, le=ABSOLUTE_MS_MAX)] | None = None
    idle_ms: Annotated[int, Meta(ge=0, le=ABSOLUTE_MS_MAX)] | None = None
    """0: none. At least a minute otherwise."""
    limits: Limits = msgspec.field(default_factory=Limits)
    rotation_grace_ms: Window = MINUTE_MS
    """How long a token that was rotated still counts while its successor has not been seen."""
    rotation_overlap_ms: Window = 10_000
    """How long it still counts once the successor has."""
    elevation_overlap_ms: Annotated[int, Meta(ge=0, le=ELEVATION_OVERLAP_MS_MAX)] = 0
    """How long a token from before an authentication still counts, with what it stood for then."""
    on_reuse: Literal["revoke", "deny"] = "revoke"
    """What a token does to its session that is presented for rotation long after it was replaced."""
    require_if_match: bool = False
    """Whether writes of session data must name the version that they replace (428 otherwise)."""
    addresses: Literal["full", "truncated", "none"] = "truncated"
    """What is stored of clients' addresses; truncated: the first 24 bits of IPv4, 48 of IPv6."""
    retention_ms: Annotated[int, Meta(ge=0, le=RETENTION_MS_MAX)] = 30 * DAY_MS
    """How long it is known that a session has ended, and why."""
    fresh_authentication_ms: Annotated[int, Meta(ge=0, le=DAY_MS)] = FRESH_AUTHENTICATION_MS
    """How recent an authentication must be for its user to end other sessions."""
    cache_seconds: Annotated[int, Meta(ge=0, le=CACHE_SECONDS_MAX)] = 0
    """What gateways are told in `Session-Cache-For`; a revocation is seen as much later there."""
    show_impersonation: bool = True
    """Whether users see sessions in their list that somebody else has in their name."""
    cookie_domain: Annotated[
        str,
        Meta(max_length=253, pattern=r"^[a-z0-9.-]*(?!\n)$", description="a host name in lower case, as example.org"),
    ] = ""
    """Sets `Domain` on the cookie, for sites of several hosts; its name is then `__Secure-sid`."""
    origins: Annotated[tuple[Annotated[str, Meta(max_length=300)], ...], Meta(max_length=ORIGINS_MAX)] = ()
    """Origins whose pages may make calls with the cookie, beside the same one: as browsers say them."""

    def __post_init__(self) -> None:
        if self.idle_ms is not None and 0 < self.idle_ms < IDLE_MS_MIN:
            raise ValueError(f"idle_ms is 0 or at least {IDLE_MS_MIN}")

    @property
    def time_outs(self) -> TimeOuts:
        """Those that hold."""
        preset = PRESETS[self.preset]
        return TimeOuts(
            preset.absolute_ms if self.absolute_ms is None else self.absolute_ms,
            preset.idle_ms if self.idle_ms is None else self.idle_ms,
        )


def check_names(policy: Policy) -> None:
    """Refuse an origin or a domain that no browser would find equal to anything. Stored policies are not asked.

    Raises:
        InvalidInputError: it says which.
    """
    if policy.cookie_domain and not _DOMAIN.fullmatch(policy.cookie_domain):
        raise InvalidInputError("Expected a host name with a dot in it, as example.org", "$.cookie_domain")
    for index, origin in enumerate(policy.origins):
        found = _ORIGIN.fullmatch(origin)
        if found is None or found.groups() in _PORTS:
            raise InvalidInputError(
                "Expected an origin as browsers say it, as https://app.example: in lower case, no path, no usual port",
                f"$.origins[{index}]",
            )


class Rules(msgspec.Struct, frozen=True):
    """What a call to a principal is made under: the policy, and the moment up to which the tenant ended everything."""

    policy: Policy = Policy()
    not_before_ms: int = 0
    """Sessions that began, or whose user authenticated, at this moment of the store's clock or earlier are over."""
