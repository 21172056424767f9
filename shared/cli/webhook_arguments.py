"""What can be said to `tenure webhooks`. Imports nothing that a command needs to run."""

import argparse
from typing import Any

from shared.cli.api_arguments import api_action

_COMMANDS = "shared.cli.webhooks"
_STATUSES = ("pending", "delivered", "given_up")


def add_webhook_commands(commands: Any) -> None:
    """Add the commands that ask a service's API about webhooks."""
    webhooks = commands.add_parser("webhooks", help="see who is told of runs and of sessions, and what came of it")
    actions = webhooks.add_subparsers(required=True, metavar="ACTION")
    _action(actions, "list", "listing", "list webhooks, by name")
    _of_webhook(actions, "show", "show", "show one webhook")
    put = _of_webhook(actions, "put", "put", "say who is told of what; of a new one the secret is printed, this once")
    put.add_argument("url", help="where messages are sent")
    put.add_argument("--event", action="append", default=[], help="of what, as run.failed; again for more, all if none")
    put.add_argument("--description", default="", help="for whoever reads the list")
    put.add_argument("--disabled", action="store_true", help="send nothing until it is put again without this")
    _of_webhook(actions, "delete", "delete", "tell it nothing more, and give up what it was still to be told")
    _of_webhook(actions, "test", "test", "send it a message of the type webhook.test, and print its id")
    deliveries = _of_webhook(actions, "deliveries", "deliveries", "list messages to it, oldest first")
    deliveries.add_argument("--status", choices=_STATUSES, help="those that stand so")
    dead = _of_webhook(actions, "dead", "deliveries", "list messages that were given up")
    dead.set_defaults(status="given_up")
    for action in (deliveries, dead):
        action.add_argument("--after", default="", help="where a page before this one ended")
        action.add_argument("--limit", type=int, default=100, metavar="N", help="rows at most, 1 to 1000")
    _of_message(actions, "message", "show a message, and what has come of each sending")
    _of_message(actions, "retry", "send a message again that was taken or given up, with the id that it has")


def _of_message(actions: Any, name: str, help_text: str) -> None:
    action = _of_webhook(actions, name, name, help_text)
    action.add_argument("message", help="its id, as `deliveries` has it")


def _of_webhook(actions: Any, name: str, function: str, help_text: str) -> argparse.ArgumentParser:
    action = _action(actions, name, function, help_text)
    action.add_argument("webhook", help="its name")
    return action


def _action(actions: Any, name: str, function: str, help_text: str) -> argparse.ArgumentParser:
    action = api_action(actions, name, help_text, command=f"{_COMMANDS}:{function}")
    action.add_argument("--service", choices=("workflows", "sessions"), default="workflows", help="whose webhooks")
    return action
