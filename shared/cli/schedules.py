"""`tenure schedules ...`: what runs are started when, and what has become of it, through the service's own API."""

import argparse
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from shared.cli.client import Client, segment, value_of
from shared.cli.operator import moment, printable, read_moment, table

_INDEX = 1  # Of the service's port behind that of the first.
_SHOWN = 10


def listing(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """List schedules, oldest first."""
    client = _client(arguments, environ)
    told = client.ask("GET", "/v1/schedules", {"cursor": arguments.after, "limit": arguments.limit})
    rows = [
        [
            one["id"],
            one["definition"],
            _timetable(one["timetable"]),
            "paused" if one["paused"] else one["next"][0]["local"] if one["next"] else "never again",
            str(len(one["running"])),
        ]
        for one in told["schedules"]
    ]
    client.print_page(told, ["SCHEDULE", "DEFINITION", "TIMETABLE", "NEXT", "OPEN RUNS"], rows)
    return 0


def show(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Show one schedule."""
    client = _client(arguments, environ)
    told = client.ask("GET", _schedule(arguments))
    client.print(told, "\n".join(_lines(told)))
    return 0


def put(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Set what a schedule starts and when."""
    client = _client(arguments, environ)
    told = client.ask("PUT", _schedule(arguments), body=value_of(arguments.plan, "The plan"))
    client.print(told, "\n".join(_lines(told)))
    return 0


def pause(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Fire nothing until it is resumed."""
    client = _client(arguments, environ)
    told = client.ask("POST", f"{_schedule(arguments)}/pause", body={"note": arguments.note})
    client.print(told, "The schedule is paused.")
    return 0


def resume(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Go on from now, or from where it was paused."""
    client = _client(arguments, environ)
    body = {"go_on_from": "pause" if arguments.catch_up else "now"}
    told = client.ask("POST", f"{_schedule(arguments)}/resume", body=body)
    following = f", next at {told['next'][0]['local']}" if told["next"] else ""
    client.print(told, f"The schedule goes on{following}.")
    return 0


def trigger(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Fire once, at once, and print the id of the run."""
    client = _client(arguments, environ)
    told = client.ask("POST", f"{_schedule(arguments)}/trigger", body=_overlap(arguments), key=secrets.token_hex(16))
    client.print(told, printable(told["run"]))
    return 0


def backfill(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Fire the times of a stretch of the past once more."""
    client = _client(arguments, environ)
    body = {"from_ms": read_moment(arguments.since), "to_ms": read_moment(arguments.until), **_overlap(arguments)}
    told = client.ask("POST", f"{_schedule(arguments)}/backfill", body=body, key=secrets.token_hex(16))
    client.print(told, "One time is fired." if told["times"] == 1 else f"{told['times']} times are fired.")
    return 0


def following(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Print the next times of a schedule."""
    client = _client(arguments, environ)
    query = {"after": read_moment(arguments.since), "n": arguments.count}
    told = client.ask("GET", f"{_schedule(arguments)}/next", query)
    client.print_rows(told, ["AT", "LOCAL"], _times(told))
    return 0


def preview(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Print the next times of a timetable that no schedule has yet."""
    client = _client(arguments, environ)
    given = {"cron": arguments.cron, "every_s": arguments.every, "at": arguments.at, "timezone": arguments.timezone}
    timetable = {name: value for name, value in given.items() if value is not None}
    body = {"timetable": timetable, "n": arguments.count}
    if arguments.since is not None:
        body["after_ms"] = read_moment(arguments.since)
    told = client.ask("POST", "/v1/timetables/preview", body=body)
    client.print_rows(told, ["AT", "LOCAL"], _times(told))
    return 0


def delete(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Forget a schedule."""
    client = _client(arguments, environ)
    client.ask("DELETE", _schedule(arguments))
    client.print({"deleted": arguments.schedule}, "The schedule is forgotten; runs that it has started go on.")
    return 0


def _client(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Client:
    return Client(arguments, environ, index=_INDEX)


def _schedule(arguments: argparse.Namespace) -> str:
    return f"/v1/schedules/{segment(arguments.schedule)}"


def _overlap(arguments: argparse.Namespace) -> dict[str, str]:
    return {} if arguments.overlap is None else {"overlap": arguments.overlap}


def _times(told: Any) -> list[list[str]]:
    return [[moment(one["at_ms"]), one["local"]] for one in told["times"]]


def _timetable(timetable: Any) -> str:
    """In few words; of a calendar that it is one."""
    zone = timetable.get("timezone", "UTC")
    if "cron" in timetable:
        return f"cron {timetable['cron']} {zone}"
    if "every_s" in timetable:
        return f"every {timetable['every_s']} s"
    return f"at {timetable['at']} {zone}" if "at" in timetable else f"calendar {zone}"


def _lines(schedule: Any) -> Iterator[str]:
    version = f"/{schedule['version']}" if schedule["version"] is not None else ""
    state = "paused" if schedule["paused"] else "active"
    yield f"{printable(schedule['id'])}: {state}, starts {schedule['definition']}{version}"
    yield f"timetable: {_timetable(schedule['timetable'])}; overlap: {schedule['overlap']}"
    if schedule["note"]:
        yield f"note: {printable(schedule['note'])}"
    if schedule["next"]:
        yield f"next: {', '.join(one['local'] for one in schedule['next'])}"
    if schedule["running"]:
        yield f"open runs: {', '.join(printable(run) for run in schedule['running'])}"
    if schedule["counts"]:
        yield "so far: " + ", ".join(f"{number} {outcome}" for outcome, number in schedule["counts"].items())
    rows = [
        [moment(one["nominal_ms"]), one["outcome"], str(one["count"]), one["run"] or one["cause"] or "-"]
        for one in schedule["firings"][:_SHOWN]
    ]
    if rows:
        yield table(["TIME", "OUTCOME", "TIMES", "RUN OR CAUSE"], rows)
