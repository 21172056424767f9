"""Which retrier acts on an error and how long it waits, by the rules of the Amazon States Language.

The first retrier that is for the error decides, also when it has no retries left. Each counts for itself, for as long
as the run stays at the step.
"""

from services.workflows.bounds import DURATION_MS_MAX
from services.workflows.handling import matches
from services.workflows.program import Retrier
from shared.bounds import OUTBOUND_RETRY_AFTER_MS_MAX

_GROWTH_MAX = 100  # More growth than any cap leaves room for; keeps the power a number.


def retrier_for(retriers: tuple[Retrier, ...], retried: dict[int, int], error: str) -> int | None:
    """The number of the retrier that acts now; None if none does."""
    for number, retrier in enumerate(retriers):
        if matches(retrier.errors, error):
            left = retrier.retries_max is None or retried.get(number, 0) < retrier.retries_max
            return number if left else None
    return None


def delay_ms(retrier: Retrier, before: int, draw: float, retry_after_ms: int = 0) -> int:
    """The wait before the next try, after so many waits of this retrier before.

    What the other side asked for is heeded up to an hour; the jitter comes on top of it, lest all who were refused come
    back at once.
    """
    growth = retrier.rate ** min(before, _GROWTH_MAX)
    cap_ms = DURATION_MS_MAX if retrier.max_delay_ms is None else min(retrier.max_delay_ms, DURATION_MS_MAX)
    nominal_ms = min(retrier.interval_ms * growth, cap_ms)
    asked_ms = min(retry_after_ms, OUTBOUND_RETRY_AFTER_MS_MAX)
    if retrier.full_jitter:
        return asked_ms + int(nominal_ms * draw)
    return max(asked_ms, int(nominal_ms))
