"""The tasks of a queue, held over random histories to a model that is a list and looks through all of it each time."""

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.workflows.backlog import Backlog, Offer, Task
from services.workflows.bounds import HEARTBEAT_GRACE_MS, LEASES_LOST_MAX
from services.workflows.tickets import Lease
from shared.objects.state import ObjectState

WORKERS = ("ann", "bob", "cid")


class Row(msgspec.Struct, kw_only=True):
    """A task of the model, in a list in the order in which they came."""

    run: str
    due_ms: int | None
    heartbeat_ms: int | None
    worker: str = ""
    lease: Lease | None = None
    length_ms: int = 0
    until_ms: int = 0
    lost: int = 0
    withdrawn: bool = False


class BacklogModel(RuleBasedStateMachine):
    """Everything that can happen to a queue, in any order, and what each worker holds by it."""

    def __init__(self) -> None:
        super().__init__()
        self.storage = ObjectState.load({}, now_ms=0)
        self.backlog = Backlog(self.storage)
        self.rows: list[Row] = []
        self.old: list[Lease] = []
        self.now_ms = 0

    @rule(
        run=st.sampled_from("abcdefg"),
        due_in_ms=st.none() | st.integers(1, 300),
        heartbeat_ms=st.none() | st.integers(1, 200),
    )
    def add(self, run: str, due_in_ms: int | None, heartbeat_ms: int | None) -> None:
        """A run offers its task, perhaps once more."""
        due_ms = None if due_in_ms is None else self.now_ms + due_in_ms
        offer = Offer(run=run, serial=1, due_ms=due_ms, heartbeat_ms=heartbeat_ms)
        new = all(row.run != run for row in self.rows)
        assert new == self.backlog.add(offer, now_ms=self.now_ms)
        if new:
            self.rows.append(Row(run=run, due_ms=due_ms, heartbeat_ms=heartbeat_ms))

    @rule(worker=st.sampled_from(WORKERS), count=st.integers(1, 3), lease_ms=st.integers(1, 200))
    def take(self, worker: str, count: int, lease_ms: int) -> None:
        """A worker gets the oldest that nobody has and that are in time."""
        expected: list[str] = []
        for row in [row for row in self.rows if not row.worker]:
            if len(expected) == count:
                break
            if row.due_ms is not None and row.due_ms <= self.now_ms:
                self.rows.remove(row)
                continue
            row.worker, row.length_ms = worker, lease_ms
            if row.heartbeat_ms is not None:
                row.length_ms = max(lease_ms, row.heartbeat_ms + HEARTBEAT_GRACE_MS)
            row.until_ms = self.now_ms + row.length_ms
            expected.append(row.run)
        taken = self.backlog.take(worker, count, lease_ms, now_ms=self.now_ms)
        assert expected == [task.offer.run for task in taken]
        for task in taken:
            self._row(task).lease = task.lease

    @rule(data=st.data())
    def extend(self, data: st.DataObject) -> None:
        """A worker lives."""
        row = self._held(data)
        if row is None or row.lease is None:
            return
        if not row.withdrawn:
            row.until_ms = max(row.until_ms, self.now_ms + row.length_ms)
        assert row.until_ms == self.backlog.extend(row.lease, now_ms=self.now_ms)

    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        """A worker stops."""
        row = self._held(data)
        if row is None or row.lease is None:
            return
        assert (not row.withdrawn) == self.backlog.give_back(row.lease)
        self._leave(row)

    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """A worker is done."""
        row = self._held(data)
        if row is None or row.lease is None:
            return
        assert self.backlog.finish(row.lease.number)
        assert not self.backlog.finish(row.lease.number)
        self.old.append(row.lease)
        self.rows.remove(row)

    @rule(run=st.sampled_from("abcdefg"))
    def withdraw(self, run: str) -> None:
        """A run does not want its task any more."""
        row = next((row for row in self.rows if row.run == run), None)
        assert (row is not None and not row.withdrawn) == self.backlog.withdraw(run, 1)
        if row is not None and row.worker:
            row.withdrawn = True
        elif row is not None:
            self.rows.remove(row)

    @rule(ms=st.integers(1, 400), count=st.integers(1, 5))
    def wait(self, ms: int, count: int) -> None:
        """Time passes; so many leases at a time end, earliest first."""
        self.now_ms += ms
        while True:
            ended = sorted((row for row in self.rows if row.worker and row.until_ms <= self.now_ms), key=self._end)
            if not ended:
                assert [] == self.backlog.end_leases(count, now_ms=self.now_ms)
                return
            lost = [row for row in ended[:count] if not row.withdrawn]
            tasks = self.backlog.end_leases(count, now_ms=self.now_ms)
            assert [(row.run, row.worker, row.lost) for row in lost] == [
                (task.offer.run, task.held.worker if task.held else "", task.lost) for task in tasks
            ]
            for row in ended[:count]:
                self._lose(row)

    @rule()
    def load_again(self) -> None:
        """The queue leaves memory and comes back."""
        self.backlog = Backlog(self.storage)

    @invariant()
    def agree(self) -> None:
        """What waits, who has what, what has become of every lease, and when the next one ends."""
        waiting = [row.run for row in self.rows if not row.worker]
        held = {row.run: (row.worker, row.until_ms, row.withdrawn) for row in self.rows if row.worker}
        tasks = sorted(self.backlog, key=lambda task: task.number)
        assert waiting == [task.offer.run for task in tasks if task.held is None]
        assert held == {
            task.offer.run: (task.held.worker, task.held.until_ms, task.withdrawn) for task in tasks if task.held
        }
        assert bool(waiting) == self.backlog.waiting
        ends = [row.until_ms for row in self.rows if row.worker]
        assert min(ends, default=None) == self.backlog.next_end_ms()
        assert len(self.rows) == len(self.backlog) == len(self.storage.list("task:"))
        for row in self.rows:
            if row.lease is not None:
                assert ("withdrawn" if row.withdrawn else "held") == self.backlog.standing(row.lease)
        for lease in self.old:
            assert self.backlog.standing(lease) in {"superseded", "gone"}

    def _held(self, data: st.DataObject) -> Row | None:
        held = [row for row in self.rows if row.worker]
        return data.draw(st.sampled_from(held)) if held else None

    def _row(self, task: Task) -> Row:
        return next(row for row in self.rows if row.run == task.offer.run)

    def _end(self, row: Row) -> tuple[int, int]:
        assert row.lease is not None, "it is held"
        return row.until_ms, row.lease.number

    def _leave(self, row: Row) -> None:
        assert row.lease is not None, "it was held"
        self.old.append(row.lease)
        row.worker, row.lease = "", None
        if row.withdrawn:
            self.rows.remove(row)

    def _lose(self, row: Row) -> None:
        row.lost += 1
        self._leave(row)
        if row in self.rows and row.lost == LEASES_LOST_MAX:
            self.rows.remove(row)


TestBacklogModel = BacklogModel.TestCase
TestBacklogModel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
