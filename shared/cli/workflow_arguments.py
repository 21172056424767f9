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
    listing.add_argument("--version", type=int, metavar="N", help="of --definition")
    listing.add_argument("--attr", metavar="NAME=VALUE", help="runs that have this attribute")
    listing.add_argument("--step", metavar="NAME", help="open runs at this step of --definition")
    listing.add_argument(
        "--due-before", metavar="MOMENT", help="open runs with something due then: Unix ms or RFC 3339"
    )
    listing.add_argument("--sort", choices=("-created", "due"), help="without it, newest first, or what is due first")
    listing.add_argument("--after", default="", help="where a page before this one ended")
    listing.add_argument("--limit", type=int, default=100, metavar="N", help="rows at most, 1 to 1000")
    _add_start(actions)
    _of_run(actions, "show", "show", "show a run: its steps, what they wait for, how it ended")
    signal = _of_run(actions, "signal", "signal", "send a signal to a run")
    signal.add_argument("signal")
    signal.add_argument("--payload", metavar="JSON", help="or @ and a file of it")
    signal.add_argument("--ttl", type=float, metavar="SECONDS", help="how long a wait may still take it")
    complete = _of_step(actions, "complete", "say that a step of a run is done")
    complete.add_argument("--result", metavar="JSON", help="or @ and a file of it")
    complete.add_argument("--outcome", default="")
    complete.add_argument("--by", default="", help="who has answered")
    _of_step(actions, "retry", "try a stalled step of a run again")
    migrate = _of_run(actions, "migrate", "migrate", "have a run go on with another version of its definition")
    migrate.add_argument("version", type=int)
    migrate.add_argument(
        "--map", action="append", default=[], metavar="STEP=STEP", help="a step of the run, and the one to go on at"
    )
    migrate.add_argument("--dry-run", action="store_true", help="only say whether it can")
    _of_run(actions, "watch", "watch", "show what happens to a run until it has ended; exit 1 if it did not succeed")


def _add_start(actions: Any) -> None:
    start = api_action(actions, "start", "start a run and print its id", command=f"{_COMMANDS}:start")
    start.add_argument("definition")
    start.add_argument("--id", help="of the run; without it, as the definition says, or a random one")
    start.add_argument("--version", type=int, metavar="N", help="without it, the newest")
    start.add_argument("--input", metavar="JSON", help="or @ and a file of it")
    start.add_argument(
        "--attr", action="append", default=[], metavar="NAME=VALUE", help="an attribute to find it by; again for more"
    )
    begins = start.add_mutually_exclusive_group()
    begins.add_argument("--at", metavar="MOMENT", help="when it begins: Unix ms or RFC 3339; without it, now")
    begins.add_argument("--delay", type=float, metavar="SECONDS", help="until it begins")
    ends = start.add_mutually_exclusive_group()
    ends.add_argument("--deadline", metavar="MOMENT", help="by when it has to be over: Unix ms or RFC 3339")
    ends.add_argument("--deadline-after", type=float, metavar="SECONDS", help="the same from its beginning on")
    start.add_argument(
        "--on-conflict",
        choices=("fail", "use_existing", "terminate_existing"),
        help="where a run of the id was started otherwise; without it, fail",
    )
    start.add_argument(
        "--reuse",
        choices=("never", "failed_only", "any"),
        help="after which ends of a run of the id another may have it; without it, never",
    )
    start.add_argument("--key", help="an idempotency key: the same once more is the same run")


def _of_step(actions: Any, name: str, help_text: str) -> argparse.ArgumentParser:
    action = _of_run(actions, name, name, help_text)
    action.add_argument("step", help="its path, as `show` has it")
    return action


def _of_run(actions: Any, name: str, function: str, help_text: str) -> argparse.ArgumentParser:
    action = api_action(actions, name, help_text, command=f"{_COMMANDS}:{function}")
    action.add_argument("run", help="the id of the run")
    return action
