"""Which kinds of steps this service can carry out. A definition with others is valid, and is refused where it is kept.

Each kind leaves `NOT_HOSTED` in the change that brings who carries it out; so no run waits for what nobody will do.
"""

from collections.abc import Iterator
from typing import Any

from services.workflows.problems import Place, Problem
from services.workflows.reading import Source
from services.workflows.trees import mapping

NOT_HOSTED: dict[str, str] = {
    "http": "This installation calls no addresses yet",
}
"""What stands as a member of a step or of what a step does, and why it cannot be done here."""


def unhosted(source: Source) -> tuple[Problem, ...]:
    """Every place of a valid definition that nobody here would carry out."""
    return tuple(_of_block(mapping(source.tree), Place()))


def _of_block(block: dict[str, Any], at: Place) -> Iterator[Problem]:
    for name, step in mapping(block.get("steps")).items():
        yield from _of_step(mapping(step), at / "steps" / name)


def _of_step(step: dict[str, Any], at: Place) -> Iterator[Problem]:
    actions = ((step, at), (mapping(step.get("compensate")), at / "compensate"))
    reminder = mapping(mapping(step.get("remind")).get("do"))
    for action, place in (*actions, (reminder, at / "remind" / "do")):
        for kind, why in NOT_HOSTED.items():
            if kind in action:
                yield Problem(at=(place / kind).pointer, message=why)
    for name, branch in mapping(mapping(step.get("parallel")).get("branches")).items():
        yield from _of_block(mapping(branch), at / "parallel" / "branches" / name)
    yield from _of_block(mapping(step.get("each")), at / "each")
