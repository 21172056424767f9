"""The state of one run: frozen, plain data, all of it in one place, so that a crash after any commit loses nothing.

A run is a tree of scopes: the run itself, and one for each branch and item that is under way. A scope does one step at
a time, its `activity`. Times are milliseconds of the store's clock. `encode` and `decode` are each other's inverse.
"""

from typing import Literal

import msgspec

from services.workflows.bounds import ENDED_KEPT_MS
from services.workflows.intents import Sent
from services.workflows.program import Json, Retrier

ROOT = ""
FORMAT = 1
Phase = Literal["called", "accepted", "waiting", "sleeping", "backing_off", "joining", "stalled"]


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What went wrong, and in which step."""

    error: str
    cause: Json = ""
    step: str = ""
    data: Json = None
    undo: bool = True
    """Whether a run that fails by this is undone."""


class Timer(msgspec.Struct, frozen=True, kw_only=True, order=True, array_like=True):
    """Something that happens later unless its serial is gone by then. The earliest is the run's alarm."""

    due_ms: int
    number: int
    what: str
    serial: int
    scope: str = ROOT
    nth: int = 0


class Activity(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A step under way."""

    step: str
    path: str
    key: str
    entry: int
    """The steps of a run are numbered as they are entered."""
    entered_ms: int
    serial: int
    phase: Phase
    input: Json = None
    attempt: int = 1
    retried: dict[int, int] = {}
    """How often each retrier has acted."""
    sent: Sent | None = None
    failure: Failure | None = None
    """Of the last attempt; of a parallel that waits for its others, the first of its branches."""
    fatal: bool = False
    """Whether that failure fails the run if nobody handles it."""
    unsure: bool = False
    """Whether an attempt ended so that nobody knows what became of it."""
    due_ms: int | None = None
    worker: str = ""
    lease: int = 0
    progress: Json = None
    claimed_by: str = ""
    results: dict[str, Json] = {}
    """Of the branches or items that have succeeded."""
    failed: int = 0
    items: list[Json] | None = None


class Scope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A block under way."""

    path: str
    key: str
    number: int
    parent: str | None = None
    name: str = ""
    value: Json = None
    """What the next step gets."""
    ready: str | None = None
    """The step that is to be entered, once that may be."""
    activity: Activity | None = None
    variables: dict[str, Json] = {}
    visits: dict[str, int] = {}
    outcome: str | None = None
    error: Json = None
    item: Json = None
    index: int | None = None


class Undo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one step is undone, with its values."""

    path: str
    key: str
    entry: int
    call: Sent
    retry: tuple[Retrier, ...]
    timeout_ms: int
    serial: int = 0
    phase: Literal["recorded", "called", "accepted", "backing_off", "stalled"] = "recorded"
    attempt: int = 1
    retried: dict[int, int] = {}
    failure: Failure | None = None


class Ending(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the run ends or has ended."""

    status: Literal["succeeded", "failed", "cancelled", "terminated"]
    output: Json = None
    failure: Failure | None = None


class Settled(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """An intent that needs no answer any more, and why: the digest of its answer, or a word."""

    serial: int
    how: str


class Signal(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A signal that no wait has taken yet."""

    name: str
    payload: Json = None
    until_ms: int = 0
    """When nobody takes it any more; 0: never."""


class Run(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything about a run. `phase` is `undoing` while compensations run, before the end that `ending` says."""

    format: int = FORMAT
    id: str
    definition: str
    version: int
    started_ms: int
    begins_ms: int = 0
    """When it may enter its first step, where that is later than its start."""
    input: Json = None
    kept_ms: int = ENDED_KEPT_MS
    """After its end."""
    phase: Literal["open", "undoing", "ended"] = "open"
    paused: bool = False
    past_pivot: bool = False
    generation: int = 1
    scopes: dict[str, Scope] = {}
    timers: tuple[Timer, ...] = ()
    """A heap: the first is the earliest."""
    alarm_ms: int | None = None
    serial: int = 0
    entries: int = 0
    undo: tuple[Undo, ...] = ()
    """Last step first."""
    reminders: dict[int, Sent] = {}
    """Calls of reminders that have not been answered; nothing depends on them."""
    mailbox: tuple[Signal, ...] = ()
    answered_by: dict[str, str] = {}
    settled: tuple[Settled, ...] = ()
    ending: Ending | None = None


def waiting_signals(run: Run, now_ms: int) -> list[Signal]:
    """Those that a wait can still take, oldest first."""
    return [signal for signal in run.mailbox if not 0 < signal.until_ms <= now_ms]


def encode(run: Run) -> bytes:
    """The stored form; services/workflows/machine.py sees to it that it is not too large."""
    return msgspec.msgpack.encode(run)


def decode(stored: bytes) -> Run:
    """What `encode` made.

    Raises:
        msgspec.ValidationError: another release wrote it.
    """
    return msgspec.msgpack.decode(stored, type=Run)
