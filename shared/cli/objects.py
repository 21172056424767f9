"""`tenure objects kinds | list | show | journal | evict`: what there is, what it holds and does, and out of memory.

And `quarantined | lift`: what may not run because it has blocked its node, and let it run again.
"""

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from shared.cli.operator import Operator, moment, object_path, printable, table, told_value

_COUNTS = (
    ("remembered_requests", "remembers", "requests"),
    ("remembered_senders", "", "senders"),
    ("undelivered_messages", "has sent", "messages that nobody has received"),
    ("dead_messages", "", "of them dead"),
)


def kinds(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """List the kinds that the node hosts."""
    operator = Operator(arguments, environ)
    told = operator.ask("GET", "kinds")
    rows = [
        [row["kind"], row["durability"], "yes" if row["listed"] else "no", str(row["schema"]), ", ".join(row["public"])]
        for row in told["kinds"]
    ]
    operator.print_rows(told, ["KIND", "DURABILITY", "LISTED", "SCHEMA", "PUBLIC METHODS"], rows)
    return 0


def listing(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """List objects with state, shorter names first."""
    operator = Operator(arguments, environ)
    query = {name: getattr(arguments, name) for name in ("kind", "tenant", "prefix", "after", "limit")}
    told = operator.ask("GET", "objects", query)
    operator.print_page(told, ["NAME"], [[row["name"]] for row in told["objects"]])
    return 0


def show(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Show one object."""
    operator = Operator(arguments, environ)
    told = operator.ask("GET", object_path(arguments))
    operator.print(told, "\n".join(_lines(told)))
    return 0


def journal(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Show entries of a journal."""
    operator = Operator(arguments, environ)
    query = {"after": arguments.after, "limit": arguments.limit, "reverse": "true" if arguments.reverse else ""}
    told = operator.ask("GET", object_path(arguments, "journal"), query)
    rows = [[str(entry["number"]), str(entry["size_bytes"]), told_value(entry["value"])] for entry in told["entries"]]
    operator.print_page(told, ["NUMBER", "BYTES", "VALUE"], rows)
    return 0


def evict(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Let an object leave memory."""
    operator = Operator(arguments, environ)
    told = operator.ask("POST", object_path(arguments, "evict"))
    operator.print(told, "It has left memory." if told["evicted"] else "It was not in memory.")
    return 0


def quarantined(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """List objects in quarantine, those first that are for longest."""
    operator = Operator(arguments, environ)
    told = operator.ask("GET", "quarantine")
    rows = [[moment(r["until_ms"]), r["kind"], r["tenant"], r["name"], str(r["terms"])] for r in told["objects"]]
    operator.print_rows(told, ["UNTIL", "KIND", "TENANT", "NAME", "TERMS"], rows)
    return 0


def lift(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Let an object run again that is in quarantine."""
    operator = Operator(arguments, environ)
    told = operator.ask("POST", object_path(arguments, "quarantine", "lift"))
    operator.print(told, "It may run again." if told["lifted"] else "It was not in quarantine.")
    return 0


def _lines(told: Mapping[str, Any]) -> Iterator[str]:
    yield printable(f"{told['kind']}/{told['tenant']}/{told['name']}") + f"  (shard {told['shard']})"
    stored, resident = told["stored"], told["resident"]
    yield from ["stored     nothing"] if stored is None else _stored(stored)
    yield from ["in memory  no"] if resident is None else _resident(resident, anything_stored=stored is not None)


def _stored(stored: Mapping[str, Any]) -> Iterator[str]:
    expires = f", expires {moment(stored['expire_at_ms'])}" if "expire_at_ms" in stored else ""
    yield f"stored     {stored.get('size_bytes', 0)} bytes, version {stored.get('version', 0)}{expires}"
    if "unreadable" in stored:
        yield f"  not readable by this release: {printable(stored['unreadable'])}"
    values = stored.get("values", {}) or ({"(native)": stored["native"]} if "native" in stored else {})
    rows = [[key, str(value["size_bytes"]), told_value(value["value"])] for key, value in values.items()]
    yield from _indented(["KEY", "BYTES", "VALUE"], rows)
    for name, title in (("alarms", "ALARM"), ("dead_alarms", "DEAD ALARM")):
        alarms = [
            [alarm["alarm"], moment(alarm["due_ms"]), str(alarm.get("attempts", 0)), alarm.get("last_error", "")]
            for alarm in stored.get(name, ())
        ]
        yield from _indented([title, "DUE", "TRIES", "LAST ERROR"], alarms)
    indexes = [[name, row["value"], moment(row["sort_ms"])] for name, row in sorted(stored.get("indexes", {}).items())]
    yield from _indented(["INDEX", "VALUE", "SORTED BY"], indexes)
    if (found := stored.get("journal")) and found["entries"]:
        yield f"journal    {found['entries']} entries, {found['first']} to {found['last']}"
    yield from (f"{title:<10} {stored[name]} {what}" for name, title, what in _COUNTS if name in stored)


def _resident(resident: Mapping[str, Any], *, anything_stored: bool) -> Iterator[str]:
    yield f"in memory  {resident['phase']}, {resident['turns']} turns, {resident['mailbox_depth']} calls wait"
    running = resident["running"]
    if running is not None:
        since = moment(running["since_ms"])
        yield f"  runs {printable(running['method'])} for {running['running_ms']} ms, since {since}"
    if resident["parked_callers"]:
        yield f"  holds {resident['parked_callers']} callers until it changes"
    states = [name.replace("_", " ") for name in ("dirty", "pending", "in_flight") if resident[name]]
    if resident["unconfirmed_turns"]:
        states.append(f"{resident['unconfirmed_turns']} turns unconfirmed")
    if resident["waiting_answers"]:
        states.append(f"{resident['waiting_answers']} answers wait for the store")
    if states:
        yield f"  not stored yet: {', '.join(states)}"
    else:
        yield "  everything is stored" if anything_stored else "  has nothing to store"


def _indented(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    if rows:
        yield from ("  " + line for line in table(head, rows).split("\n"))
