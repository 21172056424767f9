"""What can be said to every command that asks the API of a service. Imports nothing that a command needs to run."""

import argparse
from typing import Any


def api_action(actions: Any, name: str, help_text: str, *, command: str) -> argparse.ArgumentParser:
    """Add a command; `command` is the module and the function that run it."""
    action: argparse.ArgumentParser = actions.add_parser(name, help=help_text)
    action.add_argument("--api", metavar="URL", help="the service; without it, that of the settings here")
    action.add_argument("--key-file", metavar="FILE", help="where the API key stands; without it, that of `tenure run`")
    action.add_argument("--json", action="store_true", help="the answer as the service gives it")
    action.set_defaults(command=command)
    return action
