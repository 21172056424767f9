"""Why a call to an outside address has no answer.

What a tenant is told is the class and nothing more: a blocked address and a closed port read the same, or calls could
be used to explore the network that this runs in. What exactly happened is in the log of the node.

    OutboundError
    |- BadTargetError     what is to be called, or sent with it, can never be right
    |- UnreachableError   no connection; nothing was sent
    |- NoAnswerError      it was sent, and what became of it is unknown
    `- BadAnswerError     the answer is too large, or is no HTTP
"""

from shared.errors import InvalidInputError, Retryable, TenureError


class OutboundError(TenureError):
    """A call has no answer that can be used."""

    code = "http"


class BadTargetError(OutboundError, InvalidInputError):
    """The address or a header field cannot be sent."""

    code = "http.bad_request"


class UnreachableError(OutboundError):
    """There is no connection, or none that may be made. Nothing was sent."""

    code = "http.unreachable"
    retryable = Retryable.ALWAYS

    def __init__(self) -> None:
        super().__init__("The address does not answer, or may not be called from here.")


class NoAnswerError(OutboundError):
    """The connection broke, or time ran out: the other side may have done what was asked."""

    code = "http.no_answer"
    retryable = Retryable.IF_IDEMPOTENT

    def __init__(self) -> None:
        super().__init__("The call was sent, and no whole answer came in time.")


class BadAnswerError(OutboundError):
    """There is an answer that is not taken. `reason` is one of a few words."""

    code = "http.bad_answer"

    def __init__(self, reason: str) -> None:
        super().__init__(f"The answer cannot be taken: {reason}.")
        self.reason = reason
