"""`tenure workflows list | show | start | signal | complete | retry | migrate | watch`: runs, through the service."""

import argparse
import json
import secrets
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from shared.cli.client import Client, name_and_value, segment, value_of
from shared.cli.operator import moment, printable, read_moment

_INDEX = 1  # Of the service's port behind that of the first.
_FAILED = 1


def listing(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """List runs, newest first."""
    client = _client(arguments, environ)
    query: dict[str, object] = {
        "status": arguments.status,
        "definition": arguments.definition,
        "version": arguments.version,
        "step": arguments.step,
        "due_before": read_moment(arguments.due_before),
        "sort": arguments.sort,
        "cursor": arguments.after,
        "limit": arguments.limit,
    }
    if arguments.attr is not None:
        name, value = name_and_value(arguments.attr, "--attr")
        query[f"attr.{name}"] = value
    told = client.ask("GET", "/v1/runs", query)
    rows = [
        [run["id"], f"{run['definition']}/{run['version']}", run["status"], moment(run["started_ms"])]
        for run in told["runs"]
    ]
    client.print_page(told, ["RUN", "DEFINITION", "STATUS", "STARTED"], rows)
    return 0


def show(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Show one run."""
    client = _client(arguments, environ)
    told = client.ask("GET", _run(arguments))
    client.print(told, "\n".join(_lines(told)))
    return 0


def start(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Start a run and print its id."""
    client = _client(arguments, environ)
    given = {
        "definition": arguments.definition,
        "version": arguments.version,
        "id": arguments.id,
        "input": value_of(arguments.input, "--input"),
        "attributes": dict(name_and_value(text, "--attr") for text in arguments.attr) or None,
        "start_at_ms": read_moment(arguments.at),
        "delay_ms": _ms(arguments.delay),
        "deadline_at_ms": read_moment(arguments.deadline),
        "deadline_after_ms": _ms(arguments.deadline_after),
        "on_conflict": arguments.on_conflict,
        "reuse": arguments.reuse,
    }
    body = {name: value for name, value in given.items() if value is not None}
    told = client.ask("POST", "/v1/runs", body=body, key=arguments.key or secrets.token_hex(16))
    client.print(told, printable(told["id"]))
    return 0


def signal(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Send a signal to a run."""
    body = {"payload": value_of(arguments.payload, "--payload"), "ttl_ms": _ms(arguments.ttl) or 0}
    return _changed(arguments, environ, f"signals/{segment(arguments.signal)}", body)


def complete(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Say that a step is done."""
    body = {
        "result": value_of(arguments.result, "--result"),
        "outcome": arguments.outcome,
        "by": arguments.by,
    }
    return _changed(arguments, environ, f"steps/{segment(arguments.step)}/complete", body)


def retry(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Try a stalled step again."""
    return _changed(arguments, environ, f"steps/{segment(arguments.step)}/retry", None)


def migrate(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Have a run go on with another version of its definition."""
    step_map = dict(name_and_value(text, "--map") for text in arguments.map)
    body = {"version": arguments.version, "step_map": step_map, "dry_run": arguments.dry_run}
    return _changed(arguments, environ, "migrate", body)


def watch(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Show what happens to a run until it has ended; exit code 1 if it has not succeeded."""
    client = _client(arguments, environ)
    for name, data in client.follow(f"{_run(arguments)}/events"):
        if name == "end":
            return 0 if data["status"] == "succeeded" else _FAILED
        for line in data:
            text = f"{moment(line['at_ms'])}  {line['event']:<16} {printable(line.get('step', ''))}"
            sys.stdout.write(
                (json.dumps(line) if client.json else f"{text}  {_brief(line.get('data'))}".rstrip()) + "\n"
            )
            sys.stdout.flush()
    return _FAILED


def _client(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Client:
    return Client(arguments, environ, index=_INDEX)


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1_000)


def _run(arguments: argparse.Namespace) -> str:
    return f"/v1/runs/{segment(arguments.run)}"


def _changed(arguments: argparse.Namespace, environ: Mapping[str, str], what: str, body: object) -> int:
    client = _client(arguments, environ)
    told = client.ask("POST", f"{_run(arguments)}/{what}", body=body, key=secrets.token_hex(16))
    client.print(told, f"The run is {told['status']}.")
    return 0


def _lines(run: Any) -> Iterator[str]:
    of, since = f"{run['definition']}/{run['version']}", moment(run["started_ms"])
    yield f"{printable(run['id'])}: {run['status']}, {of}, since {since}"
    if run["attributes"]:
        yield "attributes: " + ", ".join(f"{name}={printable(value)}" for name, value in run["attributes"].items())
    for step in run["steps"]:
        asked = f": {printable(step['wait']['title'])}" if "wait" in step else ""
        due = f", due {moment(step['due_ms'])}" if step.get("due_ms") else ""
        progress = f", {_brief(step['progress'])}" if "progress" in step else ""
        yield f"  {step['path']} is {step['phase']}{asked}{due}{progress}"
        if "error" in step:
            yield f"    {_brief(step['error'])}"
    if run["signals"]:
        yield "signals that no wait has taken: " + ", ".join(printable(name) for name in run["signals"])
    if run["end"] is not None:
        yield f"end: {_brief(run['end'])}"


def _brief(data: Any) -> str:
    """Data on one line, 200 characters at most."""
    text = "" if data is None else printable(json.dumps(data, ensure_ascii=False))
    return text if len(text) <= 200 else text[:199] + "…"
