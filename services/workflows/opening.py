"""What a new run has before its first step: its deadline, and keys that no run of its id had before. Pure."""

import msgspec

from services.workflows.draft import Draft
from services.workflows.refusals import WrongAnswerError
from services.workflows.state import ROOT, Run, Scope
from services.workflows.values import StepError, Values

_LIFE = "~"
"""No step is named so: `~2/pay:1` is a key of the second run of its id."""


class Before(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Of the run that had the id before: the last of its serials, and what its keys begin with."""

    serial: int
    key: str


def deadline_of(draft: Draft, root: Scope, given_ms: int) -> int | None:
    """The earlier one of what the definition says and what was given at the start (0: nothing); None: there is none.

    Raises:
        WrongAnswerError: it cannot be made of this input, or is over before the run begins.
    """
    begins_ms, deadline = max(draft.now_ms, draft.run.begins_ms), draft.program.deadline
    if 0 < given_ms <= begins_ms:
        raise WrongAnswerError("The deadline is over before the run begins", "$.deadline_at_ms")
    if deadline is None:
        return given_ms or None
    try:
        own_ms = begins_ms + Values(draft, root).span_ms(deadline.after)
    except StepError as error:
        raise WrongAnswerError(str(error.failure.cause), "/input") from error
    return min(own_ms, given_ms or own_ms)


def before_of(run: Run) -> Before:
    """What of the run no other that gets its id may have."""
    return Before(serial=run.serial, key=run.scopes[ROOT].key)


def key_after(before: Before) -> str:
    """What the keys begin with in the run that takes the id of this one."""
    return f"{_LIFE}{int(before.key.removeprefix(_LIFE) or 1) + 1}"
