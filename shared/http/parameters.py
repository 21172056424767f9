"""Queries taken at their word: a parameter that a route does not know is refused, not left unread.

`?dry_run=true` or a misspelt filter would else do, or list, more than was asked for.
"""

from typing import Any
from urllib.parse import parse_qsl

from litestar import Litestar, Request
from litestar.routes import HTTPRoute

from shared.errors import InvalidInputError

PREFIX = "query_prefix"
"""Option of a route handler: it also takes parameters whose names begin so, and reads them itself."""
_KNOWN = "query_parameters"


def learn_parameters(app: Litestar) -> None:
    """Note at each route of `app` which parameters it, and what it depends on, declares."""
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler, declared in route.route_handler_map.values():
                handler.opt[_KNOWN] = sorted(parameter.field_alias for parameter in declared.expected_query_params)


async def check_parameters(request: Request[Any, Any, Any]) -> None:
    """Let a request pass whose parameters its route knows; the guard has found its query readable.

    It waits for nothing, but of a plain function Litestar would make a thread's work.

    Raises:
        InvalidInputError: it does not know one.
    """
    query: bytes = request.scope["query_string"]
    if not query or request.method == "OPTIONS":
        return
    options = request.scope["route_handler"].opt
    known, prefix = options.get(_KNOWN, ()), options.get(PREFIX)
    for name, _ in parse_qsl(query.decode("ascii"), keep_blank_values=True):
        if name not in known and not (prefix and name.startswith(prefix)):
            shown = ", ".join([*known, *([f"{prefix}NAME"] if prefix else [])])
            detail = f"There is no such parameter; here are {shown}" if shown else "There are no parameters here"
            raise InvalidInputError(detail, f"query.{name}")
