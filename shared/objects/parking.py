"""Callers that wait for an object to change, without a turn that waits.

A handler that has nothing to tell yet returns `Park(key, until_ms=...)` instead of a reply. Its caller is
held outside the mailbox. When a turn has written `key` (or deleted everything), or when the moment has
come, the handler runs once more, as a turn like any other: its reply passes the output gate, so it leaves
after the commit that it depends on. A turn that parks has written nothing, so it can be run again.

Where one caller is enough for what is new, as of workers that wait for a task, each parks with `one=True`: then a
write serves the one that has waited longest, and if its turn writes the key as well, the next one, and so on. So a
thousand that wait cost a write no more than one does.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable
from contextlib import suppress
from types import UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

import msgspec

from shared import bounds
from shared.errors import RefusedError
from shared.objects.activation import Activation, Call, Mailbox
from shared.objects.errors import DeadlineExceededError, HandlerError, OverloadedError, UnavailableError

if TYPE_CHECKING:
    from shared.objects.host import Host

_STOPPING = "The node is stopping"


class Park(msgspec.Struct, frozen=True):
    """What a handler returns to be run again once `key` was written, at `until_ms` of the store's clock at the latest.

    The handler takes that moment as an argument, and answers for good once it has come.
    """

    key: str
    until_ms: int
    one: bool = False
    """Whether one caller that waits like this is enough for a write: another is served only if that one takes nothing,
    because it has gone or has failed, or if its turn has written `key` too."""


def reply_type(annotation: Any) -> Any:
    """What the caller of a method gets that says it returns `annotation`: a `Park` is for the host alone."""
    if get_origin(annotation) not in (Union, UnionType):
        return annotation
    types = tuple(type_ for type_ in get_args(annotation) if type_ is not Park)
    return Union[types] if types else annotation  # noqa: UP007  # The types are not known here.


class ParkedCalls:
    """The callers that one object holds, in the order they came. Made when the first one parks."""

    __slots__ = ("_all", "_gone", "_held", "_one")

    def __init__(self) -> None:
        self._held: dict[Call, tuple[Park, asyncio.TimerHandle]] = {}
        self._all: dict[str, dict[Call, None]] = {}
        self._one: dict[str, OrderedDict[Call, None]] = {}
        self._gone: dict[Call, Callable[[object], object]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, call: Call, park: Park, timer: asyncio.TimerHandle, *, again: bool) -> None:
        """Hold a caller until `park.key` is written; `timer` is what ends that otherwise.

        One who was called for all that share the key and found nothing waits `again`, before the others.
        """
        self._held[call] = (park, timer)
        if park.one:
            sharing = self._one.setdefault(park.key, OrderedDict())
            sharing[call] = None
            sharing.move_to_end(call, last=not again)
        else:
            self._all.setdefault(park.key, {})[call] = None
        self._gone[call] = gone = lambda _: self.leave(call)
        call.future.add_done_callback(gone)

    def let_go(self, keys: Container[str] | None = None) -> list[Call]:
        """Those that wait for one of `keys`, each for itself (None: all that there are); they are not held any more."""
        if keys is None:
            calls = list(self._held)
        else:
            calls = [call for key, waiting in self._all.items() if key in keys for call in waiting]
        for call in calls:
            self.leave(call)
        return calls

    def let_go_one(self, keys: Container[str]) -> list[tuple[Call, str]]:
        """Of those that share each of `keys`, the one that has waited longest."""
        calls = [(next(iter(waiting)), key) for key, waiting in self._one.items() if key in keys]
        for call, _ in calls:
            self.leave(call)
        return calls

    def leave(self, call: Call) -> bool:
        """Hold a caller no longer; say whether it was held."""
        held = self._held.pop(call, None)
        if held is not None:
            park, timer = held
            timer.cancel()
            kept = self._one if park.one else self._all
            del kept[park.key][call]
            if not kept[park.key]:
                del kept[park.key]
            call.future.remove_done_callback(self._gone.pop(call))  # It may park again, as often as it is served.
        return held is not None


class Parking:
    """The parked callers of one host. `pump` runs what waits in an object's mailbox."""

    def __init__(self, host: "Host", pump: Callable[[Activation], None]) -> None:
        self._host = host
        self._admission = host.admission
        self._clock = host.store_clock
        self._pump = pump
        self._served: dict[Call, Callable[[asyncio.Future[Any]], None]] = {}
        """Callers that are served alone for all who share their key, and what happens if they take nothing."""
        self._stopping = False

    def hold(self, activation: Activation, call: Call, park: Park) -> RefusedError | DeadlineExceededError | None:
        """Hold the caller of a turn that has ended with `park`, or say why not: it is time, or too many are held.

        Raises:
            TypeError: the turn has written something, or answers an alarm.
        """
        if activation.state.overlay_used or call.alarm is not None:
            raise TypeError("a turn that parks its caller writes nothing, and answers no alarm")
        left_ms = park.until_ms - self._clock.lower_ms()
        if left_ms <= 0:
            return DeadlineExceededError(started=False)
        if self._stopping:
            return UnavailableError(_STOPPING)
        parked = activation.parked or ParkedCalls()
        if len(parked) >= bounds.PARKED_CALLS_MAX:
            why = f"{bounds.PARKED_CALLS_MAX} callers wait for this object"
            return OverloadedError(why, retry_after_ms=bounds.RETRY_AFTER_MS)
        if self._admission.parked >= bounds.NODE_PARKED_MAX:
            return OverloadedError("Too many callers wait on this node", retry_after_ms=bounds.RETRY_AFTER_MS)
        again = self._end_service(call)
        activation.parked = parked
        self._admission.park(call)
        timer = asyncio.get_running_loop().call_later(left_ms / 1000, self._time_is_up, activation, call)
        parked.hold(call, park, timer, again=again)
        call.started = False
        return None

    def stop(self) -> None:
        """The node is about to stop: hold nobody any more. Who waits is told so, and may ask the next owner at once."""
        self._stopping = True
        for activation in list(self._host.residents.by_address.values()):
            for call in activation.parked.let_go() if activation.parked is not None else ():
                self._admission.unpark(call)
                call.fail(UnavailableError(_STOPPING))

    def touched(self, activation: Activation, keys: Container[str] | None) -> None:
        """These keys were written (None: all of them): whoever is parked for one of them is served."""
        if activation.parked is None:
            return
        calls = activation.parked.let_go(keys)
        for call, key in activation.parked.let_go_one(keys) if keys is not None else ():
            self._begin_service(activation, call, key)
            calls.append(call)
        if calls:
            self.queue(activation, calls)
            activation.idle = False
            asyncio.get_running_loop().call_soon(self._pump, activation)

    def _begin_service(self, activation: Activation, call: Call, key: str) -> None:
        """Serve one caller for all who share the key: if it goes away before its turn, or fails, the next one is."""

        def ended(future: "asyncio.Future[Any]") -> None:
            del self._served[call]
            if not call.started or future.cancelled() or future.exception() is not None:
                self.touched(activation, (key,))

        self._served[call] = ended
        call.future.add_done_callback(ended)

    def _end_service(self, call: Call) -> bool:
        """It takes nothing and will be held again; say whether it was served for all."""
        ended = self._served.pop(call, None)
        if ended is not None:
            call.future.remove_done_callback(ended)
        return ended is not None

    def queue(self, activation: Activation, calls: Iterable[Call]) -> None:
        """Put calls that were parked behind those that wait for a turn."""
        for call in calls:
            self._admission.unpark(call)
            call.arrived_ms = self._clock.monotonic_ms()
            activation.mailbox = activation.mailbox or Mailbox(self._host.backlog)
            try:
                activation.mailbox.push(call, address=activation.address)
            except OverloadedError as exc:
                call.fail(exc)

    def _time_is_up(self, activation: Activation, call: Call) -> None:
        with suppress(HandlerError):  # One that cannot begin anew has answered all whom it held.
            self._host.begin_anew_if_expired(activation)
        if activation.parked is not None and activation.parked.leave(call):
            self._host.begin_anew_if_expired(activation)
            self.queue(activation, [call])
            activation.idle = False
            self._pump(activation)
