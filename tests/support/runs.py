"""Runs of workflows for tests: how one is begun, and what has happened to it."""

from typing import Any

import msgspec

from services.workflows.beginning import Beginning
from services.workflows.definition import read_yaml
from shared.testing.kit import Ref


def begin(definition: str, run_input: Any = None, *, version: int = 1, **more: Any) -> Beginning:
    """What a run of this definition, written as YAML, begins with."""
    text = msgspec.json.encode(read_yaml(definition).tree).decode()
    return Beginning(text=text, version=version, input=run_input, **more)


async def told(run: Ref) -> list[str]:
    """What happened, without the times."""
    entries = await run.history(0, 1_000)
    return [f"{line.event} {line.path}".strip() for entry in entries for line in entry.value.lines]
