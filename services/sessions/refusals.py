"""What a principal refuses: answers, not faults. Each leaves the object as it was.

TenureError
`- DomainError
   |- SessionLimitError         the policy refuses one more session
   |- PrincipalDisabledError    nobody may sign in under this name
   |- PrincipalErasedError      what was held of it was erased; nothing of it may come back by itself
   |- UnknownSessionError       there is no such session
   |- SessionEndedError         there was, and it is over
   |- SupersededError           another generation is current than the one that was named
   |- ImpersonationError        not in somebody else's name
   |- StaleDataError            the version that was named is not the stored one
   `- DataTooLargeError         more data than is kept with a session
"""

from services.sessions.bounds import DATA_BYTES_MAX
from shared.objects.errors import DomainError


class SessionLimitError(DomainError):
    """The principal has as many sessions as the policy allows. `sessions` are those of which one would have to end."""

    code = "session_limit_reached"

    def __init__(self, sessions: tuple[str, ...], of: str = "") -> None:
        super().__init__(f"The policy refuses one more session beside {len(sessions)}{of}.")
        self.sessions = sessions


class PrincipalDisabledError(DomainError):
    """Nobody may sign in under this name until it is enabled."""

    code = "principal_disabled"

    def __init__(self) -> None:
        super().__init__("The principal is disabled.")


class PrincipalErasedError(DomainError):
    """What was held of this principal was erased; enabling it lets it begin anew."""

    code = "principal_erased"

    def __init__(self) -> None:
        super().__init__("The principal was erased; enable it to let it begin anew.")


class UnknownSessionError(DomainError):
    """The principal has no such session, and it is not known that it had."""

    code = "unknown_session"

    def __init__(self) -> None:
        super().__init__("There is no such session.")


class SessionEndedError(DomainError):
    """The session is over, by `reason`."""

    code = "session_ended"

    def __init__(self, reason: str) -> None:
        super().__init__(f"The session has ended: {reason}.")
        self.reason = reason


class SupersededError(DomainError):
    """Another generation of the session's token is current by now."""

    code = "session_superseded"

    def __init__(self) -> None:
        super().__init__("The session's token was replaced meanwhile; try again.")


class ImpersonationError(DomainError):
    """Who acts in somebody else's name may not do this."""

    code = "impersonation_forbids"

    def __init__(self) -> None:
        super().__init__("This is not allowed in somebody else's name.")


class StaleDataError(DomainError):
    """The data has another version, or there is none. Nothing was changed."""

    code = "precondition_failed"

    def __init__(self, version: int) -> None:
        super().__init__(f"The data has version {version}.")
        self.version = version


class DataTooLargeError(DomainError):
    """The data of a session, or that of all sessions of the principal, would pass its bound."""

    code = "session_data_too_large"

    def __init__(self, size: int, size_max: int) -> None:
        of_all = "" if size_max == DATA_BYTES_MAX else " of all sessions"
        super().__init__(f"The data{of_all} would have {size} bytes; at most {size_max} are kept.")
        self.size_max = size_max
