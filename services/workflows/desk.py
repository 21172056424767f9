"""Where workers come for tasks and bring what they made of them.

It stands between the queue, which knows who has a task, and the run, which knows what counts. A task is leased by the
queue first, then handed out by its run; one that the run does not want any more is given to nobody. An answer is taken
by the run first, then the queue forgets the task. So whatever is lost in between, the task is offered again when its
lease ends, and the run decides what counts: a task is done at least once, and counts once.
"""

import asyncio
from contextlib import suppress

import msgspec

from services.workflows.backlog import Offer, Task
from services.workflows.bounds import QUEUE_BYTES_MAX
from services.workflows.events import Completed, Failed, Heartbeat
from services.workflows.handing import Handed
from services.workflows.intents import SendTask
from services.workflows.program import Json
from services.workflows.queue import Beat, QueueLook, TaskQueue
from services.workflows.refusals import RunClosedError
from services.workflows.run import WorkflowRun
from services.workflows.tickets import Ticket
from shared.bounds import HANDLER_DEADLINE_MS
from shared.errors import ConflictError, NotFoundError, TenureError
from shared.objects.address import Address
from shared.objects.host import Host


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """A task that a worker gets. `lost` counts the workers that had this attempt and were not heard of again."""

    ticket: Ticket
    handed: Handed
    until_ms: int
    lost: int


class Desk:
    """The tasks of all queues, as workers meet them."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def poll(self, queue: Address, worker: str, *, count: int, lease_ms: int, wait_ms: int) -> list[Given]:
        """Lease tasks, so many at most, as soon as there is one; none when the time has passed.

        Cancelled when its worker has gone, it keeps nothing: it leaves the queue, and what was leased already is
        offered again within seconds. What is leased in that very moment is offered again when its lease ends.

        Raises:
            OverloadedError: too many wait for this queue.
        """
        until_ms = self._host.store_clock.now_ms() + wait_ms
        patience_ms = wait_ms + HANDLER_DEADLINE_MS
        while True:
            poll = TaskQueue.poll
            taken = await self._host.call(queue, poll, worker, count, lease_ms, until_ms, deadline_ms=patience_ms)
            try:
                handed = await asyncio.gather(*(self._hand(queue, task) for task in taken))
            except asyncio.CancelledError:
                for task in taken:
                    await self._host.call(queue, TaskQueue.put_aside, task.lease)
                raise
            given = [one for one in handed if one is not None]
            if given or (not taken and self._host.store_clock.now_ms() >= until_ms):
                return given

    async def answer(self, tenant: str, ticket: Ticket, event: Completed | Failed) -> bool:
        """Take what a worker made of its task; False where the same was taken before.

        Raises:
            NotFoundError: there is no such run or attempt.
            SupersededError, AlreadyCompletedError, TimedOutError, RunClosedError: it comes too late.
            PayloadTooLargeError, RunTooLargeError: it is too large; the worker has the task still.
        """
        queue, run = _addresses(tenant, ticket)
        standing = await self._host.call(queue, TaskQueue.standing, ticket.lease)
        held = standing in {"held", "withdrawn"}
        try:
            fresh: bool = await self._host.call(run, WorkflowRun.answer, event, held)
        except (ConflictError, NotFoundError):
            if held:
                await self._forget(queue, ticket)
            raise
        if held:
            await self._forget(queue, ticket)
        else:  # Whoever has it now is told that it is not wanted any more.
            with suppress(TenureError):
                await self._host.call(queue, TaskQueue.withdraw, ticket.run, ticket.serial)
        return fresh

    async def beat(self, tenant: str, ticket: Ticket, progress: Json) -> Beat:
        """The worker lives; until when it has the task, and whether the run wants it still.

        Raises:
            SupersededError: it does not have the task.
            PayloadTooLargeError, RunTooLargeError: the progress is too large.
        """
        queue, run = _addresses(tenant, ticket)
        beat: Beat = await self._host.call(queue, TaskQueue.beat, ticket.lease)
        if beat.wanted and (ticket.watched or progress is not None):
            heartbeat = Heartbeat(path=ticket.path, serial=ticket.serial, progress=progress)
            try:
                await self._host.call(run, WorkflowRun.happen, heartbeat)
            except (ConflictError, NotFoundError):
                return msgspec.structs.replace(beat, wanted=False)
        return beat

    async def release(self, tenant: str, ticket: Ticket) -> None:
        """The worker gives the task back undone; another gets it at once, and no attempt is counted.

        Raises:
            SupersededError: it does not have the task.
        """
        queue, run = _addresses(tenant, ticket)
        if await self._host.call(queue, TaskQueue.standing, ticket.lease) == "held":
            await self._free(run, ticket.serial, ticket.lease.nth)
        await self._host.call(queue, TaskQueue.release, ticket.lease)

    async def look(self, queue: Address) -> QueueLook:
        """How a queue is."""
        look: QueueLook = await self._host.call(queue, TaskQueue.look)
        return look

    async def _hand(self, queue: Address, task: Task) -> Given | None:
        """What the worker is to do; None if the run does not want it, or cannot be asked at the moment."""
        assert task.held is not None, "it was leased just now"
        run = Address(WorkflowRun.kind, queue.tenant, task.offer.run)
        arguments = (task.offer.serial, task.held.worker, task.leases)
        try:
            handed: Handed | None = await self._host.call(run, WorkflowRun.hand_out, *arguments)
        except TenureError:
            await self._host.call(queue, TaskQueue.put_aside, task.lease)
            return None
        if handed is None:
            await self._host.call(queue, TaskQueue.finish, task.number)
            return None
        watched = handed.heartbeat_ms is not None
        ticket = Ticket(queue=queue.name, path=handed.path, lease=task.lease, watched=watched)
        return Given(ticket=ticket, handed=handed, until_ms=task.held.until_ms, lost=task.lost)

    async def _free(self, run: Address, serial: int, lease: int) -> None:
        with suppress(NotFoundError, RunClosedError):
            await self._host.call(run, WorkflowRun.free, serial, lease, None)

    async def _forget(self, queue: Address, ticket: Ticket) -> None:
        with suppress(TenureError):  # Else it is forgotten when it is offered again and its run does not want it.
            await self._host.call(queue, TaskQueue.finish, ticket.lease.number)


async def offer_task(host: Host, run: Address, call: SendTask) -> Failed | None:
    """Put the task into its queue; its answer comes from a worker."""
    if not 1 <= len(call.queue.encode(errors="surrogatepass")) <= QUEUE_BYTES_MAX:
        cause = f"The name of a queue has 1 to {QUEUE_BYTES_MAX} bytes"
        return Failed(path=call.path, serial=call.serial, error="queue.bad_name", cause=cause)
    await host.call(queue_address(run.tenant, call.queue), TaskQueue.offer, _offer(run, call))
    return None


async def is_in_queue(host: Host, run: Address, call: SendTask) -> bool:
    """Whether the task is in its queue, waiting or with a worker."""
    there: bool = await host.call(queue_address(run.tenant, call.queue), TaskQueue.has, _offer(run, call))
    return there


async def recall_task(host: Host, run: Address, call: SendTask) -> None:
    """Take the task out of its queue, or have its worker told that it is not wanted any more."""
    await host.call(queue_address(run.tenant, call.queue), TaskQueue.withdraw, run.name, call.serial)


def queue_address(tenant: str, queue: str) -> Address:
    """Of a queue."""
    return Address(TaskQueue.kind, tenant, queue)


def _offer(run: Address, call: SendTask) -> Offer:
    return Offer(run=run.name, serial=call.serial, due_ms=call.due_ms, heartbeat_ms=call.heartbeat_ms)


def _addresses(tenant: str, ticket: Ticket) -> tuple[Address, Address]:
    return queue_address(tenant, ticket.queue), Address(WorkflowRun.kind, tenant, ticket.run)
