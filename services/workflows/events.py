"""What can happen to a run. Each is applied as a whole or refused without a trace.

`path` names a step as intents do; `serial` is that of the intent that is answered, and 0 means whatever the step
waits for now, for people and gateways that know only its name.
"""

from typing import TypeAlias

import msgspec

from services.workflows.program import Json


class Event(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What all have in common: nothing."""


class StepEvent(Event, frozen=True, kw_only=True):
    """Something about one step, or about the undoing of one (`path!undo`)."""

    path: str
    serial: int = 0


class Completed(StepEvent, frozen=True, kw_only=True):
    """What was asked for is done. `by` is the person, where it was one."""

    result: Json = None
    outcome: str = ""
    by: str = ""


class Failed(StepEvent, frozen=True, kw_only=True):
    """It was not done. The other side may say how long to wait at least."""

    error: str
    cause: Json = ""
    data: Json = None
    retry_after_ms: int = 0
    retry: bool = True
    """False: to try again would be in vain, whatever the definition says of the error."""


class Accepted(StepEvent, frozen=True, kw_only=True):
    """The other side has it and will answer later."""


class Leased(StepEvent, frozen=True, kw_only=True):
    """A worker has the task: from now on it has to give signs of life. `lease` counts who had this attempt."""

    worker: str
    lease: int = 0


class Released(StepEvent, frozen=True, kw_only=True):
    """This lease of the task has ended; until the next one nobody is to give signs of life."""

    lease: int = 0


class Heartbeat(StepEvent, frozen=True, kw_only=True):
    """The worker lives. Extends the heartbeat, never the timeout; without progress, what it told before stays."""

    progress: Json = None


class ChildEnded(StepEvent, frozen=True, kw_only=True):
    """The child run is over."""

    status: str
    output: Json = None
    error: str = ""
    cause: Json = ""


class Claimed(StepEvent, frozen=True, kw_only=True):
    """Somebody takes a wait for themselves; an empty `by` gives it back."""

    by: str


class Assigned(StepEvent, frozen=True, kw_only=True):
    """A wait is given to others."""

    assign: dict[str, str]


class TimerDue(Event, frozen=True, kw_only=True):
    """The alarm has rung."""


class Signalled(Event, frozen=True, kw_only=True):
    """Somebody sent a signal. It is kept until a wait takes it, or so long (0: for ever)."""

    name: str
    payload: Json = None
    ttl_ms: int = 0


class Cancelled(Event, frozen=True, kw_only=True):
    """Stop, and undo what was done."""

    reason: str = ""


class Terminated(Event, frozen=True, kw_only=True):
    """Stop at once, and undo nothing."""

    reason: str = ""


class Paused(Event, frozen=True, kw_only=True):
    """Begin no more steps. Time goes on, what has been sent may be answered, and timers that are due wait."""


class Resumed(Event, frozen=True, kw_only=True):
    """Go on; what became due meanwhile happens now."""


class Retried(StepEvent, frozen=True, kw_only=True):
    """Try a stalled step again, with fresh retries and the same key."""


class Skipped(StepEvent, frozen=True, kw_only=True):
    """Take a step as done with this result, whatever it is at."""

    result: Json = None


class Reset(Event, frozen=True, kw_only=True):
    """Go on at a step of the run itself, as a new visit. Also of a run that has ended."""

    step: str
    keep_signals: bool = False


AnyEvent: TypeAlias = (
    Completed
    | Failed
    | Accepted
    | Leased
    | Released
    | Heartbeat
    | ChildEnded
    | Claimed
    | Assigned
    | TimerDue
    | Signalled
    | Cancelled
    | Terminated
    | Paused
    | Resumed
    | Retried
    | Skipped
    | Reset
)
