"""What a run begins with: what it is given, and what its definition makes of that before the first step."""

from functools import lru_cache
from typing import Literal

import msgspec

from services.workflows.bounds import (
    ATTRIBUTE_BYTES_MAX,
    ATTRIBUTE_NAME_BYTES_MAX,
    ATTRIBUTES_MAX,
    PROGRAMS_KEPT,
    RUN_ID_BYTES_MAX,
)
from services.workflows.definition import define, read_json
from services.workflows.draft import Draft, Surroundings
from services.workflows.errands import Parent
from services.workflows.program import Json, Program
from services.workflows.refusals import WrongAnswerError
from services.workflows.state import ROOT, Run, Scope
from services.workflows.values import StepError, Values
from shared.errors import InvalidInputError

Reuse = Literal["never", "failed_only", "any"]


class Beginning(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is started with. `text` is the definition as JSON, which the run keeps."""

    text: str
    version: int
    input: Json = None
    attributes: dict[str, str] = {}
    parent: Parent | None = None
    begins_ms: int = 0
    """When the first step is entered; 0, or what has passed, for at once."""
    deadline_ms: int = 0
    """When the run has lasted too long, if its definition does not say that earlier; 0: it alone says."""
    reuse: Reuse = "never"
    """After which ends of the run of that id another may begin."""
    replace: bool = False
    """Whether an open run of that id that was started otherwise is terminated, for this one to begin."""


def is_same(run: Run, program: Program, beginning: Beginning) -> bool:
    """Whether the run was started so: a start that is repeated is known by its definition and its input."""
    return (run.definition, run.input) == (program.name, beginning.input)


def gives_way(run: Run, program: Program, beginning: Beginning) -> bool:
    """Whether another run is to take the id of this one. A start that is repeated never ends what it has started."""
    if run.phase != "ended":
        return beginning.replace and not is_same(run, program, beginning)
    failed = run.ending is not None and run.ending.status != "succeeded"
    return beginning.reuse == "any" or (beginning.reuse == "failed_only" and failed)


@lru_cache(maxsize=PROGRAMS_KEPT)
def program_of(text: str, version: int) -> Program:
    """The program of a definition, kept by its text: a thousand runs of one definition compile it once.

    Raises:
        DefinitionError: the text is none.
    """
    return define(read_json(text), version=version)


def check_run_id(run_id: str) -> str:
    """The id, if it can be one.

    Raises:
        InvalidInputError: it is empty or has over 256 bytes.
    """
    if not 1 <= len(run_id.encode(errors="surrogatepass")) <= RUN_ID_BYTES_MAX:
        raise InvalidInputError(f"The id of a run has 1 to {RUN_ID_BYTES_MAX} bytes", "$.id")
    return run_id


def run_id_of(program: Program, run_input: Json, *, now_ms: int) -> str | None:
    """The id that the definition makes of the input; None where it says nothing of ids.

    Raises:
        WrongAnswerError: it cannot be made of this input.
    """
    if program.run_id is None:
        return None
    try:
        return _values(program, run_input, now_ms).text(program.run_id)
    except StepError as error:
        raise WrongAnswerError(f"The id cannot be made: {error.failure.cause}", "$.input") from error


def attributes_of(program: Program, beginning: Beginning, *, now_ms: int) -> dict[str, str]:
    """What the run is found by: what the definition makes of the input, and what was given, which counts more.

    Raises:
        WrongAnswerError: it cannot be made of this input, or is too much.
    """
    try:
        values = _values(program, beginning.input, now_ms)
        made = {name: values.text(value) for name, value in program.attributes.items()}
    except StepError as error:
        raise WrongAnswerError(f"The attributes cannot be made: {error.failure.cause}", "$.input") from error
    attributes = made | beginning.attributes
    if len(attributes) > ATTRIBUTES_MAX:
        raise WrongAnswerError(f"A run has at most {ATTRIBUTES_MAX} attributes", "$.attributes")
    for name, value in attributes.items():
        if not is_attribute_name(name):
            detail = f"The name of an attribute has 1 to {ATTRIBUTE_NAME_BYTES_MAX} bytes and no slash"
            raise WrongAnswerError(detail, "$.attributes")
        if len(value.encode(errors="surrogatepass")) > ATTRIBUTE_BYTES_MAX:
            raise WrongAnswerError(f"An attribute has at most {ATTRIBUTE_BYTES_MAX} bytes", f"$.attributes.{name}")
    return attributes


def is_attribute_name(name: str) -> bool:
    """Whether an attribute can have that name, which is part of that of an index."""
    return 1 <= len(name.encode(errors="surrogatepass")) <= ATTRIBUTE_NAME_BYTES_MAX and "/" not in name


def _values(program: Program, run_input: Json, now_ms: int) -> Values:
    root = Scope(path=ROOT, key=ROOT, number=0, value=run_input)
    run = Run(id="", definition=program.name, version=program.version, started_ms=now_ms, input=run_input)
    return Values(Draft(program, run, Surroundings(now_ms=now_ms)), root)
