"""What the machine wants done outside of a run. Kept with the run until it is answered, so a crash sends it again.

An intent is carried out at least once. `key` is the same for every attempt of one visit of a step and for every
sending of one attempt, so a receiver can tell a repeat; `serial` is new with every attempt, so an answer that comes
too late is known.
"""

from typing import Any, TypeAlias

import msgspec

from services.workflows.program import Json, Secret


class Intent(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """What all have in common."""

    path: str = ""
    """The step, with the steps and branches around it: `verification/identity/check`."""
    serial: int = 0


class Call(Intent, frozen=True, kw_only=True, omit_defaults=True):
    """One that is answered by `Completed` or `Failed` with the same serial."""

    key: str
    attempt: int = 1
    due_ms: int | None = None
    """When the attempt times out; the machine sees to it itself."""


class SendTask(Call, frozen=True, kw_only=True, omit_defaults=True):
    """Put a task into a queue. `heartbeat_ms` counts from the lease on."""

    queue: str
    input: Json = None
    heartbeat_ms: int | None = None


class SendHttp(Call, frozen=True, kw_only=True, omit_defaults=True):
    """Call an address. Where `callback`, 202 is answered by `Accepted` and the rest comes later."""

    method: str
    url: str
    headers: dict[str, str | Secret] = {}
    body: Json = None
    has_body: bool = False
    callback: bool = False


class CallObject(Call, frozen=True, kw_only=True, omit_defaults=True):
    """Call a public method of an object."""

    kind: str
    name: str
    method: str
    args: dict[str, Any] = {}


class StartChild(Call, frozen=True, kw_only=True, omit_defaults=True):
    """Start a run and tell this one when it has ended. Of one id there is one run, however often it is started."""

    workflow: str
    version: int | None
    id: str
    input: Json = None


class AskFor(Intent, frozen=True, kw_only=True, omit_defaults=True):
    """Show a wait to those who can answer it."""

    title: str
    description: str
    assign: dict[str, str]
    outcomes: tuple[str, ...]
    due_ms: int | None


class Withdraw(Intent, frozen=True, kw_only=True):
    """What was sent or shown under this serial is wanted no more. It may have been done all the same."""


class Arm(Intent, frozen=True, kw_only=True):
    """Set the run's one alarm, or take it away."""

    at_ms: int | None


class Record(Intent, frozen=True, kw_only=True, omit_defaults=True):
    """An entry of the history."""

    event: str
    data: Json = None


class Whose(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What a notice says of its run."""

    definition: str
    version: int
    started_ms: int
    generation: int
    attributes: dict[str, str]


class Notify(Intent, frozen=True, kw_only=True, omit_defaults=True):
    """Tell those who watch: `incident.opened`, `incident.closed`, `escalated`. `whose`: of a run that was here once."""

    event: str
    data: Json = None
    whose: Whose | None = None


class Ended(Intent, frozen=True, kw_only=True, omit_defaults=True):
    """The run is over: `succeeded`, `failed`, `cancelled` or `terminated`."""

    status: str
    output: Json = None
    error: str = ""
    cause: Json = ""


Sent: TypeAlias = SendTask | SendHttp | CallObject | StartChild | AskFor
"""What is outstanding until it is answered or withdrawn."""
