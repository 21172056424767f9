"""The tasks of one queue: which wait, in which order, and who has the others until when.

Oldest first, whoever gave them back meanwhile. A task is known by its run and the serial of the attempt, so one that is
offered twice is there once. A lease is held by whoever shows its secret, ends by itself, and never before its time;
each end brings the task back to its old place, until so many workers were lost over it that the attempt is given up.

Everything is in the storage of the queue, a value for each task; what is here beside it is found again from there.
"""

import heapq
import secrets
from collections.abc import Iterator
from typing import Literal, TypeAlias

import msgspec

from services.workflows.bounds import ASIDE_MS, HEARTBEAT_GRACE_MS, LEASES_LOST_MAX, QUEUE_TASKS_MAX
from services.workflows.tickets import Lease
from shared.objects.state import ObjectState

_TASK = "task:"
_MADE = "made"
Standing: TypeAlias = Literal["held", "withdrawn", "superseded", "gone"]
"""Of a lease: it is held; it is, and the run does not want the task any more; another has taken its place; neither."""


class Offer(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A task as a run offers it. It is wanted until `due_ms`; its worker has to be heard of every `heartbeat_ms`."""

    run: str
    serial: int
    due_ms: int | None = None
    heartbeat_ms: int | None = None


class Held(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Who has a task, and until when if nothing more is heard."""

    worker: str
    secret: bytes
    seen_ms: int
    until_ms: int
    lease_ms: int
    aside: bool = False
    """Nobody has got it yet: its run could not be asked."""


class Task(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A task in its queue. `lost` counts the workers that were not heard of again."""

    number: int
    offer: Offer
    since_ms: int
    leases: int = 0
    lost: int = 0
    held: Held | None = None
    withdrawn: bool = False

    @property
    def lease(self) -> Lease:
        """The lease by which it is held."""
        assert self.held is not None, "asked only of a task that somebody has"
        offer = self.offer
        return Lease(number=self.number, run=offer.run, serial=offer.serial, nth=self.leases, secret=self.held.secret)


class Backlog:
    """The tasks of one queue, in its storage. Its owner says what time it is, and writes nothing of this itself."""

    def __init__(self, storage: ObjectState) -> None:
        self._storage = storage
        self._tasks: dict[int, Task] = {}
        self._numbers: dict[tuple[str, int], int] = {}
        self._waiting: list[int] = []
        self._ends: list[tuple[int, int]] = []
        for key in storage.list(_TASK):
            task = storage.get(key, Task)
            self._remember(task)

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks.values())

    @property
    def waiting(self) -> bool:
        """Whether somebody could have a task now."""
        return self._next_waiting() is not None

    @property
    def full(self) -> bool:
        """Whether it takes no more."""
        return len(self._tasks) >= QUEUE_TASKS_MAX

    def has(self, offer: Offer) -> bool:
        """Whether the task is there."""
        return (offer.run, offer.serial) in self._numbers

    def add(self, offer: Offer, *, now_ms: int) -> bool:
        """Take a task in; False if it is there already. There must be room."""
        if self.has(offer):
            return False
        number = self._storage.get(_MADE, int, default=0) + 1
        self._storage.put(_MADE, number)
        self._put(Task(number=number, offer=offer, since_ms=now_ms))
        return True

    def take(self, worker: str, count: int, lease_ms: int, *, now_ms: int) -> tuple[Task, ...]:
        """Lease the oldest tasks to a worker. Those that would come too late are dropped; their runs know."""
        taken: list[Task] = []
        while len(taken) < count and (task := self._next_waiting()) is not None:
            heapq.heappop(self._waiting)
            if task.offer.due_ms is not None and task.offer.due_ms <= now_ms:
                self._drop(task)
            else:
                taken.append(self._lease(task, worker, lease_ms, now_ms))
        return tuple(taken)

    def standing(self, lease: Lease) -> Standing:
        """What has become of a lease."""
        task = self._tasks.get(lease.number)
        if task is None or (task.offer.run, task.offer.serial) != (lease.run, lease.serial):
            return "gone"
        if task.held is None or task.leases != lease.nth or not secrets.compare_digest(task.held.secret, lease.secret):
            return "superseded"
        return "withdrawn" if task.withdrawn else "held"

    def extend(self, lease: Lease, *, now_ms: int) -> int:
        """The worker lives; when its lease ends now. It must be held. What nobody wants is not held any longer."""
        task = self._tasks[lease.number]
        assert task.held is not None, "it is held"
        if task.withdrawn:
            return task.held.until_ms
        until_ms = max(task.held.until_ms, now_ms + task.held.lease_ms)
        self._put(msgspec.structs.replace(task, held=_replaced(task.held, seen_ms=now_ms, until_ms=until_ms)))
        return until_ms

    def give_back(self, lease: Lease) -> bool:
        """The worker does not want it: it waits again, unless nobody wants it; say whether. It must be held."""
        task = self._tasks[lease.number]
        if task.withdrawn:
            self._drop(task)
            return False
        self._put(msgspec.structs.replace(task, held=None))
        return True

    def put_aside(self, lease: Lease, *, now_ms: int) -> None:
        """Nobody has got it, and nobody shall for 5 s; then it waits again, and no worker counts as lost."""
        task = self._tasks[lease.number]
        assert task.held is not None, "it is held"
        held = msgspec.structs.replace(task.held, until_ms=now_ms + ASIDE_MS, aside=True)
        self._put(msgspec.structs.replace(task, held=held))

    def finish(self, number: int) -> bool:
        """The run has an answer; False if the task is not here any more."""
        if number not in self._tasks:
            return False
        self._drop(self._tasks[number])
        return True

    def withdraw(self, run: str, serial: int) -> bool:
        """The run does not want it any more, and whoever has it is told when it is heard of; False if that is known."""
        task = self._tasks.get(self._numbers.get((run, serial), 0))
        if task is None or task.withdrawn:
            return False
        if task.held is None:
            self._drop(task)
        else:
            self._put(msgspec.structs.replace(task, withdrawn=True))
        return True

    def next_end_ms(self) -> int | None:
        """When the next lease ends if nothing is heard."""
        while self._ends and not self._is_end(*self._ends[0]):
            heapq.heappop(self._ends)
        return self._ends[0][0] if self._ends else None

    def end_leases(self, count: int, *, now_ms: int) -> list[Task]:
        """End the leases whose time has come, so many at most; the tasks whose workers are lost, as they were."""
        lost: list[Task] = []
        for _ in range(count):
            end_ms = self.next_end_ms()
            if end_ms is None or end_ms > now_ms:
                break
            task = self._tasks[heapq.heappop(self._ends)[1]]
            if self._end_lease(task):
                lost.append(task)
        return lost

    def _end_lease(self, task: Task) -> bool:
        """End the lease of the task; say whether its worker is lost."""
        assert task.held is not None, "it has a lease"
        if task.withdrawn:
            self._drop(task)
        elif task.held.aside:
            self._put(msgspec.structs.replace(task, held=None))
        elif is_last(task):
            self._drop(task)
        else:
            self._put(msgspec.structs.replace(task, held=None, lost=task.lost + 1))
        return not task.withdrawn and not task.held.aside

    def _lease(self, task: Task, worker: str, lease_ms: int, now_ms: int) -> Task:
        if task.offer.heartbeat_ms is not None:
            lease_ms = max(lease_ms, task.offer.heartbeat_ms + HEARTBEAT_GRACE_MS)
        held = Held(
            worker=worker,
            secret=secrets.token_bytes(8),
            seen_ms=now_ms,
            until_ms=now_ms + lease_ms,
            lease_ms=lease_ms,
        )
        task = msgspec.structs.replace(task, held=held, leases=task.leases + 1)
        self._put(task)
        return task

    def _next_waiting(self) -> Task | None:
        """The oldest that nobody has."""
        while self._waiting:
            task = self._tasks.get(self._waiting[0])
            if task is not None and task.held is None:
                return task
            heapq.heappop(self._waiting)
        return None

    def _is_end(self, end_ms: int, number: int) -> bool:
        task = self._tasks.get(number)
        return task is not None and task.held is not None and task.held.until_ms == end_ms

    def _put(self, task: Task) -> None:
        self._storage.put(_key(task.number), task)
        self._remember(task)

    def _remember(self, task: Task) -> None:
        self._tasks[task.number] = task
        self._numbers[task.offer.run, task.offer.serial] = task.number
        if task.held is None:
            heapq.heappush(self._waiting, task.number)
        else:
            heapq.heappush(self._ends, (task.held.until_ms, task.number))

    def _drop(self, task: Task) -> None:
        self._storage.delete(_key(task.number))
        del self._tasks[task.number]
        del self._numbers[task.offer.run, task.offer.serial]


def is_last(task: Task) -> bool:
    """Whether the attempt is given up when the worker that has the task is lost too."""
    return task.lost + 1 >= LEASES_LOST_MAX


def _replaced(held: Held, *, seen_ms: int, until_ms: int) -> Held:
    return msgspec.structs.replace(held, seen_ms=seen_ms, until_ms=until_ms)


def _key(number: int) -> str:
    return f"{_TASK}{number:012d}"
