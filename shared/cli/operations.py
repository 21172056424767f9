"""`tenure operations begin | list | show | stop`: the same done to many runs, through the service's own API."""

import argparse
import secrets
import time
from collections.abc import Iterator, Mapping
from typing import Any

from shared.cli.client import ApiError, Client, name_and_value, segment, value_of
from shared.cli.operator import moment, printable, read_moment, table
from shared.errors import InvalidInputError

_INDEX = 1  # Of the service's port behind that of the first.
_FAILED = 1
_LOOK_S = 0.5


def begin(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Begin an operation and print its id; with `--wait` what came of it, and exit code 1 where it was stopped."""
    client = _client(arguments, environ)
    given = {
        "op": arguments.op,
        "ids": arguments.run,
        "filter": _filter(arguments),
        "limit": arguments.limit,
        "cursor": arguments.after,
        "dry_run": arguments.dry_run,
        "reason": arguments.reason,
        "to": value_of(arguments.to, "--to"),
    }
    order = {name: value for name, value in given.items() if value is not None}
    told = client.ask("POST", "/v1/bulk", body=order, key=arguments.key or secrets.token_hex(16))
    if not arguments.wait:
        client.print(told, told["id"])
        return 0
    while told["status"] == "running":
        time.sleep(_LOOK_S)
        try:
            told = client.ask("GET", f"/v1/operations/{told['id']}")
        except ApiError as error:
            raise ApiError(f"{error} The operation goes on: {told['id']}.") from error
    client.print(told, "\n".join(_lines(told)))
    return 0 if told["status"] == "done" else _FAILED


def listing(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """List operations, newest first."""
    client = _client(arguments, environ)
    told = client.ask("GET", "/v1/operations", {"cursor": arguments.after, "limit": arguments.limit})
    rows = [
        [one["id"], _what(one), one["status"], str(one["changed"]), str(one["refused"]), moment(one["started_ms"])]
        for one in told["operations"]
    ]
    client.print_page(told, ["OPERATION", "OP", "STATUS", "CHANGED", "REFUSED", "STARTED"], rows)
    return 0


def show(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Show how far an operation is."""
    client = _client(arguments, environ)
    told = client.ask("GET", f"/v1/operations/{segment(arguments.operation)}")
    client.print(told, "\n".join(_lines(told)))
    return 0


def stop(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Change no more runs."""
    client = _client(arguments, environ)
    told = client.ask("POST", f"/v1/operations/{segment(arguments.operation)}/stop")
    client.print(told, "\n".join(_lines(told)))
    return 0


def _client(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Client:
    return Client(arguments, environ, index=_INDEX)


def _filter(arguments: argparse.Namespace) -> dict[str, Any] | None:
    """What runs are meant; None where they are named."""
    found = {
        "definition": arguments.definition,
        "version": arguments.version,
        "status": arguments.status,
        "attribute": None if arguments.attr is None else name_and_value(arguments.attr, "--attr"),
        "step": arguments.step,
        "due_before": read_moment(arguments.due_before),
    }
    meant = {name: value for name, value in found.items() if value is not None}
    if sum(map(bool, (meant, arguments.run, arguments.all))) != 1:
        raise InvalidInputError("Say which runs are meant: some of --run, or --definition and so on, or --all")
    return None if arguments.run else meant


def _what(operation: Any) -> str:
    return f"{operation['op']}, dry" if operation["dry_run"] else str(operation["op"])


def _lines(operation: Any) -> Iterator[str]:
    changed = "would be changed" if operation["dry_run"] else "changed"
    yield f"{operation['id']}: {_what(operation)}, {operation['status']}, since {moment(operation['started_ms'])}"
    yield f"{operation['changed']} {changed}, {operation['refused']} refused"
    if operation["waits_for"]:
        yield f"waits: {printable(operation['waits_for'])}"
    if operation["next_cursor"] is not None:
        yield f"There may be more: --after {operation['next_cursor']}"
    if operation["errors"]:
        yield table(["RUN", "CODE", "REASON"], [[one["id"], one["code"], one["detail"]] for one in operation["errors"]])
