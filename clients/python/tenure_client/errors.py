"""What can go wrong, and what a handler says of its task."""

from typing import Any


class ApiError(Exception):
    """The service has refused a call. `code` is a stable word for programs, `status` that of HTTP."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status = status
        self.problem = problem
        self.code = str(problem.get("code", ""))
        super().__init__(f"{status} {self.code}: {problem.get('detail') or problem.get('title') or 'refused'}")


class UnreachableError(Exception):
    """The service has not answered, or not in time; whether it has heard the call is not known."""


class TaskFailedError(Exception):
    """What a handler raises where its task cannot be done, under an error that the definition of the run may name.

    The definition says what follows of the error; with `retry=False` nothing is tried again, whatever it says.
    """

    def __init__(
        self, error: str, cause: Any = "", *, data: Any = None, retry: bool = True, retry_after_s: float = 0
    ) -> None:
        super().__init__(f"{error}: {cause}")
        self.error, self.cause, self.data = error, cause, data
        self.retry, self.retry_after_s = retry, retry_after_s


class TaskCancelledError(Exception):
    """Nobody wants the task any more: its run was cancelled, has timed out, or another worker has it now."""
