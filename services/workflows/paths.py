"""Names in paths: run ids, schedules, signals and steps have slashes and dots, which a router would take for its own.

So every segment that is a name is shown to the router with a mark and percent-encoded whole, and read back by whoever
is asked. Who calls encodes a name whole, as `one%2Ftwo`.
"""

from urllib.parse import quote

from shared.http.asgi import ASGIApp, Receive, Scope, Send
from shared.http.names import check_name, decoded_segment, sent_path, undivided_path

RUNS = "/v1/runs/"
QUEUES = "/v1/queues/"
SCHEDULES = "/v1/schedules/"
WEBHOOKS = "/v1/webhooks/"
_ITSELF = {("GET", b"count"), ("HEAD", b"count"), ("OPTIONS", b"count"), ("POST", b"search")}
"""What stands at the place of a name and is none. Nobody posts to a run itself, so one may be called `search`."""
_MARK = "~"
_RUN, _BELOW = 3, 5  # Of "", v1, runs, <run>, steps | signals, <name>
_NAMED_BELOW = {b"steps", b"signals"}


def with_names(app: ASGIApp) -> ASGIApp:
    """`app`, in which the routes below /v1/runs/, /v1/queues/ and /v1/schedules/ find names that `name_in` reads."""

    async def named(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith((RUNS, QUEUES, SCHEDULES)):
            scope = {**scope, "path": _marked(scope["method"], sent_path(scope))}
        elif scope["type"] == "http" and scope["path"].startswith(WEBHOOKS):
            scope = {**scope, "path": undivided_path(scope)}  # Their names have no slash, and are refused with one.
        await app(scope, receive, send)

    return named


def name_in(segment: str, what: str) -> str:
    """The name that a segment stands for.

    Raises:
        InvalidInputError: it is empty, too long, not UTF-8, or has a percent sign that encodes nothing.
    """
    name = decoded_segment(segment.removeprefix(_MARK).encode("latin-1"))
    check_name(name, what, f"path.{what}")
    return name


def run_path(run_id: str) -> str:
    """The path of a run."""
    return RUNS + quote(run_id, safe="").replace(".", "%2E")


def _marked(method: str, raw: bytes) -> str:
    segments = raw.split(b"/")
    if len(segments) > _RUN and (len(segments) > _RUN + 1 or (method, segments[_RUN]) not in _ITSELF):
        segments[_RUN] = _MARK.encode() + segments[_RUN].replace(b".", b"%2E")
    if len(segments) > _BELOW and segments[_BELOW - 1] in _NAMED_BELOW:
        segments[_BELOW] = _MARK.encode() + segments[_BELOW].replace(b".", b"%2E")
    return b"/".join(segments).decode("latin-1")
