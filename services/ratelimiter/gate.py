"""The contract with gateways: ANY /check/p/{profile}[/...], one yes or no about somebody else's request.

A gateway copies the header, method, path and query of its client, so none of those mean anything
here. Three fields count, and the gateway must overwrite each: `X-Tenure-Key` (its credential), the
field that the profile names (the subject), and `X-Tenure-Check-Id` where the profile says so. The
policy, the cost (1) and the form of a denial come from the profile alone.

A gateway may send one check several times (HAProxy's client was seen to send four). Where it makes
an id for each, the decision is remembered for 5 s and told up to four times more without charge;
more repeats than that, or a table that is full, charge again: memory is bounded, and a constant id
does not open the gate.
"""

from collections.abc import Mapping, Sequence

from services.ratelimiter.book import CompiledProfile, PolicyBook
from services.ratelimiter.checking import CHECK, GATEWAY_DEADLINE_MS, Checker
from services.ratelimiter.compiled import CompiledPolicy, Decision
from services.ratelimiter.subjects import check_subject
from shared.bounds import NAME_BYTES_MAX
from shared.cache import Cache
from shared.clock import Clock
from shared.errors import InvalidInputError
from shared.http.asgi import Answer
from shared.http.auth import GATEWAY_KEY, Credential, KeyRing

PREFIX = "/check/p/"
CHECK_ID = b"x-tenure-check-id"
CHECK_ID_BYTES_MAX = 128
REMEMBERED_MS = 5_000  # No gateway repeats a check later than this.
REPEATS_MAX = 4
REMEMBERED_MAX = 65_536  # Checks of 5 s at 13,000/s; about 30 MB when full.

Fields = Mapping[bytes, bytes]
RawHeaders = Sequence[tuple[bytes, bytes]]
_PASSED: Answer = (200, [(b"content-length", b"0")], b"")


class Order:
    """What one request of a gateway asks, found valid."""

    __slots__ = ("memory_key", "policy", "profile", "subject", "tenant")

    def __init__(
        self, tenant: str, profile: CompiledProfile, policy: CompiledPolicy, subject: str, check_id: bytes
    ) -> None:
        self.tenant = tenant
        self.profile = profile
        self.policy = policy
        self.subject = subject
        self.memory_key = (tenant, profile.name, subject, check_id, policy) if check_id else None

    def answer(self, decision: Decision) -> Answer:
        """The decision as this gateway wants it told."""
        return self.policy.gateway_answer(decision, 1, self.profile.deny_status)


class Gate:
    """Answers gateways: at once where that can be (`answer_now`), else by the ordinary path (`answer`)."""

    def __init__(self, keys: KeyRing, book: PolicyBook, checker: Checker, clock: Clock) -> None:
        self._keys = keys
        self._book = book
        self._checker = checker
        self._memory = CheckMemory(clock)

    def answer_now(self, profile: str, fields: Fields, headers: RawHeaders) -> tuple[CompiledPolicy, Answer] | None:
        """The policy and the answer to an authenticated request; None if anything is out of the ordinary.

        Raises:
            TenureError: the request is not in order; the ordinary path says so to the caller.
        """
        credential = self._keys.authenticate(fields.get(GATEWAY_KEY, b""))
        if credential is None or CHECK not in credential.scopes:
            return None
        order = self._order(credential.tenant, profile, fields, headers)
        if order.memory_key is not None and (known := self._memory.recall(order.memory_key)) is not None:
            return order.policy, order.answer(known)
        decision = self._checker.check_now(order.tenant, order.policy, order.subject)
        if decision is None:
            return None
        self._remember(order, decision)
        return order.policy, order.answer(decision)

    async def answer(self, credential: Credential, profile: str, fields: Fields, headers: RawHeaders) -> Answer:
        """The answer to a request whose credential has been checked.

        Raises:
            UnknownProfileError, UnknownPolicyError: the tenant has none.
            InvalidInputError: the subject is missing or is none, or the check id is missing.
            RefusedError: nobody can decide, and the policy is closed.
        """
        order = self._order(credential.tenant, profile, fields, headers)
        if order.memory_key is not None and (known := self._memory.recall(order.memory_key)) is not None:
            return order.answer(known)
        decision = await self._checker.check(order.tenant, order.policy, order.subject, deadline_ms=GATEWAY_DEADLINE_MS)
        if decision is None:
            return _PASSED
        self._remember(order, decision)
        return order.answer(decision)

    def _order(self, tenant: str, name: str, fields: Fields, headers: RawHeaders) -> Order:
        profile = self._book.profile(tenant, name)
        policy = self._book.policy(tenant, profile.policy)
        subject = _single(profile.subject_header, fields, headers)
        check_id = _single(CHECK_ID, fields, headers) if profile.check_id else b""
        if len(check_id) > CHECK_ID_BYTES_MAX:
            raise InvalidInputError(f"At most {CHECK_ID_BYTES_MAX} bytes are allowed", f"header.{CHECK_ID.decode()}")
        try:
            name = subject.decode()
        except UnicodeDecodeError as exc:
            raise InvalidInputError("The subject is not UTF-8", f"header.{profile.subject_header.decode()}") from exc
        if len(subject) > NAME_BYTES_MAX:
            check_subject(name, f"header.{profile.subject_header.decode()}")
        return Order(tenant, profile, policy, name, check_id)

    def _remember(self, order: Order, decision: Decision) -> None:
        if order.memory_key is not None:
            self._memory.remember(order.memory_key, decision)


MemoryKey = tuple[str, str, str, bytes, CompiledPolicy]  # A policy that has changed is another one.


class CheckMemory:
    """Decisions of the last 5 s by the id that a gateway gave them. Full: the one unused for longest is forgotten."""

    __slots__ = ("_known",)

    def __init__(self, clock: Clock, known_max: int = REMEMBERED_MAX) -> None:
        self._known: Cache[MemoryKey, _Known] = Cache(clock, entries_max=known_max, ttl_ms=REMEMBERED_MS)

    def recall(self, key: MemoryKey) -> Decision | None:
        """The decision to repeat, if there is one and it has not been repeated too often."""
        known = self._known.get(key)
        if known is None or not known.repeats_left:
            return None
        known.repeats_left -= 1
        return known.decision

    def remember(self, key: MemoryKey, decision: Decision) -> None:
        """Keep the decision, and forget what is old or has no room."""
        self._known.put(key, _Known(decision))


class _Known:
    __slots__ = ("decision", "repeats_left")

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        self.repeats_left = REPEATS_MAX


def _single(name: bytes, fields: Fields, headers: RawHeaders) -> bytes:
    """The value of a field that the gateway must set, once."""
    value = fields.get(name, b"")
    if not value:
        raise InvalidInputError("The gateway must set this field", f"header.{name.decode()}")
    if len(fields) != len(headers) and sum(given == name for given, _ in headers) > 1:
        raise InvalidInputError("The gateway must overwrite this field, not add to it", f"header.{name.decode()}")
    return value
