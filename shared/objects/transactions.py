"""Changes of several objects that count together or not at all: `await self.transactions.run([...], key="order-7")`.

Two phases, with the coordinator an object of its own, named by the key. It asks each participant to prepare, one after
another in the order of their addresses; stores its decision; and only then tells them. What holds, whoever crashes:

- The decision is stored before anybody hears of it, and there is one for each attempt. No decision is *abort*.
- A prepared participant never decides alone. When its lease is over it asks the coordinator, whose first answer, if it
  has not decided, stores abort. So nobody stays prepared for ever, and nobody undoes what others keep.
- Each message may come twice or late: a participant knows what it holds, and until no prepare can come any more what
  it has finished. A key that was committed has its effect once, for a day; one that was aborted may be tried anew.
- Nobody waits for a prepared participant: it refuses other transactions at once, so there is no deadlock. Of those
  that meet, the one that got the first object in the order goes on.

Source: presumed abort, Mohan, Lindsay and Obermarck, ACM TODS 11(4), 1986.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import msgspec

from shared import bounds
from shared.errors import ConflictError, RefusedError, Retryable, TenureError
from shared.objects.address import Address
from shared.objects.changes import check_size
from shared.objects.errors import DeadlineExceededError, OutcomeUnknownError
from shared.objects.handler import Alarm, DurableObject
from shared.storage.codec import decode, encode

if TYPE_CHECKING:
    from shared.objects.host import Host

LEASE_ALARM = "tenure.transaction"
"""The alarm of a prepared participant. Names and keys that begin with `tenure.` are not for authors."""
_HELD, _FINISHED = "tenure.transaction.held", "tenure.transaction.finished"
_TELL = "tell"
_COMMITTED, _ABORTED = "committed", "aborted"
_WRAPPED = "__tenure_besides_the_lease__"
_UNKNOWN = (TimeoutError, DeadlineExceededError, OutcomeUnknownError)


class TransactionBusyError(RefusedError):
    """A participant is part of another transaction at the moment. Nothing was changed anywhere."""

    code = "transaction_busy"


class TransactionAbortedError(TenureError):
    """A participant did not answer in time. Nothing was changed anywhere, or it is being undone."""

    code = "transaction_aborted"
    retryable = Retryable.ALWAYS

    def __init__(self) -> None:
        super().__init__("The transaction was aborted: a participant did not answer in time.")


class Step(NamedTuple):
    """What one participant is to do: the hooks of the object of `kind` get the step's name and arguments."""

    kind: "type[Participant]"
    tenant: str
    name: str
    step: str
    args: tuple[Any, ...] = ()


Parts = tuple[tuple[str, tuple[Any, ...]], ...]
"""The steps of one participant: names and arguments."""


class _Member(msgspec.Struct, frozen=True, array_like=True):
    kind: str
    tenant: str
    name: str
    parts: Parts = ()

    @property
    def address(self) -> Address:
        return Address(self.kind, self.tenant, self.name)


class Ticket(msgspec.Struct, frozen=True, array_like=True):
    """One attempt of one transaction. It may be prepared before `deadline_ms` of the store's clock."""

    tenant: str
    key: str
    attempt: int
    deadline_ms: int

    def same(self, other: "Ticket") -> bool:
        """Whether it is the same attempt. It may have been begun twice, by owners of the coordinator that crashed."""
        return (self.tenant, self.key, self.attempt) == (other.tenant, other.key, other.attempt)


class _Held(msgspec.Struct, frozen=True, array_like=True):
    ticket: Ticket
    parts: Parts


class _Finished(msgspec.Struct, frozen=True, array_like=True):
    """Attempts that are over; and until when any prepare is refused, where not all of them were kept."""

    tickets: tuple[Ticket, ...] = ()
    floor_ms: int = 0


class _Committed(msgspec.Struct, frozen=True, array_like=True):
    """The decision of the coordinator: which attempt, of what, and who has not confirmed that it knows."""

    ticket: Ticket
    digest: bytes
    left: tuple[_Member, ...]
    tries: int = 0


class Participant(DurableObject):
    """An object that can be part of transactions. The author writes the three hooks, all of them plain.

    `on_prepare` makes sure that the step can be done, whatever turns of this object come in between, and raises
    a `DomainError` where it cannot; `on_commit` does it, `on_rollback` gives up what was put aside. Each runs once
    for a step, in a turn that counts whole. Only the first may refuse: a failure of the others is tried again.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        """Keep the lease's alarm from the author's `on_alarm`."""
        super().__init_subclass__(**options)
        if cls.durability != "committed":
            raise TypeError(f"{cls.__name__} is a participant, whose answers have to be stored: durability 'committed'")
        if not hasattr(cls.on_alarm, _WRAPPED):
            cls.on_alarm = _besides_the_lease(cls.on_alarm)  # type: ignore[method-assign]  # An author overrides it.

    def on_prepare(self, step: str, *args: Any) -> None:
        """See whether the step can be done, and put aside what it needs."""

    def on_commit(self, step: str, *args: Any) -> None:
        """Do the step."""

    def on_rollback(self, step: str, *args: Any) -> None:
        """Give up what `on_prepare` has put aside."""

    async def transaction_lease_over(self) -> None:
        """Ask the coordinator what was decided, as often as it takes."""
        held = self.storage.get(_HELD, _Held)
        if held is None:
            return
        coordinator = Address(Transaction.kind, held.ticket.tenant, held.ticket.key)
        try:
            committed = await self._activation.host.call_from_turn(coordinator, Transaction.decide, held.ticket)
        except TenureError:
            self.alarms.set(LEASE_ALARM, at_ms=self.clock.now_ms() + bounds.TRANSACTION_RETRY_MS)
            return
        self._finish(held, committed=committed)

    @property
    def prepared(self) -> bool:
        """Whether a transaction waits for its decision."""
        return self.storage.get(_HELD, _Held) is not None

    def transaction_prepare(self, ticket: Ticket, parts: Parts) -> None:
        """For the coordinator. A normal end promises to commit or to roll back as it decides.

        Raises:
            TransactionBusyError: another transaction is prepared here, or this one comes too late.
            ConflictError: an earlier owner of the coordinator has prepared this attempt with other steps.
            DomainError: the author refuses.
        """
        held = self.storage.get(_HELD, _Held)
        if held is not None:
            if not held.ticket.same(ticket):
                raise TransactionBusyError(
                    "The object is part of another transaction", retry_after_ms=bounds.RETRY_AFTER_MS
                )
            if encode(held.parts) != encode(parts):
                raise ConflictError("This key belongs to a transaction with other steps.")
            return
        finished = self.storage.get(_FINISHED, _Finished, default=_Finished())
        over = any(ticket.same(other) for other in finished.tickets)
        if over or max(self.clock.upper_ms(), finished.floor_ms) >= ticket.deadline_ms:
            raise TransactionBusyError("The transaction comes too late", retry_after_ms=bounds.RETRY_AFTER_MS)
        for step, args in parts:
            self.on_prepare(step, *args)
        self.storage.put(_HELD, _Held(ticket, parts))
        self.alarms.set(LEASE_ALARM, at_ms=self.clock.now_ms() + bounds.TRANSACTION_LEASE_MS)

    def transaction_commit(self, ticket: Ticket) -> None:
        """For the coordinator: do it. What is not prepared here has been done already."""
        held = self.storage.get(_HELD, _Held)
        if held is not None and held.ticket.same(ticket):
            self._finish(held, committed=True)

    def transaction_rollback(self, ticket: Ticket) -> None:
        """For the coordinator: give it up. What is not prepared here will not be, should its prepare come late."""
        held = self.storage.get(_HELD, _Held)
        if held is not None and held.ticket.same(ticket):
            self._finish(held, committed=False)
        else:
            self._remember(ticket)

    def _finish(self, held: _Held, *, committed: bool) -> None:
        for step, args in held.parts:
            (self.on_commit if committed else self.on_rollback)(step, *args)
        self.storage.delete(_HELD)
        self.alarms.cancel(LEASE_ALARM)
        self._remember(held.ticket)

    def _remember(self, ticket: Ticket) -> None:
        """Until no prepare of it can come any more, by the earlier end of the clock whose later end refuses those."""
        finished = self.storage.get(_FINISHED, _Finished, default=_Finished())
        now_ms = self.clock.lower_ms()
        tickets = [*(other for other in finished.tickets if other.deadline_ms > now_ms), ticket]
        tickets.sort(key=lambda other: other.deadline_ms)
        dropped = tickets[: -bounds.TRANSACTIONS_REMEMBERED]
        floor_ms = max([finished.floor_ms, *(other.deadline_ms for other in dropped)])
        self.storage.put(_FINISHED, _Finished(tuple(tickets[len(dropped) :]), floor_ms))


class Transaction(DurableObject):
    """The coordinator of one transaction: its name is the key. It leaves a day after everybody knows the decision."""

    kind = "tenure.transaction"
    indexed: ClassVar[bool] = False
    idle_ms: ClassVar[int] = bounds.TRANSACTION_RETRY_MS

    async def run(self, members: tuple[_Member, ...]) -> None:
        """Carry it out. A key that was committed before is not carried out again.

        Raises:
            ConflictError: it was, with other steps.
            DomainError, RefusedError, HandlerError: that is what a participant said; nothing was changed.
            TransactionAbortedError: a participant said nothing.
            CommitFailedError, OutcomeUnknownError: the decision was not, or may not have been stored.
        """
        digest = blake2b(encode(members), digest_size=16).digest()
        committed = self.storage.get(_COMMITTED, _Committed)
        if committed is None:
            ticket = await self._prepared(members)
            self.storage.put(_COMMITTED, _Committed(ticket, digest, members))
            self.alarms.set(_TELL, at_ms=self.clock.now_ms() + bounds.TRANSACTION_RETRY_MS)
            await self.commit()
        elif committed.digest != digest:
            raise ConflictError("This key belongs to a transaction with other steps.")
        await self._tell_committed()

    def decide(self, ticket: Ticket) -> bool:
        """For a participant whose lease is over: whether it is committed. What is undecided is aborted hereby."""
        committed = self.storage.get(_COMMITTED, _Committed)
        if committed is not None:
            return committed.ticket.same(ticket)
        self._abort(ticket)
        return False

    async def on_alarm(self, _: Alarm) -> None:
        """Tell those who have not confirmed."""
        await self._tell_committed()

    async def _prepared(self, members: Sequence[_Member]) -> Ticket:
        """All of them are prepared; if not, none will be."""
        attempt = self.storage.get(_ABORTED, int, default=0) + 1
        deadline_ms = self.clock.now_ms() + bounds.TRANSACTION_PREPARE_MS
        ticket = Ticket(self.address.tenant, self.address.name, attempt, deadline_ms)
        asked: list[_Member] = []
        try:
            async with asyncio.timeout(bounds.TRANSACTION_PREPARE_MS / 1000):
                for member in members:
                    asked.append(member)
                    await self._call(member, Participant.transaction_prepare, ticket, member.parts)
        except (TenureError, TimeoutError) as exc:
            unknown = isinstance(exc, _UNKNOWN)
            await self._give_up(ticket, asked if unknown else asked[:-1])
            if unknown:
                raise TransactionAbortedError from exc
            raise
        return ticket

    async def _give_up(self, ticket: Ticket, asked: Sequence[_Member]) -> None:
        """Store abort where somebody may be prepared, and tell them once: who does not hear of it will ask."""
        if asked:
            self._abort(ticket)
            await self.commit()
            await self._tell(asked, Participant.transaction_rollback, ticket)

    def _abort(self, ticket: Ticket) -> None:
        self.storage.put(_ABORTED, max(ticket.attempt, self.storage.get(_ABORTED, int, default=0)))
        self.storage.expire_at(self.clock.now_ms() + bounds.TRANSACTION_KEPT_MS)

    async def _tell_committed(self) -> None:
        committed = self.storage.get(_COMMITTED, _Committed)
        if committed is None or not committed.left:
            return
        left = await self._tell(committed.left, Participant.transaction_commit, committed.ticket)
        self.storage.put(_COMMITTED, msgspec.structs.replace(committed, left=left, tries=committed.tries + 1))
        now_ms = self.clock.now_ms()
        if left:
            wait_ms = bounds.TRANSACTION_RETRY_MS * 2 ** min(committed.tries, 10)
            self.alarms.set(_TELL, at_ms=now_ms + min(wait_ms, bounds.TRANSACTION_RETRY_MS_MAX))
        else:
            self.alarms.cancel(_TELL)
            self.storage.expire_at(now_ms + bounds.TRANSACTION_KEPT_MS)

    async def _tell(
        self, members: Sequence[_Member], method: Callable[..., None], ticket: Ticket
    ) -> tuple[_Member, ...]:
        """Tell all of them at once; returns those who have not confirmed in time."""

        async def told(member: _Member) -> bool:
            try:
                async with asyncio.timeout(bounds.TRANSACTION_TELL_MS / 1000):
                    await self._call(member, method, ticket)
            except (TenureError, TimeoutError):
                return False
            return True

        confirmed = await asyncio.gather(*map(told, members))
        return tuple(member for member, known in zip(members, confirmed, strict=True) if not known)

    async def _call(self, member: _Member, method: Callable[..., None], *args: Any) -> None:
        await self._activation.host.call_from_turn(member.address, method, *args)


class Transactions:
    """The way into transactions of one tenant: `self.transactions` in a turn, `Host.transactions(tenant)` elsewhere."""

    __slots__ = ("_host", "_tenant")

    def __init__(self, host: "Host", tenant: str) -> None:
        self._host, self._tenant = host, tenant

    async def run(self, steps: Iterable[Step], *, key: str = "") -> None:
        """Do all steps, or none. Those of one object are done in the order given.

        With a `key` (of this tenant) the same call may be made again after an error: within a day it has its effect
        once. Without one, an outcome that is not known stays so. The object whose turn runs a transaction cannot be
        among its participants: it would wait for itself.

        Raises:
            TypeError: a step is not for a `Participant`, or an argument cannot be stored.
            TooLargeError: the steps take more than 64 KiB.
            CallCycleError: a participant waits for this turn.
            As `Transaction.run`; and as every call, where the coordinator cannot be reached.
        """
        coordinator = Address(Transaction.kind, self._tenant, key or secrets.token_hex(16))
        await self._host.call_from_turn(coordinator, Transaction.run, _members(steps))


def with_coordinator(kinds: Sequence[type[DurableObject]]) -> Sequence[type[DurableObject]]:
    """The kinds of a host, and the coordinator's where one of them can be part of transactions."""
    needed = any(issubclass(cls, Participant) for cls in kinds) and Transaction not in kinds
    return [*kinds, Transaction] if needed else kinds


def _members(steps: Iterable[Step]) -> tuple[_Member, ...]:
    """The participants in the order of their addresses, with their steps as they come back from the store."""
    parts: dict[Address, Parts] = {}
    for step in steps:
        if not issubclass(step.kind, Participant):
            raise TypeError(f"{step.kind.__name__} is not a Participant")
        address = Address(step.kind.kind, step.tenant, step.name)
        parts[address] = (*parts.get(address, ()), (step.step, tuple(step.args)))
    members = tuple(_Member(*address, parts[address]) for address in sorted(parts))
    stored = encode(members)
    check_size("The transaction", len(stored), bounds.TRANSACTION_BYTES_MAX)
    return decode(stored, tuple[_Member, ...])


def _besides_the_lease(on_alarm: Callable[..., Any]) -> Callable[..., Any]:
    """An author's `on_alarm` that never sees the alarm of the lease."""

    @wraps(on_alarm)
    async def both(self: Participant, alarm: Alarm) -> Any:
        if alarm.name == LEASE_ALARM:
            return await self.transaction_lease_over()
        outcome = on_alarm(self, alarm)
        return await outcome if asyncio.iscoroutine(outcome) else outcome

    setattr(both, _WRAPPED, True)
    return both
