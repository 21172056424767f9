"""Callers that wait for an object to change, without a turn that waits.

A handler that has nothing to tell yet returns `Park(key, until_ms=...)` instead of a reply. Its caller is
held outside the mailbox. When a turn has written `key` (or deleted everything), or when the moment has
come, the handler runs once more, as a turn like any other: its reply passes the output gate, so it leaves
after the commit that it depends on. A turn that parks has written nothing, so it can be run again.
"""

import asyncio
from collections.abc import Callable, Container, Iterable
from contextlib import suppress
from types import UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

import msgspec

from shared import bounds
from shared.objects.activation import Activation, Call, Mailbox
from shared.objects.errors import DeadlineExceededError, HandlerError, OverloadedError

if TYPE_CHECKING:
    from shared.objects.host import Host


class Park(msgspec.Struct, frozen=True):
    """What a handler returns to be run again once `key` was written, at `until_ms` of the store's clock at the latest.

    The handler takes that moment as an argument, and answers for good once it has come.
    """

    key: str
    until_ms: int


def reply_type(annotation: Any) -> Any:
    """What the caller of a method gets that says it returns `annotation`: a `Park` is for the host alone."""
    if get_origin(annotation) not in (Union, UnionType):
        return annotation
    types = tuple(type_ for type_ in get_args(annotation) if type_ is not Park)
    return Union[types] if types else annotation  # noqa: UP007  # The types are not known here.


class ParkedCalls:
    """The callers that one object holds, in the order they came. Made when the first one parks."""

    __slots__ = ("_gone", "_held")

    def __init__(self) -> None:
        self._held: dict[Call, tuple[str, asyncio.TimerHandle]] = {}
        self._gone: dict[Call, Callable[[object], object]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, call: Call, key: str, timer: asyncio.TimerHandle) -> None:
        """Hold a caller until `key` is written; `timer` is what ends that otherwise."""
        self._held[call] = (key, timer)
        self._gone[call] = gone = lambda _: self.leave(call)
        call.future.add_done_callback(gone)

    def let_go(self, keys: Container[str] | None = None) -> list[Call]:
        """Those that wait for one of `keys` (None: for any); they are not held any more."""
        calls = [call for call, (key, _) in self._held.items() if keys is None or key in keys]
        for call in calls:
            self.leave(call)
        return calls

    def leave(self, call: Call) -> bool:
        """Hold a caller no longer; say whether it was held."""
        held = self._held.pop(call, None)
        if held is not None:
            held[1].cancel()
            call.future.remove_done_callback(self._gone.pop(call))  # It may park again, as often as it is served.
        return held is not None


class Parking:
    """The parked callers of one host. `pump` runs what waits in an object's mailbox."""

    def __init__(self, host: "Host", pump: Callable[[Activation], None]) -> None:
        self._host = host
        self._clock = host.store_clock
        self._pump = pump

    def hold(self, activation: Activation, call: Call, park: Park) -> None:
        """Hold the caller of a turn that has ended with `park`.

        Raises:
            TypeError: the turn has written something, or answers an alarm.
            DeadlineExceededError: the moment has come already.
            OverloadedError: 1,000 are held.
        """
        if activation.state.overlay_used or call.alarm is not None:
            raise TypeError("a turn that parks its caller writes nothing, and answers no alarm")
        left_ms = park.until_ms - self._clock.lower_ms()
        if left_ms <= 0:
            raise DeadlineExceededError(started=False)
        parked = activation.parked or ParkedCalls()
        if len(parked) >= bounds.PARKED_CALLS_MAX:
            raise OverloadedError(
                f"{bounds.PARKED_CALLS_MAX} callers wait for this object", retry_after_ms=bounds.RETRY_AFTER_MS
            )
        activation.parked = parked
        timer = asyncio.get_running_loop().call_later(left_ms / 1000, self._time_is_up, activation, call)
        parked.hold(call, park.key, timer)
        call.started = False

    def touched(self, activation: Activation, keys: Container[str] | None) -> None:
        """These keys were written (None: all of them): whoever is parked for one of them is served."""
        if activation.parked is not None and (calls := activation.parked.let_go(keys)):
            self.queue(activation, calls)
            activation.idle = False
            asyncio.get_running_loop().call_soon(self._pump, activation)

    def queue(self, activation: Activation, calls: Iterable[Call]) -> None:
        """Put calls that were parked behind those that wait for a turn."""
        for call in calls:
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
