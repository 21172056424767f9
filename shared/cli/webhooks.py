"""`tenure webhooks ...`: who is told of what, and what came of it, through a service's own API."""

import argparse
import base64
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from shared.cli.client import Client, segment
from shared.cli.operator import moment, printable, table

_INDEXES = {"workflows": 1, "sessions": 2}
"""Of the services' ports behind that of the first."""


def listing(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """List webhooks, by name."""
    client = _client(arguments, environ)
    told = client.ask("GET", "/v1/webhooks")
    rows = [[one["name"], _state(one), ", ".join(one["events"]) or "all", one["url"]] for one in told["webhooks"]]
    client.print_rows(told, ["WEBHOOK", "STATE", "EVENTS", "URL"], rows)
    return 0


def show(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Show one webhook."""
    client = _client(arguments, environ)
    told = client.ask("GET", _webhook(arguments))
    client.print(told, "\n".join(_lines(told)))
    return 0


def put(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Say who is told of what; where it is new, its secret is printed, this once."""
    client = _client(arguments, environ)
    before = {one["name"] for one in client.ask("GET", "/v1/webhooks")["webhooks"]}
    body = {
        "url": arguments.url,
        "events": arguments.event,
        "enabled": not arguments.disabled,
        "description": arguments.description,
    }
    told = client.ask("PUT", _webhook(arguments), body=body)
    lines = list(_lines(told))
    if told["name"] not in before:
        told["secret"] = client.ask("GET", f"{_webhook(arguments)}/secret")["secret"]
        lines.append(f"secret: {told['secret']}")
    client.print(told, "\n".join(lines))
    return 0


def delete(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Tell it nothing more."""
    client = _client(arguments, environ)
    told = client.ask("DELETE", _webhook(arguments))
    client.print(told, "The webhook is deleted.")
    return 0


def test(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Send a message of the type `webhook.test`, and print its id."""
    client = _client(arguments, environ)
    told = client.ask("POST", f"{_webhook(arguments)}/test", key=secrets.token_hex(16))
    client.print(told, told["id"])
    return 0


def deliveries(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """List messages, oldest first; those of one status, if it is said."""
    client = _client(arguments, environ)
    query = {"status": arguments.status, "cursor": arguments.after, "limit": arguments.limit}
    told = client.ask("GET", f"{_webhook(arguments)}/deliveries", query)
    rows = [[one["id"], one["event"], one["status"], moment(one["at_ms"])] for one in told["deliveries"]]
    client.print_page(told, ["MESSAGE", "EVENT", "STATUS", "SINCE"], rows)
    return 0


def message(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Show one message, and what has come of each sending."""
    client = _client(arguments, environ)
    told = client.ask("GET", _delivery(arguments))
    client.print(told, "\n".join(_told(told)))
    return 0


def retry(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Send a message again, with the id that it has."""
    client = _client(arguments, environ)
    told = client.ask("POST", f"{_delivery(arguments)}/redeliver", key=secrets.token_hex(16))
    client.print(told, "The message is sent again.")
    return 0


def _client(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Client:
    return Client(arguments, environ, index=_INDEXES[arguments.service])


def _webhook(arguments: argparse.Namespace) -> str:
    return f"/v1/webhooks/{segment(arguments.webhook)}"


def _delivery(arguments: argparse.Namespace) -> str:
    return f"{_webhook(arguments)}/deliveries/{segment(arguments.message)}"


def _state(webhook: Any) -> str:
    return "enabled" if webhook["enabled"] else "disabled"


def _lines(webhook: Any) -> Iterator[str]:
    yield f"{webhook['name']}: {_state(webhook)}, {printable(webhook['url'])}"
    if webhook["description"]:
        yield printable(webhook["description"])
    yield f"events: {', '.join(webhook['events']) or 'all'}"
    if webhook["disabled_because"] is not None:
        yield f"disabled because: {printable(webhook['disabled_because'])}"
    yield f"changed: {moment(webhook['changed_ms'])}"


def _told(delivery: Any) -> Iterator[str]:
    yield f"{delivery['id']}: {delivery['status']}, {delivery['event']}, since {moment(delivery['at_ms'])}"
    if delivery["cause"]:
        yield f"given up because: {printable(delivery['cause'])}"
    if delivery["next_ms"] is not None:
        yield f"sent next: {moment(delivery['next_ms'])}"
    yield f"body: {printable(base64.b64decode(delivery['body']).decode())}"
    rows = [[moment(one["at_ms"]), str(one["status"] or "-"), one["error"] or "-"] for one in delivery["attempts"]]
    if rows:
        yield table(["SENT", "STATUS", "ERROR"], rows)
