"""What can be said to `tenure operations`. Imports nothing that a command needs to run."""

from typing import Any

from shared.cli.api_arguments import api_action

_COMMANDS = "shared.cli.operations"
_OPS = ("cancel", "terminate", "pause", "resume", "retry", "purge", "migrate")


def add_operation_commands(commands: Any) -> None:
    """Add the commands that ask the workflow service's API about operations."""
    operations = commands.add_parser("operations", help="do the same to many runs of workflows")
    actions = operations.add_subparsers(required=True, metavar="ACTION")
    begin = api_action(actions, "begin", "begin an operation and print its id", command=f"{_COMMANDS}:begin")
    begin.add_argument("op", choices=_OPS)
    begin.add_argument("--run", action="append", metavar="ID", help="this run; again for more; without it, by filter:")
    begin.add_argument("--definition", metavar="NAME")
    begin.add_argument("--version", type=int, metavar="N", help="of --definition")
    begin.add_argument("--status", help="running, paused, stalled, undoing, or how it ended")
    begin.add_argument("--attr", metavar="NAME=VALUE", help="runs that have this attribute")
    begin.add_argument("--step", metavar="NAME", help="open runs at this step of --definition")
    begin.add_argument("--due-before", metavar="MOMENT", help="open runs with something due then: Unix ms or RFC 3339")
    begin.add_argument("--all", action="store_true", help="every run of the tenant")
    begin.add_argument("--limit", type=int, metavar="N", help="runs at most")
    begin.add_argument("--after", metavar="CURSOR", help="where an operation before this one ended")
    begin.add_argument("--reason", help="for cancel and terminate")
    begin.add_argument("--to", metavar="JSON", help="for migrate: definition, version, step_map; or @ and a file of it")
    begin.add_argument("--dry-run", action="store_true", help="change nothing, and only count what would be")
    begin.add_argument("--key", help="an idempotency key: the same once more is the same operation")
    begin.add_argument("--wait", action="store_true", help="until it has ended, and show it")
    listing = api_action(actions, "list", "list operations, newest first", command=f"{_COMMANDS}:listing")
    listing.add_argument("--after", default="", help="where a page before this one ended")
    listing.add_argument("--limit", type=int, default=100, metavar="N", help="rows at most, 1 to 1000")
    for name, help_text in (("show", "show how far it is"), ("stop", "end it where it is")):
        action = api_action(actions, name, help_text, command=f"{_COMMANDS}:{name}")
        action.add_argument("operation", help="its id")
