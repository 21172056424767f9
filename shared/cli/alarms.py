"""`tenure alarms list | dead | cancel | rearm | drop`: what will ring, what was given up, and what becomes of it."""

import argparse
from collections.abc import Mapping
from typing import Any

from shared.cli.operator import Operator, moment, object_path, read_moment

_WHOSE = ("kind", "tenant", "name", "alarm")


def listing(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """List armed alarms, earliest first."""
    operator = Operator(arguments, environ)
    query = {
        "due_before": read_moment(arguments.due_before),
        "after": arguments.after,
        "limit": arguments.limit,
    }
    told = operator.ask("GET", "alarms", query)
    rows = [[moment(row["due_ms"]), *_cells(row)] for row in told["alarms"]]
    operator.print_page(told, ["DUE", "KIND", "TENANT", "NAME", "ALARM", "TRIES", "LAST ERROR"], rows)
    return 0


def dead(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """List alarms that were given up, in the order of that."""
    operator = Operator(arguments, environ)
    told = operator.ask("GET", "dead-alarms", {"after": arguments.after, "limit": arguments.limit})
    rows = [[moment(row["dead_ms"]), *_cells(row)] for row in told["alarms"]]
    operator.print_page(told, ["GIVEN UP", "KIND", "TENANT", "NAME", "ALARM", "TRIES", "LAST ERROR"], rows)
    return 0


def cancel(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Disarm an alarm."""
    return _change(arguments, environ, "It is not armed any more.")


def rearm(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Arm a dead alarm anew."""
    operator = Operator(arguments, environ)
    body = None if arguments.at is None else {"due_ms": read_moment(arguments.at)}
    told = operator.ask("POST", object_path(arguments, "alarms", arguments.alarm, "rearm"), body=body)
    operator.print(told, f"It is armed, and due at {moment(told['due_ms'])}.")
    return 0


def drop(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Forget a dead alarm."""
    return _change(arguments, environ, "It is dropped.")


def _change(arguments: argparse.Namespace, environ: Mapping[str, str], done: str) -> int:
    operator = Operator(arguments, environ)
    action = arguments.command.rpartition(":")[2]
    operator.print(operator.ask("POST", object_path(arguments, "alarms", arguments.alarm, action)), done)
    return 0


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [*(row[name] for name in _WHOSE), str(row.get("attempts", 0)), row.get("last_error", "")]
