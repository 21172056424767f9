"""What can be said to `tenure sessions`. Imports nothing that a command needs to run."""

import argparse
from typing import Any

from shared.cli.api_arguments import api_action

_COMMANDS = "shared.cli.sessions"


def add_session_commands(commands: Any) -> None:
    """Add the commands that ask the session manager's API."""
    sessions = commands.add_parser("sessions", help="look at the sessions of a user, and end them")
    actions = sessions.add_subparsers(required=True, metavar="ACTION")
    _of_principal(actions, "list", "listing", "list the sessions of a user, the newest last")
    show = _of_principal(actions, "show", "show", "show one session: how and from where its user has signed in")
    show.add_argument("session", help="its id, as `list` has it")
    revoke = _of_principal(actions, "revoke", "revoke", "end sessions: their tokens do not count from then on")
    which = revoke.add_mutually_exclusive_group(required=True)
    which.add_argument("session", nargs="?", help="the one with this id")
    which.add_argument("--all", action="store_true", help="all that the user has")
    which.add_argument("--all-but", metavar="SESSION", help="all but this one")


def _of_principal(actions: Any, name: str, function: str, help_text: str) -> argparse.ArgumentParser:
    action = api_action(actions, name, help_text, command=f"{_COMMANDS}:{function}")
    action.add_argument("principal", help="the user, as the application calls them")
    return action
