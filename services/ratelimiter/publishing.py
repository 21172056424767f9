"""Reading and writing policies and profiles: versions, conditions, and what must not go.

A write names the version that it replaces, always: where the caller states none, it is the newest
that we know, and the write is tried again on what somebody else wrote meanwhile. So no version is
ever lost between two writers, and a policy's history has no gaps.

Source: RFC 9110 13.1 (If-Match, If-None-Match), as far as one strong tag or `*`.
"""

import re
from collections.abc import Callable
from typing import Literal

import msgspec

from services.ratelimiter.book import POLICY, PROFILE, PolicyBook
from services.ratelimiter.policy import (
    NAME_PATTERN,
    NAME_RULE,
    Policy,
    PolicyInUseError,
    PolicyRecord,
    Profile,
    UnknownPolicyError,
    UnknownProfileError,
    decode_policy,
    decode_profile,
    encode_record,
)
from services.ratelimiter.schemas import PolicySummary, PolicyView, ProfileView
from shared.errors import ConflictError, InvalidInputError, NotFoundError
from shared.objects.config import Document, Documents, VersionMismatchError
from shared.objects.errors import TooLargeError

DOCUMENTS_MAX = 1_000  # Policies of a tenant, and profiles: every node holds them all in memory.
_TRIES = 5
_TAG = re.compile(r'"v([1-9][0-9]{0,15})"')
_NAME = re.compile(NAME_PATTERN)
Kind = Literal["policy", "profile"]


class Condition(msgspec.Struct, frozen=True):
    """What the stored version must be for a write: `version`, or anything; `exists` None: it need not exist."""

    exists: bool | None = None
    version: int | None = None

    def holds(self, stored: int) -> bool:
        """Whether a write may replace version `stored`; 0 stands for none."""
        if self.exists is not None and self.exists != (stored > 0):
            return False
        return self.version is None or self.version == stored


def condition_of(if_match: str | None, if_none_match: str | None) -> Condition:
    """What the two header fields demand together.

    Raises:
        InvalidInputError: they say something else than `"v<n>"` or `*`, or both speak.
    """
    if if_none_match is not None:
        if if_match is not None:
            raise InvalidInputError("If-Match and If-None-Match exclude each other", "header.if-none-match")
        if if_none_match.strip() != "*":
            raise InvalidInputError("Only * is understood here", "header.if-none-match")
        return Condition(exists=False)
    if if_match is None:
        return Condition()
    if if_match.strip() == "*":
        return Condition(exists=True)
    tag = _TAG.fullmatch(if_match.strip())
    if tag is None:
        raise InvalidInputError('This must be * or a version like "v3"', "header.if-match")
    return Condition(version=int(tag[1]))


def etag(version: int) -> str:
    """The entity tag of a version."""
    return f'"v{version}"'


class Publishing:
    """The policies and profiles of all tenants, as the API shows and changes them."""

    def __init__(self, documents: Documents, book: PolicyBook) -> None:
        self._documents = documents
        self._book = book

    # Policies.

    def policies(self, tenant: str) -> tuple[PolicySummary, ...]:
        """All policies of the tenant, by name."""
        return tuple(_summary(document) for document in self._documents.list(POLICY, tenant))

    def policy(self, tenant: str, name: str) -> PolicyView:
        """The policy as it is in force. Raises UnknownPolicyError."""
        document = self._policy_document(tenant, name)
        return _view(document.name, document.version, document.changed_ms, decode_policy(document.body).policy)

    def policy_version(self, tenant: str, name: str, version: int) -> PolicyView:
        """The policy as it was.

        Raises:
            UnknownPolicyError: there is no such policy.
            NotFoundError: the version never was, or is no longer kept.
        """
        document = self._policy_document(tenant, name)
        return _version(document, version)

    async def put_policy(self, tenant: str, name: str, policy: Policy, condition: Condition) -> tuple[PolicyView, bool]:
        """Make `policy` the newest version; say whether it is the first.

        Raises:
            InvalidInputError: the name cannot be one.
            VersionMismatchError: the condition does not hold.
            TooLargeError: the tenant has 1,000 policies.
        """

        def body(current: Document | None) -> bytes:
            return encode_record(_successor(current, policy))

        document, created = await self._put(POLICY, tenant, name, body, condition)
        return _view(name, document.version, document.changed_ms, policy), created

    async def roll_back(self, tenant: str, name: str, version: int, condition: Condition) -> PolicyView:
        """Make the policy what it was at `version`, as a new version.

        Raises:
            As `policy_version` and `put_policy`.
        """
        found: list[Policy] = []

        def body(current: Document | None) -> bytes:
            if current is None:
                raise UnknownPolicyError(name)
            old = _version(current, version)
            found[:] = [Policy(limits=old.limits, on_error=old.on_error)]
            return encode_record(_successor(current, found[0]))

        document, _ = await self._put(POLICY, tenant, name, body, condition)
        return _view(name, document.version, document.changed_ms, found[0])

    async def delete_policy(self, tenant: str, name: str, condition: Condition) -> None:
        """Delete the policy and its history.

        Raises:
            UnknownPolicyError, VersionMismatchError: there is none, or another version.
            PolicyInUseError: a profile names it.
        """
        self._policy_document(tenant, name)
        if profiles := self._book.profiles_under(tenant, name):
            raise PolicyInUseError(f"The policy is in use by the profile {profiles[0]!r}.")
        await self._delete(POLICY, tenant, name, condition)

    def _policy_document(self, tenant: str, name: str) -> Document:
        document = self._documents.get(POLICY, tenant, name)
        if document is None:
            raise UnknownPolicyError(name)
        return document

    # Profiles.

    def profiles(self, tenant: str) -> tuple[ProfileView, ...]:
        """All profiles of the tenant, by name."""
        return tuple(_profile_view(document) for document in self._documents.list(PROFILE, tenant))

    def profile(self, tenant: str, name: str) -> ProfileView:
        """The profile in force. Raises UnknownProfileError."""
        document = self._documents.get(PROFILE, tenant, name)
        if document is None:
            raise UnknownProfileError(name)
        return _profile_view(document)

    async def put_profile(
        self, tenant: str, name: str, profile: Profile, condition: Condition
    ) -> tuple[ProfileView, bool]:
        """Make `profile` the newest version; say whether it is the first.

        Raises:
            InvalidInputError: the name cannot be one.
            ConflictError: there is no policy of the name that the profile gives.
            VersionMismatchError: the condition does not hold.
            TooLargeError: the tenant has 1,000 profiles.
        """
        if self._documents.get(POLICY, tenant, profile.policy) is None:
            raise ConflictError(f"There is no policy {profile.policy!r}; make it first.")
        document, created = await self._put(PROFILE, tenant, name, lambda _: encode_record(profile), condition)
        return _profile_view(document), created

    async def delete_profile(self, tenant: str, name: str, condition: Condition) -> None:
        """Delete the profile. Raises UnknownProfileError or VersionMismatchError."""
        self.profile(tenant, name)
        await self._delete(PROFILE, tenant, name, condition)

    # Both.

    async def _put(
        self, kind: Kind, tenant: str, name: str, body: Callable[[Document | None], bytes], condition: Condition
    ) -> tuple[Document, bool]:
        if _NAME.search(name) is None:
            raise InvalidInputError(f"Expected {NAME_RULE}", "path.name")
        for _ in range(_TRIES):
            current = await self._current(kind, tenant, name, condition)
            if current is None and len(self._documents.list(kind, tenant)) >= DOCUMENTS_MAX:
                unit = {POLICY: "policies", PROFILE: "profiles"}[kind]
                raise TooLargeError("The tenant", size=DOCUMENTS_MAX + 1, size_max=DOCUMENTS_MAX, unit=unit)
            stored = 0 if current is None else current.version
            try:
                document = await self._documents.put(kind, tenant, name, body(current), expected=stored)
            except VersionMismatchError:
                await self._documents.poll()
            else:
                return document, current is None
        raise ConflictError("Others change it all the time; try again.")

    async def _delete(self, kind: Kind, tenant: str, name: str, condition: Condition) -> None:
        for _ in range(_TRIES):
            current = await self._current(kind, tenant, name, condition)
            if current is None:
                return  # Somebody else was faster.
            try:
                await self._documents.delete(kind, tenant, name, expected=current.version)
            except VersionMismatchError:
                await self._documents.poll()
            else:
                return
        raise ConflictError("Others change it all the time; try again.")

    async def _current(self, kind: Kind, tenant: str, name: str, condition: Condition) -> Document | None:
        """What is stored, as far as we know; asks the store before it says that the condition does not hold."""
        current = self._documents.get(kind, tenant, name)
        if not condition.holds(0 if current is None else current.version):
            await self._documents.poll()
            current = self._documents.get(kind, tenant, name)
            stored = 0 if current is None else current.version
            if not condition.holds(stored):
                raise VersionMismatchError(stored)
        return current


def _successor(current: Document | None, policy: Policy) -> PolicyRecord:
    if current is None:
        return PolicyRecord(policy=policy)
    return decode_policy(current.body).followed_by(policy, version=current.version, changed_ms=current.changed_ms)


def _version(document: Document, version: int) -> PolicyView:
    record = decode_policy(document.body)
    if version == document.version:
        return _view(document.name, version, document.changed_ms, record.policy)
    for past in record.history:
        if past.version == version:
            return _view(document.name, version, past.changed_ms, past.policy)
    raise NotFoundError(f"version {version} of this policy (any more)")


def _view(name: str, version: int, changed_ms: int, policy: Policy) -> PolicyView:
    return PolicyView(name=name, version=version, changed_ms=changed_ms, limits=policy.limits, on_error=policy.on_error)


def _summary(document: Document) -> PolicySummary:
    history = decode_policy(document.body).history
    versions = (document.version, *(past.version for past in history))
    return PolicySummary(
        name=document.name, version=document.version, changed_ms=document.changed_ms, versions=versions
    )


def _profile_view(document: Document) -> ProfileView:
    return ProfileView.of(document.name, document.version, document.changed_ms, decode_profile(document.body))
