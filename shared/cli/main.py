"""The command line of `tenure`: what can be said, and who does it.

A failure is one sentence on stderr and an exit code, of which `docs/reference/commands.md` has the table. Commands are
imported when they are called: `tenure run` must not wait for what `doctor` needs.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NoReturn

from shared.cli.backup_arguments import add_backup_commands
from shared.cli.operation_arguments import add_operation_commands
from shared.cli.operator_arguments import add_operator_commands
from shared.cli.schedule_arguments import add_schedule_commands
from shared.cli.session_arguments import add_session_commands
from shared.cli.webhook_arguments import add_webhook_commands
from shared.cli.workflow_arguments import add_workflow_commands
from shared.errors import ConfigurationError, InvalidInputError, TenureError

SERVICES = ("ratelimiter", "sessions", "workflows")
REFUSED, WRONG = 1, 2
"""Exit codes: the store or a node did not do it; or what was said cannot be right, be it an argument or a setting."""


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command; returns the exit code."""
    arguments = parser().parse_args(argv)
    module, _, function = arguments.command.partition(":")
    try:
        code: int = getattr(import_module(module), function)(arguments, os.environ)
    except TenureError as exc:
        sys.stderr.write(f"tenure: {exc}\n")
        return WRONG if isinstance(exc, (ConfigurationError, InvalidInputError)) else REFUSED
    return code


class Parser(argparse.ArgumentParser):
    """Says of a mistake how the command is used in which it was made; and which there are where one is missing."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse what is left over at the command that did not take it, and not at the root of all."""
        found, left_over = super().parse_known_args(args, namespace)
        if left_over:
            self.error(f"unrecognized arguments: {' '.join(left_over)}")
        return found, left_over

    def error(self, message: str) -> NoReturn:
        """Print how it is used, and what was wrong; exit code 2."""
        (self.print_usage if self._subparsers is None else self.print_help)(sys.stderr)
        self.exit(WRONG, f"{self.prog}: {message}\n")


def parser() -> Parser:
    """Everything that can be said. Settings come from `TENURE_*` variables."""
    root = Parser(prog="tenure", description="Objects with exactly one owner at a time.")
    root.add_argument("--version", action=_Version, help="print the version and exit")
    commands = root.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run the store and every service on this machine, for development")
    run.set_defaults(command="shared.cli.run:run")

    serve = commands.add_parser("serve", help="run one service against TENURE_REDIS_URL")
    serve.add_argument("service", choices=SERVICES)
    serve.set_defaults(command="shared.cli.serve:serve")

    doctor = commands.add_parser("doctor", help="check the store and the services; exit 1 if anything fails")
    doctor.add_argument("-o", "--output", choices=("table", "json"), default="table")
    doctor.set_defaults(command="shared.cli.doctor:doctor")

    _add_tenant_commands(commands.add_parser("tenant", help="make, list, disable and enable tenants"))
    _add_key_commands(commands.add_parser("key", help="make, list and revoke API keys"))
    add_workflow_commands(commands)
    add_operation_commands(commands)
    add_schedule_commands(commands)
    add_webhook_commands(commands)
    add_session_commands(commands)
    add_operator_commands(commands)
    add_backup_commands(commands)
    return root


def _add_tenant_commands(tenant: argparse.ArgumentParser) -> None:
    actions = tenant.add_subparsers(required=True, metavar="ACTION")
    for action, does in (
        ("create", "make a tenant"),
        ("disable", "shut out every key of a tenant; its data stays"),
        ("enable", "let the keys of a disabled tenant in again"),
    ):
        named = actions.add_parser(action, help=does)
        named.add_argument("name")
        named.set_defaults(command=f"shared.cli.tenants:{action}")
    shown = actions.add_parser("list", help="show all tenants")
    shown.add_argument("-o", "--output", choices=("table", "json"), default="table")
    shown.set_defaults(command="shared.cli.tenants:show")


def _add_key_commands(key: argparse.ArgumentParser) -> None:
    actions = key.add_subparsers(required=True, metavar="ACTION")
    create = actions.add_parser("create", help="make an API key and print it; it is not shown again")
    create.add_argument("--tenant", required=True)
    create.add_argument(
        "--scope",
        action="append",
        required=True,
        metavar="SCOPE",
        help="one, or several with commas; may be given more than once",
    )
    create.add_argument("--label", default="", help="what the key is for")
    create.add_argument("--expires-days", type=int, metavar="N", help="valid for N days; without it, for ever")
    create.set_defaults(command="shared.cli.keys:create")

    shown = actions.add_parser("list", help="show what keys there are, never a key itself")
    shown.add_argument("--tenant", metavar="NAME", help="of this tenant only")
    shown.add_argument("-o", "--output", choices=("table", "json"), default="table")
    shown.set_defaults(command="shared.cli.keys:show")

    revoke = actions.add_parser("revoke", help="take a key back for good")
    revoke.add_argument("--tenant", metavar="NAME", required=True)
    revoke.add_argument("id", metavar="ID|DIGEST", help="the id or the digest that `tenure key list` shows")
    revoke.set_defaults(command="shared.cli.keys:revoke")


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_ignored: object) -> None:
        try:
            text = version("tenure")
        except PackageNotFoundError:
            text = "(not installed)"
        sys.stdout.write(f"tenure {text}\n")
        parser.exit()
