"""Many checks in one request: decided at once where that can be, together where they have to wait.

The documented route and the fast lane both answer with `decide_batch`.
"""

import asyncio
from collections.abc import Sequence

import msgspec

from services.ratelimiter.checking import API_DEADLINE_MS, Checker
from services.ratelimiter.compiled import CompiledPolicy
from services.ratelimiter.schemas import CheckError, CheckRequest, CheckResult, FailedCheck
from services.ratelimiter.subjects import check_subject
from shared.errors import RefusedError, TenureError

PATH = "/v1/check/batch"

_encode = msgspec.json.Encoder().encode


async def decide_batch(checker: Checker, tenant: str, checks: Sequence[CheckRequest]) -> bytes:
    """A `BatchResult` as JSON. Each check stands alone: an error of one is told in its place."""
    results: list[bytes] = []
    waiting: dict[int, CompiledPolicy] = {}
    for index, one in enumerate(checks):
        result = b""
        try:
            policy = checker.policy(tenant, one.policy, one.cost)
            decision = checker.check_now(tenant, policy, one.subject, cost=one.cost, peek=one.peek)
            if decision is None:
                waiting[index] = policy
            else:
                result = policy.body(decision, one.subject)
        except TenureError as exc:
            result = _failure(exc)
        results.append(result)
    if waiting:
        late = (_check_late(checker, tenant, policy, index, checks[index]) for index, policy in waiting.items())
        for index, result in zip(waiting, await asyncio.gather(*late), strict=True):
            results[index] = result
    return b'{"results":[%b]}' % b",".join(results)


def degraded(policy: CompiledPolicy, subject: str) -> bytes:
    """A `CheckResult` as JSON for a check that the policy lets pass because nobody can decide it."""
    return _encode(
        CheckResult(
            allowed=True,
            policy=policy.name,
            version=policy.version,
            subject=subject,
            limits=(),
            retry_after_ms=0,
            degraded=True,
        )
    )


async def _check_late(checker: Checker, tenant: str, policy: CompiledPolicy, index: int, one: CheckRequest) -> bytes:
    try:
        check_subject(one.subject, f"$.checks[{index}].subject")
        decision = await checker.check(
            tenant, policy, one.subject, cost=one.cost, peek=one.peek, deadline_ms=API_DEADLINE_MS
        )
    except TenureError as exc:
        return _failure(exc)
    return degraded(policy, one.subject) if decision is None else policy.body(decision, one.subject)


def _failure(error: TenureError) -> bytes:
    retry_after_ms = error.retry_after_ms if isinstance(error, RefusedError) else 0
    return _encode(FailedCheck(error=CheckError(code=error.code, detail=str(error), retry_after_ms=retry_after_ms)))
