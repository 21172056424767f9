"""Every bound of the workflow engine: its unit, its reason, and how bounds relate.

The bounds of one run follow from its being one object: what is loaded whole is kept small, and what one turn may write
decides how much may happen in one transition.
"""

from shared.bounds import (
    BODY_BYTES_MAX,
    DOCUMENT_BYTES_MAX,
    HANDLER_DEADLINE_MS,
    INDEX_ROWS_MAX,
    LOOP_STUCK_MS,
    MESSAGES_MAX,
    NAME_BYTES_MAX,
    OBJECT_BYTES_MAX,
    TURN_BYTES_MAX,
    VALUE_BYTES_MAX,
)

# What travels. One value of the store holds it with what stands around it.
PAYLOAD_BYTES_MAX = 96 * 1024  # Run input, step result, signal, one evaluated template.
assert PAYLOAD_BYTES_MAX < VALUE_BYTES_MAX

# Expressions. They run on the loop: a turn of ordinary expressions takes microseconds, and a bad one this at most.
EXPRESSION_BYTES_MAX = 8 * 1024  # Longer ones are programs; they belong into a worker.
EXPRESSION_STEPS_MAX = 100_000  # About 4 ms of recursion, the most expensive step there is.
EXPRESSION_MS_MAX = 250  # The net under the steps, for functions of one step that do much: patterns, sorts.
TURN_EXPRESSIONS_MS = 250  # Then no other step is entered in this turn: nobody's expressions hold up a node.
STEP_EXPRESSIONS_MS_MAX = 1_000  # Of the steps of one turn together; past it the next one fails its step.
UNDO_EXPRESSIONS_MS_MAX = 3_000  # The same where a thousand items are given up at once, each with its undoing.
assert TURN_EXPRESSIONS_MS + EXPRESSION_MS_MAX < STEP_EXPRESSIONS_MS_MAX
assert STEP_EXPRESSIONS_MS_MAX < UNDO_EXPRESSIONS_MS_MAX
assert UNDO_EXPRESSIONS_MS_MAX + EXPRESSION_MS_MAX < LOOP_STUCK_MS  # So no definition ends a node.
EXPRESSION_DEPTH_MAX = 200
EXPRESSION_ARRAY_MAX = 100_000
PROGRAMS_KEPT = 256  # Compiled definitions, some 50 KiB each where they are large.
EXPRESSIONS_KEPT = 4_096  # Compiled; some 20 definitions of the largest size.

# Definitions. One is a page or two; what is larger is several workflows.
DEFINITION_BYTES_MAX = 64 * 1024
DEFINITION_DEPTH_MAX = 32  # Of lists and mappings in the text: five blocks inside one another need 26.
BLOCK_DEPTH_MAX = 5  # Parallels and maps inside one another.
STEPS_MAX = 500  # Of one definition, all blocks together.
BRANCHES_MAX = 50  # Of one parallel.
PROBLEMS_MAX = 200  # Told of one definition; a text with more is another language.
DURATION_MS_MAX = 10 * 366 * 24 * 3_600_000
"""Ten years: the longest that a timer may run. Moments stay far below what the store can keep."""
assert DEFINITION_BYTES_MAX <= BODY_BYTES_MAX
DEFINITIONS_MAX = 1_000  # Versions of one tenant; every node holds them all.
VISITS_MAX = 10_000  # Of one step; a run has no more entries into steps than this anyway.
RETRIES_MAX = 10_000  # Who means more means `unlimited`.
REMINDERS_MAX = 100  # Of one wait.
ESCALATIONS_MAX = 10
MAP_ITEMS_MAX = 1_000  # Each is a place in the run's state, and its result too.

# Calls out. What takes longer answers 202 and calls back.
CALL_TIMEOUT_MS = 30_000
ERROR_BODY_BYTES_MAX = 8 * 1024  # Of an answer that is an error: kept with the step, for its handlers to look at.
COMPENSATION_TIMEOUT_MS = 3_600_000  # A worker may have to be started first; the next attempt is the same compensation.

# Requests. A payload with the names around it.
REQUEST_BYTES_MAX = 128 * 1024
WAIT_S_MAX = 60  # Of a caller who waits for news; gateways cut off what is silent for longer.
STREAM_PAGE = 100  # Turns read at once for somebody who watches a run.
STREAM_SILENCE_MS = 15_000  # Then a comment says that the stream lives; proxies cut off after 30 or 60 s.
STREAM_MS_MAX = 600_000  # Whoever watches on connects anew, and the key is looked at again.
LISTING_SCAN_ROWS = 10_000  # Looked at for one page, where no index serves all that is asked for.
assert PAYLOAD_BYTES_MAX < REQUEST_BYTES_MAX
assert DEFINITION_BYTES_MAX * 2 < DOCUMENT_BYTES_MAX

BULK_RUNS_MAX = 100  # Signalled by one request; whoever has more goes on where it ended.

# Operations: the same done to many runs. One is one object; what it has done stands in the runs.
OPERATION_RUNS_MAX = 100_000  # Some minutes; whoever has more begins another where it ended.
OPERATION_IDS_MAX = 1_000  # Named one by one.
OPERATION_RUNS_AT_ONCE = 50  # In one turn, each with a commit of its run.
OPERATION_CALL_MS = 10_000  # For one run; what takes longer is asked again, under the same key.
OPERATION_AGAIN_MS, OPERATION_AGAIN_MS_MAX = 1_000, 60_000  # After trouble that passes by itself.
OPERATION_TRIES_MAX = 8  # Some two minutes; then a run that cannot be asked holds up the others no longer.
OPERATION_ERRORS_SHOWN = 20
OPERATIONS_OPEN_MAX = 10  # Of one tenant at once.
OPERATION_KEPT_MS = 7 * 24 * 3_600_000  # After its end; a week's repeats of its request are answered with it.
assert OPERATION_CALL_MS * 2 < HANDLER_DEADLINE_MS

# One run.
RUN_BYTES_MAX = 320 * 1024  # All that it keeps. Any turn may change all of it, and writes it whole in one commit.
RUN_BYTES_FULL = 296 * 1024  # From here on its steps stall; what is left is for that, for its end, and for undoing it.
assert PAYLOAD_BYTES_MAX < RUN_BYTES_FULL < RUN_BYTES_MAX
PIECE_BYTES = 64 * 1024  # It is written in pieces; those that are as they were are not written again.
HISTORY_DATA_BYTES_MAX = 256  # Told with one thing that happened; the whole of it is in the run, or went to a caller.
HISTORY_ENTRY_BYTES = 64 * 1024  # Of one journal entry, which holds what happened in one turn.
HISTORY_TURN_BYTES_MAX = 80 * 1024  # Of all entries of one turn: 200 steps with paths of 100 bytes.
NOTICE_BYTES_MAX = 1024  # Told to those who watch; they look at the run for the rest.
NOTICES_TURN_BYTES_MAX = 16 * 1024  # A thousand items can stall in one turn, or be given up.
ERRANDS_TURN_BYTES_MAX = 24 * 1024  # What is kept of the calls that 200 steps make; the calls stand in the run.
ERRANDS_AT_ONCE = 256  # Of one tenant on one node: one whose receivers are slow holds up no other's.
ERRANDS_STOP_MS = 3_000  # For what is under way when a node stops; what takes longer is carried out again by the next.
RESEND_MS = 10_000  # After which an errand of which nothing was heard is carried out again: its node may have died.
RESEND_MS_MAX = 300_000
AUDIT_RUNS = 20  # Looked at in one go; each may have to be loaded.
AUDIT_PAUSE_MS = 10_000  # So 120 a minute: 10,000 open runs are seen in an hour and a half, at no cost worth a word.
ATTRIBUTES_MAX = 10  # Each is an index row of the run; the others are what standing.py names.
ATTRIBUTE_BYTES_MAX = 256
ATTRIBUTE_NAME_BYTES_MAX = 48
ENDED_KEPT_MS = 30 * 24 * 3_600_000  # Of a run that has ended; longer than whoever starts runs tries again.
ENDED_KEPT_MS_MIN = 60_000  # A definition may say less, but whoever waits for an end must be able to see it.
GONE_KEPT_MS = 7 * 24 * 3_600_000  # That a run was here, some bytes of it: whoever asks is told that it is gone.
ENTRIES_MAX = 10_000  # Steps entered in all. A loop that nobody meant ends in an incident and not in a full store.
STEPS_PER_TURN_MAX = 200  # Then the next turn goes on, so that others are served in between.
STEP_SPANS_PER_TURN = 100  # Of a map that is given up with all its items the rest is not traced.
MAILBOX_SIGNALS_MAX = 100
SETTLED_KEPT = 64  # Answers that are known again when they are repeated; a worker repeats within seconds.
REMINDERS_KEPT = 16  # Unanswered calls of reminders; older ones are not sent again.
RUN_ID_BYTES_MAX = 256
assert (
    RUN_BYTES_MAX
    + DEFINITION_BYTES_MAX
    + HISTORY_TURN_BYTES_MAX
    + ERRANDS_TURN_BYTES_MAX
    + NOTICES_TURN_BYTES_MAX
    + 2 * NOTICE_BYTES_MAX
    < TURN_BYTES_MAX
    < OBJECT_BYTES_MAX
)
assert ATTRIBUTES_MAX + 7 < INDEX_ROWS_MAX
assert PIECE_BYTES < VALUE_BYTES_MAX

# Queues of tasks. One is one object: what waits in it is kept small, and what a task is given stays in its run.
QUEUE_BYTES_MAX = 128  # Of its name.
QUEUE_TASKS_MAX = 1_500  # Waiting and leased. Over them runs keep their tasks and offer them again (RESEND_MS).
QUEUE_TASK_BYTES = 640  # The most that one takes: two names, and numbers.
WORKER_BYTES_MAX = 128
POLL_TASKS_MAX = 50  # Of one answer; each is a commit of its run.
POLL_WAIT_MS_MAX = 60_000
LEASE_MS_MIN = 1_000
LEASE_MS = 60_000
LEASE_MS_MAX = 12 * 3_600_000
HEARTBEAT_GRACE_MS = 5_000  # So much longer is a lease than the heartbeat of its step, which decides first.
ASIDE_MS = 5_000  # After which a task is offered again whose run could not be asked; runs move within seconds.
LEASES_LOST_MAX = 3  # Of one attempt: a task that ends its workers is not given to all of them.
LEASES_ENDED_AT_ONCE = 200  # In one turn, each with a message to its run.
LOST_WORKERS_KEPT = 20
QUEUE_KEPT_MS = 30 * 24 * 3_600_000  # Of a queue that is empty, so that it is still listed.
assert QUEUE_TASKS_MAX * QUEUE_TASK_BYTES < OBJECT_BYTES_MAX
assert QUEUE_BYTES_MAX <= NAME_BYTES_MAX
assert LEASES_ENDED_AT_ONCE < MESSAGES_MAX
assert RUN_ID_BYTES_MAX + WORKER_BYTES_MAX < QUEUE_TASK_BYTES

# Schedules. One is one object; what it has started stands in its runs.
SCHEDULE_ID_BYTES_MAX = 200  # With the nominal time behind it, it is the id of a run.
SCHEDULE_ATTRIBUTES = ("schedule", "scheduled_for")  # Of its runs, beside those that it is given.
SCHEDULE_TIMES_AT_ONCE = 500  # Nominal times passed over in one turn: some 20 ms.
SCHEDULE_FIRINGS_AT_ONCE = 20  # In one turn, each with a start of a run.
SCHEDULE_FIRINGS_SHOWN = 50
SCHEDULE_RUNNING_MAX = 100  # Runs of whose end it waits to hear; of more the oldest are taken as ended.
SCHEDULE_WAITING_MAX = 1_000
SCHEDULE_BACKFILLS_MAX = 10
SCHEDULE_LOOK_MS = 300_000  # While something waits for the end of runs, whose word may be lost with a purge.
SCHEDULE_AGAIN_MS, SCHEDULE_AGAIN_MS_MAX = 5_000, 60_000  # After trouble that passes by itself.
CATCH_UP_S = 3_600  # An outage of an hour loses nothing, and one of a week does not end in a flood.
CATCH_UP_S_MAX = 366 * 24 * 3_600
PREVIEW_TIMES_MAX = 100
assert SCHEDULE_ID_BYTES_MAX + len("@2026-11-27T01:02:03.004Z") < RUN_ID_BYTES_MAX
assert SCHEDULE_ID_BYTES_MAX <= ATTRIBUTE_BYTES_MAX
