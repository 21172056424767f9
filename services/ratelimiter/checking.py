"""One check on the ordinary path: what the documented routes, the batch and the gateway contract share.

A check that cannot be decided because the store or the owner is away is answered as its policy
says: `open` lets it pass, unmetered, counted and marked; `closed` refuses it with 503. Whatever is
wrong with the request itself is never answered with a yes.
"""

import time
from collections.abc import Callable

from services.ratelimiter.book import PolicyBook
from services.ratelimiter.compiled import CompiledPolicy, Decision
from services.ratelimiter.limiter import Limiter
from services.ratelimiter.policy import CostTooLargeError
from shared.bounds import RETRY_AFTER_MS
from shared.errors import RefusedError
from shared.objects.address import Address
from shared.objects.errors import CommitFailedError, DeadlineExceededError, OutcomeUnknownError, UnavailableError
from shared.objects.host import NOT_NOW, Host
from shared.storage.interface import StoreError
from shared.telemetry.traces import current_trace

CHECK = "limits:check"
"""The scope that a credential needs for a check."""

KIND = Limiter.kind
API_DEADLINE_MS = 2_000  # A client that waits longer for its limiter is better off without it.
GATEWAY_DEADLINE_MS = 200  # Under what gateways wait (nginx example: 250 ms), so that the policy decides, not they.

_AWAY = (RefusedError, StoreError, DeadlineExceededError, CommitFailedError, OutcomeUnknownError)


class Checker:
    """Checks subjects of any tenant, by name of policy."""

    def __init__(self, host: Host, book: PolicyBook, stopwatch: Callable[[], float] = time.perf_counter) -> None:
        self._host = host
        self._book = book
        self._stopwatch = stopwatch

    def policy(self, tenant: str, name: str, cost: int) -> CompiledPolicy:
        """The policy in force, if it can ever admit `cost`.

        Raises:
            UnknownPolicyError: the tenant has none of that name.
            CostTooLargeError: the cost is above its smallest limit.
        """
        policy = self._book.policy(tenant, name)
        if cost > policy.cost_max:
            raise CostTooLargeError(cost, policy.cost_max)
        return policy

    async def check(
        self, tenant: str, policy: CompiledPolicy, subject: str, *, cost: int = 1, peek: bool = False, deadline_ms: int
    ) -> Decision | None:
        """The decision, counted; None where the policy lets the check pass because nobody can decide it.

        `subject` can be one: the caller has looked, and said where it stands if it cannot.

        Raises:
            SubjectFullError: see `Limiter.check`.
            RefusedError: nobody can decide it, and the policy is closed.
        """
        address = Address(KIND, tenant, subject)
        counters = policy.counters
        started_s = self._stopwatch()
        try:
            decision = await self._host.call(address, Limiter.check, policy, cost, peek, deadline_ms=deadline_ms)
        except _AWAY as exc:
            if policy.on_error == "open":
                counters.fail_open += 1
                return None
            counters.fail_closed += 1
            if isinstance(exc, RefusedError):
                raise
            raise UnavailableError("The check cannot be decided at the moment.", retry_after_ms=RETRY_AFTER_MS) from exc
        assert isinstance(decision, Decision)
        count(policy, decision, peek=peek)
        counters.observe(self._stopwatch() - started_s, current_trace.get())
        return decision

    def check_now(
        self, tenant: str, policy: CompiledPolicy, subject: str, *, cost: int = 1, peek: bool = False
    ) -> Decision | None:
        """The decision, counted, if it needs no waiting; None: take `check`.

        Raises:
            HandlerError, SubjectFullError: as `check`.
        """
        decision = self._host.try_now(Address(KIND, tenant, subject), Limiter.check, policy, cost, peek)
        if decision is NOT_NOW:
            return None
        assert isinstance(decision, Decision)
        count(policy, decision, peek=peek)
        return decision


def count(policy: CompiledPolicy, decision: Decision, *, peek: bool) -> None:
    """Count a decision under its policy."""
    counters = policy.counters
    if peek:
        counters.peeked += 1
    elif decision.allowed:
        counters.allowed += 1
    else:
        counters.denied += 1
