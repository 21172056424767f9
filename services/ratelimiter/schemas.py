"""What goes over the wire: requests are closed structs, decoded strictly; answers are open to new fields."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from services.ratelimiter.policy import Cost, Limit, Profile, Version
from shared.bounds import NAME_BYTES_MAX

BATCH_CHECKS_MAX = 1_000

PolicyName = Annotated[str, Meta(min_length=1, max_length=64)]  # Looked up, so its form need not be checked.
Subject = Annotated[str, Meta(min_length=1, max_length=NAME_BYTES_MAX, description="At most 512 bytes in UTF-8.")]


class CheckRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """May `subject` do something of this cost under `policy`? If so it is charged, unless `peek`.

    A cost of 0 takes nothing and is allowed while at least 1 is left.
    """

    policy: PolicyName
    subject: Subject
    cost: Cost = 1
    peek: bool = False


class LimitState(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One limit as it stands after the check."""

    name: str
    limit: int
    window_ms: int
    remaining: int
    reset_ms: int
    """Until more is left than now; on a denial by this limit, until the cost fits. 0 if nothing is used."""


class CheckResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The decision. It is about all limits together: where it is false, nothing was taken from any."""

    allowed: bool
    policy: str
    version: int
    subject: str
    limits: tuple[LimitState, ...]
    retry_after_ms: int
    """0 if allowed; else exactly when the cost fits, provided nobody else takes before."""
    degraded: Literal[True] | None = None
    """Only there while the store is away and the policy says `open`: nothing was counted, so no limits are told."""


class Denial(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename={"kind": "type", "violated_policies": "violated-policies"},
):
    """What a gateway may hand on to its client: a problem document of the draft's type."""

    kind: str
    title: str
    status: int
    detail: str
    code: Literal["quota_exceeded"]
    retry_after_ms: int
    violated_policies: tuple[str, ...]
    """The names of the limits that denied."""


class BatchRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Checks that stand and fall alone. Those of one subject are made in no promised order."""

    checks: Annotated[tuple[CheckRequest, ...], Meta(min_length=1, max_length=BATCH_CHECKS_MAX)]


class CheckError(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why one check of a batch has no decision."""

    code: str
    detail: str
    retry_after_ms: int = 0


class FailedCheck(msgspec.Struct, frozen=True, kw_only=True):
    """In the place of a decision."""

    error: CheckError


class BatchItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The fields of a decision, or `error` alone in its place."""

    error: CheckError | None = None
    allowed: bool | None = None
    policy: str | None = None
    version: int | None = None
    subject: str | None = None
    limits: tuple[LimitState, ...] | None = None
    retry_after_ms: int | None = None
    degraded: Literal[True] | None = None


class BatchResult(msgspec.Struct, frozen=True, kw_only=True):
    """One result for each check, in the order asked."""

    results: tuple[BatchItem, ...]


class PolicyView(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a policy."""

    name: str
    version: int
    changed_ms: int
    limits: tuple[Limit, ...]
    on_error: Literal["open", "closed"]


class PolicySummary(msgspec.Struct, frozen=True, kw_only=True):
    """A policy in force, and the versions that can be read and rolled back to, newest first."""

    name: str
    version: int
    changed_ms: int
    versions: tuple[int, ...]


class PolicyList(msgspec.Struct, frozen=True, kw_only=True):
    """All policies of the tenant, by name."""

    policies: tuple[PolicySummary, ...]


class Rollback(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Make an old version the newest one."""

    version: Version


class ProfileView(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway profile."""

    name: str
    version: int
    changed_ms: int
    policy: str
    subject_header: str
    deny_status: int
    check_id: bool

    @classmethod
    def of(cls, name: str, version: int, changed_ms: int, profile: Profile) -> "ProfileView":
        """The view of a stored profile."""
        return cls(name=name, version=version, changed_ms=changed_ms, **msgspec.structs.asdict(profile))


class ProfileList(msgspec.Struct, frozen=True, kw_only=True):
    """All gateway profiles of the tenant, by name."""

    profiles: tuple[ProfileView, ...]


class PolicyUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What a subject has used under one policy, as of the last check under it."""

    policy: str
    version: int
    limits: tuple[LimitState, ...]


class SubjectUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What a subject has used under every policy under which anything still counts."""

    subject: str
    policies: tuple[PolicyUsage, ...]
