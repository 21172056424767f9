"""Every policy and gateway profile, compiled, for look-ups that cannot wait.

The book follows the documents of kinds "policy" and "profile". A body that this release cannot read
leaves the version before it in force: a limit must not vanish because a newer release wrote it.
"""

from typing import Final

import msgspec

from services.ratelimiter.compiled import CompiledPolicy
from services.ratelimiter.policy import (
    Profile,
    UnknownPolicyError,
    UnknownProfileError,
    decode_policy,
    decode_profile,
)
from shared.objects.config import Document, Documents, read_document
from shared.telemetry.metrics import Metrics

POLICY: Final = "policy"
PROFILE: Final = "profile"


class CompiledProfile(msgspec.Struct, frozen=True, gc=False):
    """A profile with its header name as header names arrive."""

    name: str
    policy: str
    subject_header: bytes
    deny_status: int
    check_id: bool


class PolicyBook:
    """What is in force, by (tenant, name). The two dictionaries are for look-ups only."""

    def __init__(self, documents: Documents, metrics: Metrics) -> None:
        self.policies: dict[tuple[str, str], CompiledPolicy] = {}
        self.profiles: dict[tuple[str, str], CompiledProfile] = {}
        self._metrics = metrics
        documents.subscribe(POLICY, self._policy_changed)
        documents.subscribe(PROFILE, self._profile_changed)

    def policy(self, tenant: str, name: str) -> CompiledPolicy:
        """The policy in force.

        Raises:
            UnknownPolicyError: there is none.
        """
        policy = self.policies.get((tenant, name))
        if policy is None:
            raise UnknownPolicyError(name)
        return policy

    def profile(self, tenant: str, name: str) -> CompiledProfile:
        """The profile in force.

        Raises:
            UnknownProfileError: there is none.
        """
        profile = self.profiles.get((tenant, name))
        if profile is None:
            raise UnknownProfileError(name)
        return profile

    def profiles_under(self, tenant: str, policy: str) -> list[str]:
        """The names of the profiles that check under `policy`, sorted. Looks at every profile."""
        under = (tenant, policy)
        return sorted(name for (owner, name), profile in self.profiles.items() if (owner, profile.policy) == under)

    def _policy_changed(self, tenant: str, name: str, document: Document | None) -> None:
        if document is None:
            self.policies.pop((tenant, name), None)
        elif (record := read_document(document, decode_policy)) is not None:
            counters = self._metrics.bind_check(name)
            self.policies[tenant, name] = CompiledPolicy(name, document.version, record.policy, counters)

    def _profile_changed(self, tenant: str, name: str, document: Document | None) -> None:
        if document is None:
            self.profiles.pop((tenant, name), None)
        elif (profile := read_document(document, decode_profile)) is not None:
            self.profiles[tenant, name] = _compile(name, profile)


def _compile(name: str, profile: Profile) -> CompiledProfile:
    return CompiledProfile(
        name=name,
        policy=profile.policy,
        subject_header=profile.subject_header.encode(),
        deny_status=profile.deny_status,
        check_id=profile.check_id,
    )
