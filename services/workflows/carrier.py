"""Carries out what runs want done outside: after the commit that wants it, at least once, with the same key each time.

A run wakes the carrier within its turn. The carrier then asks the run for its errands by a call, which is answered
when that turn is stored; so nothing leaves that the store has not confirmed, and nothing of a turn that failed. What
comes of an errand goes back as one call, which applies the answer and forgets the errand in one commit.

Nothing here is kept for long: an errand that fails stays with its run, whose alarm wakes the carrier again, and so does
the next owner of a run whose node has died. `Senders` is the one table of who carries out what.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextvars import copy_context
from typing import Any, TypeAlias

from services.workflows.bounds import ERRANDS_AT_ONCE, ERRANDS_STOP_MS
from services.workflows.errands import Errand, Recall
from services.workflows.events import AnyEvent
from services.workflows.intents import Call, Intent
from services.workflows.run import WorkflowRun
from shared.errors import TenureError
from shared.objects.address import Address
from shared.objects.calls import current_chain
from shared.objects.host import Host
from shared.telemetry import logs
from shared.telemetry.metrics import ErrandOutcome

Sender: TypeAlias = Callable[[Host, Address, Any], Awaitable[AnyEvent | None]]
"""Carries out one errand of the run at the address: returns its answer, or None where that comes later or never.

What it raises of our own errors means "not now": the errand is carried out again. It is called with the same errand as
often as it takes, so what it calls has to know a repeat by the errand's key or serial.
"""
Senders: TypeAlias = Mapping[type[Intent], Sender]
_Line: TypeAlias = tuple[Host, Address, int]
_log = logs.get_logger()


class Carrier:
    """Carries out the errands of the runs on one node: of one serial one after another, of one tenant 256 at a time."""

    def __init__(self, carried: Iterable[type[Intent]]) -> None:
        """`carried` are the errands that runs are to keep for it; `begin` says who carries them out."""
        self.carried: frozenset[type[Intent]] = frozenset({*carried, Recall})
        self._senders: Senders = {}
        self._recalls: Senders = {}
        self._asking: dict[tuple[Host, Address], bool] = {}
        self._lines: dict[_Line, set[int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._stopping = False

    def begin(self, senders: Senders, *, recalls: Senders) -> None:
        """Carry errands out from now on: `senders` by what the errand is, `recalls` by what is wanted no more."""
        assert set(senders) == self.carried - {Recall}, "whatever runs keep is carried out"
        self._senders = {**senders, Recall: self._recall}
        self._recalls = recalls

    def wake(self, host: Host, run: Address) -> None:
        """The run has errands, or will have them when its turn is stored.

        Before `begin` and after `stop` they are left to its alarm.
        """
        if not self._senders or self._stopping:
            return
        if (host, run) in self._asking:
            self._asking[host, run] = True
        else:
            self._asking[host, run] = False
            self._spawn(self._ask(host, run))

    async def stop(self) -> None:
        """Begin no more. What is under way has 3 s to end; the rest stays with its runs, for their next node."""
        self._stopping = True
        while self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=ERRANDS_STOP_MS / 1000)
            for task in late:
                task.cancel()

    @property
    def under_way(self) -> int:
        """How many lines of errands are being carried out."""
        return len(self._lines)

    async def _ask(self, host: Host, run: Address) -> None:
        again = True
        try:
            while again:
                self._asking[host, run] = False
                errands: list[Errand] = await host.call(run, WorkflowRun.errands)
                self._begin(host, run, errands)
                again = self._asking[host, run]
        except TenureError:
            return  # The run is away; when it is back, its alarm rings.
        finally:
            del self._asking[host, run]

    def _begin(self, host: Host, run: Address, errands: Sequence[Errand]) -> None:
        by_serial: dict[int, list[Errand]] = {}
        for errand in errands:
            by_serial.setdefault(errand.intent.serial, []).append(errand)
        for serial, several in by_serial.items():
            line = (host, run, serial)
            if line not in self._lines:
                self._lines[line] = {errand.number for errand in several}
                self._spawn(self._carry(line, several))
            elif not self._lines[line].issuperset(errand.number for errand in several):
                self._lines[line].add(0)  # There is more than it knows of.

    async def _carry(self, line: _Line, errands: Sequence[Errand]) -> None:
        host, run, _ = line
        outcome: ErrandOutcome = "ok"
        began_ms = host.store_clock.monotonic_ms()
        try:
            slots = self._slots.setdefault(run.tenant, asyncio.Semaphore(ERRANDS_AT_ONCE))
            waits = slots.locked()
            async with slots:
                for errand in await self._still(host, run, errands) if waits else errands:
                    event = await self._sent(host, run, errand.intent)
                    await host.call(run, WorkflowRun.settle, errand.number, event)
        except asyncio.CancelledError:
            outcome = "delayed"
            raise
        except TenureError as error:
            outcome = "delayed"
            _log.info(logs.ERRAND_DELAYED, run=str(run), errand=type(errands[0].intent).__name__, error=str(error))
        except Exception as error:  # noqa: BLE001  # Whatever it is, the errand stays and is carried out again.
            outcome = "failed"
            _log.error(logs.ERRAND_FAILED, run=str(run), errand=type(errands[0].intent).__name__, exc_info=error)
        finally:
            seconds = (host.store_clock.monotonic_ms() - began_ms) / 1000
            host.metrics.workflow_errand(type(errands[0].intent).__name__, outcome, seconds)
            if 0 in self._lines.pop(line):
                self.wake(host, run)

    async def _still(self, host: Host, run: Address, errands: Sequence[Errand]) -> list[Errand]:
        """Those that are still to be carried out, after others of the tenant were."""
        kept: list[Errand] = await host.call(run, WorkflowRun.errands)
        numbers = {errand.number for errand in kept}
        return [errand for errand in errands if errand.number in numbers]

    async def _sent(self, host: Host, run: Address, intent: Intent) -> AnyEvent | None:
        """What came of it; nothing where its attempt is over, because the node was away: its run knows."""
        if isinstance(intent, Call) and intent.due_ms is not None and intent.due_ms <= host.store_clock.now_ms():
            return None
        return await self._senders[type(intent)](host, run, intent)

    async def _recall(self, host: Host, run: Address, recall: Recall) -> None:
        recall_of = self._recalls.get(type(recall.call))
        if recall_of is not None:
            await recall_of(host, run, recall.call)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin what is no part of the turn that it begins in: whom it calls may call the object of that turn.

        It keeps the trace of that turn, so what a request has done at once belongs to its trace.
        """
        context = copy_context()
        context.run(current_chain.set, ())
        task = asyncio.get_running_loop().create_task(work, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
