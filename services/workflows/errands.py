"""What a run wants done outside and does not know to be done: kept beside its state, until it is settled.

An errand is stored in the commit that wants it, so none is lost, and it is carried out after that commit by the node
that owns the run (services/workflows/carrier.py). Whoever carries it out may do so more than once: after a crash, or
because the word that it is done was lost. What it is about stands in the run and is read there when it is carried out.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import TypeAlias

import msgspec

from services.workflows.bounds import NOTICE_BYTES_MAX, NOTICES_TURN_BYTES_MAX
from services.workflows.draft import outstanding
from services.workflows.events import ChildEnded
from services.workflows.intents import (
    AskFor,
    CallObject,
    Ended,
    Intent,
    Notify,
    SendHttp,
    SendTask,
    Sent,
    StartChild,
    Whose,
)
from services.workflows.keeping import shortened
from services.workflows.state import Ending, Failure, Run
from shared.objects.state import ObjectState

_KEY = "errand:"
_WHOSE = "whose:"
_MADE = "errands"


class Parent(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Which step of which run, of the same tenant, has started a run and waits for its end; or which schedule."""

    run: str = ""
    path: str = ""
    serial: int = 0
    schedule: str = ""
    key: str = ""
    """The same for every attempt of one visit of the step."""

    def tries_again(self, former: "Parent | None") -> bool:
        """Whether this is a later attempt of the same visit of the same step."""
        if former is None or not self.key:
            return False
        return (self.run, self.path, self.key) == (former.run, former.path, former.key) and self.serial > former.serial


class Recall(Intent, frozen=True, kw_only=True):
    """What was sent is wanted no more. It may have been done all the same. `call` is without its load."""

    call: Sent


class Report(Intent, frozen=True, kw_only=True):
    """The run has ended, and the one that started it is to know."""

    to: Parent
    ended: ChildEnded


AnyErrand: TypeAlias = SendTask | SendHttp | CallObject | StartChild | AskFor | Recall | Report | Notify


class Errand(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to carry out. Those of one serial are carried out in the order of their numbers."""

    number: int
    intent: AnyErrand


class _ToSend(msgspec.Struct, frozen=True, kw_only=True, tag="send"):
    serial: int


class _ToRecall(msgspec.Struct, frozen=True, kw_only=True, tag="recall"):
    call: Sent


class _ToNotify(msgspec.Struct, frozen=True, kw_only=True, tag="notify"):
    notice: Notify
    whose: int = 0
    """Where it is kept of whom this tells; 0: of the run that there is."""


class _ToReport(msgspec.Struct, frozen=True, kw_only=True, tag="report"):
    to: Parent
    ended: ChildEnded | None = None
    """Said here where the run stands there no more."""


_Kept: TypeAlias = _ToSend | _ToRecall | _ToNotify | _ToReport
_NOTICES = {"escalated": "step.escalated"}
"""As subscribers know it."""
_NOTICE_OVERHEAD_BYTES = 64
_RECALLABLE = (SendTask, StartChild, AskFor)
"""What goes on, or stays in sight, until it is recalled. Calls end by themselves."""


class Errands:
    """The errands of one run, in its storage. `carried` are the kinds of errands that somebody carries out."""

    def __init__(self, storage: ObjectState, carried: frozenset[type[Intent]]) -> None:
        self._storage = storage
        self._carried = carried

    def any(self) -> bool:
        """Whether there is one."""
        return bool(self._storage.list(_KEY, limit=1))

    def take(
        self, before: Run | None, after: Run, effects: Iterable[Intent], *, answered: int, parent: Parent | None
    ) -> bool:
        """Keep what a turn wants done, and drop what nobody wants any more; whether anything is new.

        `answered` is the serial that the turn's event answers; 0: none.
        """
        made = self._storage.get(_MADE, int, default=0)
        wanted = {sent.serial: sent for sent in outstanding(after)}
        gone = [sent for sent in outstanding(before) if sent.serial not in wanted] if before is not None else []
        if gone:
            self._drop_unwanted(wanted)
        for kept in _kept_of(effects, wanted, self._carried):
            self._put(kept)
        for sent in gone:
            if Recall in self._carried and isinstance(sent, _RECALLABLE) and _is_recalled(sent, answered):
                self._put(_ToRecall(call=_without_load(sent)))
        ends = after.phase == "ended" and (before is None or before.phase != "ended")
        if ends and parent is not None and Report in self._carried:
            self._put(_ToReport(to=parent))
        return bool(self._storage.get(_MADE, int, default=0) > made)

    def send_again(self, run: Run, serials: Container[int]) -> tuple[int, ...]:
        """Send once more what the run waits for of these, as far as it does; their serials."""
        again = tuple(sent.serial for sent in outstanding(run) if sent.serial in serials)
        for serial in again:
            self._put(_ToSend(serial=serial))
        return again

    def report(self, parent: Parent) -> None:
        """The run has ended: tell another than it was told."""
        self._put(_ToReport(to=parent))

    def settle(self, number: int) -> bool:
        """Forget the errand; False where it is not kept (any more)."""
        key = _key(number)
        if self._storage.get(key, bytes) is None:
            return False
        self._storage.delete(key)
        if not self.any():
            for whose in self._storage.list(_WHOSE):
                self._storage.delete(whose)
        return True

    def detach(self, run: Run, attributes: dict[str, str]) -> None:
        """The run has ended and stands here no more: what is still to be told of it says itself of whom."""
        whose = 0
        for number, kept in list(self._all()):
            if isinstance(kept, _ToReport) and kept.ended is None:
                self._put(_ToReport(to=kept.to, ended=_ended(kept.to, run.ending)), number)
            elif isinstance(kept, _ToNotify) and not kept.whose:
                whose = whose or number
                self._put(_ToNotify(notice=kept.notice, whose=whose), number)
        if whose:
            self._storage.put(f"{_WHOSE}{whose}", msgspec.msgpack.encode(whose_of(run, attributes)))

    def kept(self) -> dict[str, bytes]:
        """All of them as they are kept, for `put_back` once all else is forgotten."""
        keys = [*self._storage.list(_KEY), *self._storage.list(_WHOSE)]
        return {key: self._storage.get(key, bytes) for key in keys}

    def put_back(self, kept: Mapping[str, bytes]) -> None:
        """Keep these, where there are none."""
        for key, value in kept.items():
            self._storage.put(key, value)
        if kept:
            self._storage.put(_MADE, max(int(key.partition(":")[2]) for key in kept))

    def due(self, run: Run | None) -> list[Errand]:
        """All of them, with what each is about."""
        sent = {} if run is None else {sent.serial: sent for sent in outstanding(run)}
        found = [(number, self._filled(kept, run, sent)) for number, kept in self._all()]
        return [Errand(number=number, intent=intent) for number, intent in found if intent is not None]

    def _drop_unwanted(self, wanted: Container[int]) -> None:
        for number, kept in list(self._all()):
            if isinstance(kept, _ToSend) and kept.serial not in wanted:
                self._storage.delete(_key(number))

    def _put(self, kept: _Kept, number: int | None = None) -> None:
        self._storage.put(_key(number or self._next()), msgspec.msgpack.encode(kept))

    def _next(self) -> int:
        number: int = self._storage.get(_MADE, int, default=0) + 1
        self._storage.put(_MADE, number)
        return number

    def _all(self) -> Iterator[tuple[int, _Kept]]:
        for key in self._storage.list(_KEY):
            yield int(key.removeprefix(_KEY)), _read(self._storage.get(key, bytes))

    def _whose(self, number: int) -> Whose | None:
        if not number:
            return None
        whose: Whose = msgspec.msgpack.decode(self._storage.get(f"{_WHOSE}{number}", bytes), type=Whose)
        return whose

    def _filled(self, kept: _Kept, run: Run | None, sent: Mapping[int, Sent]) -> AnyErrand | None:
        """What the errand is about; None where nobody wants it any more."""
        match kept:
            case _ToSend():
                return sent.get(kept.serial)
            case _ToRecall():
                return Recall(path=kept.call.path, serial=kept.call.serial, call=kept.call)
            case _ToNotify():
                return msgspec.structs.replace(kept.notice, whose=self._whose(kept.whose))
            case _ToReport():
                ended = kept.ended or _ended(kept.to, None if run is None else run.ending)
                return Report(to=kept.to, ended=ended)


def whose_of(run: Run, attributes: dict[str, str]) -> Whose:
    """What a notice says of the run."""
    return Whose(
        definition=run.definition,
        version=run.version,
        started_ms=run.started_ms,
        generation=run.generation,
        attributes=attributes,
    )


def heard(effects: Iterable[Intent], hears: Callable[[str], bool]) -> Iterator[Intent]:
    """The effects of a turn, with those notices alone that somebody wants, and one of the end of the run.

    What the notices tell is shortened. Of more than there is room for in a turn the rest is told as a number.
    """
    room, left_out = NOTICES_TURN_BYTES_MAX, Notify(event="")
    for effect in effects:
        if not isinstance(effect, Notify):
            yield effect
        elif hears(event := _NOTICES.get(effect.event, effect.event)):
            notice = _shortened(msgspec.structs.replace(effect, event=event))
            room -= len(msgspec.msgpack.encode(notice)) + _NOTICE_OVERHEAD_BYTES
            if room >= 0:
                yield notice
            else:
                left_out = Notify(event=event, data={"left_out": (left_out.data or {"left_out": 0})["left_out"] + 1})
        if isinstance(effect, Ended) and hears(event := f"run.{effect.status}"):
            data = {"output": effect.output, "error": effect.error or None, "cause": effect.cause or None}
            yield _shortened(Notify(event=event, data=data))
    if left_out.event:
        yield left_out


def _shortened(notice: Notify) -> Notify:
    data = msgspec.json.decode(shortened(notice.data, NOTICE_BYTES_MAX) or b"null")
    return msgspec.structs.replace(notice, data=data)


def _kept_of(
    effects: Iterable[Intent], wanted: Mapping[int, Sent], carried: frozenset[type[Intent]]
) -> Iterator[_Kept]:
    """What to keep of these effects: what was sent and is wanted still, once each, and what is to be told."""
    seen: set[int] = set()
    for effect in effects:
        if type(effect) not in carried:
            continue
        if isinstance(effect, Notify):
            yield _ToNotify(notice=effect)
        elif isinstance(effect, AskFor) and not effect.assign:
            continue  # It is in nobody's inbox.
        elif effect.serial in wanted and effect.serial not in seen:
            seen.add(effect.serial)
            yield _ToSend(serial=effect.serial)


def _is_recalled(sent: Sent, answered: int) -> bool:
    """Whether somebody has to be told: whoever answered it knows, but what is in an inbox is there until then."""
    return bool(sent.assign) if isinstance(sent, AskFor) else sent.serial != answered


def _without_load(sent: Sent) -> Sent:
    if isinstance(sent, AskFor):
        return msgspec.structs.replace(sent, title="", description="")
    return msgspec.structs.replace(sent, input=None) if isinstance(sent, SendTask | StartChild) else sent


def _ended(to: Parent, ending: Ending | None) -> ChildEnded:
    ending = ending or Ending(status="terminated")
    failure = ending.failure or Failure(error="")
    return ChildEnded(
        path=to.path,
        serial=to.serial,
        status=ending.status,
        output=ending.output,
        error=failure.error,
        cause=failure.cause,
    )


def _key(number: int) -> str:
    return f"{_KEY}{number:012d}"


def _read(stored: bytes) -> _Kept:
    kept: _Kept = msgspec.msgpack.decode(stored, type=_Kept)
    return kept
