"""What a call of an object hears whose path names none: which part of it is not there, and what is in its place.

Routes that stand beside those of `shared.http.objects` and take every path that those do not. They want the same
credential, so nobody else learns what is hosted.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from litestar import Request, route
from litestar.handlers import HTTPRouteHandler
from litestar.types import Method

from shared.bounds import KIND_BYTES_MAX
from shared.errors import NotFoundError
from shared.http.auth import require
from shared.http.names import sent_path
from shared.http.objects import CALL, OBJECTS, named
from shared.objects.published import PublishedKind

_METHODS: Sequence[Method] = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_FORM = f"such path; an object is called by POST {OBJECTS}{{kind}}/{{name}}/{{method}}"
Shown = Mapping[str, Sequence[str]]


def missing_routes(kinds: Iterable[PublishedKind]) -> list[HTTPRouteHandler]:
    """Routes for all below `/v1/objects/` that is no public method of `kinds`."""
    shown = {
        kind.name: [method.name for method in kind.methods] for kind in kinds if kind.methods or kind.takes_sockets
    }
    # The router does not look back: where a kind has routes of its own, what is missing below it is missed there.
    parts = ["{kind:str}", *shown]
    paths = [OBJECTS + part + rest for part in parts for rest in ("", "/{name:str}", "/{name:str}/{method:str}")]

    @route(paths, http_method=_METHODS, guards=[require(CALL)], include_in_schema=False, sync_to_thread=False)
    def missing(request: Request[Any, Any, Any]) -> None:
        raise NotFoundError(what_is_missing(sent_path(request.scope), shown))

    return [missing]


def what_is_missing(path: bytes, shown: Shown) -> str:
    """In words, behind "There is no"."""
    found = named(path)
    if found is None:
        return _FORM
    kind, _, method = (part.decode("latin-1")[:KIND_BYTES_MAX] for part in found)
    if kind not in shown:
        return f"kind {kind!r} to be called; here are: {', '.join(shown) or 'none'}"
    if method not in shown[kind]:
        return f"method {method!r} of the kind {kind!r}; it has: {', '.join(shown[kind])}"
    return _FORM
