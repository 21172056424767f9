"""What can be said to `tenure schedules`. Imports nothing that a command needs to run."""

import argparse
from typing import Any

from shared.cli.api_arguments import api_action

_COMMANDS = "shared.cli.schedules"
_OVERLAPS = ("skip", "buffer_one", "buffer_all", "allow_all", "cancel_other")


def add_schedule_commands(commands: Any) -> None:
    """Add the commands that ask the workflow service's API about schedules."""
    schedules = commands.add_parser("schedules", help="start runs of workflows at set times")
    actions = schedules.add_subparsers(required=True, metavar="ACTION")
    listing = api_action(actions, "list", "list schedules, oldest first", command=f"{_COMMANDS}:listing")
    listing.add_argument("--after", default="", help="where a page before this one ended")
    listing.add_argument("--limit", type=int, default=100, metavar="N", help="rows at most, 1 to 1000")
    _of_schedule(actions, "show", "show", "show what it starts when, and what has become of its times")
    put = _of_schedule(actions, "put", "put", "set what it starts and when, from now on")
    put.add_argument("plan", metavar="JSON", help="as the API takes it; or @ and a file of it")
    pause = _of_schedule(actions, "pause", "pause", "fire nothing until it is resumed")
    pause.add_argument("--note", default="", help="why")
    resume = _of_schedule(actions, "resume", "resume", "go on from now")
    resume.add_argument("--catch-up", action="store_true", help="go on from where it was paused, as after an outage")
    trigger = _of_schedule(actions, "trigger", "trigger", "fire once, at once, and print the id of the run")
    backfill = _of_schedule(actions, "backfill", "backfill", "fire the times of a stretch of the past once more")
    backfill.add_argument("--from", dest="since", required=True, metavar="MOMENT", help="Unix ms or RFC 3339")
    backfill.add_argument("--to", dest="until", required=True, metavar="MOMENT", help="Unix ms or RFC 3339; included")
    for action in (trigger, backfill):
        action.add_argument("--overlap", choices=_OVERLAPS, help="without it, as the schedule says")
    _times(_of_schedule(actions, "next", "following", "print its next times"))
    preview = api_action(
        actions, "preview", "print the times of a timetable that no schedule has yet", command=f"{_COMMANDS}:preview"
    )
    which = preview.add_mutually_exclusive_group(required=True)
    which.add_argument("--cron", metavar="FIELDS", help="minute, hour, day of the month, month, day of the week")
    which.add_argument("--every", type=int, metavar="SECONDS")
    which.add_argument("--at", metavar="MOMENT", help="once, in ISO 8601")
    preview.add_argument("--timezone", metavar="ZONE", help="as Europe/Berlin; without it, UTC")
    _times(preview)
    _of_schedule(actions, "delete", "delete", "forget it; runs that it has started go on")


def _times(action: argparse.ArgumentParser) -> None:
    action.add_argument("--after", dest="since", metavar="MOMENT", help="Unix ms or RFC 3339; without it, now")
    action.add_argument("-n", dest="count", type=int, default=10, metavar="N", help="how many, 1 to 100")


def _of_schedule(actions: Any, name: str, function: str, help_text: str) -> argparse.ArgumentParser:
    action = api_action(actions, name, help_text, command=f"{_COMMANDS}:{function}")
    action.add_argument("schedule", help="its id")
    return action
