"""Every bound of the core: its unit, its reason, and how bounds relate.

A full queue or an oversize value is an answer with a name, never an endless wait. Bounds are
constants on purpose: what an operator may set is in `shared.settings`.
"""

# Addresses. They are part of every key; the name has room for a URL or an e-mail address.
KIND_BYTES_MAX = 64
TENANT_BYTES_MAX = 128
NAME_BYTES_MAX = 512

# Shards. About ten times the largest sensible number of nodes, so that load spreads evenly.
SHARDS = 256

# Leases. A crash costs at most the lease; a renewal may be missed three times before it lapses.
LEASE_TTL_MS = 6_000
LEASE_RENEWALS_PER_TTL = 4
LEASE_MARGIN_DIVISOR = 6  # Local validity ends ttl/6 before the store's: 1 s of 6 s.
assert LEASE_RENEWALS_PER_TTL > 3

# State of one object. It is loaded whole: 1 MiB takes about 1 ms to load and 6 ms to write.
OBJECT_BYTES_MAX = 1024 * 1024
VALUE_BYTES_MAX = 128 * 1024
KEY_BYTES_MAX = 2 * 1024
TURN_BYTES_MAX = 512 * 1024
TURN_KEYS_MAX = 1_000
MOMENT_MS_MAX = 2**53 - 1  # The store keeps moments as doubles; beyond this they would not be exact.
ALARMS_MAX = 64  # Named alarms of one object.
ALARM_NAME_BYTES_MAX = 256
INDEX_ROWS_MAX = 20  # Of one object: each is another write of its commit, and another set to find it in.
INDEX_NAME_BYTES_MAX = 64
INDEX_VALUE_BYTES_MAX = NAME_BYTES_MAX  # The name of another object can be one.
INDEX_SUMMARY_BYTES_MAX = 256  # What a listing shows of an object without loading it; part of a sorted set's member.
JOURNAL_ENTRIES_MAX = 10_000  # What is appended for ever is trimmed by its author, or refused here.
JOURNAL_BYTES_MAX = 8 * 1024 * 1024  # Larger than an object: it is not loaded. An entry is a value like others.
JOURNAL_READ_ENTRIES = 1_000  # Of one read: one script of the store, which blocks it for about 1 ms.
assert KIND_BYTES_MAX + 1 + INDEX_NAME_BYTES_MAX < 256  # Together behind one length byte, in the key of an index.
assert KEY_BYTES_MAX < VALUE_BYTES_MAX < TURN_BYTES_MAX < OBJECT_BYTES_MAX

# Mailbox. More waiting calls than these would time out before their turn anyway.
MAILBOX_CALLS_MAX = 1_000
MAILBOX_AGE_MS_MAX = 10_000
MAILBOX_BYTES_MAX = 8 * 1024 * 1024  # Eight full requests of 1 MiB: more arguments than turns in the age above.
ALARM_TURN_SHARE = 8  # At least one of so many turns goes to a due alarm, however hot the object.
NODE_CALLS_MAX = 50_000  # Waiting calls of a whole node.
NODE_CALL_BYTES_MAX = 256 * 1024 * 1024  # Their arguments: what a node of 1 GiB can lose to a slow store and live.
CALL_BYTES = 1024  # What a call counts for whose caller does not say how large its arguments are.
HANDLER_DEADLINE_MS = 30_000
CALL_CHAIN_MAX = 16
RETRY_AFTER_MS = 1_000  # What a refusal advises when nothing better is known.
assert MAILBOX_AGE_MS_MAX < HANDLER_DEADLINE_MS
assert MAILBOX_CALLS_MAX < NODE_CALLS_MAX
assert MAILBOX_CALLS_MAX * CALL_BYTES <= MAILBOX_BYTES_MAX < NODE_CALL_BYTES_MAX
assert NODE_CALLS_MAX * CALL_BYTES <= NODE_CALL_BYTES_MAX

# Commits. One script blocks the store for its whole length: 256 small objects take about 3 ms.
FLIGHT_OBJECTS_MAX = 256
FLIGHT_BYTES_MAX = 1024 * 1024
FLIGHT_PART = 16  # A full flight takes one more such part of each that would wait behind gated objects without end:
FLIGHT_LATE_PART = 2  # checkpoints (this one, once they are late), what became of messages, deletions of the expired.
LOAD_OBJECTS_MAX = 128
CHECKPOINT_MS = 250
CHECKPOINT_LATE_MS = 500
CHECKPOINT_STALE_MS = 1_000  # Older than this, replies of checkpointed kinds wait for the store.
SOFT_MS = 25_000  # What nobody waits for is stored within 30 s, with what may hold up its flight.
SOFT_OBJECTS = 64  # Sent at a time because of their age, and how long until the next ones: 1,280 a second.
SOFT_PAUSE_MS = 50
DOUBT_TURNS_MAX = 256  # Turns that a shard may gather while a commit is in doubt.
assert CHECKPOINT_MS < CHECKPOINT_LATE_MS < CHECKPOINT_STALE_MS
assert FLIGHT_LATE_PART < FLIGHT_PART
assert SOFT_OBJECTS * 2 <= FLIGHT_OBJECTS_MAX
assert TURN_BYTES_MAX <= FLIGHT_BYTES_MAX

# Listings. They wait for each other, not for commits and loads; nobody waits long, or too many do.
LISTINGS_AT_ONCE = 2
LISTINGS_WAITING_MAX = 100
LISTING_ROWS_MAX = 1_000  # Of one page: about 1 MiB with the largest addresses and summaries.
assert LISTINGS_AT_ONCE < LISTINGS_WAITING_MAX

# Draining. Requests first; what comes then fits together in the 25 s that a stopping node has.
DRAIN_REQUESTS_MS = 15_000
DRAIN_TURNS_MS = 5_000
DRAIN_FLUSH_MS = 10_000

# Alarms. Infrastructure errors do not count as tries.
ALARM_RETRY_MS = 2_000
ALARM_RETRY_MS_MAX = 300_000
ALARM_GIVE_UP_MS = 24 * 3_600_000
ALARM_HORIZON_MS = 60_000  # How far ahead the owner keeps alarms in memory.
ALARM_RESCAN_MS = 30_000
ALARM_MORE_MS = 250  # Between two reads, where one was not enough.
ALARM_SCAN_ROWS = 256  # Rows of one shard in one question; a read asks on until it has as many that are news.
ALARM_SCAN_SHARDS = 8  # In one question: to take in what they have holds up the loop for some 10 ms.
ALARMS_AT_ONCE = 256  # Under way on one node: what others ask for waits behind a flight of them, not behind all due.
ALARM_PLACE_MS = 1_000  # One that takes longer goes on, and the next is rung: those that hang hold up nobody for long.
ALARM_REARM_MS_MIN = 10  # An alarm that re-arms itself for "now" fires again no sooner.
assert ALARM_RESCAN_MS * 2 <= ALARM_HORIZON_MS

# What happens once. A table that is full refuses: it never forgets what could be asked for again.
REQUEST_KEY_BYTES_MAX = 255
REQUEST_KEEP_MS = 24 * 3_600_000  # Longer than any client tries again by itself.
REPLY_BYTES_MAX = 4 * 1024
ENTRIES_MAX = 1_024  # Of one object: requests and senders. They are loaded with it, 4 MiB at the very most.

# Messages from object to object.
MESSAGE_BYTES_MAX = 64 * 1024
MESSAGE_TTL_MS = 24 * 3_600_000  # From then on it is a dead letter.
MESSAGE_TTL_MS_MAX = 7 * MESSAGE_TTL_MS
MESSAGES_MAX = 1_024  # Of one sender, sent and not delivered.
MESSAGE_RETRY_MS = 1_000
MESSAGE_RETRY_MS_MAX = 300_000
MESSAGE_ROWS = 256  # Of one shard in one read.
MESSAGES_HELD_MAX = 10_000  # Of a whole node, in memory: at the size above and in the worst case, 640 MiB.
MESSAGES_KNOWN_MAX = 250_000  # Of a whole node, not settled: past those above but their numbers, 1 KiB at the worst.
RECEIVER_KNOWN_PART = 16  # One receiver may have this part of what room is left, so that there is always some left.
LETTER_SCAN_ROWS = 4_096  # That one page of dead letters looks at, 16 MiB at a time in the worst case.
DELIVERIES_MAX = 512  # At a time, and of one kind of a tenant half of them, so that messages leave room for calls.
DELIVERY_PLACE_MS = 1_000  # One that takes longer goes on and no more counts: those that hang hold up nobody for long.
RECEIVER_DELIVERIES_MAX = 16  # At one receiver, and one unless the last went well: others have room if it hangs.
assert MESSAGE_BYTES_MAX < TURN_BYTES_MAX
assert RECEIVER_DELIVERIES_MAX * 16 <= DELIVERIES_MAX < MAILBOX_CALLS_MAX < MESSAGES_HELD_MAX < MESSAGES_KNOWN_MAX

# Callers that wait for an object to change: of one object, and of a node, on which calls have their own room.
PARKED_CALLS_MAX = 1_000
NODE_PARKED_MAX = 50_000
assert PARKED_CALLS_MAX < NODE_PARKED_MAX

# Sockets. What a client sends is a small change; what it gets may be a whole document (a room's has 256 KiB). A client
# that reads more slowly than it is written to is cut before it costs others memory; all that are cut together may
# have cost the node's share. An idle one is cut because the server cannot see a peer that has gone without a word.
SOCKET_FRAME_BYTES_MAX = 64 * 1024
SOCKET_FRAMES_PER_S = 100  # A hand at a mouse makes 60; a faster sender is read no faster, which TCP tells it.
SOCKET_BURST_FRAMES = 200
SOCKET_MESSAGE_BYTES_MAX = 320 * 1024
SOCKET_QUEUE_FRAMES_MAX = 1_024  # Unsent of one socket. A message to many is kept once.
SOCKET_QUEUE_BYTES_MAX = 1024 * 1024
SOCKETS_QUEUED_BYTES_MAX = 128 * 1024 * 1024  # Unsent of a whole node.
SOCKET_TURN_OUTPUTS_MAX = 10_000  # That one turn says: ten messages to each socket of an object that has all it may.
SOCKET_ATTACHMENT_BYTES_MAX = 16 * 1024
SOCKET_REASON_BYTES_MAX = 123  # RFC 6455 5.5: a control frame has 125, and two are the code.
SOCKET_TAGS_MAX = 10
SOCKET_TAG_BYTES_MAX = 256
SOCKETS_PER_OBJECT_MAX = 1_000
SOCKETS_PER_TENANT_MAX = 10_000
SOCKETS_MAX = 12_000  # Of one node: 27 KiB each, measured (`benchmarks/sockets.py`), so 320 MiB.
SOCKET_IDLE_MS = 90_000  # Three times what proxies allow at the least; a client says `ping` within it.
SOCKET_SWEEP_MS = 500  # How often idle ones, and those whose credential has ended, are looked for.
SOCKET_RETRY_MS = 10_000  # How long a frame waits for an owner, before it is refused.
SOCKET_GRACE_MS = 2_000  # How long a closing socket may take for what is under way.
SOCKET_STOP_MS = 5_000  # How long a stopping node waits for its sockets to have left.
TICKET_MS = 30_000  # Between asking for one and opening a socket with it there is one round trip.
TICKETS_PER_TENANT_MAX = 20_000
assert SOCKET_FRAME_BYTES_MAX < SOCKET_MESSAGE_BYTES_MAX < SOCKET_QUEUE_BYTES_MAX < SOCKETS_QUEUED_BYTES_MAX
assert SOCKETS_PER_OBJECT_MAX < SOCKETS_PER_TENANT_MAX < SOCKETS_MAX
assert SOCKETS_PER_OBJECT_MAX * 10 <= SOCKET_TURN_OUTPUTS_MAX
assert SOCKET_RETRY_MS < HANDLER_DEADLINE_MS < SOCKET_IDLE_MS

# Blocked event loops. A second is beyond what any turn should need, and within what every lease forgives. At four the
# process ends, before its lease does, or the next owner would not know what its predecessor died of.
LOOP_WATCH_MS = 250
LOOP_BLOCKED_MS = 1_000
LOOP_STUCK_MS = 4_000
QUARANTINE_MS = 60_000  # The first term; long enough to see it, short enough if it was bad luck.
QUARANTINE_MS_MAX = 24 * 3_600_000
QUARANTINE_MEMORY_MS = 24 * 3_600_000  # An object that was quiet for a day begins with the first term again.
QUARANTINE_OBJECTS_MAX = 256  # Of one shard; a release in which more objects than this block is the fault of its code.
assert LOOP_WATCH_MS * 2 < LOOP_BLOCKED_MS < LOOP_STUCK_MS
assert LOOP_STUCK_MS + LEASE_TTL_MS // LEASE_RENEWALS_PER_TTL < LEASE_TTL_MS

# Transactions over several objects. A lease ends after the coordinator's turn surely has (prepare, store, tell), so
# that a participant that asks is answered at once and does not wait for a turn that waits for it.
TRANSACTION_PREPARE_MS = 5_000
TRANSACTION_TELL_MS = 5_000
TRANSACTION_LEASE_MS = 25_000
TRANSACTION_RETRY_MS = 5_000  # After which a participant asks, or is told, once more.
TRANSACTION_RETRY_MS_MAX = 300_000
TRANSACTION_KEPT_MS = 24 * 3_600_000  # How long the key of a transaction is known.
TRANSACTION_BYTES_MAX = 64 * 1024  # Its participants, steps and arguments, which are stored as one value.
TRANSACTIONS_REMEMBERED = 64  # Of one object, while a late prepare may come; past them, all that is as old is refused.
assert TRANSACTION_BYTES_MAX * 2 <= VALUE_BYTES_MAX
assert TRANSACTION_PREPARE_MS + LEASE_TTL_MS + TRANSACTION_TELL_MS < TRANSACTION_LEASE_MS < HANDLER_DEADLINE_MS

# Memory. Idle objects leave after this time, clean ones only.
OBJECT_IDLE_MS = 60_000
RESIDENT_OBJECTS = 200_000  # With no more than these a node has room: 200 MB of limiter subjects.
PASSIVATION_SCAN_OBJECTS = 20_000  # Objects looked at in one tick of two seconds,
PASSIVATION_SLICE_OBJECTS = 500  # and before others have their turns: a millisecond or two.
SWEEP_OBJECTS = 256  # Expired objects deleted in one flight.

# Documents (tenants, keys, policies): held by every node, polled with every heartbeat.
DOCUMENT_BYTES_MAX = 256 * 1024
DOCUMENT_POLL_MS = 1_500
DOCUMENT_STALE_MS = 5_000
assert DOCUMENT_POLL_MS * 3 <= DOCUMENT_STALE_MS

# Requests. What comes from outside is small, or it is refused before anything of it is kept.
HEADER_FIELDS_MAX = 100  # Browsers behind two proxies send about 40.
HEADER_BYTES_MAX = 16 * 1024  # What gateways let through by default, and more than a key and a trace need.
QUERY_FIELDS_MAX = 32  # No route has more than a few parameters; each costs a look for repeats.
TARGET_BYTES_MAX = 65_534  # Of a request line: a longer one is no request of ours.
HEADER_FIELDS_READ = 128  # Of more, nothing is said but the status; up to so many, what the bound is.
HEADER_BYTES_READ = 128 * 1024  # As above.
HEADER_DEADLINE_MS = 30_000  # A whole header, and how long a connection may idle before the next one begins.
BODY_BYTES_MAX = 64 * 1024  # The largest ordinary request is a policy of some 4 KiB; batches have their own cap.
NESTING_MAX = 128  # Arrays and objects in each other: what is stored so is read again from any depth of the stack.
BODY_DEADLINE_MS = 15_000  # A slower sender holds a connection for its own sake.
assert NAME_BYTES_MAX * 3 < HEADER_BYTES_MAX < BODY_BYTES_MAX  # A name fits into a field, percent-encoded too.
assert BODY_BYTES_MAX <= DOCUMENT_BYTES_MAX  # Whatever document a request brings can be stored.
assert BODY_DEADLINE_MS < HANDLER_DEADLINE_MS
assert HEADER_FIELDS_MAX < HEADER_FIELDS_READ
assert HEADER_BYTES_MAX + TARGET_BYTES_MAX < HEADER_BYTES_READ
CONNECTIONS_MAX = 16_384  # Of one listener, sockets among them; each holds a file and, at rest, some 8 KiB.
assert BODY_DEADLINE_MS <= HEADER_DEADLINE_MS  # Idle connections are no abuse; gateways keep theirs for reuse.

# Calls to addresses outside, which tenants choose. What is large or slow belongs into a worker.
OUTBOUND_CONNECT_MS = 3_000
OUTBOUND_TIMEOUT_MS = 30_000  # The whole call; what takes longer answers 202 and calls back.
OUTBOUND_URL_BYTES_MAX = 2_048
OUTBOUND_FIELDS_MAX = 32
OUTBOUND_HEADER_BYTES_MAX = 8 * 1024
OUTBOUND_BODY_BYTES_MAX = 128 * 1024  # The largest input of a step, with what stands around it.
OUTBOUND_ANSWER_BYTES_MAX = 1024 * 1024
OUTBOUND_ANSWER_FIELDS_MAX = 64
OUTBOUND_FIELD_BYTES_MAX = 8 * 1024
OUTBOUND_AT_ONCE = 256  # Connections of a node, of each of the two schemes.
OUTBOUND_TENANT_AT_ONCE = 64  # One tenant whose receivers hang leaves room for three others.
OUTBOUND_HOST_AT_ONCE = 32  # More wait, within their time: few receivers like more from one sender.
OUTBOUND_RETRY_AFTER_MS_MAX = 3_600_000  # What another side may ask for before it is called again.
assert OUTBOUND_CONNECT_MS < OUTBOUND_TIMEOUT_MS
assert OUTBOUND_HOST_AT_ONCE < OUTBOUND_TENANT_AT_ONCE < OUTBOUND_AT_ONCE

# Webhooks. One message to one subscriber is one object.
WEBHOOKS_MAX = 20  # Of one tenant; each has a delivery of everything that it wants to hear.
WEBHOOK_NAME_BYTES_MAX = 64
WEBHOOK_TIMEOUT_MS = 15_000  # Standard Webhooks: 15 to 30 s.
WEBHOOK_DELIVERED_KEPT_MS = 3 * 24 * 3_600_000
WEBHOOK_GIVEN_UP_KEPT_MS = 30 * 24 * 3_600_000
WEBHOOK_ROTATION_S, WEBHOOK_ROTATION_S_MAX = 24 * 3_600, 30 * 24 * 3_600  # For which the secret before signs too.

# The store's clock against ours; above this `doctor` and a metric complain.
CLOCK_SKEW_MS_MAX = 500
