"""Principals and rooms in paths: a name may have slashes, dots and colons, and a router would take them for its own.

So the segment is shown to the router with a mark and percent-encoded whole, and read back by whoever is asked. Who
calls encodes a name whole, as `ann%2Fwork`.
"""

from urllib.parse import quote

from shared.http.asgi import ASGIApp, Receive, Scope, Send
from shared.http.names import check_name, decoded_segment, sent_path, undivided_path

PRINCIPALS = "/v1/principals/"
ROOMS = "/v1/rooms/"
WEBHOOKS = "/v1/webhooks/"
_NAMED = (PRINCIPALS, ROOMS)
_MARK = "~"
_NAME = 3  # Of "", v1, principals, <principal>


def with_names(app: ASGIApp) -> ASGIApp:
    """`app`, in which the routes below /v1/principals/ and /v1/rooms/ find names that `name_in` reads."""

    async def named(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(_NAMED):
            segments = sent_path(scope).split(b"/")
            if len(segments) > _NAME:
                segments[_NAME] = _MARK.encode() + segments[_NAME].replace(b".", b"%2E")
            scope = {**scope, "path": b"/".join(segments).decode("latin-1")}
        elif scope["type"] == "http" and scope["path"].startswith(WEBHOOKS):
            scope = {**scope, "path": undivided_path(scope)}  # Their names have no slash, and are refused with one.
        await app(scope, receive, send)

    return named


def name_in(segment: str, called: str) -> str:
    """The name of what is `called` so ("principal", "room") that a segment stands for.

    Raises:
        InvalidInputError: it is empty, too long, not UTF-8, or has a percent sign that encodes nothing.
    """
    name = decoded_segment(segment.removeprefix(_MARK).encode("latin-1"))
    check_name(name, called, f"path.{called}")
    return name


def session_path(principal: str, session_id: str) -> str:
    """The path of a session."""
    return f"{PRINCIPALS}{quote(principal, safe='').replace('.', '%2E')}/sessions/{session_id}"
