"""Random runs moved to random versions at random moments: moved or refused whole, never stuck, and they go on.

After each event the run is stored, loaded, and asked whether it is stuck (tests/support/flow.py).
"""

import random
from typing import Any

from services.workflows.definition import define, problems_of
from services.workflows.events import (
    AnyEvent,
    ChildEnded,
    Completed,
    Failed,
    Paused,
    Resumed,
    Retried,
    Signalled,
    Skipped,
)
from services.workflows.liveness import incidents
from services.workflows.problems import Problems
from services.workflows.program import Program
from services.workflows.reading import Source
from services.workflows.refusals import RunClosedError, UnmappableStepError
from services.workflows.state import ROOT
from shared.errors import TenureError
from tests.support.environment import PROVE
from tests.support.flow import START_MS, Flow
from tests.support.flow_author import Author

HISTORIES = 3_000 if PROVE else 300
MOVES = 4
EVENTS = 12


def program_of(tree: dict[str, Any], version: int) -> Program | None:
    """The program of a definition; None where it is none."""
    source = Source(tree, Problems())
    return None if problems_of(source) else define(source, version=version)


def version_of(draw: random.Random, before: dict[str, Any]) -> dict[str, Any]:
    """Another definition that shares steps with the one before, or all of it with other ends."""
    other = Author(draw.randrange(2**32), START_MS).definition()
    kept = {name: step for name, step in before["steps"].items() if draw.random() < 0.7}
    return {**before, "steps": {**before["steps"], **other["steps"], **kept}}


def happen(flow: Flow, draw: random.Random) -> None:
    """Something happens to the run; what does not fit is refused and changes nothing."""
    path = draw.choice([*flow.outstanding, *(one.path for one in incidents(flow.run)), "s0"])
    events: list[AnyEvent] = [
        Completed(path=path, result=draw.randrange(5), outcome=draw.choice(["", "yes", "no"]), by="ann"),
        ChildEnded(path=path, status="succeeded", output=1),
        Failed(path=path, error=draw.choice(["boom", "bang"])),
        Retried(path=path),
        Skipped(path=path),
        Signalled(name="go"),
        Paused(),
        Resumed(),
        Resumed(),
    ]
    if draw.random() < 0.3:
        flow.pass_ms(draw.choice([1_000, 60_000, 3_600_000]))
        return
    before = flow.run
    try:
        flow.send(draw.choice(events))
    except TenureError:
        assert before == flow.run


def moved(flow: Flow, new: Program, draw: random.Random) -> str:
    """Move the run, by a map if it has to be; what came of it."""
    root = flow.run.scopes.get(ROOT)
    at = None if root is None else root.ready if root.activity is None else root.activity.step
    before = flow.run
    try:
        flow.migrate(new)
    except (UnmappableStepError, RunClosedError) as error:
        assert before == flow.run
        if isinstance(error, RunClosedError):
            return "closed"
    else:
        return "moved"
    assert at is not None
    flow.migrate(new, {at: draw.choice(sorted(new.root.steps))})
    return "mapped"


def test_a_run_that_is_moved_goes_on() -> None:
    """Of all that was asked for each answer is seen often, and so is a run that ends after it was moved."""
    seen: dict[str, int] = {"moved": 0, "mapped": 0, "closed": 0, "ended": 0}
    for seed in range(HISTORIES):
        draw = random.Random(seed)
        tree = Author(draw.randrange(2**32), START_MS).definition()
        first = program_of(tree, 1)
        assert first is not None
        flow = Flow(first)
        for version in range(2, MOVES + 2):
            for _ in range(draw.randrange(EVENTS)):
                happen(flow, draw)
            other = version_of(draw, tree)
            new = program_of(other, version)
            if new is None:
                continue
            how = moved(flow, new, draw)
            seen[how] += 1
            if how != "closed":
                tree = other
                assert version == flow.run.version
        open_run = flow.run.phase == "open"
        for _ in range(5 * EVENTS):
            happen(flow, draw)
        seen["ended"] += open_run and flow.run.phase == "ended"
    assert all(count > HISTORIES // 20 for count in seen.values()), seen
