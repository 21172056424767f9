"""What can be said to `tenure workflows`. Imports nothing that a command needs to run."""

import argparse
from typing import Any

from shared.cli.api_arguments import api_action

_COMMANDS = "shared.cli.workflows"


def add_workflow_commands(commands: Any) -> None:
    """Add the commands that ask the workflow service's API."""
    workflows = commands.add_parser("workflows", help="start runs of workflows, look at them, answer and help them")
    actions = workflows.add_subparsers(required=True, metavar="ACTION")
    listing = api_action(actions, "list", "list runs, newest first", command=f"{_COMMANDS}:listing")
    listing.add_argument("--status", help="running, paused, stalled, undoing, or how it ended")
    listing.add_argument("--definition", metavar="NAME")
    listing.add_argument("--attr", metavar="NAME=VALUE", help="runs that have this attribute")
    listing.add_argument("--after", default="", help="where a page before this one ended")
    listing.add_argument("--limit", type=int, default=100, metavar="N", help="rows at most, 1 to 1000")
    start = api_action(actions, "start", "start a run and print its id", command=f"{_COMMANDS}:start")
    start.add_argument("definition")
    start.add_argument("--id", help="of the run; without it, as the definition says, or a random one")
    start.add_argument("--version", type=int, metavar="N", help="without it, the newest")
    start.add_argument("--input", metavar="JSON", help="or @ and a file of it")
    _of_run(actions, "show", "show", "show a run: its steps, what they wait for, how it ended")
    signal = _of_run(actions, "signal", "signal", "send a signal to a run")
    signal.add_argument("signal")
    signal.add_argument("--payload", metavar="JSON", help="or @ and a file of it")
    complete = _of_step(actions, "complete", "say that a step of a run is done")
    complete.add_argument("--result", metavar="JSON", help="or @ and a file of it")
    complete.add_argument("--outcome", default="")
    complete.add_argument("--by", default="", help="who has answered")
    _of_step(actions, "retry", "try a stalled step of a run again")
    _of_run(actions, "watch", "watch", "show what happens to a run until it has ended; exit 1 if it did not succeed")


def _of_step(actions: Any, name: str, help_text: str) -> argparse.ArgumentParser:
    action = _of_run(actions, name, name, help_text)
    action.add_argument("step", help="its path, as `show` has it")
    return action


def _of_run(actions: Any, name: str, function: str, help_text: str) -> argparse.ArgumentParser:
    action = api_action(actions, name, help_text, command=f"{_COMMANDS}:{function}")
    action.add_argument("run", help="the id of the run")
    return action
