"""Every metric that a process has: name, unit, labels and a sentence. There are no others.

Names and units follow the OpenTelemetry semantic conventions (1.44) where those have a word:
durations in seconds, `{thing}` for counts, no unit in the name. Prometheus sees the same names
with `_` for `.` and the unit at the end. `docs/reference/metrics.md` is held to this list by a test.
"""

from typing import Final

from shared.telemetry.series import Family

FAST_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The conventions' own buckets start at 5 ms, too coarse for turns that take microseconds."""
CHECK_SECONDS: Final = (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, *FAST_SECONDS)
LAG_SECONDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
SIZE_BYTES: Final = tuple(float(1 << power) for power in range(8, 22, 2))
COUNTS: Final = tuple(float(1 << power) for power in range(9))

HTTP_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY")
SOCKET_ENDS: Final = (
    "peer",
    "author",
    "slow",
    "idle",
    "revoked",
    "malformed",
    "too_large",
    "stopping",
    "fault",
)
DECISIONS: Final = ("allow", "deny", "peek", "fail_open", "fail_closed")

HTTP_DURATION: Final = Family(
    name="http.server.request.duration",
    type="histogram",
    unit="s",
    labels={
        "http.request.method": HTTP_METHODS,
        "http.route": None,
        "http.response.status_code": None,
        "error.type": None,
    },
    bounds=FAST_SECONDS,
    help="Time to answer a request, by route template, HEAD as GET; error.type only for answers of 500 and above.",
)
TURN_DURATION: Final = Family(
    name="tenure.object.turn.duration",
    type="histogram",
    unit="s",
    labels={"kind": None, "method": None, "outcome": ("ok", "refused", "error")},
    bounds=CHECK_SECONDS,
    help="How long a turn held its object; refused: an error that the object's author declared.",
)
QUEUE_DURATION: Final = Family(
    name="tenure.object.queue.duration",
    type="histogram",
    unit="s",
    labels={"kind": None},
    bounds=FAST_SECONDS,
    help="How long a call waited in the mailbox before its turn; calls that did not wait are left out.",
)
QUEUE_REJECTED: Final = Family(
    name="tenure.object.queue.rejected",
    type="counter",
    unit="{call}",
    labels={"kind": None, "reason": ("mailbox", "node", "doubt")},
    help="Calls refused because the object's mailbox, or the node, held as many as it may.",
)
ACTIVATIONS: Final = Family(
    name="tenure.object.activations",
    type="counter",
    unit="{object}",
    labels={"kind": None},
    help="Objects loaded into memory.",
)
EVICTIONS: Final = Family(
    name="tenure.object.evictions",
    type="counter",
    unit="{object}",
    labels={"kind": None, "reason": ("idle", "failed", "lost", "drained", "operator")},
    help="Objects that left memory; failed: could not be loaded, stored, restarted or told; "
    "lost: another node owns the shard; drained: the node stopped; operator: sent away through the admin API.",
)
ACTIVATION_DURATION: Final = Family(
    name="tenure.object.activation.duration",
    type="histogram",
    unit="s",
    labels={"kind": None},
    bounds=FAST_SECONDS,
    help="Time to load an object that was not in memory.",
)
MIGRATIONS: Final = Family(
    name="tenure.object.migrations",
    type="counter",
    unit="{object}",
    labels={"kind": None, "outcome": ("ok", "failed", "refused")},
    help="Objects brought to the schema of their kind when they came into memory; failed: a migration raised; "
    "refused: a newer version of the kind has stored the object.",
)
QUARANTINE_REFUSED: Final = Family(
    name="tenure.object.quarantine.refused",
    type="counter",
    unit="{refusal}",
    labels={"kind": None},
    help="Times that an object was not brought into memory because it has blocked its owner.",
)
COMMIT_DURATION: Final = Family(
    name="tenure.commit.duration",
    type="histogram",
    unit="s",
    labels={"outcome": ("ok", "fenced", "full", "conflict", "in_doubt", "away")},
    bounds=FAST_SECONDS,
    help="Time to write one batch of changes to the store, by the worst that happened to a part of it; "
    "fenced: a shard has another owner; full: the store has no room; "
    "conflict: the store holds another state than it confirmed; "
    "in_doubt: a reply was lost on the way; away: the store was never reached.",
)
COMMIT_SIZE: Final = Family(
    name="tenure.commit.size", type="histogram", unit="By", bounds=SIZE_BYTES, help="Bytes of values in one batch."
)
COMMIT_OBJECTS: Final = Family(
    name="tenure.commit.objects", type="histogram", unit="{object}", bounds=COUNTS, help="Objects in one batch."
)
COMMIT_SECTIONS: Final = Family(
    name="tenure.commit.sections", type="histogram", unit="{shard}", bounds=COUNTS, help="Shards in one batch."
)
OWNERSHIP_CHANGES: Final = Family(
    name="tenure.ownership.changes",
    type="counter",
    unit="{change}",
    labels={"reason": ("acquired", "lost", "released")},
    help="Shards that this node gained, lost against its will, or gave up.",
)
FENCED: Final = Family(
    name="tenure.ownership.fenced",
    type="counter",
    unit="{commit}",
    help="Commits that the store refused because another node owns the shard; each is a stale owner stopped.",
)
ROLLBACKS: Final = Family(
    name="tenure.store.rollbacks",
    type="counter",
    unit="{shard}",
    help="Shards found older in the store than what it had confirmed: the store has lost writes.",
)
ALARM_FIRED: Final = Family(
    name="tenure.alarm.fired",
    type="counter",
    unit="{alarm}",
    labels={"kind": None, "outcome": ("ok", "retry", "dead")},
    help="Alarm turns; dead: given up after a day of retries.",
)
ALARM_LAG: Final = Family(
    name="tenure.alarm.lag",
    type="histogram",
    unit="s",
    labels={"kind": None},
    bounds=LAG_SECONDS,
    help="How late an alarm's turn ended after it was due.",
)
MESSAGES: Final = Family(
    name="tenure.message.attempts",
    type="counter",
    unit="{attempt}",
    labels={"kind": None, "outcome": ("delivered", "retry", "dead")},
    help="Deliveries of messages to objects of a kind; dead: refused by the receiver, or expired.",
)
OUTBOUND_DURATION: Final = Family(
    name="http.client.request.duration",
    type="histogram",
    unit="s",
    labels={
        "http.request.method": HTTP_METHODS,
        "http.response.status_code": None,
        "error.type": ("", "BadTarget", "Unreachable", "NoAnswer", "BadAnswer"),
    },
    bounds=FAST_SECONDS,
    help="Time of a call to an address outside; error.type where there is no answer, status 0 then. Whose address it "
    "was is in no label: tenants choose them.",
)
WORKFLOW_RUNS: Final = Family(
    name="tenure.workflow.runs",
    type="counter",
    unit="{run}",
    labels={"event": ("started", "succeeded", "failed", "cancelled", "terminated", "reset")},
    help="Runs of workflows that began or ended, as their turns ran.",
)
WORKFLOW_STEPS: Final = Family(
    name="tenure.workflow.steps",
    type="counter",
    unit="{step}",
    labels={"event": ("entered", "completed", "retried", "caught", "stalled", "failed", "withdrawn")},
    help="What became of steps; stalled: an incident was opened.",
)
WORKFLOW_ERRANDS: Final = Family(
    name="tenure.workflow.errand.duration",
    type="histogram",
    unit="s",
    labels={"errand": None, "outcome": ("ok", "delayed", "failed")},
    bounds=FAST_SECONDS,
    help="Time to carry out what a run wants done and to bring its answer back; delayed, failed: it is done again.",
)
WORKFLOW_REPAIRED: Final = Family(
    name="tenure.workflow.repaired",
    type="counter",
    unit="{run}",
    help="Open runs and schedules that the auditor found waiting for nothing, and set going; not 0: a fault to report.",
)
WORKFLOW_FIRINGS: Final = Family(
    name="tenure.workflow.schedule.firings",
    type="counter",
    unit="{firing}",
    labels={"outcome": ("started", "buffered", "skipped", "coalesced", "missed", "failed")},
    help="What became of nominal times of schedules; buffered: they wait for the end of a run, and are counted again.",
)
WEBHOOKS: Final = Family(
    name="tenure.webhook.deliveries",
    type="counter",
    unit="{delivery}",
    labels={"outcome": ("delivered", "failed", "given_up")},
    help="Messages sent to subscribers; failed: one sending, another follows unless the message is given up.",
)
SESSION_EVENTS: Final = Family(
    name="tenure.session.events",
    type="counter",
    unit="{event}",
    labels={"event": None, "reason": None},
    help="What happened to sessions and principals, as their feeds tell it; reason: why a session has ended.",
)
SESSION_DENIALS: Final = Family(
    name="tenure.session.denials",
    type="counter",
    unit="{denial}",
    labels={"reason": None},
    help="Tokens of ours that were shown and do not count any more; unknown: their session is forgotten.",
)
SOCKET_MESSAGES: Final = Family(
    name="tenure.socket.messages",
    type="counter",
    unit="{message}",
    labels={"kind": None, "direction": ("in", "out")},
    help="Messages of sockets; in: turns of their objects; out: handed over by their objects, after the commit.",
)
SOCKET_DROPPED: Final = Family(
    name="tenure.socket.dropped",
    type="counter",
    unit="{frame}",
    labels={"kind": None},
    help="Frames that were not sent: their socket had left, or was cut off because its client did not read.",
)
SOCKET_RESYNCS: Final = Family(
    name="tenure.socket.resyncs",
    type="counter",
    unit="{resync}",
    labels={"kind": None},
    help="Times that a client was told that something may be missing, because a commit failed or an owner changed.",
)
SOCKET_CLOSED: Final = Family(
    name="tenure.socket.closed",
    type="counter",
    unit="{socket}",
    labels={"kind": None, "reason": SOCKET_ENDS},
    help="Sockets that ended; peer: by the client, author: by the object; slow: the client did not read; "
    "stopping: the node stopped; fault: of the service.",
)
WORKFLOW_TASKS: Final = Family(
    name="tenure.workflow.tasks",
    type="counter",
    unit="{task}",
    labels={"event": ("offered", "leased", "finished", "released", "lost", "withdrawn")},
    help="What became of tasks in queues; lost: the lease ended because the worker was not heard of again.",
)
WORKFLOW_TASK_WAIT: Final = Family(
    name="tenure.workflow.task.wait",
    type="histogram",
    unit="s",
    bounds=LAG_SECONDS,
    help="How long a task waited in its queue until a worker got it for the first time.",
)
DECISIONS_MADE: Final = Family(
    name="tenure.ratelimit.decisions",
    type="counter",
    unit="{decision}",
    labels={"policy": None, "decision": DECISIONS},
    help="Answers of the limiter; fail_open and fail_closed: the limit could not be asked.",
)
CHECK_DURATION: Final = Family(
    name="tenure.ratelimit.check.duration",
    type="histogram",
    unit="s",
    labels={"policy": None},
    bounds=CHECK_SECONDS,
    help="Time to decide one check.",
)
EVENTLOOP_LAG: Final = Family(
    name="tenure.eventloop.lag",
    type="histogram",
    unit="s",
    bounds=FAST_SECONDS,
    help="How late the event loop ran a timer: above 0.1 s it is blocked, and leases are at risk.",
)
EVENTLOOP_BLOCKED: Final = Family(
    name="tenure.eventloop.blocked",
    type="counter",
    unit="{block}",
    labels={"kind": None},
    help="Times that the event loop did not come round for a second, by the kind of the object whose turn held it; "
    "`-`: no turn did. After four seconds of one turn the node ends itself.",
)
READ_AT_COLLECTION: Final = (
    Family(
        name="tenure.object.queue.pending",
        type="gauge",
        unit="{call}",
        help="Calls that wait in mailboxes of this node.",
    ),
    Family(
        name="tenure.object.quarantined",
        type="gauge",
        unit="{object}",
        help="Objects that have blocked their owner and that this node, having met them, refuses to run.",
    ),
    Family(name="tenure.object.resident", type="gauge", unit="{object}", help="Objects in memory."),
    Family(name="tenure.ownership.owned", type="gauge", unit="{shard}", help="Shards that this node owns and serves."),
    Family(
        name="tenure.ownership.lease.slack",
        type="gauge",
        unit="s",
        help="Time left on the shortest lease; it should stay above half of the lease time.",
    ),
    Family(
        name="tenure.message.held",
        type="gauge",
        unit="{message}",
        help="Messages that this node knows of and that are not settled: at most 250,000, and of one receiver a part.",
    ),
    Family(
        name="tenure.socket.open",
        type="gauge",
        unit="{socket}",
        help="Sockets and streams of events that are open on this node.",
    ),
    Family(
        name="tenure.socket.queued",
        type="gauge",
        unit="By",
        help="What waits to be sent to sockets of this node; at 128 MiB the next that would add to it is cut off.",
    ),
    Family(name="tenure.alarm.pending", type="gauge", unit="{alarm}", help="Alarms due within a minute."),
    Family(
        name="tenure.alarm.overdue.age",
        type="gauge",
        unit="s",
        help="Age of the oldest alarm of this node that is due and whose turn is not stored; 0 if there is none.",
    ),
    Family(name="tenure.store.skew", type="gauge", unit="s", help="The store's clock less this machine's."),
    Family(name="process.uptime", type="gauge", unit="s", help="Time since the process started to count."),
    Family(
        name="process.cpu.time",
        type="counter",
        unit="s",
        labels={"cpu.mode": ("user", "system")},
        help="Processor time used.",
    ),
    Family(name="process.memory.usage", type="gauge", unit="By", help="Resident memory (Linux)."),
    Family(
        name="process.unix.file_descriptor.count",
        type="gauge",
        unit="{file_descriptor}",
        help="Open files and sockets (Linux).",
    ),
    Family(
        name="cpython.gc.collections",
        type="counter",
        unit="{collection}",
        labels={"cpython.gc.generation": ("0", "1", "2")},
        help="Runs of the garbage collector.",
    ),
)
"""Gauges, and counters that something else keeps: a function gives each value when it is asked for."""
