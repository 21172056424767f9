"""A store that breaks on purpose, in the ways a network and a server break, and says that it did.

A fault that was planned but never met proves nothing, so each one records that it fired.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import Context
from enum import Enum
from typing import Any, TypeVar

import msgspec

from shared.storage.interface import (
    ClaimOrder,
    Claims,
    Committed,
    DocumentChanges,
    Due,
    Fence,
    JournalPage,
    LoadOrder,
    Loads,
    Renewals,
    Section,
    Store,
    StoreAwayError,
    StoreInDoubtError,
)
from shared.storage.listings import IndexRow, OutboxRow, Place
from shared.storage.quarantines import Quarantine, Quarantined, Terms

T = TypeVar("T")
_CALL_TIMEOUT_MS = 2_000


class FaultKind(Enum):
    """What goes wrong with one call."""

    DELAY = "delay"  # It runs after `delay_ms`, even if the caller's time-out ended sooner and left it in doubt.
    AWAY = "away"  # It does not run, and the caller knows.
    REQUEST_LOST = "request_lost"  # The connection breaks before it runs: the caller is in doubt.
    REPLY_LOST = "reply_lost"  # The connection breaks after it ran: the caller is in doubt.
    REPEAT = "repeat"  # It runs and is answered, and runs once more after `delay_ms`.


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Breaks the `count`-th call (from 1) of `operation`, a method name of `Store`."""

    operation: str
    kind: FaultKind
    count: int = 1
    delay_ms: int = 0


class UnfiredFaultError(AssertionError):
    """Faults were planned and never met, so the test has not shown what it says."""


class FaultyStore:
    """Implements `Store` over another one, breaking the calls that `plan` names.

    `fired` lists the faults met, in order. While `away` is set every call raises StoreAwayError. `draw` is
    asked for the fault of each call that the plan leaves alone: it gets the operation and its count.
    """

    def __init__(
        self, store: Store, plan: Sequence[Fault] = (), *, draw: Callable[[str, int], Fault | None] | None = None
    ) -> None:
        self._store = store
        self._draw = draw
        self._plan = {(fault.operation, fault.count): fault for fault in plan}
        self._late: set[asyncio.Task[Any]] = set()
        self.calls: dict[str, int] = {}
        self.fired: list[Fault] = []
        self.away = False

    def next(self, operation: str, kind: FaultKind, *, nth: int = 1, delay_ms: int = 0) -> Fault:
        """Plan to break the `nth` call of `operation` (a method name of `Store`) from now on."""
        assert callable(getattr(Store, operation, None)), f"a store has no operation {operation!r}"
        count = self.calls.get(operation, 0) + nth
        fault = Fault(operation=operation, kind=kind, count=count, delay_ms=delay_ms)
        assert (operation, count) not in self._plan, f"call {count} of {operation} is broken already"
        self._plan[operation, count] = fault
        return fault

    def check(self) -> None:
        """Raise UnfiredFaultError if a planned fault was not met."""
        if unfired := self.unfired():
            raise UnfiredFaultError(f"These faults were planned and never met: {unfired}")

    def unfired(self) -> list[Fault]:
        """The faults of the plan that no call has met yet."""
        return [fault for fault in self._plan.values() if fault not in self.fired]

    async def settle(self) -> None:
        """Wait until every delayed run is over."""
        while self._late:
            await asyncio.wait(self._late)

    async def claim(
        self, orders: Sequence[ClaimOrder], *, token: bytes, node: str, lock_id: str, ttl_ms: int
    ) -> Claims:
        """See `Store.claim`."""
        return await self._run(
            "claim", lambda: self._store.claim(orders, token=token, node=node, lock_id=lock_id, ttl_ms=ttl_ms)
        )

    async def renew(self, leases: Sequence[tuple[int, Fence]], *, ttl_ms: int) -> Renewals:
        """See `Store.renew`."""
        return await self._run("renew", lambda: self._store.renew(leases, ttl_ms=ttl_ms))

    async def release(self, leases: Sequence[tuple[int, Fence]]) -> None:
        """See `Store.release`."""
        return await self._run("release", lambda: self._store.release(leases))

    async def commit(self, sections: Sequence[Section], *, ttl_ms: int, timeout_ms: int) -> Committed:
        """See `Store.commit`."""
        return await self._run(
            "commit", lambda: self._store.commit(sections, ttl_ms=ttl_ms, timeout_ms=timeout_ms), timeout_ms
        )

    async def load(self, orders: Sequence[LoadOrder]) -> Loads:
        """See `Store.load`."""
        return await self._run("load", lambda: self._store.load(orders))

    async def journal(
        self, shard: int, fence: Fence, object_id: bytes, *, after: int, rows: int, reverse: bool = False
    ) -> JournalPage:
        """See `Store.journal`."""
        return await self._run(
            "journal",
            lambda: self._store.journal(shard, fence, object_id, after=after, rows=rows, reverse=reverse),
        )

    async def find(
        self, shards: Sequence[int], *, tenant: str, index: str, value: str, after: Place | None, rows: int
    ) -> Sequence[Sequence[IndexRow]]:
        """See `ListingStore.find`."""
        return await self._run(
            "find",
            lambda: self._store.find(shards, tenant=tenant, index=index, value=value, after=after, rows=rows),
        )

    async def count(self, shards: Sequence[int], *, tenant: str, index: str, value: str) -> int:
        """See `ListingStore.count`."""
        return await self._run("count", lambda: self._store.count(shards, tenant=tenant, index=index, value=value))

    async def objects(
        self, shards: Sequence[int], *, kind: str, tenant: str, prefix: str, after: bytes, rows: int
    ) -> Sequence[Sequence[bytes]]:
        """See `ListingStore.objects`."""
        return await self._run(
            "objects",
            lambda: self._store.objects(shards, kind=kind, tenant=tenant, prefix=prefix, after=after, rows=rows),
        )

    async def outbox(self, shards: Sequence[tuple[int, int]], *, rows: int) -> Sequence[Sequence[OutboxRow]]:
        """See `ListingStore.outbox`."""
        return await self._run("outbox", lambda: self._store.outbox(shards, rows=rows))

    async def dead_alarms(self, shards: Sequence[int], *, after: Place | None, rows: int) -> Sequence[Sequence[Place]]:
        """See `ListingStore.dead_alarms`."""
        return await self._run("dead_alarms", lambda: self._store.dead_alarms(shards, after=after, rows=rows))

    async def armed_alarms(self, shards: Sequence[int], *, after: Place | None, rows: int) -> Sequence[Sequence[Place]]:
        """See `ListingStore.armed_alarms`."""
        return await self._run("armed_alarms", lambda: self._store.armed_alarms(shards, after=after, rows=rows))

    async def fields(self, places: Sequence[tuple[int, bytes, bytes]]) -> Sequence[bytes | None]:
        """See `ListingStore.fields`."""
        return await self._run("fields", lambda: self._store.fields(places))

    async def due_alarms(self, shards: Sequence[tuple[int, int]], *, until_ms: int, rows: int) -> Due:
        """See `Store.due_alarms`."""
        return await self._run("due_alarms", lambda: self._store.due_alarms(shards, until_ms=until_ms, rows=rows))

    async def expired(self, shards: Sequence[tuple[int, int]], *, rows: int) -> Due:
        """See `Store.expired`."""
        return await self._run("expired", lambda: self._store.expired(shards, rows=rows))

    async def document_put(self, prefix: str, field: bytes, body: bytes | None, *, expected: int) -> tuple[bool, int]:
        """See `DocumentStore.document_put`."""
        return await self._run("document_put", lambda: self._store.document_put(prefix, field, body, expected=expected))

    async def documents_since(self, prefix: str, revision: int) -> DocumentChanges:
        """See `DocumentStore.documents_since`."""
        return await self._run("documents_since", lambda: self._store.documents_since(prefix, revision))

    async def quarantine(self, shard: int, object_id: bytes, terms: Terms) -> Quarantine:
        """See `QuarantineStore.quarantine`."""
        return await self._run("quarantine", lambda: self._store.quarantine(shard, object_id, terms))

    async def quarantines(self, shards: Sequence[int]) -> Sequence[Sequence[Quarantined]]:
        """See `QuarantineStore.quarantines`."""
        return await self._run("quarantines", lambda: self._store.quarantines(shards))

    async def lift_quarantine(self, shard: int, object_id: bytes) -> bool:
        """See `QuarantineStore.lift_quarantine`."""
        return await self._run("lift_quarantine", lambda: self._store.lift_quarantine(shard, object_id))

    async def _run(
        self, operation: str, call: Callable[[], Coroutine[Any, Any, T]], timeout_ms: int = _CALL_TIMEOUT_MS
    ) -> T:
        count = self.calls[operation] = self.calls.get(operation, 0) + 1
        if self.away:
            raise StoreAwayError(f"{operation}: the store is away")
        fault = self._plan.get((operation, count))
        if fault is None and self._draw is not None:
            fault = self._draw(operation, count)
        if fault is None:
            return await call()
        self.fired.append(fault)
        return await self._break(fault, call, timeout_ms)

    async def _break(self, fault: Fault, call: Callable[[], Coroutine[Any, Any, T]], timeout_ms: int) -> T:
        if fault.kind is FaultKind.DELAY:
            late = self._run_later(fault.delay_ms, call)
            await asyncio.wait({late}, timeout=timeout_ms / 1000)
            if late.done():
                return late.result()
            raise StoreInDoubtError(f"{fault.operation} was delayed past its time-out")
        if fault.kind is FaultKind.AWAY:
            raise StoreAwayError(f"{fault.operation} was refused")
        if fault.kind is FaultKind.REQUEST_LOST:
            raise StoreInDoubtError(f"The request of {fault.operation} was lost")
        result = await call()
        if fault.kind is FaultKind.REPEAT:
            _ = self._run_later(fault.delay_ms, call)
            return result
        raise StoreInDoubtError(f"The reply of {fault.operation} was lost")

    def _run_later(self, delay_ms: int, call: Callable[[], Awaitable[T]]) -> "asyncio.Task[T]":
        async def later() -> T:
            await asyncio.sleep(delay_ms / 1000)
            return await call()

        task = asyncio.get_running_loop().create_task(
            later(), name="a delayed call of the store", context=Context()
        )  # What is on the network does not stop with its sender.
        self._late.add(task)
        task.add_done_callback(self._late.discard)
        return task
