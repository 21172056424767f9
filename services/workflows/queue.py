"""The queue object: tasks of one name, which runs offer and workers lease.

Guarantees:

- A task that was taken in is there until its run has an answer or does not want it any more, over any crash.
- No two workers hold one task at a moment; a lease ends by an alarm, never before its time, and the task waits again.
- Oldest first. A worker that finds nothing waits without a turn that waits, and one new task calls one worker.
- Offering, withdrawing and finishing may each be done twice.

What a task is given, and what counts of its answers, is with its run (`WorkflowRun.hand_out` and `answer`). So a task
that is here by mistake is given to nobody, and this object stays small.
"""

from typing import ClassVar

import msgspec

from services.workflows.backlog import Backlog, Offer, Standing, Task, is_last
from services.workflows.bounds import LEASES_ENDED_AT_ONCE, LOST_WORKERS_KEPT, QUEUE_KEPT_MS
from services.workflows.refusals import QueueFullError, SupersededError
from services.workflows.run import WorkflowRun
from services.workflows.tickets import Lease
from shared.bounds import RETRY_AFTER_MS
from shared.objects.handler import Alarm, DurableObject, readonly
from shared.objects.parking import Park
from shared.telemetry.metrics import Metrics

LEASES = "leases"
LISTED = "listed"
_NEWS = "news"
_LOST = "lost"


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker hears that has said that it lives."""

    until_ms: int
    wanted: bool


class LostWorker(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A worker whose lease has ended because it was not heard of."""

    worker: str
    run: str
    seen_ms: int
    lost_ms: int


class Working(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that has tasks."""

    worker: str
    tasks: int
    seen_ms: int


class QueueLook(msgspec.Struct, frozen=True, kw_only=True):
    """A queue as it is seen. `oldest_ms` is since when the oldest waits."""

    waiting: int
    leased: int
    oldest_ms: int | None
    workers: tuple[Working, ...]
    lost: tuple[LostWorker, ...]


class TaskQueue(DurableObject):
    """One queue of one tenant. The address's name is the queue's."""

    kind: ClassVar[str] = "queue"

    def on_activate(self) -> None:
        """Take in what is stored."""
        self._backlog = Backlog(self.storage)

    def offer(self, offer: Offer) -> None:
        """Take a task in, once.

        Raises:
            QueueFullError: there is no room.
        """
        if self._backlog.full and not self._backlog.has(offer):
            raise QueueFullError("The queue takes no more tasks now.", retry_after_ms=RETRY_AFTER_MS)
        if self._backlog.add(offer, now_ms=self.clock.now_ms()):
            self._metrics.workflow_task("offered")
            self._call_one()
            self._stay()

    def withdraw(self, run: str, serial: int) -> None:
        """The run does not want the task any more."""
        if self._backlog.withdraw(run, serial):
            self._metrics.workflow_task("withdrawn")
            self._settle()

    def poll(self, worker: str, count: int, lease_ms: int, until_ms: int) -> tuple[Task, ...] | Park:
        """Lease tasks, so many at most: at once if there is one, else as soon as there is, or none at `until_ms`."""
        if not self._backlog.waiting:
            return Park(_NEWS, until_ms, one=True) if self.clock.now_ms() < until_ms else ()
        now_ms = self.clock.now_ms()
        taken = self._backlog.take(worker, count, lease_ms, now_ms=now_ms)
        self._metrics.workflow_task("leased", len(taken))
        for task in taken:
            if task.leases == 1:
                self._metrics.workflow_task_wait((now_ms - task.since_ms) / 1_000)
        if self._backlog.waiting:
            self._call_one()
        self._settle()
        return taken

    def beat(self, lease: Lease) -> Beat:
        """The worker lives: its lease is extended by its length, unless nobody wants the task any more.

        Raises:
            SupersededError: it does not hold the task.
        """
        standing = self._backlog.standing(lease)
        if standing not in {"held", "withdrawn"}:
            raise SupersededError("This lease has ended.")
        until_ms = self._backlog.extend(lease, now_ms=self.clock.now_ms())
        self._settle()
        return Beat(until_ms=until_ms, wanted=standing == "held")

    def release(self, lease: Lease) -> bool:
        """The worker gives the task back: it waits again at its old place; False if it is not wanted any more.

        Raises:
            SupersededError: it does not hold the task.
        """
        if self._backlog.standing(lease) not in {"held", "withdrawn"}:
            raise SupersededError("This lease has ended.")
        waits = self._backlog.give_back(lease)
        self._metrics.workflow_task("released")
        if waits:
            self._call_one()
        self._settle()
        return waits

    def put_aside(self, lease: Lease) -> None:
        """The run of the task cannot be asked what it is about: it waits again in 5 s."""
        if self._backlog.standing(lease) == "held":
            self._backlog.put_aside(lease, now_ms=self.clock.now_ms())
            self._settle()

    @readonly
    def standing(self, lease: Lease) -> Standing:
        """What has become of a lease."""
        return self._backlog.standing(lease)

    def finish(self, number: int) -> None:
        """The run has its answer, or wants none."""
        if self._backlog.finish(number):
            self._metrics.workflow_task("finished")
            self._settle()

    @readonly
    def has(self, offer: Offer) -> bool:
        """Whether the task is here, waiting or with a worker."""
        return self._backlog.has(offer)

    @readonly
    def look(self) -> QueueLook:
        """How many tasks there are, and who has them."""
        held = [(task.held.worker, task.held.seen_ms) for task in self._backlog if task.held is not None]
        waiting = [task.since_ms for task in self._backlog if task.held is None]
        workers = {
            worker: Working(worker=worker, tasks=len(seen), seen_ms=max(seen))
            for worker in sorted({worker for worker, _ in held})
            if (seen := [seen_ms for holder, seen_ms in held if holder == worker])
        }
        return QueueLook(
            waiting=len(waiting),
            leased=len(held),
            oldest_ms=min(waiting, default=None),
            workers=tuple(workers.values()),
            lost=self._lost(),
        )

    def on_alarm(self, alarm: Alarm) -> None:
        """End leases whose time has come, and tell the runs."""
        now_ms = max(alarm.due_ms, self.clock.lower_ms())
        ended = self._backlog.end_leases(LEASES_ENDED_AT_ONCE, now_ms=now_ms)
        for task in ended:
            self._tell(task)
        if ended:
            self._metrics.workflow_task("lost", len(ended))
            self.storage.put(_LOST, (*_lost_of(ended, now_ms), *self._lost())[:LOST_WORKERS_KEPT])
        if self._backlog.waiting:
            self._call_one()
        self._settle()

    @property
    def _metrics(self) -> Metrics:
        return self._activation.host.metrics

    def _tell(self, task: Task) -> None:
        assert task.held is not None, "its lease has ended"
        run = self.send(WorkflowRun, self.address.tenant, task.offer.run)
        run.free(task.offer.serial, task.leases, task.held.worker if is_last(task) else None)

    def _lost(self) -> tuple[LostWorker, ...]:
        return self.storage.get(_LOST, tuple[LostWorker, ...], default=())

    def _call_one(self) -> None:
        """A task waits: one of the workers that wait is served."""
        self.storage.put(_NEWS, self.storage.get(_NEWS, int, default=0) + 1)

    def _stay(self) -> None:
        """A task was taken in: the queue is listed, and kept for as long as it has one."""
        self.storage.expire_at(None)
        if self.storage.get(LISTED, bool) is None:
            self.storage.put(LISTED, value=True)
            self.index.set(LISTED, "", self.clock.now_ms())

    def _settle(self) -> None:
        """What follows from the backlog as it is now: the alarm, and when a queue that is empty is forgotten."""
        end_ms = self._backlog.next_end_ms()
        if end_ms is None:
            self.alarms.cancel(LEASES)
        elif self.alarms.due_ms(LEASES) != end_ms:
            self.alarms.set(LEASES, at_ms=end_ms)
        if not len(self._backlog):
            self.storage.expire_at(self.clock.now_ms() + QUEUE_KEPT_MS)


def _lost_of(ended: list[Task], now_ms: int) -> tuple[LostWorker, ...]:
    return tuple(
        LostWorker(worker=task.held.worker, run=task.offer.run, seen_ms=task.held.seen_ms, lost_ms=now_ms)
        for task in ended
        if task.held is not None
    )
