"""What a tenant decides: policies (how much) and gateway profiles (for whom a gateway asks).

Both are documents: strict when they come in, versioned, kept with their last ten versions (policies),
and refused with the place and the reason where they cannot be right. A policy that is accepted can
always be enforced and its usage always be stored.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from services.ratelimiter.window import Rule, rule_for
from shared.errors import ConflictError, NotFoundError, TenureError
from shared.objects.errors import DomainError

# Names stand in templates and header fields. A bare $ would let a line feed at the end through.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}(?!\n)$"
NAME_RULE = "1 to 64 letters, digits, '.', '_' and '-', beginning with a letter or digit"
LIMITS_MAX = 8
LIMIT_MAX = 10**9
WINDOW_MS_MAX = 400 * 24 * 3_600_000  # A leap year and a month.
LOG_LIMIT_MAX = 60_000  # A log of this size is 480 KB, written whole with every checkpoint.
STATE_BYTES_MAX = 510_000  # A checkpoint has at most 512 KiB: all that one subject has used must fit.
VERSIONS_KEPT = 10
STORED_OVERHEAD_BYTES = 128  # Around a policy and its limits when stored: names, versions, lengths.

# Refusals quote the description in the place of the pattern (`shared.http.decoding`).
Name = Annotated[str, Meta(pattern=NAME_PATTERN, max_length=64, description=NAME_RULE)]
HeaderName = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9][a-z0-9-]{0,63}(?!\n)$",
        description="1 to 64 lower-case letters, digits and '-', beginning with a letter or digit",
    ),
]
Cost = Annotated[int, Meta(ge=0, le=LIMIT_MAX)]
# A pattern, so that the refusal of another one names these.
Algorithm = Annotated[
    str, Meta(pattern=r"^(sliding_window|sliding_log)(?!\n)$", description="sliding_window or sliding_log")
]
Version = Annotated[int, Meta(ge=1, le=2**53)]

# A client sets these itself, or they are ours: a gateway cannot name the subject with them.
_NOT_SUBJECTS = ("authorization", "cookie", "host", "x-tenure-key", "x-tenure-check-id")


class UnknownPolicyError(NotFoundError):
    """The tenant has no policy of that name."""

    code = "unknown_policy"

    def __init__(self, name: str) -> None:
        super().__init__(f"policy {name!r}")


class UnknownProfileError(NotFoundError):
    """The tenant has no gateway profile of that name."""

    code = "unknown_profile"

    def __init__(self, name: str) -> None:
        super().__init__(f"profile {name!r}")


class CostTooLargeError(TenureError):
    """The cost is above the smallest limit of the policy, so no waiting would ever help."""

    code = "cost_too_large"

    def __init__(self, cost: int, cost_max: int) -> None:
        super().__init__(f"A cost of {cost} can never be admitted; the smallest limit is {cost_max}.")
        self.cost_max = cost_max


class PolicyInUseError(ConflictError):
    """A gateway profile names the policy; without it that gateway would get errors."""

    code = "policy_in_use"


class SubjectFullError(DomainError):
    """The subject has live usage under so many policies that no other fits into what is stored of it."""

    code = "subject_full"


class Limit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """At most `limit` in any `window_ms` milliseconds."""

    name: Name
    limit: Annotated[int, Meta(ge=1, le=LIMIT_MAX)]
    window_ms: Annotated[int, Meta(ge=1, le=WINDOW_MS_MAX)]
    algorithm: Algorithm = "sliding_window"
    """`sliding_log` keeps every hit, whatever the limit: nothing is held back longer than the window."""

    def __post_init__(self) -> None:
        if self.algorithm == "sliding_log" and self.limit > LOG_LIMIT_MAX:
            raise ValueError(f"A sliding_log keeps at most {LOG_LIMIT_MAX} hits; use sliding_window")

    @property
    def rule(self) -> Rule:
        """How it is enforced."""
        return rule_for(self.limit, self.window_ms, log=self.algorithm == "sliding_log")


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits that hold together: a check passes all of them or takes nothing from any.

    `on_error` says what a check answers while the store is away: `open` lets it pass, unmetered and
    counted; `closed` refuses it.
    """

    limits: Annotated[tuple[Limit, ...], Meta(min_length=1, max_length=LIMITS_MAX)]
    on_error: Literal["open", "closed"] = "open"

    def __post_init__(self) -> None:
        names = [limit.name for limit in self.limits]
        if len(set(names)) != len(names):
            raise ValueError("The names of the limits must differ")
        if self.stored_bytes_max > STATE_BYTES_MAX:
            raise ValueError(f"The logs of these limits could take more than the {STATE_BYTES_MAX} bytes that are kept")

    @property
    def stored_bytes_max(self) -> int:
        """What the usage of one subject under this policy takes at most, stored."""
        return sum(limit.rule.stored_bytes_max() + STORED_OVERHEAD_BYTES for limit in self.limits)


class PastPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """A version that was replaced."""

    version: int
    changed_ms: int
    policy: Policy


class PolicyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The stored body of a document of kind "policy": what holds, and what held before, newest first.

    The version and the time of `policy` are those of the document.
    """

    policy: Policy
    history: tuple[PastPolicy, ...] = ()

    def followed_by(self, policy: Policy, *, version: int, changed_ms: int) -> "PolicyRecord":
        """The record in which `policy` replaces this one, of that version; the oldest versions are dropped."""
        past = PastPolicy(version=version, changed_ms=changed_ms, policy=self.policy)
        return PolicyRecord(policy=policy, history=(past, *self.history)[: VERSIONS_KEPT - 1])


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one gateway asks: under which policy, for whom, and what it can understand as "no"."""

    policy: Name
    subject_header: HeaderName
    """The header field, in lower case, in which the gateway names the subject. The gateway must overwrite it."""
    deny_status: Literal[429, 403] = 429
    """403 for gateways that make an error of every other status, as nginx does."""
    check_id: bool = False
    """Whether the gateway sets `X-Tenure-Check-Id`: then a check that it repeats is charged once."""

    def __post_init__(self) -> None:
        if self.subject_header in _NOT_SUBJECTS:
            raise ValueError(f"The header {self.subject_header!r} cannot name the subject")


def encode_record(record: PolicyRecord | Profile) -> bytes:
    """The stored body."""
    return msgspec.json.encode(record)


def decode_policy(body: bytes) -> PolicyRecord:
    """What `encode_record` stored.

    Raises:
        msgspec.ValidationError: another release wrote it.
    """
    return msgspec.json.decode(body, type=PolicyRecord)


def decode_profile(body: bytes) -> Profile:
    """What `encode_record` stored.

    Raises:
        msgspec.ValidationError: another release wrote it.
    """
    return msgspec.json.decode(body, type=Profile)
