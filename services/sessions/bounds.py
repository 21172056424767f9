"""Every bound of the session manager: its unit and its reason.

Policies set what differs from tenant to tenant (`services.sessions.policy`); these hold for all.
"""

from shared.bounds import MESSAGES_MAX, OBJECT_BYTES_MAX, TURN_BYTES_MAX, VALUE_BYTES_MAX, WEBHOOKS_MAX

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

# Sessions of one principal. All are looked at when one begins, and listed in one answer.
SESSIONS_MAX = 200
IMPERSONATIONS_MAX = 20  # Not counted with the others, so that nobody is signed out by support.
TOMBSTONES_MAX = (
    200  # Of sessions that ended; the oldest is forgotten first, or a robot's logins would fill the object.
)
FEED_ENTRIES = 256  # What a watcher that was away can still read.
FEED_SLACK = 64  # Trimmed that seldom: each trim is one more write of a commit.
UNTOLD_MAX = 1_024  # Kept that long where subscribers are still to be told of them; within a second, usually.
NEWS_EVENTS = 25  # Told in one turn, to 20 subscribers each: half of the messages that one object may have under way.
NEWS_BYTES = 128 * 1024  # Of bodies told in one turn, before one more event, whose messages may have as much again.
NEWS_RETRY_MS = 1_000
assert NEWS_EVENTS * WEBHOOKS_MAX <= MESSAGES_MAX // 2
assert NEWS_BYTES * 4 <= TURN_BYTES_MAX
assert FEED_ENTRIES < UNTOLD_MAX
DATA_BYTES_MAX = 16 * 1024
PRINCIPAL_DATA_BYTES_MAX = 512 * 1024  # Of all sessions of one, so that half of the object is for the sessions.
assert DATA_BYTES_MAX < VALUE_BYTES_MAX
assert PRINCIPAL_DATA_BYTES_MAX * 2 <= OBJECT_BYTES_MAX

# Durations.
IDLE_MS_MIN = MINUTE_MS  # Activity is noted to the second; below a minute that would be felt.
ABSOLUTE_MS_MAX = 400 * DAY_MS  # Beyond it no browser keeps a cookie (RFC 6265bis, Max-Age).
TOUCH_MS = 1_000  # A session's last use is stored no more precisely: a lost second ends it early, never late.
ROTATION_WINDOW_MS_MAX = 5 * MINUTE_MS
ELEVATION_OVERLAP_MS_MAX = MINUTE_MS
IMPERSONATION_MS_MAX = HOUR_MS
RETENTION_MS_MAX = 400 * DAY_MS
FRESH_AUTHENTICATION_MS = 15 * MINUTE_MS
CACHE_SECONDS_MAX = 10  # What a gateway may go on believing after a revocation, where a policy lets it.
assert TOUCH_MS * 60 <= IDLE_MS_MIN

# Texts.
METHODS_MAX = 16  # Of authentication, and roles below: both stand in header fields of every answer to a gateway.
ROLES_MAX = 32
WORD_BYTES_MAX = 64
LABEL_BYTES_MAX = 128
USER_AGENT_LENGTH_MAX = 256
CLIENTS_MAX = 64  # With a limit of their own in a policy.
ORIGINS_MAX = 32

# Streams of events.
FEED_PAGE = 100
STREAM_MS_MAX = 10 * MINUTE_MS
CUT_LOOKS_AT_ONCE = 32  # Principals that look what their tenant has ended: fast, and no burst to those who are asked.
CUT_LOOKS_WAITING_MAX = 1_024  # Of those whose tokens come; whoever listens to a principal always gets it to look.
STREAM_SILENCE_MS = 15_000  # Proxies take a connection that says nothing for a minute for dead.
