"""`tenure messages list | show | dead | resend | drop`: what nobody has received, and what becomes of dead letters."""

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from shared.cli.operator import Operator, moment, object_path, printable, told_value


def listing(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """List what an object has sent and nobody has received yet."""
    operator = Operator(arguments, environ)
    told = operator.ask("GET", object_path(arguments, "messages"))
    rows = [[_state(row), *_cells(row)] for row in told["messages"]]
    operator.print_rows(told, ["STATE", "SENT", "RECEIVER", "METHOD", "BYTES", "ID", "ERROR"], rows)
    return 0


def show(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Show a message with what it says."""
    operator = Operator(arguments, environ)
    told = operator.ask("GET", object_path(arguments, "messages", arguments.id))
    operator.print(told, "\n".join(_lines(told)))
    return 0


def dead(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """List dead letters of all objects."""
    operator = Operator(arguments, environ)
    query = {"after": arguments.after, "limit": arguments.limit}
    told = operator.ask("GET", "dead-messages", query)
    while not told["messages"] and told["next"] is not None:  # So many messages were looked at, and none was dead.
        told = operator.ask("GET", "dead-messages", {**query, "after": told["next"]})
    rows = [[_state(row), row["kind"], row["tenant"], row["name"], *_cells(row)] for row in told["messages"]]
    head = ["GIVEN UP", "KIND", "TENANT", "NAME", "SENT", "RECEIVER", "METHOD", "BYTES", "ID", "ERROR"]
    operator.print_page(told, head, rows)
    return 0


def resend(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Send a dead letter again."""
    operator = Operator(arguments, environ)
    told = operator.ask("POST", object_path(arguments, "messages", arguments.id, "resend"))
    operator.print(told, f"It is sent again, as {told['id']}.")
    return 0


def drop(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Forget a dead letter."""
    operator = Operator(arguments, environ)
    operator.print(operator.ask("POST", object_path(arguments, "messages", arguments.id, "drop")), "It is dropped.")
    return 0


def _lines(told: Mapping[str, Any]) -> Iterator[str]:
    sent, receiver, method, size_bytes, _, error = map(printable, _cells(told))
    yield f"message    {told['id']}, {size_bytes} bytes, {_state(told)}"
    if error:
        yield f"  {error}"
    if "stored" in told:
        yield f"stored     {told_value(told['stored'])}"
        return
    yield f"sent       {sent or 'by an earlier release'}, expires {moment(told['expire_at_ms'])}"
    yield f"calls      {method} of {receiver}"
    yield from (
        f"  argument {number}  {told_value(value)}" for number, value in enumerate(told.get("arguments", ()), 1)
    )


def _state(row: Mapping[str, Any]) -> str:
    if "unreadable" in row:
        return "not readable"
    return moment(row["dead_ms"]) if "dead_ms" in row else "under way"


def _cells(row: Mapping[str, Any]) -> list[str]:
    to = row.get("receiver")
    return [
        moment(row["sent_ms"]) if "sent_ms" in row else "",
        f"{to['kind']}/{to['tenant']}/{to['name']}" if to else "",
        row.get("method", ""),
        str(row["size_bytes"]),
        row["id"],
        row.get("unreadable") or row.get("error", ""),
    ]
