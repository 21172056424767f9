"""The root of every error that Tenure raises on purpose.

    TenureError
    |- InvalidInputError         what the caller sent cannot be understood
    |- UnauthenticatedError      no credential, or none that is valid
    |- ForbiddenError            the credential lacks a scope
    |- NotFoundError             no such thing, or not the caller's
    |- ConflictError             it exists already, or changed meanwhile
    |- PreconditionFailedError   If-Match / If-None-Match did not hold
    |- RefusedError              not now; carries when to ask again
    |- ConfigurationError        a process cannot start as it is configured
    `- (objects) see shared.objects.errors

Errors carry data, keep their cause, and become HTTP in one place (`shared.http.problem`). Each says
of itself whether the same call may be made again; `shared.retry` asks nothing else.
"""

from enum import Enum
from typing import ClassVar

BEARER = "Authorization: Bearer"
"""Where a credential stands, unless an error says otherwise."""


class Retryable(Enum):
    """When a call that ended in an error may be made again as it was."""

    NEVER = 1  # It would end the same way, or somebody has to look first.
    IF_IDEMPOTENT = 2  # It may have had an effect, of which a second call must not make two.
    ALWAYS = 3  # It surely did not start.


class TenureError(Exception):
    """Something the world did that the caller has to know about."""

    code: ClassVar[str] = "internal"
    """A stable word for programs; part of the public contract."""

    retryable: Retryable = Retryable.NEVER
    """Of the class, or of one error where it knows more. What nobody has thought about is not repeated."""


class InvalidInputError(TenureError):
    """What was sent cannot be understood. `where` points at the place, as a JSON path."""

    code = "invalid_input"

    def __init__(self, detail: str, where: str = "") -> None:
        super().__init__(f"{detail} (at {where})" if where else detail)
        self.detail = detail
        self.where = where


class UnauthenticatedError(TenureError):
    """No credential was sent, or it is not valid: never says which, but `what` is wanted, in which `field`.

    `detail` is what is said in place of that.
    """

    code = "unauthenticated"

    def __init__(self, what: str = "an API key", field: str = BEARER, *, detail: str = "") -> None:
        super().__init__(detail or f"A valid credential is required: {what}, in {field}.")
        self.field = field


class ForbiddenError(TenureError):
    """The credential in `field` is valid but lacks `scope`."""

    code = "forbidden"

    def __init__(self, scope: str, field: str = BEARER) -> None:
        super().__init__(f"This credential lacks the scope {scope!r}.")
        self.scope = scope
        self.field = field


class NotFoundError(TenureError):
    """There is no such thing, or it belongs to another tenant: the two look the same."""

    code = "not_found"

    def __init__(self, what: str) -> None:
        super().__init__(f"There is no {what}.")
        self.what = what


class ConflictError(TenureError):
    """The state of the thing does not allow this."""

    code = "conflict"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class PreconditionFailedError(TenureError):
    """The version that the caller named is not the stored one. Nothing was changed."""

    code = "precondition_failed"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class RefusedError(TenureError):
    """Not now: nothing was started. The same request may succeed after `retry_after_ms`."""

    code = "refused"
    retryable = Retryable.ALWAYS

    def __init__(self, detail: str, *, retry_after_ms: int) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_ms = retry_after_ms


class ConfigurationError(TenureError):
    """The process cannot start as it is configured; the message is one sentence for a person."""

    code = "configuration"
