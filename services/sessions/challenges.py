"""Why a session token does not do: not at all, or not for this. Each is a 401 that says how to go on.

Sources: RFC 6750 3 (invalid_token), RFC 9470 3 (insufficient_user_authentication).
"""

from services.sessions.session import Denial
from shared.errors import TenureError, UnauthenticatedError


class NotSignedInError(UnauthenticatedError):
    """A user's own call without a token that was issued here."""

    def __init__(self) -> None:
        super().__init__(detail="A session token is required, in Authorization: Bearer or in the cookie.")


class SignedOutError(UnauthenticatedError):
    """A token that was issued, and does not count any more. Only who has one learns why."""

    code = "signed_out"
    challenge = 'error="invalid_token"'

    def __init__(self, reason: Denial) -> None:
        super().__init__(detail=f"The session token does not count any more: {reason}.")
        self.reason = reason


class StepUpError(UnauthenticatedError):
    """The user has to authenticate once more, more surely or more recently."""

    code = "insufficient_user_authentication"

    def __init__(self, *, acr_values: str = "", max_age_s: int | None = None) -> None:
        super().__init__(detail=_wanted(acr_values, max_age_s))
        self.acr_values = acr_values
        self.max_age = "" if max_age_s is None else max_age_s
        wanted = [f'acr_values="{acr_values}"'] if acr_values else []
        wanted += [] if max_age_s is None else [f'max_age="{max_age_s}"']
        self.challenge = ", ".join(('error="insufficient_user_authentication"', *wanted))


class CrossSiteError(TenureError):
    """A page of another site made the call with the user's cookie."""

    code = "cross_site"

    def __init__(self) -> None:
        super().__init__("A call with the cookie must come from the same origin, or one that the policy names.")


class IfMatchRequiredError(TenureError):
    """The policy wants writes of session data to name the version that they replace."""

    code = "precondition_required"

    def __init__(self) -> None:
        super().__init__("The policy of the tenant requires If-Match here.")


def _wanted(acr_values: str, max_age_s: int | None) -> str:
    if max_age_s is not None:
        return f"The user must have authenticated within the last {max_age_s} s."
    return f"The user must have authenticated more surely: {acr_values or 'as X-Require-Acr says'}."
