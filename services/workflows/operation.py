"""The operation object: it does the same to many runs, some at a time, and says how far it is.

Guarantees:

- Each run is changed once, and counted once, over any crash: which runs come next is stored before the first of them is
  asked, and what each has answered is known again when it is asked again.
- What does not fit one run is counted, told of the first, and hinders no other. What passes by itself is tried again,
  and only what does not pass for minutes counts as refused.
- It ends: at its limit at the latest. Until then it has an alarm, set in the commit that says how far it is.
- A run that begins after it is not changed where runs are found newest first, unless it takes the id of one that is at
  hand, and each is found once. In the order in
  which runs are due, one that comes to be due later may be found again.
"""

import asyncio
from typing import ClassVar

import msgspec

from services.workflows.bounds import (
    OPERATION_AGAIN_MS,
    OPERATION_AGAIN_MS_MAX,
    OPERATION_CALL_MS,
    OPERATION_ERRORS_SHOWN,
    OPERATION_KEPT_MS,
    OPERATION_RUNS_AT_ONCE,
    OPERATION_TRIES_MAX,
)
from services.workflows.changing import Change, change_of
from services.workflows.listing import Asked, list_runs
from services.workflows.operation_schemas import ChangeRuns, Progress
from services.workflows.records import Kept
from services.workflows.refusals import TooManyOperationsError
from services.workflows.run import WorkflowRun
from services.workflows.schemas import RunNotChanged
from shared.bounds import MOMENT_MS_MAX
from shared.errors import NotFoundError, Retryable, TenureError
from shared.objects.address import Address
from shared.objects.errors import KeyReusedError
from shared.objects.handler import Alarm, DurableObject, readonly
from shared.objects.once import KeyedRequest

GO_ON = "go_on"
LISTED, RUNNING = "listed", "running"
"""The indexes of all operations, newest first, and of those that have not ended."""
_ORDER, _KEPT, _STANDING = "order", "kept", "standing"
_STOPPED, _MAY_BE_CHANGED = "operation.stopped", "It was at hand, and nobody has heard its answer: it may be changed."
_DETAIL_MAX = 500
_KEY = "§operation "
"""Before the key under which it asks a run. Keys of requests are ASCII, so no request has it before."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How far an operation is."""

    status: Progress = "running"
    started_ms: int
    ended_ms: int | None = None
    taken: int = 0
    """How many runs it has found; those at hand are among them."""
    cursor: str | None = None
    whole: bool = False
    """Whether it has found the last of them."""
    at_hand: tuple[str, ...] = ()
    """Runs that are found, and of which it is not known that they are changed."""
    changed: int = 0
    refused: int = 0
    errors: tuple[RunNotChanged, ...] = ()
    troubles: int = 0
    """How often in a row it could not go on with what is at hand, for what passes by itself."""
    waits_for: str = ""


class OperationLook(msgspec.Struct, frozen=True, kw_only=True):
    """An operation as it is seen."""

    order: ChangeRuns
    standing: Standing


class _Trouble(msgspec.Struct, frozen=True):
    """What stands in the way of one run and passes by itself."""

    error: RunNotChanged


class Operation(DurableObject):
    """One operation of one tenant. The address's name is its id."""

    kind: ClassVar[str] = "operation"

    def begin(self, order: ChangeRuns, room: bool, kept: Kept | None = None) -> OperationLook:  # noqa: FBT001  # `Host.call` has no keywords.
        """Begin it, unless it has begun before. `room`: whether another may begin; `kept`: what runs are migrated to.

        Raises:
            KeyReusedError: it has begun otherwise.
            TooManyOperationsError: there is no room.
        """
        if self._standing() is not None:
            if self._order() != order:
                raise KeyReusedError
            return self.look()
        if not room:
            raise TooManyOperationsError
        now_ms = self.clock.now_ms()
        self.storage.put(_ORDER, msgspec.json.encode(order))
        if kept is not None:
            self.storage.put(_KEPT, kept)
        for index in (LISTED, RUNNING):
            self.index.set(index, "", MOMENT_MS_MAX - now_ms)
        self._settle(Standing(started_ms=now_ms, cursor=order.cursor))
        return self.look()

    def stop(self) -> OperationLook:
        """End it where it is. What is changed stays so. To stop what has ended changes nothing.

        Each run that is at hand is told, however many errors are: of it alone nobody knows whether it is changed.

        Raises:
            NotFoundError: there is no such operation.
        """
        standing = self.look().standing
        if standing.status == "running":
            left = tuple(RunNotChanged(id=one, code=_STOPPED, detail=_MAY_BE_CHANGED) for one in standing.at_hand)
            refused, errors = standing.refused + len(left), standing.errors + left
            self._settle(msgspec.structs.replace(standing, status="stopped", refused=refused, errors=errors))
        return self.look()

    @readonly
    def look(self) -> OperationLook:
        """What it does, and how far it is.

        Raises:
            NotFoundError: there is no such operation.
        """
        standing = self._standing()
        if standing is None:
            raise NotFoundError("such operation")
        return OperationLook(order=self._order(), standing=standing)

    @readonly
    def look_if_there(self) -> OperationLook | None:
        """As `look`; None where there is no such operation."""
        return None if self._standing() is None else self.look()

    def audit(self) -> tuple[str, ...]:
        """Where it waits for nothing that will come, as sentences; its alarm is set anew, so that it goes on."""
        standing = self._standing()
        if standing is None or standing.status != "running" or self.alarms.due_ms(GO_ON) is not None:
            return ()
        self._settle(standing)
        return ("its alarm is not armed",)

    async def on_alarm(self, alarm: Alarm) -> None:  # noqa: ARG002  # There is one alone.
        """Go on with the next runs."""
        standing = self._standing()
        if standing is None or standing.status != "running":
            return
        await self._activation.host.store_earlier_turns()
        order = self._order()
        if not standing.at_hand:
            try:
                standing = await self._find(order, standing)
            except TenureError as error:
                self._settle(_held_up(standing, str(error)))
                return
            self._settle(standing)
            await self.commit()
        self._settle(await self._change(order, standing))

    async def _find(self, order: ChangeRuns, standing: Standing) -> Standing:
        """The next runs, as many as are changed at once.

        Raises:
            TenureError: they cannot be listed now.
        """
        count = min(OPERATION_RUNS_AT_ONCE, order.limit - standing.taken)
        if order.ids is not None:
            found, cursor = order.ids[standing.taken : standing.taken + count], None
            whole = standing.taken + len(found) == len(order.ids)
        else:
            assert order.filter is not None, "an order has ids or a filter"
            host, meant = self._activation.host, Asked.of(order.filter)
            page = await list_runs(host, self.address.tenant, meant, cursor=standing.cursor, limit=count)
            found, cursor = [run.id for run in page.runs], page.next_cursor
            whole = cursor is None
        return msgspec.structs.replace(
            standing,
            taken=standing.taken + len(found),
            cursor=cursor,
            whole=whole,
            at_hand=tuple(found),
            troubles=0,
            waits_for="",
        )

    async def _change(self, order: ChangeRuns, standing: Standing) -> Standing:
        """Change what is at hand. Runs that cannot be changed now stay at hand, and are tried again later."""
        change = change_of(order, self.storage.get(_KEPT, Kept))
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(self._ask(run_id, change, dry=order.dry_run)) for run_id in standing.at_hand]
        answers = [task.result() for task in asked]
        last = standing.troubles + 1 >= OPERATION_TRIES_MAX
        held = [answer.error for answer in answers if isinstance(answer, _Trouble)]
        refused = [answer for answer in answers if isinstance(answer, RunNotChanged)] + (held if last else [])
        standing = msgspec.structs.replace(
            _with_refused(standing, refused),
            at_hand=() if last else tuple(error.id for error in held),
            changed=standing.changed + answers.count(None),
        )
        if standing.at_hand:
            return _held_up(standing, held[0].detail)
        ended = standing.whole or standing.taken == order.limit
        return msgspec.structs.replace(standing, status="done" if ended else "running", troubles=0, waits_for="")

    async def _ask(self, run_id: str, change: Change, *, dry: bool) -> RunNotChanged | _Trouble | None:
        """Change one run, once, or have it say whether it would be changed; None where it was, or would be."""
        run = Address(WorkflowRun.kind, self.address.tenant, run_id)
        method = WorkflowRun.rehearse if dry else WorkflowRun.change
        once = None if dry else KeyedRequest(f"{_KEY}{self.address.name}", method, (change,))
        try:
            await self._activation.host.call(run, method, change, once=once, deadline_ms=OPERATION_CALL_MS)
        except TenureError as error:
            told = RunNotChanged(id=run_id, code=error.code, detail=str(error)[:_DETAIL_MAX])
            return told if error.retryable is Retryable.NEVER else _Trouble(told)
        return None

    def _settle(self, standing: Standing) -> None:
        """Keep how far it is, and set its alarm, or end it."""
        now_ms = self.clock.now_ms()
        if standing.status == "running":
            self.alarms.set(GO_ON, at_ms=now_ms + _pause_ms(standing.troubles))
        elif standing.ended_ms is None:
            standing = msgspec.structs.replace(standing, ended_ms=now_ms, at_hand=())
            self.alarms.cancel(GO_ON)
            self.index.clear(RUNNING)
            self.storage.expire_at(now_ms + OPERATION_KEPT_MS)
        self.storage.put(_STANDING, standing)

    def _order(self) -> ChangeRuns:
        return msgspec.json.decode(self.storage.get(_ORDER, bytes), type=ChangeRuns)

    def _standing(self) -> Standing | None:
        kept: Standing | None = self.storage.get(_STANDING, Standing)
        return kept


def next_cursor(order: ChangeRuns, standing: Standing) -> str | None:
    """Where one that has ended would go on; None where it has come to the end, or its runs were named."""
    return None if standing.status == "running" or order.ids is not None or standing.whole else standing.cursor


def _pause_ms(troubles: int) -> int:
    return min(OPERATION_AGAIN_MS << (troubles - 1), OPERATION_AGAIN_MS_MAX) if troubles else 0


def _with_refused(standing: Standing, refused: list[RunNotChanged]) -> Standing:
    errors = (*standing.errors, *refused)[:OPERATION_ERRORS_SHOWN]
    return msgspec.structs.replace(standing, refused=standing.refused + len(refused), errors=errors)


def _held_up(standing: Standing, by: str) -> Standing:
    troubles = min(standing.troubles + 1, OPERATION_TRIES_MAX)
    return msgspec.structs.replace(standing, troubles=troubles, waits_for=by[:_DETAIL_MAX])
