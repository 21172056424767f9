"""What can become of a call to an object, other than its reply.

TenureError
|- RefusedError
|  |- OverloadedError        a bound was reached; the call did not start
|  `- UnavailableError       the shard is closed or the store is away; the call did not start
|     `- NewerSchemaError    a newer version of the kind has stored the object
|     `- QuarantinedError    the object has blocked its owner, and is refused for a while
|- OutcomeUnknownError       the store did not say whether the commit took effect
|- CommitFailedError         the commit surely did not take effect
|  `- NoRoomError            because the store has no memory left
|- DeadlineExceededError     the caller's time ran out before the reply
|- KeyReusedError            an idempotency key that stands for another request
|- CallCycleError            the call would wait for itself
|- TooLargeError             a turn, value or key over its bound
|- HandlerError              the handler raised; its writes were dropped
`- DomainError               declared by authors; an answer, not a fault
"""

from collections.abc import Sequence

from shared.bounds import RETRY_AFTER_MS
from shared.errors import RefusedError, Retryable, TenureError


class OverloadedError(RefusedError):
    """A bound of the object or node was reached. The call did not start."""

    code = "overloaded"


class UnavailableError(RefusedError):
    """Nobody can run this object at the moment. The call did not start."""

    code = "unavailable"

    def __init__(self, detail: str, *, retry_after_ms: int = RETRY_AFTER_MS) -> None:
        super().__init__(detail, retry_after_ms=retry_after_ms)


class NewerSchemaError(UnavailableError):
    """A newer version of the kind has stored the object. It was not touched; a node that runs that version can."""

    code = "newer_schema"

    def __init__(self, kind: str, *, stored: int, known: int) -> None:
        super().__init__(f"The object has schema {stored} of {kind}, and this node knows {known}")
        self.stored = stored
        self.known = known


class QuarantinedError(UnavailableError):
    """The object has blocked its owner and is refused until `until_ms` of the store's clock. The call did not start."""

    code = "quarantined"

    def __init__(self, kind: str, *, until_ms: int, left_ms: int) -> None:
        super().__init__(f"This {kind} has blocked its node and is not run for a while", retry_after_ms=max(1, left_ms))
        self.until_ms = until_ms


class OutcomeUnknownError(TenureError):
    """The store did not say whether the commit took effect; it may have."""

    code = "outcome_unknown"
    retryable = Retryable.IF_IDEMPOTENT

    def __init__(self) -> None:
        super().__init__("The store did not confirm in time; the change may or may not have taken effect.")


class CommitFailedError(TenureError):
    """The commit did not take effect and never will. The turn did run, and what it called stands."""

    code = "commit_failed"
    retryable = Retryable.IF_IDEMPOTENT

    def __init__(self, reason: str) -> None:
        super().__init__(f"The change was not stored: {reason}.")
        self.reason = reason


class NoRoomError(CommitFailedError):
    """The store has no memory left for the change. Memory and store are as before; removals go on."""

    code = "insufficient_storage"

    def __init__(self) -> None:
        super().__init__("the store is full")


class DeadlineExceededError(TenureError):
    """The caller's time ran out. `started` says whether the turn had begun."""

    code = "deadline_exceeded"

    def __init__(self, *, started: bool) -> None:
        super().__init__("The deadline passed " + ("before the reply." if started else "before the call could start."))
        self.started = started
        self.retryable = Retryable.IF_IDEMPOTENT if started else Retryable.ALWAYS


class KeyReusedError(TenureError):
    """The idempotency key was used for another request: another method, or other arguments. The call did not start."""

    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__("This idempotency key was used for another request.")


class CallCycleError(TenureError):
    """An object called itself, by way of `cycle`; waiting would never end."""

    code = "call_cycle"

    def __init__(self, cycle: Sequence[str]) -> None:
        super().__init__("Call cycle: " + " -> ".join(cycle) + ".")
        self.cycle = tuple(cycle)


class TooLargeError(TenureError):
    """`what` has `size` of `unit` where `size_max` are allowed; None: more than that. Nothing was written."""

    code = "too_large"

    def __init__(self, what: str, *, size: int | None, size_max: int, unit: str = "bytes") -> None:
        told = f"more than the {size_max} {unit} that" if size is None else f"{size} {unit}; at most {size_max}"
        super().__init__(f"{what} has {told} are allowed.")
        self.what = what
        self.size = size
        self.size_max = size_max


class HandlerError(TenureError):
    """The handler raised something it did not declare. Its writes were dropped, and what it left in memory with them.

    The object begins anew over the state before the turn; a native one over its last stored checkpoint.
    """

    code = "handler_failed"

    def __init__(self, kind: str, method: str) -> None:
        super().__init__(f"{kind}/{method} failed.")
        self.kind = kind
        self.method = method


class DomainError(TenureError):
    """The root of errors that authors declare as answers: no fault, and no reason to forget the object."""

    code = "domain_error"
