"""When a call that failed is made again, and how long after.

Two questions, each with one answer for the whole tree. *May it be made again?* Only if it surely
did not start, or if making it twice is as good as once: it only reads, or carries an idempotency
key. The error says which of the two it takes (`TenureError.retryable`). *How long after?* A
`Backoff` says: pure, from the number of failures and a random draw that is handed in.

Retries multiply: three tries on each of three floors are 27 calls to the lowest. So retry on one
floor, the outermost that knows the call is idempotent, and let the others pass the error on.

Sources: M. Brooker, "Exponential Backoff and Jitter" (AWS Architecture Blog, 2015); RFC 9110 9.2.2
(which methods may be repeated).
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import TypeAlias, TypeVar

import msgspec

from shared.clock import Clock
from shared.errors import RefusedError, Retryable, TenureError

T = TypeVar("T")
Draw: TypeAlias = Callable[[], float]
"""A random number in [0, 1), such as `random.random`."""

_STEPS_MAX = 64  # More doublings than any cap leaves room for; keeps the power small.


class Jitter(Enum):
    """How the wait is spread, as (from, to) in parts of the nominal wait."""

    NONE = (1.0, 1.0)
    """The wait itself: where one process alone waits, and a person reads how long."""
    QUARTER = (0.75, 1.25)
    """Spreads by half the wait and keeps its length foreseeable; the cap may be passed by a quarter."""
    FULL = (0.0, 1.0)
    """Spreads the most, so the least load where many failed at one moment; some wait hardly at all."""


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """Waits that grow by `factor` from `base_ms` to `cap_ms`. A factor of 1 waits the same each time."""

    base_ms: int
    cap_ms: int
    factor: int = 2
    jitter: Jitter = Jitter.QUARTER

    def __post_init__(self) -> None:
        """Check what only a bug can break."""
        assert 0 < self.base_ms <= self.cap_ms, "the wait is some time, and does not shrink"
        assert self.factor >= 1

    def nominal_ms(self, failures: int) -> int:
        """The wait before jitter, after so many failures before the last one: 0 for the first wait."""
        assert failures >= 0
        growth: int = self.factor ** min(failures, _STEPS_MAX)
        return min(self.base_ms * growth, self.cap_ms)

    def wait_ms(self, failures: int, draw: Draw) -> int:
        """The wait after so many failures before the last one."""
        low, high = self.jitter.value
        return int(self.nominal_ms(failures) * (low + (high - low) * draw()))


def may_retry(error: BaseException, *, idempotent: bool) -> bool:
    """Whether the call that ended in `error` may be made again as it was.

    `idempotent` promises that the call made twice is as good as made once. What is no TenureError is
    a bug or a cancellation, and is not repeated.
    """
    if not isinstance(error, TenureError):
        return False
    if error.retryable is Retryable.IF_IDEMPOTENT:
        return idempotent
    return error.retryable is Retryable.ALWAYS


async def retrying(
    call: Callable[[], Awaitable[T]],
    *,
    backoff: Backoff,
    budget_ms: int,
    clock: Clock,
    idempotent: bool = False,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    draw: Draw = random.random,
) -> T:
    """What `call()` returns, made again while that is allowed and fits into `budget_ms`.

    No call begins later than `budget_ms` after the first; a wait that would end later is not begun.
    The budget cuts off no call that is under way, so give each a deadline of its own. A refusal
    that names a time is heeded: the back-off comes on top, lest all who were refused come at once.

    Raises:
        BaseException: what the last call raised.
    """
    until_ms = clock.monotonic_ms() + budget_ms
    failures = 0
    while True:
        try:
            return await call()
        except TenureError as error:
            wait_ms = _advised_ms(error) + backoff.wait_ms(failures, draw)
            if not may_retry(error, idempotent=idempotent) or clock.monotonic_ms() + wait_ms > until_ms:
                raise
        failures += 1
        await sleep(wait_ms / 1000)


def _advised_ms(error: TenureError) -> int:
    return error.retry_after_ms if isinstance(error, RefusedError) else 0
