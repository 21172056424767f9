"""`tenure sessions list | show | revoke`: who is signed in where, through the service's own API."""

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from shared.cli.client import Client, segment
from shared.cli.operator import moment, printable

_INDEX = 2  # Of the service's port behind that of the first.


def listing(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """List the sessions of a principal, which are 200 at most."""
    client = _client(arguments, environ)
    told = client.ask("GET", f"{_principal(arguments)}/sessions")
    rows = [
        [
            session["id"],
            printable(session["client"]) or "-",
            session["acr"] or "-",
            moment(session["created_ms"]),
            moment(session["last_seen_ms"]),
            moment(session["idle_expires_ms"]),
        ]
        for session in told["sessions"]
    ]
    client.print_rows(told, ["SESSION", "CLIENT", "ACR", "BEGAN", "LAST SEEN", "ENDS"], rows)
    return 0


def show(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Show one session."""
    client = _client(arguments, environ)
    told = client.ask("GET", f"{_principal(arguments)}/sessions/{segment(arguments.session)}")
    client.print(told, "\n".join(_lines(told)))
    return 0


def revoke(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """End one session, or all, or all but one. When it is said to be done, no token of them counts."""
    client = _client(arguments, environ)
    path = f"{_principal(arguments)}/sessions"
    if arguments.session is not None:
        client.ask("DELETE", f"{path}/{segment(arguments.session)}")  # Done as well where it had ended before.
        client.print({"ended": arguments.session}, "The session has ended.")
        return 0
    told = client.ask("POST", f"{path}/revoke", body={"except_session": arguments.all_but or ""})
    client.print(told, "One session was ended." if told["revoked"] == 1 else f"{told['revoked']} sessions were ended.")
    return 0


def _client(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Client:
    return Client(arguments, environ, index=_INDEX)


def _principal(arguments: argparse.Namespace) -> str:
    return f"/v1/principals/{segment(arguments.principal)}"


def _lines(session: Any) -> Iterator[str]:
    yield f"{session['id']}: since {moment(session['created_ms'])}, last seen {moment(session['last_seen_ms'])}"
    yield f"ends {moment(session['idle_expires_ms'])} if it is not used, {moment(session['expires_ms'])} at the latest"
    acr = f" acr={printable(session['acr'])}" if session["acr"] else ""
    yield f"signed in {moment(session['auth_ms'])}{acr}"
    for name in ("amr", "roles"):
        if session[name]:
            yield f"{name}: {', '.join(printable(word) for word in session[name])}"
    for name in ("client", "label", "address", "user_agent"):
        if session[name]:
            yield f"{name.replace('_', ' ')}: {printable(session[name])}"
    if session["actor"] is not None:
        yield f"acted for by {printable(session['actor']['sub'])}: {printable(session['actor']['reason'])}"
