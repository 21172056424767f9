"""What a socket rests on that was opened in somebody's session: it hears when the session ends, and ends too.

A watch is kept on each principal in whose sessions there are sockets, on its feed: it has no gaps, so whatever ends a
session is heard of, with whoever's call, over any crash. What ends all sessions of a tenant is known without asking.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any
from weakref import WeakSet

from services.sessions.bounds import FEED_PAGE
from services.sessions.cuts import Cuts
from services.sessions.desk import Desk
from services.sessions.policy import Rules
from services.sessions.principal import Principal
from services.sessions.records import EventKind, Feed, SessionView
from services.sessions.refusals import SessionEndedError, UnknownSessionError
from shared.bounds import HANDLER_DEADLINE_MS, RETRY_AFTER_MS, SOCKET_SWEEP_MS
from shared.errors import TenureError
from shared.http.tickets import SessionRef
from shared.objects.address import Address
from shared.objects.errors import UnavailableError
from shared.objects.host import Host
from shared.retry import Backoff

_WATCH_MS = 60_000  # For so long the feed is asked for news at once, and for so long a watch lasts that nobody needs.
_ENDS: frozenset[EventKind] = frozenset(("session.expired", "session.revoked", "session.evicted"))
_PAUSES = Backoff(base_ms=50, cap_ms=1_000)


class Bound:
    """One ticket, or its socket, that rests on a session. It is let go of by being forgotten."""

    __slots__ = ("__weakref__", "_ends_ms", "_looking", "_rules", "address", "began_ms", "over", "session_id", "watch")

    def __init__(self, watch: "SessionWatch", address: Address, session_id: str) -> None:
        self.watch, self.address, self.session_id = watch, address, session_id
        self.began_ms = 0
        self.over = False
        self._rules: Rules | None = None
        self._ends_ms = 0
        self._looking = False

    def counts(self) -> bool:
        """Whether the session has not ended, as far as it is known here.

        Its end by time, under the policy of today, is not heard of: it is looked for when it is due.
        """
        with suppress(UnavailableError):  # What was known last holds on: nothing new is opened meanwhile.
            rules = self.watch.rules(self.address)
            self.over = self.over or self.began_ms <= rules.not_before_ms
            left_ms = 0 if rules is not self._rules else self._ends_ms - self.watch.now_ms()
            if left_ms <= SOCKET_SWEEP_MS and not (self.over or self._looking):
                self._looking = True
                self.watch.look_again(self, max(0, left_ms))
        return not self.over

    def seen(self, view: SessionView, rules: Rules) -> None:
        """The session was there under those rules."""
        self.began_ms = min(view.created_ms, view.auth_ms)
        self._rules, self._ends_ms = rules, min(view.expires_ms, view.idle_expires_ms)
        self._looking = False

    def not_seen(self) -> None:
        """Nobody could say; it is looked for again a second later."""
        self._ends_ms = self.watch.now_ms() + RETRY_AFTER_MS
        self._looking = False


class SessionWatch:
    """The sessions that sockets of one node rest on."""

    def __init__(self, desk: Desk, host: Host, cuts: Cuts) -> None:
        self._desk, self._host, self._cuts = desk, host, cuts
        self._bound: dict[Address, WeakSet[Bound]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def watched(self) -> int:
        """How many principals are watched."""
        return len(self._bound)

    async def bind(self, tenant: str, session: SessionRef) -> Callable[[], bool]:
        """What says whether the session counts; as long as that is kept, the session is watched.

        Raises:
            UnknownSessionError, SessionEndedError: there is none.
            TenureError: as `Host.call`.
        """
        address = self._desk.address(tenant, session.principal)
        bound = Bound(self, address, session.id)
        feed: Feed = await self._host.call(address, Principal.events, 0, 1, 0)
        await self._look(bound)
        watching = self._bound.get(address)
        if watching is None:
            self._bound[address] = WeakSet((bound,))
            self._spawn(self._watch(address, feed.last))
        else:
            watching.add(bound)
            await self._recheck((bound,))  # The watch may be behind what was seen here, and not before it.
        return bound.counts

    async def _watch(self, address: Address, after: int) -> None:
        """Hear of sessions that end, until no socket rests on one."""
        failures = 0
        with self._cuts.listening(address):
            while self._bound[address]:
                try:
                    after = await self._hear(address, after)
                    failures = 0
                except TenureError:
                    await asyncio.sleep(_PAUSES.nominal_ms(failures) / 1_000)
                    failures += 1
        del self._bound[address]

    async def _hear(self, address: Address, after: int) -> int:
        """What has happened after the event of that number, or happens soon; the number of the last event heard of."""
        until_ms = self._host.store_clock.now_ms() + _WATCH_MS
        patience_ms = _WATCH_MS + HANDLER_DEADLINE_MS
        feed: Feed = await self._host.call(
            address, Principal.events, after, FEED_PAGE, until_ms, deadline_ms=patience_ms
        )
        ended = {event.session for _, event in feed.events if event.kind in _ENDS}
        erased = any(event.kind == "principal.erased" for _, event in feed.events)
        bound = tuple(self._bound[address])
        for one in bound:
            one.over = one.over or erased or one.session_id in ended
        if feed.onward(after)[0] != after:  # Some were trimmed before they were heard of.
            await self._recheck(bound)
        return feed.events[-1][0] if feed.events else feed.last

    async def _recheck(self, bound: tuple[Bound, ...]) -> None:
        """Ask for the sessions themselves. It is done again where that fails."""
        for one in bound:
            if not one.over:
                try:
                    await self._look(one)
                except (UnknownSessionError, SessionEndedError):
                    one.over = True

    async def _look(self, bound: Bound) -> None:
        rules = self.rules(bound.address)
        bound.seen(await self._host.call(bound.address, Principal.look, bound.session_id, rules), rules)

    # For what is bound.

    def rules(self, address: Address) -> Rules:
        """See `Desk.rules`."""
        return self._desk.rules(address.tenant)

    def now_ms(self) -> int:
        """The time, as it is known here."""
        return self._host.store_clock.now_ms()

    def look_again(self, bound: Bound, in_ms: int) -> None:
        """See in so many milliseconds whether the session is still there."""
        self._spawn(self._look_again(bound, in_ms))

    async def _look_again(self, bound: Bound, in_ms: int) -> None:
        await asyncio.sleep(in_ms / 1_000)
        try:
            await self._recheck((bound,))
        except TenureError:
            bound.not_seen()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
