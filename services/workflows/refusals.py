"""Why an event is not applied. The run is as it was, and the caller is told a stable code."""

from services.workflows.bounds import OPERATION_AGAIN_MS, OPERATIONS_OPEN_MAX, PAYLOAD_BYTES_MAX, RUN_BYTES_FULL
from shared.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError, RefusedError, TenureError


class RunExistsError(ConflictError):
    """There is a run of this id, of another definition or with another input."""

    code = "run.exists"

    def __init__(self, run_id: str) -> None:
        super().__init__(f"The run {run_id!r} was started otherwise: by another definition, or with another input.")


class RunGoneError(NotFoundError):
    """The run had ended, and is forgotten: its time was over, or somebody has purged it."""

    code = "run.gone"

    def __init__(self, run_id: str) -> None:
        TenureError.__init__(self, f"The run {run_id!r} had ended and is kept no more.")


class RunClosedError(ConflictError):
    """The run has ended, or is being undone and does nothing else any more."""

    code = "run.closed"


class PastPivotError(ConflictError):
    """The run only goes forward now."""

    code = "run.past_pivot"


class NotWaitingError(ConflictError):
    """The step is not at the point that the event is about."""

    code = "step.not_waiting"

    def __init__(self, path: str) -> None:
        super().__init__(f"The step {path!r} is not at a point where this can happen.")


class SupersededError(ConflictError):
    """Another attempt or visit has taken the place of the one that is answered."""

    code = "task.superseded"


class AlreadyCompletedError(ConflictError):
    """It was answered before, and otherwise."""

    code = "task.already_completed"


class TimedOutError(ConflictError):
    """The answer comes after its timeout."""

    code = "task.timed_out"


class ClaimedError(ConflictError):
    """Somebody else has taken the wait."""

    code = "wait.claimed"


class UnmappableStepError(ConflictError):
    """The run is at a step that cannot go on in the version that it is to have."""

    code = "step.unmappable"

    def __init__(self, step: str, why: str) -> None:
        super().__init__(f"The step {step!r} cannot go on in that version: {why}.")
        self.step = step


class UnknownSerialError(NotFoundError):
    """Nothing was ever sent under this number."""

    code = "task.unknown"


class UnknownStepError(NotFoundError):
    """The definition has no such step."""

    code = "step.unknown"


class SameUserError(ForbiddenError):
    """Whoever answered one of the named steps may not answer this one, nor may somebody without a name."""

    code = "wait.same_user"

    def __init__(self, step: str) -> None:
        TenureError.__init__(self, f"Whoever answered {step!r} cannot answer this, and the answer needs a name.")
        self.scope = ""


class WrongAnswerError(InvalidInputError):
    """The answer of a wait is not one of its outcomes, or not of its schema."""

    code = "wait.answer"


class PayloadTooLargeError(TenureError):
    """A value is larger than what a run takes."""

    code = "payload.too_large"

    def __init__(self, size: int) -> None:
        super().__init__(f"A value has at most {PAYLOAD_BYTES_MAX} bytes of JSON; this has {size}.")


class RunTooLargeError(TenureError):
    """All that the run keeps is together too large."""

    code = "run.too_large"

    def __init__(self, size: int) -> None:
        super().__init__(f"A run takes in at most {RUN_BYTES_FULL} bytes; with this it would be {size}.")


class TooManyOperationsError(RefusedError):
    """As many operations of the tenant are under way as may be."""

    code = "operation.too_many"

    def __init__(self) -> None:
        detail = f"At most {OPERATIONS_OPEN_MAX} operations are under way at once; wait for one of them, or stop it."
        super().__init__(detail, retry_after_ms=OPERATION_AGAIN_MS)


class QueueFullError(RefusedError):
    """The queue holds as many tasks as it may. Runs keep theirs and offer them again."""

    code = "queue.full"


class MailboxFullError(RefusedError):
    """No wait takes the signals that have come."""

    code = "run.mailbox_full"
