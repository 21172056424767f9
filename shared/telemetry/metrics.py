"""The metrics of one process: record functions on one side, one list of snapshots on the other.

There is no global registry: the composition root makes one and passes it on. What is recorded is
in `catalogue`; `iter_families` is the one source of the Prometheus text and of the OTLP export,
so their names and values cannot differ.

Cost, CPython 3.11: a kept handle 0.2 us a record, a record function with labels 0.3-0.5 us.
"""

from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

from shared.clock import Clock, SystemClock
from shared.telemetry import catalogue, logs, prometheus
from shared.telemetry.context import TraceContext
from shared.telemetry.series import (
    OTHER,
    Counters,
    Family,
    Histogram,
    HistogramPoint,
    Histograms,
    Key,
    NumberPoint,
    Snapshot,
    labels_of,
)

POLICIES_MAX = 200
"""Policies with series of their own; the rest share `_OTHER`. Each costs 25 lines of a scrape."""

TurnOutcome = Literal["ok", "refused", "error"]
RejectReason = Literal["mailbox", "node", "doubt"]
EvictionReason = Literal["idle", "failed", "lost", "drained", "operator"]
CommitOutcome = Literal["ok", "fenced", "full", "conflict", "in_doubt", "away"]
OwnershipReason = Literal["acquired", "lost", "released"]
AlarmOutcome = Literal["ok", "retry", "dead"]
MigrationOutcome = Literal["ok", "failed", "refused"]
MessageOutcome = Literal["delivered", "retry", "dead"]
ErrandOutcome = Literal["ok", "delayed", "failed"]
TaskEvent = Literal["offered", "leased", "finished", "released", "lost", "withdrawn"]
_Read: TypeAlias = Callable[[], float]

_log = logs.get_logger()
_READ = {family.name: family for family in catalogue.READ_AT_COLLECTION}


class CheckHandle(Histogram):
    """One policy's numbers. Add to the counters in place; `observe` takes the seconds of a check."""

    __slots__ = ("allowed", "denied", "fail_closed", "fail_open", "peeked")

    def __init__(self, clock: Clock) -> None:
        super().__init__(catalogue.CHECK_SECONDS, clock)
        self.allowed = self.denied = self.peeked = self.fail_open = self.fail_closed = 0

    def decisions(self) -> tuple[int, int, int, int, int]:
        """In the order of `catalogue.DECISIONS`."""
        return self.allowed, self.denied, self.peeked, self.fail_open, self.fail_closed


class Metrics:
    """Every number of this process."""

    def __init__(self, clock: Clock | None = None) -> None:
        clock = clock or SystemClock()
        self._clock = clock
        self.started_ms = clock.now_ms()
        """Since when it counts, Unix ms."""
        self._http = Histograms(catalogue.HTTP_DURATION, clock)
        self._turns = Histograms(catalogue.TURN_DURATION, clock)
        self._queue = Histograms(catalogue.QUEUE_DURATION, clock)
        self._rejected = Counters(catalogue.QUEUE_REJECTED)
        self._activations = Counters(catalogue.ACTIVATIONS)
        self._evictions = Counters(catalogue.EVICTIONS)
        self._quarantine = Counters(catalogue.QUARANTINE_REFUSED)
        self._activation_duration = Histograms(catalogue.ACTIVATION_DURATION, clock)
        self._commits = Histograms(catalogue.COMMIT_DURATION, clock)
        self._commit_size = Histograms(catalogue.COMMIT_SIZE, clock)
        self._commit_objects = Histograms(catalogue.COMMIT_OBJECTS, clock)
        self._commit_sections = Histograms(catalogue.COMMIT_SECTIONS, clock)
        self._ownership = Counters(catalogue.OWNERSHIP_CHANGES)
        self._fenced = Counters(catalogue.FENCED)
        self._rollbacks = Counters(catalogue.ROLLBACKS)
        self._alarms = Counters(catalogue.ALARM_FIRED)
        self._migrations = Counters(catalogue.MIGRATIONS)
        self._alarm_lag = Histograms(catalogue.ALARM_LAG, clock)
        self._messages = Counters(catalogue.MESSAGES)
        self._socket_messages = Counters(catalogue.SOCKET_MESSAGES)
        self._socket_dropped = Counters(catalogue.SOCKET_DROPPED)
        self._socket_resyncs = Counters(catalogue.SOCKET_RESYNCS)
        self._socket_closed = Counters(catalogue.SOCKET_CLOSED)
        self._outbound = Histograms(catalogue.OUTBOUND_DURATION, clock)
        self._runs = Counters(catalogue.WORKFLOW_RUNS)
        self._steps = Counters(catalogue.WORKFLOW_STEPS)
        self._errands = Histograms(catalogue.WORKFLOW_ERRANDS, clock)
        self._tasks = Counters(catalogue.WORKFLOW_TASKS)
        self._task_wait = Histograms(catalogue.WORKFLOW_TASK_WAIT, clock)
        self._repaired = Counters(catalogue.WORKFLOW_REPAIRED)
        self._session_events = Counters(catalogue.SESSION_EVENTS)
        self._session_denials = Counters(catalogue.SESSION_DENIALS)
        self._firings = Counters(catalogue.WORKFLOW_FIRINGS)
        self._webhooks = Counters(catalogue.WEBHOOKS)
        self._eventloop = Histograms(catalogue.EVENTLOOP_LAG, clock)
        self._blocked = Counters(catalogue.EVENTLOOP_BLOCKED)
        self._checks: dict[str, CheckHandle] = {}
        self._reads: dict[str, dict[Key, _Read]] = {name: {} for name in _READ}

    def now_ms(self) -> int:
        """The present, Unix ms, on the clock that `started_ms` is from."""
        return self._clock.now_ms()

    # The edge.

    def bind_http(self, method: str, route: str, status: int) -> Histogram:
        """The handle for answers of one route (its template, never the path) with one status."""
        code = str(status)
        return self._http.of((method, route, code, code if status >= 500 else ""))  # 5xx

    def http_request(
        self, method: str, route: str, status: int, seconds: float, trace: TraceContext | None = None
    ) -> None:
        """A request was answered."""
        self.bind_http(method, route, status).observe(seconds, trace)

    def bind_check(self, policy: str) -> CheckHandle:
        """The handle for checks of one policy; the same one each time."""
        handle = self._checks.get(policy)
        if handle is None:
            if len(self._checks) >= POLICIES_MAX:
                policy = OTHER
            handle = self._checks.setdefault(policy, CheckHandle(self._clock))
        return handle

    # Objects.

    def turn(
        self, kind: str, method: str, outcome: TurnOutcome, seconds: float, trace: TraceContext | None = None
    ) -> None:
        """A turn is over; `seconds` from its start."""
        self._turns.of((kind, method, outcome)).observe(seconds, trace)

    def bind_turn(self, kind: str, method: str, outcome: TurnOutcome) -> Histogram:
        """The handle for turns of one handler with one outcome."""
        return self._turns.of((kind, method, outcome))

    def queue_wait(self, kind: str, seconds: float) -> None:
        """A call has waited and its turn starts."""
        self._queue.of((kind,)).observe(seconds)

    def queue_rejected(self, kind: str, reason: RejectReason) -> None:
        """A call was refused before it started."""
        self._rejected.add((kind, reason))

    def activations(self, kind: str, count: int = 1) -> None:
        """Objects were loaded."""
        self._activations.add((kind,), count)

    def evictions(self, kind: str, reason: EvictionReason, count: int = 1) -> None:
        """Objects left memory."""
        self._evictions.add((kind, reason), count)

    def quarantine_refused(self, kind: str) -> None:
        """An object was not loaded, or not kept, because it is in quarantine."""
        self._quarantine.add((kind,))

    def activation_duration(self, kind: str, seconds: float) -> None:
        """An object was loaded; `seconds` from the call that asked for it."""
        self._activation_duration.of((kind,)).observe(seconds)

    # Store and ownership.

    def commit(
        self,
        outcome: CommitOutcome,
        seconds: float,
        objects: int,
        sections: int,
        *,
        size_bytes: int | None = None,
        trace: TraceContext | None = None,
    ) -> None:
        """A batch of changes reached its end; `size_bytes` of values, `sections` one a shard."""
        self._commits.of((outcome,)).observe(seconds, trace)
        self._commit_objects.of(()).observe(objects)
        self._commit_sections.of(()).observe(sections)
        if size_bytes is not None:
            self._commit_size.of(()).observe(size_bytes)

    def ownership_changes(self, reason: OwnershipReason, count: int = 1) -> None:
        """Shards changed hands."""
        self._ownership.add((reason,), count)

    def fenced(self) -> None:
        """The store refused a commit of ours because another node owns the shard."""
        self._fenced.add(())

    def rollback_detected(self, shards: int = 1) -> None:
        """The store holds less of so many shards than it had confirmed."""
        self._rollbacks.add((), shards)

    def migration(self, kind: str, outcome: MigrationOutcome) -> None:
        """An object came into memory with another schema than its kind's."""
        self._migrations.add((kind, outcome))

    # Alarms and the loop.

    def alarm_fired(self, kind: str, outcome: AlarmOutcome) -> None:
        """An alarm's turn is over."""
        self._alarms.add((kind, outcome))

    def alarm_lag(self, kind: str, seconds: float) -> None:
        """How late it was."""
        self._alarm_lag.of((kind,)).observe(seconds)

    def message(self, kind: str, outcome: MessageOutcome) -> None:
        """The delivery of a message to an object of this kind has ended."""
        self._messages.add((kind, outcome))

    def outbound_request(self, method: str, status: int, failure: str, seconds: float) -> None:
        """A call to an address outside has ended: with a status, or with a failure and status 0."""
        self._outbound.of((method, str(status), failure)).observe(seconds)

    def socket_message(self, kind: str, direction: Literal["in", "out"]) -> None:
        """A message of a socket has come, or is to be sent."""
        self._socket_messages.add((kind, direction))

    def socket_dropped(self, kind: str, count: int = 1) -> None:
        """Frames will not be sent."""
        self._socket_dropped.add((kind,), count)

    def socket_resync(self, kind: str) -> None:
        """A client was told that something may be missing."""
        self._socket_resyncs.add((kind,))

    def socket_closed(self, kind: str, reason: str) -> None:
        """A socket has ended."""
        self._socket_closed.add((kind, reason))

    # Sessions.

    def session_event(self, event: str, reason: str) -> None:
        """This happened to a session or its principal."""
        self._session_events.add((event, reason))

    def session_denied(self, reason: str) -> None:
        """A token was shown that does not count, for this reason."""
        self._session_denials.add((reason,))

    # Workflows.

    def workflow_run(self, event: str) -> None:
        """A run began or ended so."""
        self._runs.add((event,))

    def workflow_step(self, event: str) -> None:
        """This became of a step."""
        self._steps.add((event,))

    def workflow_errand(self, errand: str, outcome: ErrandOutcome, seconds: float) -> None:
        """What a run wants done was carried out, or not yet."""
        self._errands.of((errand, outcome)).observe(seconds)

    def workflow_task(self, event: TaskEvent, count: int = 1) -> None:
        """This became of tasks in a queue."""
        self._tasks.add((event,), count)

    def workflow_task_wait(self, seconds: float) -> None:
        """A worker got a task for the first time, so long after it was offered."""
        self._task_wait.of(()).observe(seconds)

    def workflow_firing(self, outcome: str, count: int = 1) -> None:
        """This became of nominal times of a schedule."""
        self._firings.add((outcome,), count)

    def webhook(self, outcome: Literal["delivered", "failed", "given_up"]) -> None:
        """This came of a message to a subscriber."""
        self._webhooks.add((outcome,))

    def workflow_repaired(self) -> None:
        """A run was found waiting for nothing."""
        self._repaired.add(())

    # The process.

    def eventloop_lag(self, seconds: float) -> None:
        """How late the event loop ran a timer."""
        self._eventloop.of(()).observe(seconds)

    def eventloop_blocked(self, kind: str) -> None:
        """The event loop has not come round for a second; `kind` of the object whose turn holds it."""
        self._blocked.add((kind or "-",))

    # Reading.

    def gauge(self, name: str, read: Callable[[], float], **labels: str) -> None:
        """Have `read` give the value of a family of `READ_AT_COLLECTION`; a second one replaces the first.

        It is called for every scrape and export, perhaps in another thread: it must only look, and
        not walk over what the loop changes. Where it fails, its value is left out of that scrape.
        """
        assert set(labels) == set(_READ[name].labels), f"{name} has the labels {sorted(_READ[name].labels)}"
        self._reads[name][tuple(labels[label] for label in _READ[name].labels)] = read

    def iter_families(self) -> Iterator[Snapshot]:
        """Every family, with what its series hold now, in the order of the catalogue."""
        for group in (self._http, self._turns, self._queue, self._rejected, self._activations, self._evictions):
            yield Snapshot(family=group.family, points=group.points())
        for group in (
            self._quarantine,
            self._activation_duration,
            self._migrations,
            self._commits,
            self._commit_size,
            self._commit_objects,
        ):
            yield Snapshot(family=group.family, points=group.points())
        for group in (self._commit_sections, self._ownership, self._fenced, self._rollbacks, self._alarms):
            yield Snapshot(family=group.family, points=group.points())
        yield Snapshot(family=self._alarm_lag.family, points=self._alarm_lag.points())
        for counters in (
            self._messages,
            self._socket_messages,
            self._socket_dropped,
            self._socket_resyncs,
            self._socket_closed,
        ):
            yield Snapshot(family=counters.family, points=counters.points())
        for group in (
            self._outbound,
            self._runs,
            self._steps,
            self._errands,
            self._repaired,
            self._session_events,
            self._session_denials,
            self._firings,
            self._webhooks,
            self._tasks,
            self._task_wait,
        ):
            yield Snapshot(family=group.family, points=group.points())
        yield from self._check_families()
        yield Snapshot(family=self._eventloop.family, points=self._eventloop.points())
        yield Snapshot(family=self._blocked.family, points=self._blocked.points())
        for family in catalogue.READ_AT_COLLECTION:
            yield Snapshot(family=family, points=self._read(family))

    def render_prometheus(self) -> bytes:
        """Everything in the Prometheus text format 0.0.4."""
        return self.scrape("")[0]

    def scrape(self, accept: str) -> tuple[bytes, str]:
        """Everything in the text format that `accept` asks for, and its content type.

        OpenMetrics carries exemplars. 200 policies take some 20 ms: call it in a thread.
        """
        return prometheus.render(self.iter_families, accept)

    def _check_families(self) -> Iterator[Snapshot]:
        handles = self._checks.copy().items()
        decisions: list[NumberPoint | HistogramPoint] = [
            NumberPoint(labels=(("policy", policy), ("decision", decision)), value=count)
            for policy, handle in handles
            for decision, count in zip(catalogue.DECISIONS, handle.decisions(), strict=True)
        ]
        yield Snapshot(family=catalogue.DECISIONS_MADE, points=decisions)
        durations = [handle.point((("policy", policy),)) for policy, handle in handles]
        yield Snapshot(family=catalogue.CHECK_DURATION, points=durations)

    def _read(self, family: Family) -> list[NumberPoint]:
        points = []
        for key, read in self._reads[family.name].copy().items():
            try:
                value = read()
            except Exception as exc:  # noqa: BLE001  # One broken gauge must not cost the whole scrape.
                _log.warning(logs.GAUGE_FAILED, metric=family.name, exc_info=exc)
                continue
            points.append(NumberPoint(labels=labels_of(family, key), value=value))
        return points
