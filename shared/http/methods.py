"""What every route can do besides what it says: OPTIONS on each, and HEAD wherever GET is.

`Allow` is made in one place, so that the answer to OPTIONS and a refusal with 405 name the same
methods. Litestar's own answer to OPTIONS names those of the first handler of a path alone, and it
knows no HEAD: the guard shows it a GET and drops the body of what comes back.

Source: RFC 9110 9.3.2 (HEAD), 9.3.7 (OPTIONS), 10.2.1 (Allow).
"""

from collections.abc import Iterable

from litestar import Response, route
from litestar.handlers import HTTPRouteHandler


def allow_of(methods: Iterable[str]) -> str:
    """The field `Allow` of a path whose routes have `methods`."""
    known = {str(method) for method in methods} | {"OPTIONS"}
    return ", ".join(sorted(known | {"HEAD"} if "GET" in known else known))


def options_routes(handlers: Iterable[HTTPRouteHandler]) -> list[HTTPRouteHandler]:
    """A route for OPTIONS on each path of `handlers` that has none, registered before: else Litestar makes its own."""
    by_path: dict[str, set[str]] = {}
    for handler in handlers:
        for path in handler.paths:
            by_path.setdefault(path, set()).update(handler.http_methods)
    return [_options(path, allow_of(methods)) for path, methods in by_path.items() if "OPTIONS" not in methods]


def _options(path: str, allow: str) -> HTTPRouteHandler:
    @route(path, http_method=["OPTIONS"], status_code=204, include_in_schema=False, sync_to_thread=False)
    def options() -> Response[None]:
        return Response(None, status_code=204, headers={"allow": allow})

    return options
