"""What can be said to `tenure objects`, `alarms` and `messages`. Imports nothing that a command needs to run."""

import argparse
from typing import Any

_OBJECTS = "shared.cli.objects"
_ALARMS = "shared.cli.alarms"
_MESSAGES = "shared.cli.messages"
_AS_LISTED = "as the listings show it"


def add_operator_commands(commands: Any) -> None:
    """Add the commands that ask a node's admin port."""
    objects = commands.add_parser("objects", help="look at objects; let them leave memory, or quarantine")
    _add_objects(objects.add_subparsers(required=True, metavar="ACTION"))
    alarms = commands.add_parser("alarms", help="look at alarms; cancel them, re-arm or drop dead ones")
    _add_alarms(alarms.add_subparsers(required=True, metavar="ACTION"))
    messages = commands.add_parser("messages", help="look at messages nobody has received; resend or drop dead ones")
    _add_messages(messages.add_subparsers(required=True, metavar="ACTION"))


def _add_objects(actions: Any) -> None:
    _action(actions, "kinds", f"{_OBJECTS}:kinds", "list the kinds of objects that the node hosts")
    listing = _action(actions, "list", f"{_OBJECTS}:listing", "list objects with state, by kind and tenant")
    listing.add_argument("--kind", required=True)
    listing.add_argument("--tenant", required=True)
    listing.add_argument("--prefix", default="", help="what names begin with")
    _add_paging(listing)
    show = _action(actions, "show", f"{_OBJECTS}:show", "show what is stored of an object, and what it does")
    _add_object(show)
    journal = _action(actions, "journal", f"{_OBJECTS}:journal", "show entries of an object's journal")
    _add_object(journal)
    _add_paging(journal, after="the number of an entry")
    journal.add_argument("--reverse", action="store_true", help="newest first")
    evict = _action(actions, "evict", f"{_OBJECTS}:evict", "let an object leave memory once it is stored")
    _add_object(evict)
    _action(actions, "quarantined", f"{_OBJECTS}:quarantined", "list objects that have blocked their node")
    lift = _action(actions, "lift", f"{_OBJECTS}:lift", "let an object in quarantine run again")
    _add_object(lift)


def _add_alarms(actions: Any) -> None:
    listing = _action(actions, "list", f"{_ALARMS}:listing", "list armed alarms by the time they are due")
    listing.add_argument("--due-before", metavar="MOMENT", help="Unix ms, or RFC 3339 as 2030-01-31T12:00:00Z")
    _add_paging(listing)
    dead = _action(actions, "dead", f"{_ALARMS}:dead", "list alarms that were given up")
    _add_paging(dead)
    for name, help_text in (
        ("cancel", "disarm an alarm"),
        ("rearm", "arm a dead alarm anew"),
        ("drop", "forget a dead alarm"),
    ):
        action = _action(actions, name, f"{_ALARMS}:{name}", help_text)
        _add_object(action)
        action.add_argument("alarm")
        if name == "rearm":
            action.add_argument("--at", metavar="MOMENT", help="Unix ms or RFC 3339; without it, now")


def _add_messages(actions: Any) -> None:
    listing = _action(actions, "list", f"{_MESSAGES}:listing", "list what an object has sent and nobody has received")
    _add_object(listing)
    show = _action(actions, "show", f"{_MESSAGES}:show", "show a message that nobody has received, with what it says")
    _add_object(show)
    show.add_argument("id", help=_AS_LISTED)
    dead = _action(actions, "dead", f"{_MESSAGES}:dead", "list messages of all objects that were given up")
    _add_paging(dead)
    for name, help_text in (
        (
            "resend",
            "send a dead message again; one that expired may have had its effect: look first",
        ),
        ("drop", "forget a dead message, or one that this release cannot read"),
    ):
        action = _action(actions, name, f"{_MESSAGES}:{name}", help_text)
        _add_object(action)
        action.add_argument("id", help=_AS_LISTED)


def _action(actions: Any, name: str, command: str, help_text: str) -> argparse.ArgumentParser:
    action: argparse.ArgumentParser = actions.add_parser(name, help=help_text)
    action.add_argument("--admin", metavar="URL", help="the node's admin port; without it, that of the settings here")
    action.add_argument("--json", action="store_true", help="the answer as the node gives it")
    action.set_defaults(command=command)
    return action


def _add_object(action: argparse.ArgumentParser) -> None:
    for part in ("kind", "tenant", "name"):
        action.add_argument(part)


def _add_paging(action: argparse.ArgumentParser, *, after: str = "where a page before this one ended") -> None:
    action.add_argument("--after", default="", help=after)
    action.add_argument("--limit", type=int, default=100, metavar="N", help="rows at most, 1 to 1000")
